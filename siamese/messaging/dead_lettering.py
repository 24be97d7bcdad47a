"""Rejecting what RabbitMQ cannot dead-letter.

RabbitMQ 3.10 adds to the header x-death, whatever a publisher wrote there. An array
that holds anything but tables, or a count that is no number, makes it crash: after some
of them a classic queue is down for good, and from a quorum queue they vanish. So we do
with such a message what the broker would: publish it to the dead-letter exchange, with
that header under another name, and acknowledge it once that is confirmed.
"""

from __future__ import annotations

import logging
import struct
import time
from typing import Any

import pika
from pika import spec
from pika.channel import Channel
from pika.exceptions import AMQPError

from common import Failure
from siamese.messaging import raw_fields
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE

X_DEATH = b'x-death'
RENAMED = b'x-death-as-published'
ARRAY = b'A'
TABLE = b'F'
WHOLE_NUMBERS = (b'b', b'B', b's', b'u', b'I', b'i', b'l')
CONFIRM_TIMEOUT_S = 60
CONFIRMED = 'confirmed'
# deliveries.py imports this module, so that its Delivery cannot be named here.


def crashes_broker(properties: pika.BasicProperties) -> bool:
    """Return whether RabbitMQ 3.10 crashes when it dead-letters a message."""
    encoded = getattr(properties, 'encoded', b'')
    if X_DEATH not in encoded:  # nearly always
        return False
    try:
        headers = raw_fields.headers(raw_fields.fields(encoded))
        return any(each.name == X_DEATH and is_fatal(each.value) for each in headers)
    except (IndexError, struct.error):
        return False


def is_fatal(x_death: bytes) -> bool:
    """Return whether this value of the header is one that crashes it."""
    if not x_death.startswith(ARRAY):
        return False
    for item in raw_fields.items(x_death[raw_fields.BLOCK_AT :]):
        if not item.startswith(TABLE):
            return True
        for entry in raw_fields.entries(item[raw_fields.BLOCK_AT :]):
            if entry.name == b'count' and not entry.value.startswith(WHOLE_NUMBERS):
                return True
    return False


def harmless(encoded: bytes) -> bytes:
    """Return properties with x-death under another name.

    As in the broker's own dead letters there is no time to live. The user_id is left out:
    the broker would refuse that of somebody else.
    """
    kept = raw_fields.fields(encoded)
    kept.pop(raw_fields.EXPIRATION, None)
    kept.pop(raw_fields.USER_ID, None)
    headers = map(renamed, raw_fields.headers(kept))
    kept[raw_fields.HEADERS] = raw_fields.table(headers)
    return raw_fields.packed(kept)


def renamed(header: raw_fields.Entry) -> bytes:
    """Return a header as it stands in a table; x-death under another name."""
    if header.name != X_DEATH:
        return header.encoded
    return bytes([len(RENAMED)]) + RENAMED + header.value


def dead_letter(delivery: Any) -> None:
    """Publish a delivery to the dead-letter exchange, wait for the confirm, and acknowledge it.

    If the connection is lost meanwhile, the broker delivers it again. Raises Failure if
    it cannot be published; then it stays in its queue.
    """
    channel = delivery.channel
    deadline = time.monotonic() + CONFIRM_TIMEOUT_S
    copy = Copy(delivery)
    delivery.link.wait_until(
        lambda: copy.outcome or not channel.is_open or time.monotonic() > deadline
    )
    if not channel.is_open:
        return
    if copy.outcome != CONFIRMED:
        why = copy.outcome or f'no confirm for {CONFIRM_TIMEOUT_S} s'
        raise Failure(
            f'cannot publish to {DEAD_LETTER_EXCHANGE} what RabbitMQ cannot dead-letter '
            f'(header x-death): {why}; the message is still in its queue',
            3,
        )
    channel.basic_ack(delivery_tag=delivery.method.delivery_tag)
    logging.warning(
        'its header x-death would make RabbitMQ 3.10 crash: published to %s with that as %s',
        DEAD_LETTER_EXCHANGE,
        RENAMED.decode(),
    )


class Copy:
    """A message on its way to the dead-letter exchange, over a channel of its own.

    outcome: '' until it is known; CONFIRMED, or why not.
    """

    def __init__(self, delivery: Any) -> None:
        self.delivery = delivery
        self.outcome = ''
        try:
            delivery.channel.connection.channel(on_open_callback=self.on_open)
        except AMQPError as error:  # no channel is free
            self.outcome = str(error) or type(error).__name__

    def on_open(self, channel: Channel) -> None:
        self.channel = channel
        channel.add_on_close_callback(self.on_close)
        channel.add_on_return_callback(self.on_return)
        channel.confirm_delivery(self.on_confirm, callback=self.on_confirm_selected)

    def on_confirm_selected(self, _frame: pika.frame.Method) -> None:
        delivery = self.delivery
        encoded = harmless(delivery.properties.encoded)
        self.channel.basic_publish(
            DEAD_LETTER_EXCHANGE,
            delivery.method.routing_key,
            delivery.body,
            raw_fields.RawProperties(encoded),
            mandatory=True,
        )

    def on_return(self, *_returned: object) -> None:
        self.outcome = 'no queue takes it'

    def on_confirm(self, frame: pika.frame.Method) -> None:
        if isinstance(frame.method, spec.Basic.Nack):
            self.outcome = self.outcome or 'nacked'
        self.outcome = self.outcome or CONFIRMED
        self.channel.close()

    def on_close(self, _channel: Channel, reason: Exception) -> None:
        self.outcome = self.outcome or str(reason)
