"""Properties and headers taken apart as bytes, whatever pika can decode."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from siamese.messaging.properties import Properties

TABLE = -1  # in place of a size
SHORT_STRING = -2
# Of the properties in their order on the wire: the bit of its flag, and its size in bytes.
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
HEADERS = 13
EXPIRATION = 8
USER_ID = 4
LENGTH_BYTES = 4
# Bytes of a value by its type; the other types begin with their size.
SIZES = {
    **dict.fromkeys([b'V'], 0),
    **dict.fromkeys([b't', b'b', b'B'], 1),
    **dict.fromkeys([b's', b'u', b'U'], 2),
    **dict.fromkeys([b'I', b'i', b'f'], 4),
    **dict.fromkeys([b'D'], 5),
    **dict.fromkeys([b'l', b'L', b'd', b'T'], 8),
}
BLOCK_AT = 1 + LENGTH_BYTES  # in a value of those types: after its type and its size

Fields = dict[int, bytes]  # properties by the bit of their flag


class Entry(NamedTuple):
    """An entry of a table; its value begins with its type."""

    name: bytes
    value: bytes
    encoded: bytes  # both as they stand in the table


class RawProperties(Properties):
    """Properties that are sent as the bytes they are made of."""

    def encode(self) -> list[bytes]:
        return [self.encoded]


def fields(encoded: bytes) -> Fields:
    """Return the properties that are there."""
    (flags,) = struct.unpack_from('>H', encoded)
    found = {}
    at = 2
    for bit, size in FIELDS.items():
        if not flags >> bit & 1:
            continue
        if size == TABLE:
            size = LENGTH_BYTES + int.from_bytes(encoded[at : at + LENGTH_BYTES], 'big')
        elif size == SHORT_STRING:
            size = 1 + encoded[at]
        found[bit] = encoded[at : at + size]
        at += size
    return found


def packed(kept: Fields) -> bytes:
    """Return properties as they stand on the wire."""
    flags = sum(1 << bit for bit in kept)
    parts = [kept[bit] for bit in FIELDS if bit in kept]
    return struct.pack('>H', flags) + b''.join(parts)


def headers(kept: Fields) -> Iterator[Entry]:
    """Yield the headers among properties."""
    return entries(kept.get(HEADERS, b'')[LENGTH_BYTES:])


def table(encoded: Iterable[bytes]) -> bytes:
    """Return a table of these entries, with its length."""
    block = b''.join(encoded)
    return struct.pack('>L', len(block)) + block


def entries(block: bytes) -> Iterator[Entry]:
    """Yield each entry of a table."""
    at = 0
    while at < len(block):
        begin = at + 1 + block[at]
        end = end_of_value(block, begin)
        yield Entry(block[at + 1 : begin], block[begin:end], block[at:end])
        at = end


def items(block: bytes) -> Iterator[bytes]:
    """Yield each value of an array."""
    at = 0
    while at < len(block):
        end = end_of_value(block, at)
        yield block[at:end]
        at = end


def end_of_value(block: bytes, at: int) -> int:
    """Return where a value ends whose type stands at `at`."""
    begin = at + 1
    size = SIZES.get(block[at:begin])
    if size is None:
        size = LENGTH_BYTES + int.from_bytes(block[begin : begin + LENGTH_BYTES], 'big')
    return begin + size
