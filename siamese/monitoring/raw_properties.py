"""The properties of a dead letter, byte for byte, and what they say of dead-lettering.

The properties are taken apart as bytes. What pika cannot decode, or decodes to
something else (a float to a whole number), is requeued exactly as it was.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypedDict, cast

from pika import data

from siamese.messaging.deliveries import Delivery
from siamese.messaging.properties import Properties

TABLE, SHORT_STRING = -1, -2  # in place of a size
# Of the properties in their order on the wire: the bit of its flag, and its size in
# bytes.
FIELDS = {
    15: SHORT_STRING,
    14: SHORT_STRING,
    13: TABLE,
    12: 1,
    11: 1,
    10: SHORT_STRING,
    9: SHORT_STRING,
    8: SHORT_STRING,
    7: SHORT_STRING,
    6: 8,
    5: SHORT_STRING,
    4: SHORT_STRING,
    3: SHORT_STRING,
    2: SHORT_STRING,
}
HEADERS, USER_ID = 13, 4
# Bytes of the value of a header by its type; the other types begin with their size.
SIZES = {
    b'V': 0,
    b't': 1,
    b'b': 1,
    b'B': 1,
    b's': 2,
    b'u': 2,
    b'U': 2,
    b'I': 4,
    b'i': 4,
    b'f': 4,
    b'D': 5,
    b'l': 8,
    b'L': 8,
    b'd': 8,
    b'T': 8,
}
# What dead-lettering added, and the addresses of copies, which have long arrived.
NOT_REQUEUED = re.compile(
    b'x-death|x-(first|last)-death-.*|x-delivery-count|CC|BCC',
    re.DOTALL,
)
# From one delivery of a dead letter to the next: siamese.dead is a quorum queue.
CHANGING = re.compile(b'x-delivery-count')
YEAR_S = 366 * 86400

Fields = dict[int, bytes]  # properties by the bit of their flag


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


class RawProperties(Properties):
    """Properties that are sent as the bytes they are made of."""

    def encode(self) -> list[bytes]:
        return [self.encoded]


def fields(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (bit, bytes) of each property that is there."""
    flags = struct.unpack_from('>H', encoded)[0]
    at = 2
    for bit, size in FIELDS.items():
        if not flags >> bit & 1:
            continue
        if size == TABLE:
            size = 4 + struct.unpack_from('>L', encoded, at)[0]
        elif size == SHORT_STRING:
            size = 1 + encoded[at]
        yield bit, encoded[at : at + size]
        at += size


def entries(table: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield (name, where its value begins, bytes of both) of each header of a table."""
    at = 4
    while at < len(table):
        begin = at + 1 + table[at]
        value = begin + 1  # after its type
        size = SIZES.get(table[begin:value])
        if size is None:
            size = 4 + int.from_bytes(table[value : value + 4], 'big')
        end = value + size
        yield table[at + 1 : begin], begin, table[at:end]
        at = end


def without(encoded: bytes, names: re.Pattern[bytes]) -> bytes:
    """Return properties, as bytes, without the headers whose name matches `names`."""
    kept = dict(fields(encoded))
    headers = entries(kept.pop(HEADERS, b''))
    table = b''.join(entry for name, _, entry in headers if not names.fullmatch(name))
    if table:
        kept[HEADERS] = struct.pack('>L', len(table)) + table
    return packed(kept)


def packed(kept: Fields) -> bytes:
    """Return properties as they stand on the wire."""
    flags = sum(1 << bit for bit in kept)
    parts = [kept[bit] for bit in FIELDS if bit in kept]
    return struct.pack('>H', flags) + b''.join(parts)


def original_properties(encoded: bytes, user: str) -> RawProperties:
    """Return the properties with which `user` requeues a dead letter.

    `encoded` are those with which it arrived. The header x-death and the like are left
    out, and so is the time to live, which the broker has taken out already. A user_id
    other than `user` is left out as well: the broker would refuse it.
    """
    kept = dict(fields(without(encoded, NOT_REQUEUED)))
    if kept.get(USER_ID, b'')[1:] != user.encode():
        kept.pop(USER_ID, None)
    return RawProperties(packed(kept))


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
    )


def _latest_x_death(encoded: bytes) -> dict[str, Any]:
    """Return the latest entry of the header x-death, {} if there is none."""
    try:
        table = dict(fields(encoded))[HEADERS]
        headers = entries(table)
        begin = next(begin for name, begin, _ in headers if name == b'x-death')
        death = data.decode_value(table, begin)[0][0]
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
