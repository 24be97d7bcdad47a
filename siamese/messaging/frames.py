"""How AMQP 0-9-1 lays out frames: what framing.py and fast_path.py read and write.

A message is three frames or more: a method (basic.publish or basic.deliver), a
content header with the properties, and the body.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from pika import frame, spec

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
) -> spec.Basic.Deliver:
    """Decode the arguments of a basic.deliver, which stand from `start` to `end`."""
    tag = start + 1 + buffer[start]
    (consumer_tag,) = short_strings(buffer[start:tag])
    delivery_tag, bits = TAG_AND_BITS.unpack_from(buffer, tag)
    exchange, routing_key = short_strings(buffer[tag + TAG_AND_BITS_BYTES : end])
    return spec.Basic.Deliver(
        consumer_tag,
        delivery_tag,
        bool(bits & 1),
        exchange,
        routing_key,
    )


@lru_cache(maxsize=1000)
def short_strings(encoded: bytes) -> list[str]:
    """Decode consecutive AMQP short strings; bytes that are not UTF-8 are escaped."""
    texts = []
    at = 0
    while at < len(encoded):
        end = at + 1 + encoded[at]
        text = encoded[at + 1 : end]
        texts.append(text.decode(errors='backslashreplace'))
        at = end
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


def message_id_span(encoded: bytes) -> tuple[int, int]:
    """Return where the text of the message_id begins and ends in encoded properties.

    Both are the length of `encoded` if there is none, or if the properties are cut short.
    """
    none = (len(encoded), len(encoded))
    if len(encoded) < FLAG_BYTES:
        return none
    flags = int.from_bytes(encoded[:FLAG_BYTES], 'big')
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
    """Return how many bytes the property at `at` has; 1 if it begins beyond the end."""
    if kind == SHORT_STRING and at < len(encoded):
        return 1 + encoded[at]
    if kind == TABLE and at + LENGTH_OF_TABLE.size <= len(encoded):
        (size,) = LENGTH_OF_TABLE.unpack_from(encoded, at)
        return LENGTH_OF_TABLE.size + int(size)
    return 1
