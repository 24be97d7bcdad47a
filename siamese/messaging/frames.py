"""How AMQP 0-9-1 lays out frames: what framing.py and fast_path.py read and write.

A message is three frames or more: a method (basic.publish or basic.deliver), a
content header with the properties, and the body.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from pika import data, frame, spec

FRAME_METHOD = spec.FRAME_METHOD
FRAME_HEADER = spec.FRAME_HEADER
FRAME_BODY = spec.FRAME_BODY
FRAME_END = spec.FRAME_END
FRAME_END_BYTE = bytes([FRAME_END])
# frame type, channel number, payload size
FRAME_PREFIX = struct.Struct('>BHL')
PREFIX_BYTES = FRAME_PREFIX.size
OVERHEAD_BYTES = PREFIX_BYTES + 1  # of a frame: the prefix and the end byte

# class, weight, body size: the begin of a content header, before the properties
CONTENT_PREFIX = struct.Struct('>HHQ')
CONTENT_BYTES = CONTENT_PREFIX.size
BASIC = struct.pack('>H', spec.Basic.INDEX)  # the class of all content

# delivery tag, and an octet whose lowest bit is "redelivered" (basic.deliver) or
# "multiple" (basic.ack)
TAG_AND_BITS = struct.Struct('>QB')
TAG_AND_BITS_BYTES = TAG_AND_BITS.size
TAG = struct.Struct('>Q')
TAG_BYTES = TAG.size

METHOD_ID_BYTES = 4
DELIVER = struct.pack('>L', spec.Basic.Deliver.INDEX)
ACK = struct.pack('>L', spec.Basic.Ack.INDEX)


def deliver_method(
    buffer: bytes,
    start: int,
    end: int,
) -> spec.Basic.Deliver | None:
    """Decode the arguments of a basic.deliver, which stand from `start` to `end`.

    None if they do not fill that exactly.
    """
    if start >= end:
        return None
    tag = start + 1 + buffer[start]
    names = tag + TAG_AND_BITS_BYTES
    if names > end:
        return None
    consumer_tag = short_strings(buffer[start:tag])
    exchange_and_key = short_strings(buffer[names:end])
    if len(exchange_and_key) != 2:
        return None
    delivery_tag, bits = TAG_AND_BITS.unpack_from(buffer, tag)
    return spec.Basic.Deliver(
        *consumer_tag,
        delivery_tag,
        bool(bits & 1),
        *exchange_and_key,
    )


@lru_cache(maxsize=1000)
def short_strings(encoded: bytes) -> list[str]:
    """Decode consecutive AMQP short strings; bytes that are not UTF-8 are escaped.

    There are none if the last one is cut short.
    """
    texts = []
    at = 0
    while at < len(encoded):
        end = at + 1 + encoded[at]
        text = encoded[at + 1 : end]
        texts.append(text.decode(errors='backslashreplace'))
        at = end
    if at > len(encoded):
        return []
    return texts


@lru_cache(maxsize=1000)
def publish_frame(
    number: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
) -> bytes:
    """Return the method frame of a basic.publish on the channel `number`."""
    method = spec.Basic.Publish(
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
    )
    return frame.Method(number, method).marshal()


def body_frames(number: int, body: bytes, body_max: int) -> bytes:
    """Return the frames of a body on the channel `number`, each of at most `body_max` bytes."""
    pieces = []
    for at in range(0, len(body), body_max):
        fragment = body[at : at + body_max]
        pieces += [
            FRAME_PREFIX.pack(FRAME_BODY, number, len(fragment)),
            fragment,
            FRAME_END_BYTE,
        ]
    return b''.join(pieces)


# The properties that stand before the message_id, in their order, by their bit in the flags.
FLAG_BYTES = 2
LENGTH_OF_TABLE = struct.Struct('>L')
SHORT_STRING = 0
TABLE = 1
OCTET = 2
BEFORE_MESSAGE_ID = (
    (1 << 15, SHORT_STRING),  # content_type
    (1 << 14, SHORT_STRING),  # content_encoding
    (1 << 13, TABLE),  # headers
    (1 << 12, OCTET),  # delivery_mode
    (1 << 11, OCTET),  # priority
    (1 << 10, SHORT_STRING),  # correlation_id
    (1 << 9, SHORT_STRING),  # reply_to
    (1 << 8, SHORT_STRING),  # expiration
)
FLAG_MESSAGE_ID = 1 << 7
MORE_FLAGS = 1


def message_id_span(encoded: bytes) -> tuple[int, int]:
    """Return where the text of the message_id begins and ends in encoded properties.

    Both are the length of `encoded` if there is none, or if it is not sure where: the
    properties are cut short, have more flags, or a table that is longer than it says.
    """
    none = (len(encoded), len(encoded))
    if len(encoded) < FLAG_BYTES:
        return none
    flags = int.from_bytes(encoded[:FLAG_BYTES], 'big')
    if flags & MORE_FLAGS:
        return none
    at = FLAG_BYTES
    for flag, kind in BEFORE_MESSAGE_ID:
        if flags & flag:
            at += property_bytes(encoded, at, kind)
    if not flags & FLAG_MESSAGE_ID or at >= len(encoded):
        return none
    end = at + 1 + encoded[at]
    if end > len(encoded):
        return none
    return at + 1, end


def property_bytes(encoded: bytes, at: int, kind: int) -> int:
    """Return how many bytes the property at `at` has; all if it is not sure."""
    if kind == OCTET:
        return 1
    if kind == SHORT_STRING and at < len(encoded):
        return 1 + encoded[at]
    if kind == TABLE and at + LENGTH_OF_TABLE.size <= len(encoded):
        return table_bytes(encoded, at)
    return len(encoded)


def table_bytes(encoded: bytes, at: int) -> int:
    """Return how many bytes the table at `at` has; all if pika reads more or less of it."""
    (size,) = LENGTH_OF_TABLE.unpack_from(encoded, at)
    size += LENGTH_OF_TABLE.size
    try:
        _, end = data.decode_table(encoded, at)
    except Exception:  # noqa: BLE001  as invalid bytes may raise any
        return len(encoded)
    if end != at + size:
        return len(encoded)
    return int(size)
