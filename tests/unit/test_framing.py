"""framing.py reads the same messages however the stream is cut, and writes what pika reads."""

import struct
from types import SimpleNamespace

import pika
from hypothesis import example, given
from hypothesis import strategies as st
from pika import frame
from support.wire import BODY_MAX, FRAME_MAX, Reader, delivery

from siamese.messaging.frames import message_id_span
from siamese.messaging.properties import Properties, PropertiesDecoder

BODIES = st.lists(st.integers(0, 3 * FRAME_MAX), min_size=1, max_size=6)


@given(BODIES, st.lists(st.integers(1, 5000), max_size=20), st.booleans())
@example([0, 1, BODY_MAX, FRAME_MAX - 7], [1] * 20, True)
def test_deliveries_are_whole_however_the_stream_is_cut(sizes, cuts, heartbeats):
    sent, stream = [], b''
    for number, size in enumerate(sizes, 1):
        body = bytes(byte % 256 for byte in range(number, number + size))
        message_id = f'id-{number}'
        properties = pika.BasicProperties(message_id=message_id, headers={'n': number})
        redelivered = number % 2 == 0
        names = ('ctag', 'exchange', 'kéy', message_id, None)
        sent.append((1, (number, redelivered, *names, {'n': number}, body)))
        frames = delivery(1, number, body, properties, redelivered=redelivered)
        between = b''
        if heartbeats:
            between = frame.Heartbeat().marshal()
        stream += between.join(frames)
    reader = Reader()
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    assert reader.read([*pieces, stream]) is None
    assert reader.delivered == sent and reader.connection._frame_buffer == b''


@given(st.binary(max_size=3 * FRAME_MAX), st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_pika_reads_the_frames_of_basic_publish(body, exchange, routing_key, mandatory):
    one = Reader().connection
    properties = pika.BasicProperties(message_id='m', content_type='text/plain')
    one._channels[1].basic_publish(exchange, routing_key, body, properties, mandatory)
    data, values = b''.join(one.emitted), []
    while data:
        taken, value = frame.decode_frame(data)
        values.append(value)
        data = data[taken:]
    method, header, *bodies = values
    assert (method.method.exchange, method.method.routing_key, method.method.mandatory) == (
        exchange,
        routing_key,
        mandatory,
    )
    assert header.body_size == len(body) and header.properties.message_id == 'm'
    assert b''.join(value.fragment for value in bodies) == body
    assert all(len(value.fragment) <= BODY_MAX for value in bodies)


def test_a_frame_without_its_end_byte_raises():
    reader = Reader()
    frames = b''.join(delivery(1, 1, b'body', pika.BasicProperties()))
    error = reader.read([frames[:-1] + b'\0'])
    assert isinstance(error, pika.exceptions.InvalidFrameError)
    assert reader.delivered == []


SHORT = st.none() | st.text(max_size=8)
PROPERTIES = st.builds(
    pika.BasicProperties,
    content_type=SHORT,
    priority=st.none() | st.integers(0, 9),
    message_id=st.none() | st.text('01', max_size=3) | st.text(max_size=4),
    app_id=SHORT,
    headers=st.none() | st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=2),
)


@given(st.lists(PROPERTIES, min_size=2, max_size=8), st.lists(st.integers(0, 7), max_size=30))
def test_properties_are_what_pika_decodes_in_any_order(kinds, order):
    decoder = PropertiesDecoder()
    for number in order:
        encoded = b''.join(kinds[number % len(kinds)].encode())
        properties = Properties(encoded, decoder)
        by_pika = pika.BasicProperties().decode(encoded)
        assert all(getattr(properties, name) == value for name, value in vars(by_pika).items())


@given(st.binary(max_size=60))
def test_properties_made_of_any_bytes_can_be_read(encoded):
    properties = Properties(encoded)
    assert isinstance(properties.content_type, (str, bytes, type(None)))
    assert SimpleNamespace(**vars(properties)).message_id == properties.message_id


def test_undecodable_properties_say_why():
    table = b'\x04when' + b'T' + struct.pack('>Q', 2**63)
    properties = Properties(struct.pack('>HL', 1 << 13, len(table)) + table)
    assert properties.content_type.startswith('undecodable: ') and properties.headers is None


def test_the_last_properties_remembered_are_those_of_the_same_connection():
    encoded = [
        b''.join(pika.BasicProperties(app_id=app_id, message_id=message_id).encode())
        for app_id, message_id in (('a', '1'), ('b', '2'))
    ]
    decoders = [PropertiesDecoder(), PropertiesDecoder()]
    for _ in range(2):
        for data, decoder, app_id in zip(encoded, decoders, 'ab'):
            assert Properties(data, decoder).app_id == app_id
    assert [decoder.attributes['app_id'] for decoder in decoders] == ['a', 'b']


@given(PROPERTIES)
def test_the_message_id_is_found_in_the_encoded_properties(properties):
    encoded = b''.join(properties.encode())
    begin, end = message_id_span(encoded)
    assert encoded[begin:end] == (properties.message_id or '').encode()


@given(st.binary(max_size=40))
def test_a_message_id_is_looked_for_in_any_bytes(encoded):
    begin, end = message_id_span(encoded)
    assert 0 <= begin <= end <= len(encoded)


def test_an_id_that_overlaps_with_what_stands_before_it_is_read_right():
    decoder = PropertiesDecoder()
    for message_id in '\x02\x02', 'a\x02', '\x02a', 'aa':
        encoded = b''.join(pika.BasicProperties(priority=2, message_id=message_id).encode())
        assert Properties(encoded, decoder).message_id == message_id


def test_properties_with_more_flags_are_not_taken_for_others():
    encoded = b''.join(pika.BasicProperties(message_id='aa').encode())
    more = bytes([encoded[0], encoded[1] | 1]) + encoded[:2] + encoded[2:]
    assert message_id_span(more) == (len(more), len(more))
