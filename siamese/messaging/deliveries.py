"""Deliveries: what a consumer receives, and how it settles that."""

from __future__ import annotations

import hashlib
import logging
from argparse import Namespace
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import pika
from pika.channel import Channel
from pika.spec import Basic

from siamese import numbered
from siamese.messaging import dead_lettering
from siamese.messaging.fast_path import Shape
from siamese.messaging.messages import digest_of
from siamese.messaging.receipts import Receipts

REMEMBERED_REJECTIONS = 10_000


class Invalid(Exception):
    """What makes a message invalid: Invalid(reason, details).

    The reason is one of few, so that it can be counted.
    """


class Receiver(Protocol):
    """What a delivery needs of the link over which it came."""

    args: Namespace
    inbox: Inbox
    rejections: Counter[str]
    auto_ack: bool
    is_stream: bool

    def record(self, event: str, **facts: object) -> None:
        """Write into the ledger."""


class Delivery:
    """One message that the broker delivered: channel, method, properties and body."""

    __slots__ = ('body', 'channel', 'link', 'method', 'properties')
    count = 1  # of deliveries, as in a Run

    def __init__(
        self,
        link: Receiver,
        channel: Channel,
        method: Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self.link = link
        self.channel = channel
        self.method = method
        self.properties = properties
        self.body = body

    @property
    def redelivered(self) -> bool:
        """Whether the broker says that it delivered this before."""
        return self.method.redelivered

    @property
    def attempt(self) -> int:
        """How often the producer had published the message when it published this copy."""
        return publish_attempt(self.properties)

    @property
    def has_died(self) -> bool:
        """Whether it was a dead letter before."""
        return 'x-death' in (self.properties.headers or {})

    @property
    def digest(self) -> str:
        """The SHA-256 of the body, in hexadecimal."""
        return digest_of(self.body)

    def record(self, event: str, **facts: object) -> None:
        """Write into the ledger what becomes of this delivery; call it before the AMQP verb."""
        if not self.link.args.ledger:
            return
        if event == 'acked' and self._is_plain():
            self.link.inbox.receipts.add_single(event, self)
            return
        if self.has_died:
            facts['died'] = True
        self.link.record(
            event,
            id=self.properties.message_id,
            attempt=self.attempt,
            redelivered=self.method.redelivered,
            digest=self.digest,
            **facts,
        )

    def _is_plain(self) -> bool:
        """Return whether this is the first delivery of a first attempt, with an id."""
        properties = self.properties
        if self.method.redelivered or not isinstance(properties.message_id, str):
            return False
        headers = properties.headers or ()
        return 'x-attempt' not in headers and 'x-death' not in headers

    def ack(self) -> None:
        """Acknowledge this and all earlier deliveries that are not settled yet.

        The link sends basic.ack for several deliveries together.
        """
        link = self.link
        if link.args.ledger:  # saves a call for each message
            self.record('acked')
        if not link.auto_ack:
            link.inbox.ack_tag = self.method.delivery_tag
            link.inbox.to_ack += 1

    def reject(self, invalid: Invalid) -> None:
        """Reject this delivery into the dead letters, for the reason that `invalid` tells."""
        link = self.link
        reason, details = invalid.args
        link.rejections[reason] += 1
        message_id = self.properties.message_id
        logging.warning('invalid: %s: %.100r (message_id %.100r)', reason, details, message_id)
        self.record('invalid', reason=reason)
        if link.is_stream:  # it keeps its messages, and RabbitMQ 3.10 would close the channel
            link.inbox.ack_tag = self.method.delivery_tag
            link.inbox.to_ack += 1
        elif not link.auto_ack and dead_lettering.crashes_broker(self.properties):
            dead_lettering.dead_letter(self)
        elif not link.auto_ack and self.channel.is_open:  # else it is delivered again
            link.inbox.rejected.add(self)
            self.channel.basic_reject(delivery_tag=self.method.delivery_tag, requeue=False)


class Run:
    """Deliveries that came together and are alike but for delivery tag and message_id.

    message_ids: of each, in bytes; count: how many they are; redelivered: whether the
    broker says that it delivered them before.
    """

    __slots__ = (
        'channel',
        'count',
        'first_tag',
        'link',
        'message_ids',
        'redelivered',
        'shape',
    )

    def __init__(
        self,
        link: Receiver,
        channel: Channel,
        shape: Shape,
        first_tag: int,
        message_ids: Sequence[bytes],
    ) -> None:
        self.link = link
        self.channel = channel
        self.shape = shape
        self.first_tag = first_tag
        self.message_ids = message_ids
        self.count = len(message_ids)
        self.redelivered = shape.method.redelivered

    @property
    def first(self) -> Delivery:
        """The first of them, made anew each time."""
        return self._delivery(0)

    def _delivery(self, number: int) -> Delivery:
        shape = self.shape
        return Delivery(
            self.link,
            self.channel,
            shape.method_of(self.first_tag + number),
            shape.properties_of(self.message_ids[number]),
            shape.body,
        )

    def __iter__(self) -> Iterator[Delivery]:
        for number in range(self.count):
            yield self._delivery(number)

    def split(self, count: int) -> tuple[Run, Run]:
        """Return the first `count` of them, and the rest."""
        return (
            Run(self.link, self.channel, self.shape, self.first_tag, self.message_ids[:count]),
            Run(
                self.link,
                self.channel,
                self.shape,
                self.first_tag + count,
                self.message_ids[count:],
            ),
        )

    def ack(self) -> None:
        """Acknowledge these and all earlier deliveries that are not settled yet."""
        link = self.link
        if link.args.ledger:
            self._record_acked()
        if not link.auto_ack:
            link.inbox.ack_tag = self.first_tag + self.count - 1
            link.inbox.to_ack += self.count

    def _record_acked(self) -> None:
        """Write into the ledger that they are acknowledged, with others if their ids allow that."""
        lines = self._is_plain() and numbered.batches(self.message_ids)
        if lines:
            self.link.inbox.receipts.add('acked', lines, digest=self.common.digest)
            return
        for delivery in self:
            delivery.record('acked')

    def _is_plain(self) -> bool:
        """Return whether all are first deliveries of first attempts."""
        properties = self.common.properties
        if self.redelivered or 'x-death' in (properties.headers or {}):
            return False
        return publish_attempt(properties) == 1

    @property
    def common(self) -> Shape | Delivery:
        """What their properties and digest are those of."""
        return self.shape

    def reject(self, invalid: Invalid) -> None:
        """Reject each of them into the dead letters, for the reason that `invalid` tells."""
        for delivery in self:
            delivery.reject(invalid)


class RunOfOne(Run):
    """A delivery that came in no run."""

    __slots__ = ('delivery',)

    def __init__(self, delivery: Delivery) -> None:
        self.link = delivery.link
        self.channel = delivery.channel
        self.first_tag = delivery.method.delivery_tag
        self.message_ids = [message_id_bytes(delivery.properties)]
        self.count = 1
        self.redelivered = delivery.redelivered
        self.delivery = delivery

    def _delivery(self, number: int) -> Delivery:
        return self.delivery

    @property
    def common(self) -> Shape | Delivery:
        return self.delivery


class Rejected(OrderedDict[tuple[object, bytes], None]):
    """What was rejected over this channel, where the broker promises no dead-lettering.

    Such a broker may put it back into the queue, and deliver it again and again. What
    comes back is acknowledged, so that it is gone: it was counted, and its reason logged,
    when it was rejected.
    """

    is_kept = False  # until the broker is known to promise nothing
    was_told = False

    def add(self, delivery: Delivery) -> None:
        """Remember a delivery that is rejected."""
        if self.is_kept:
            self[fingerprint(delivery)] = None
            if len(self) > REMEMBERED_REJECTIONS:
                self.popitem(last=False)

    def holds(self, delivery: Delivery) -> bool:
        """Return whether a delivery was rejected before."""
        return fingerprint(delivery) in self

    def drop(self, delivery: Delivery) -> None:
        """Acknowledge a delivery that came back."""
        if not self.was_told:
            self.was_told = True
            logging.warning(
                'this broker puts back what is rejected; it is acknowledged now, and gone'
            )
        delivery.channel.basic_ack(delivery_tag=delivery.method.delivery_tag)


def fingerprint(delivery: Delivery) -> tuple[object, bytes]:
    """Return what tells a message from others."""
    return delivery.properties.message_id, hashlib.sha256(delivery.body).digest()


class Inbox(deque):
    """Deliveries that no script has looked at yet, and acknowledgements not yet sent.

    Where the script asks for runs, those that came as a run are in it as a Run; `receipts`
    has what of these is to be written into the ledger.
    """

    def __init__(self, receipts: Receipts) -> None:
        super().__init__()
        self.receipts = receipts
        self.rejected = Rejected()
        self.forget()

    def forget(self) -> None:
        """Drop everything: the channel is gone, and the broker delivers again."""
        self.receipts.write()
        self.clear()
        self.rejected.clear()  # rejections may have been lost with the channel
        self.ack_tag = 0  # the latest delivery to acknowledge, with all before it
        self.to_ack = 0  # how many deliveries that are

    def put(self, delivery: Delivery) -> None:
        """Keep a delivery, unless it is one that was rejected and came back."""
        if self.rejected and delivery.redelivered and self.rejected.holds(delivery):
            self.rejected.drop(delivery)
        else:
            self.append(delivery)

    def put_run(self, run: Run) -> None:
        """The same for a run."""
        if not (self.rejected and run.redelivered):
            self.append(run)
            return
        for delivery in run:
            self.put(delivery)

    def waiting_count(self) -> int:
        """Return how many deliveries wait in it."""
        return sum(item.count for item in self)

    def take_delivery(self, _limit: int) -> Delivery:
        """Return the next delivery. There must be one, and no Run."""
        delivery: Delivery = self.popleft()
        return delivery

    def take_run(self, limit: int) -> Run:
        """Return the next run of at most `limit` deliveries. There must be one."""
        item: Delivery | Run = self.popleft()
        if isinstance(item, Delivery):
            return RunOfOne(item)
        if item.count <= limit:
            return item
        taken, rest = item.split(limit)
        self.appendleft(rest)
        return taken

    def send_acks(self, channel: Channel | None) -> None:
        """Acknowledge on the channel what the script has acknowledged since the last time."""
        self.receipts.write()
        if self.ack_tag and channel and channel.is_open:
            channel.basic_ack(delivery_tag=self.ack_tag, multiple=True)
            self.ack_tag = 0
            self.to_ack = 0


def ack_batch(ack_every: int, prefetch: int) -> int:
    """Return how many deliveries to acknowledge at once: `ack_every`, or what the prefetch allows.

    That is half of it: a broker that waits for all acknowledgements delivers nothing.
    """
    return min(ack_every, max(1, prefetch // 2))


def publish_attempt(properties: pika.BasicProperties) -> int:
    """Return the header x-attempt of a message; 1 if there is none, or not a number."""
    attempt = (properties.headers or {}).get('x-attempt', 1)
    if isinstance(attempt, int) and attempt > 0:
        return int(attempt)
    return 1


def message_id_bytes(properties: pika.BasicProperties) -> bytes:
    """Return the message_id in bytes; empty if there is none."""
    message_id = properties.message_id
    if not isinstance(message_id, str):
        return b''
    return message_id.encode()
