"""The properties of a dead letter, byte for byte, and what they say of dead-lettering.

The properties are taken apart as bytes. What pika cannot decode, or decodes to
something else (a float to a whole number), is requeued exactly as it was.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, TypedDict, cast

from pika import data

from siamese.messaging import raw_fields
from siamese.messaging.deliveries import Delivery
from siamese.messaging.properties import Properties
from siamese.messaging.raw_fields import HEADERS, USER_ID, Fields, RawProperties

# What dead-lettering added, and the addresses of copies, which have long arrived.
NOT_REQUEUED = re.compile(
    b'x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count|CC|BCC',
    re.DOTALL,
)
# What a quorum queue adds to a delivery: how often it failed, and from RabbitMQ 4.3 on how
# often it was delivered. With that it sorts the headers by their names.
ADDED_BY_DELIVERY = re.compile(b'x-delivery-count|x-acquired-count')
YEAR_S = 366 * 86400


class DeadLetter(TypedDict):
    """What is known of a dead letter when it is delivered."""

    queue: str  # it was in, '' if that is unknown
    reason: str
    exchange: str  # it was published to
    routing_key: str
    sender: str  # its app_id or user_id
    message_id: str
    body: bytes
    encoded: bytes  # its properties
    at: float  # when it was dead-lettered
    properties: dict[str, Any]  # which JSON can hold
    redelivered: bool
    tag: int  # of the delivery


def without(encoded: bytes, names: re.Pattern[bytes]) -> Fields:
    """Return properties without the headers whose name matches `names`."""
    kept = raw_fields.fields(encoded)
    headers = [each for each in raw_fields.headers(kept) if not names.fullmatch(each.name)]
    kept.pop(HEADERS, None)
    if headers:
        kept[HEADERS] = raw_fields.table(each.encoded for each in headers)
    return kept


def as_published(encoded: bytes) -> bytes:
    """Return what is the same in the properties of each delivery of a dead letter.

    That is what its sender and its death wrote.
    """
    kept = without(encoded, ADDED_BY_DELIVERY)
    if HEADERS in kept:
        headers = [each.encoded for each in raw_fields.headers(kept)]
        kept[HEADERS] = raw_fields.table(sorted(headers))
    return raw_fields.packed(kept)


def original_properties(encoded: bytes, user: str) -> RawProperties:
    """Return the properties with which `user` requeues a dead letter.

    `encoded` are those with which it arrived. The header x-death and the like are left
    out, and so is the time to live, which the broker has taken out already. A user_id
    other than `user` is left out as well: the broker would refuse it.
    """
    kept = without(encoded, NOT_REQUEUED)
    if kept.get(USER_ID, b'')[1:] != user.encode():
        kept.pop(USER_ID, None)
    return RawProperties(raw_fields.packed(kept))


def parse(delivery: Delivery, now: float) -> DeadLetter:
    """Return what is known of a dead letter that was delivered; never raises."""
    method = delivery.method
    # The connections of framing.py hand these to consumers.
    properties = cast(Properties, delivery.properties)
    death = _latest_x_death(properties.encoded)
    routing_key = method.routing_key
    keys = death.get('routing-keys')
    if isinstance(keys, list) and keys:
        routing_key = keys[0]
    return DeadLetter(
        queue=_text(death.get('queue')),
        reason=_text(death.get('reason', 'unknown')),
        exchange=_text(death.get('exchange', method.exchange)),
        routing_key=_text(routing_key),
        sender=_text(properties.app_id or properties.user_id),
        message_id=_text(properties.message_id),
        body=delivery.body,
        encoded=properties.encoded,
        at=_time(death, now),
        properties=_readable(properties),
        redelivered=method.redelivered,
        tag=method.delivery_tag,
    )


def _latest_x_death(encoded: bytes) -> dict[str, Any]:
    """Return the latest entry of the header x-death, {} if there is none."""
    try:
        headers = raw_fields.headers(raw_fields.fields(encoded))
        value = next(each.value for each in headers if each.name == b'x-death')
        death = data.decode_value(value, 0)[0][0]
    except Exception:  # noqa: BLE001  a stranger may have written anything there
        return {}
    if not isinstance(death, dict):
        return {}
    return death


def _time(death: dict[str, Any], now: float) -> float:
    """Return when a message was dead-lettered, `now` where its header does not say.

    The time in the header is that of the first time in this queue.
    """
    time = death.get('time')
    if not isinstance(time, datetime) or death.get('count') != 1:
        return now
    at = time.timestamp()
    if not now - YEAR_S < at < now:
        return now
    return at


def _readable(properties: Properties) -> dict[str, Any]:
    found = {'content_type': properties.content_type, **vars(properties)}
    present = {name: value for name, value in found.items() if value is not None}
    present['content_type'] = properties.content_type
    try:
        return json.loads(json.dumps(present, default=str, skipkeys=True))
    except (ValueError, RecursionError):
        return {'content_type': 'undecodable: nested too deep'}


def _text(value: object) -> str:
    text = str(value or '')
    if isinstance(value, bytes):
        text = value.decode(errors='backslashreplace')
    return text.encode(errors='backslashreplace').decode()
