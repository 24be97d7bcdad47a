"""Streams of bytes, whole and broken, that our parser and pika's must read alike.

compare(seed) makes one, has it read by pika, by framing.py, and by its fast path, and
raises AssertionError where they differ. What pika would still wait for, or take in spite
of its size, may end ours.
"""

import logging
import random
import struct
from contextlib import contextmanager

import pika
from pika import frame, spec
from support import wire

from siamese.messaging import framing
from siamese.messaging.size_limits import TooLarge

# Texts whose bytes look like lengths, flags and ends of frames, and overlap with each other.
TEXTS = (
    '',
    'a',
    'aa',
    'aaa',
    '\x01a',
    '\x02aa',
    '\x02\x02',
    '\x01\x01\x01',
    'aa\x02aa',
    'é',
    'm-0001',
)
BYTES = (0, 1, 2, 3, 4, 8, 13, 60, 80, 127, 128, 206, 255)
CONTENT = struct.Struct('>HHQ')
OTHER_CLASSES = (0, 10, 50, 61, 85)


class Reader(wire.Reader):
    """Reads a stream; `events` are the deliveries and confirms in order."""

    def __init__(self, kind=framing.Connection, by_run=False):
        super().__init__(kind, by_run)
        self.events = []
        for channel in self.connection._channels.values():
            channel.on_ack = self._on_ack

    def _process(self, value):
        if isinstance(getattr(value, 'method', None), (spec.Basic.Ack, spec.Basic.Nack)):
            self._on_ack(value)
        else:
            super()._process(value)

    def _on_ack(self, value):
        method = value.method
        acks = getattr(method, 'acks', [(method.delivery_tag, method.multiple)])
        for tag, multiple in acks:
            self.events.append((value.channel_number, method.NAME, tag, multiple))

    def _on_delivery(self, channel, method, properties, body):
        texts = (method.consumer_tag, method.exchange, method.routing_key)
        self.events.append(
            (
                channel.channel_number,
                method.delivery_tag,
                method.redelivered,
                *map(wire.text, texts),
                properties.encoded,
                decoded(properties),
                body,
            )
        )


class RawProperties(pika.BasicProperties):
    """Properties in pika's reader, which decodes them as scripts do: when they are looked at."""

    def decode(self, encoded, offset=0):
        self.encoded = encoded[offset:]
        return self


def decoded(properties):
    """Return what properties say, as text; 'undecodable' if pika cannot tell."""
    if isinstance(properties, RawProperties):
        try:
            properties = pika.BasicProperties().decode(properties.encoded)
        except Exception:  # noqa: BLE001  as invalid bytes may raise any
            return 'undecodable'
    content_type = properties.content_type
    if str(content_type).startswith('undecodable: '):
        return 'undecodable'
    return repr(dict(vars(properties)))


@contextmanager
def raw_properties():
    """Have pika's frames keep the bytes of properties."""
    before = spec.props[spec.Basic.INDEX]
    spec.props[spec.Basic.INDEX] = RawProperties
    try:
        yield
    finally:
        spec.props[spec.Basic.INDEX] = before


def compare(seed):
    """Have a stream read in three ways; raise AssertionError where they differ."""
    logging.getLogger('pika').setLevel(logging.CRITICAL + 1)
    rng = random.Random(seed)
    stream = stream_of(rng)
    pieces = wire.cut(stream, rng)
    by_pika = Reader(pika.SelectConnection)
    with raw_properties():
        pikas_error = by_pika.read(pieces)
    for by_run in False, True:
        ours = Reader(by_run=by_run)
        error = ours.read(pieces)
        told = by_pika.events
        if is_stricter(error):
            told = told[: len(ours.events)]
        else:
            assert repr(error) == repr(pikas_error), (seed, by_run, error, pikas_error)
        assert ours.events == told, (seed, by_run, ours.events, told)


def is_stricter(error):
    """Return whether ours ends here, where pika waits or takes it."""
    return isinstance(error, TooLarge) or 'no frame of AMQP' in str(error)


# ---- streams


def stream_of(rng):
    """Return frames of deliveries and confirms; two of three streams are broken somewhere."""
    parts = []
    kinds = [properties_of(rng) for _ in range(rng.randint(1, 3))]
    bodies = [rng.randbytes(size_of(rng)) for _ in range(2)]
    tag = rng.randrange(200)
    for _ in range(rng.randint(1, 4)):
        properties = rng.choice(kinds)
        body = rng.choice(bodies)
        channel = rng.choice(wire.CHANNELS)
        for _ in range(rng.choice([1, 2, 3, 6])):
            tag += 1
            if properties.message_id:
                properties.message_id = same_length(rng, properties.message_id)
            parts += wire.delivery(channel, tag, body, properties)
            if rng.random() < 0.2:
                parts += confirms(rng)
    if rng.random() < 0.67:
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            parts = rng.choice(BREAKING)(parts, rng) or parts
    return b''.join(parts)


