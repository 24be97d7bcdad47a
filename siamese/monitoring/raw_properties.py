"""Dead letters: what a message from siamese.dead says of its death, and how it goes back where it came from.

Its properties are taken apart as bytes: what pika cannot decode, or decodes to something else (a float to a whole
number), goes back as it came.
"""

import json
import re
import struct
from datetime import datetime

from pika import data

from siamese.messaging import framing as wire

# Of the properties in their order on the wire: the bit of its flag, and its size in bytes (None: a short string).
FIELDS = {
    15: None,
    14: None,
    13: 'table',
    12: 1,
    11: 1,
    10: None,
    9: None,
    8: None,
    7: None,
    6: 8,
    5: None,
    4: None,
    3: None,
    2: None,
}
HEADERS, USER_ID = 13, 4
# Bytes of the value of a header by its type; the other types say how long they are.
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
# What death added, and the addresses of copies, which have arrived long ago.
NOT_SENT_BACK = re.compile(b'x-death|x-(first|last)-death-.*|x-delivery-count|CC|BCC', re.DOTALL)
CHANGING = re.compile(
    b'x-delivery-count'
)  # from one delivery of a letter to the next: siamese.dead is a quorum queue


class AsItWas(wire.Properties):
    """Properties that are sent as the bytes they are made of."""

    def encode(self):
        return [self.encoded]


def fields(encoded):
    """Yield (bit, bytes) of each property that is there."""
    flags, at = struct.unpack_from('>H', encoded)[0], 2
    for bit, size in FIELDS.items():
        if flags >> bit & 1:
            if size == 'table':
                end = at + 4 + struct.unpack_from('>L', encoded, at)[0]
            else:
                end = at + (size or 1 + encoded[at])
            yield bit, encoded[at:end]
            at = end


def entries(table):
    """Yield (name, where its value begins, bytes of both) of each header of a table, all as it came."""
    at = 4
    while at < len(table):
        begin = at + 1 + table[at]
        size = SIZES.get(table[begin : begin + 1])
        end = (
            begin
            + 1
            + (4 + int.from_bytes(table[begin + 1 : begin + 5], 'big') if size is None else size)
        )
        yield table[at + 1 : begin], begin, table[at:end]
        at = end


def without(encoded, names):
    """Return properties, as bytes, without the headers whose name matches `names`."""
    kept = dict(fields(encoded))
    table = b''.join(
        entry for name, _, entry in entries(kept.pop(HEADERS, b'')) if not names.fullmatch(name)
    )
    return packed({**kept, HEADERS: struct.pack('>L', len(table)) + table} if table else kept)


def packed(kept):
    """Return properties, {bit: bytes}, as they stand on the wire."""
    return struct.pack('>H', sum(1 << bit for bit in kept)) + b''.join(
        kept[bit] for bit in FIELDS if bit in kept
    )


def back(letter, user):
    """Return the properties with which `user` sends a dead letter, of dead.letter(), back into its queue.

    The header x-death and the like are left out, and so is the time to live, which the broker has taken out already.
    A user_id other than `user` is left out as well: the broker would refuse it.
    """
    return AsItWas(
        packed(
            {
                bit: part
                for bit, part in fields(without(letter['encoded'], NOT_SENT_BACK))
                if bit != USER_ID or part[1:] == user.encode()
            }
        )
    )


def read(method, properties, body, now):
    """Return what is known of a dead letter as the dict that dead.store() takes; never raises."""
    death = _death(properties.encoded)
    keys = death.get('routing-keys')
    at = death.get('time')
    at = at.timestamp() if isinstance(at, datetime) else now
    facts = {
        'queue': death.get('queue'),
        'reason': death.get('reason', 'unknown'),
        'exchange': death.get('exchange', method.exchange),
        'routing_key': keys[0] if isinstance(keys, list) and keys else method.routing_key,
        'sender': properties.app_id or properties.user_id,
        'message_id': properties.message_id,
    }
    return {
        **{name: _text(value) for name, value in facts.items()},
        'body': body,
        'encoded': properties.encoded,
        # The time in the header is that of the first death in this queue.
        'at': at if death.get('count') == 1 and now - 86400 * 366 < at < now else now,
        'properties': _readable(properties),
        'redelivered': method.redelivered,
    }


def _death(encoded):
    """Return the latest entry of the header x-death: a dict, {} if there is none."""
    try:
        table = dict(fields(encoded))[HEADERS]
        begin = next(begin for name, begin, _ in entries(table) if name == b'x-death')
        death = data.decode_value(table, begin)[0][0]
    except Exception:  # noqa: BLE001  whatever a stranger may have written there
        return {}
    return death if isinstance(death, dict) else {}


def _readable(properties):
    found = {
        'content_type': properties.content_type,
        **{
            name: value
            for name, value in vars(properties).items()
            if name != 'encoded' and value is not None
        },
    }
    try:
        return json.loads(json.dumps(found, default=str, skipkeys=True))
    except (ValueError, RecursionError):
        return {'content_type': 'undecodable: nested too deep'}


def _text(value):
    value = (
        value.decode(errors='backslashreplace') if isinstance(value, bytes) else str(value or '')
    )
    return value.encode(errors='backslashreplace').decode()
