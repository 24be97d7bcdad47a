"""Properties that pika would not send: bytes as another client may write them."""

import struct

import pika


class Raw(pika.BasicProperties):
    """Properties that are encoded already; `fields` follow the flags of those that are there."""

    def __init__(self, flags, *fields):
        super().__init__()
        self.encoded = struct.pack('>H', flags) + b''.join(fields)

    def encode(self):
        return [self.encoded]


def short(text):
    return bytes([len(text)]) + text


def with_header(content_type, name, field):
    """Return properties with one header: `field` is its type and value as bytes."""
    table = short(name) + field
    return Raw(1 << 15 | 1 << 13, short(content_type), struct.pack('>L', len(table)) + table)


def undecodable(content_type):
    """Return properties that pika 1.4 cannot decode: their timestamps are too large."""
    return [
        with_header(content_type, b'sent', b'T' + struct.pack('>Q', time))
        for time in (1_795_457_556_692, 2**63)
    ]


def with_message_id(content_type, id):
    """Return properties with a content type and a message_id of any bytes."""
    return Raw(1 << 15 | 1 << 7, short(content_type), short(id))


def with_addresses(correlation_id, reply_to):
    """Return properties with a correlation_id and a reply_to of any bytes."""
    return Raw(1 << 10 | 1 << 9, short(correlation_id), short(reply_to))