def properties_of(rng):
    def maybe(values):
        return rng.choice([None, rng.choice(values)])

    return pika.BasicProperties(
        content_type=maybe(TEXTS),
        headers=maybe([{}, {'n': 1}, {'a': 'aa'}, {'aa': ['a', {'a': 1}]}]),
        priority=maybe([1, 2, 3]),
        correlation_id=maybe(TEXTS),
        reply_to=maybe(TEXTS),
        message_id=maybe(TEXTS),
        type=maybe(TEXTS),
        app_id=maybe(TEXTS),
    )


def size_of(rng):
    return rng.choice([0, 1, 12, 100, wire.BODY_MAX, wire.BODY_MAX + 1, 2 * wire.BODY_MAX + 3])


def same_length(rng, text):
    """Return a text of as many bytes, so that deliveries come in a run."""
    if not text.isascii():
        return text
    letters = rng.choice(['a\x01\x02-0', '\x02a', '\x03a'])
    return ''.join(rng.choice(letters) for _ in text)


def confirms(rng):
    kinds = (spec.Basic.Ack, spec.Basic.Ack, spec.Basic.Nack)
    return [
        frame.Method(
            rng.choice(wire.CHANNELS), rng.choice(kinds)(rng.randrange(300), rng.random() < 0.3)
        ).marshal()
        for _ in range(rng.randint(1, 4))
    ]


# ---- what can be wrong with them: each function returns the parts, or None where it cannot


def at_random(alter):
    """Return a function that alters one of the frames."""

    def altered(parts, rng):
        at = rng.randrange(len(parts))
        part = alter(bytearray(parts[at]), rng)
        if part is None:
            return None
        return [*parts[:at], bytes(part), *parts[at + 1 :]]

    return altered


def flip(part, rng):
    part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
    return part


def put_byte(part, rng):
    part[rng.randrange(len(part))] = rng.choice(BYTES)
    return part


def wrong_end(part, rng):
    part[-1] = rng.choice([0, 205, 1])
    return part


def wrong_size(part, rng):
    """A frame says another size than it has."""
    (size,) = struct.unpack_from('>L', part, 3)
    struct.pack_into('>L', part, 3, max(0, size + rng.choice([-9, -4, -1, 1, 4, 8, 1 << 20])))
    return part


def more_in_it(part, rng):
    """A frame has more bytes than its method needs, or fewer, and says so."""
    by = rng.choice([-9, -2, -1, 1, 2, 9])
    payload = part[7:-1] + bytes(max(0, by))
    if by < 0:
        payload = payload[:by]
    return part[:3] + struct.pack('>L', len(payload)) + payload + part[-1:]


def other_channel(part, rng):
    struct.pack_into('>H', part, 1, rng.choice([0, 1, 2, 3]))
    return part


def other_kind(part, rng):
    part[0] = rng.choice([1, 2, 3, 8, 0, 65])
    return part


def other_class(part, rng):
    """A content header says that it is of another class."""
    if part[0] != spec.FRAME_HEADER or len(part) < 10:
        return None
    struct.pack_into('>H', part, 7, rng.choice(OTHER_CLASSES))
    return part


def other_body_size(part, rng):
    if part[0] != spec.FRAME_HEADER or len(part) < 7 + CONTENT.size:
        return None
    size = rng.choice([0, 1, 11, 13, 504, 505, 1 << 40])
    struct.pack_into('>Q', part, 11, size)
    return part


def other_flags(part, rng):
    """Properties say that others are there, or that more flags follow."""
    if part[0] != spec.FRAME_HEADER or len(part) < 9 + CONTENT.size:
        return None
    part[19 + rng.randrange(2)] ^= 1 << rng.randrange(8)
    return part


def leave_out(parts, rng):
    at = rng.randrange(len(parts))
    return parts[:at] + parts[at + 1 :]


def repeat(parts, rng):
    at = rng.randrange(len(parts))
    return parts[: at + 1] + parts[at:]


def swap(parts, rng):
    at = rng.randrange(len(parts))
    return parts[:at] + parts[at : at + 2][::-1] + parts[at + 2 :]


def within(parts, rng):
    """Deliveries, or what is left of them, within a delivery."""
    at = rng.randrange(len(parts))
    begin = rng.randrange(len(parts))
    return parts[:at] + parts[begin : begin + rng.choice([1, 2, 3, 6])] + parts[at:]


def cut_short(parts, rng):
    return parts[: rng.randrange(len(parts)) + 1]


def heartbeat(parts, rng):
    at = rng.randrange(len(parts))
    return [*parts[:at], frame.Heartbeat().marshal(), *parts[at:]]


def empty_body(parts, rng):
    """A body frame without a body, where one begins or where none is awaited."""
    headers = [at for at, part in enumerate(parts) if part[0] == spec.FRAME_HEADER]
    if not headers:
        return None
    at = rng.choice(headers)
    (channel,) = struct.unpack_from('>H', parts[at], 1)
    return [*parts[: at + 1], frame.Body(channel, b'').marshal(), *parts[at + 1 :]]


ALTERATIONS = (
    flip,
    put_byte,
    wrong_end,
    wrong_size,
    more_in_it,
    other_channel,
    other_kind,
    other_class,
    other_body_size,
    other_flags,
)
BREAKING = (
    *map(at_random, ALTERATIONS),
    leave_out,
    repeat,
    swap,
    within,
    cut_short,
    heartbeat,
    empty_body,
)
