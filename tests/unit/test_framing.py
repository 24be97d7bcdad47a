"""framing.py reads the same messages however the stream is cut, and writes what pika reads."""

import struct
from types import SimpleNamespace

import pika
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import frame, spec
from pika.callback import CallbackManager

from siamese.messaging import framing

FRAME_MAX = 4096
BODIES = st.lists(st.integers(0, 3 * FRAME_MAX), min_size=1, max_size=6)


def frames_of(number, body, properties):
    """Return the frames of a delivery, as pika writes them."""
    deliver = spec.Basic.Deliver('ctag', number, number % 2 == 0, 'exchange', 'kéy')
    pieces = [body[at : at + FRAME_MAX - 8] for at in range(0, len(body), FRAME_MAX - 8)]
    return [
        frame.Method(1, deliver).marshal(),
        frame.Header(1, len(body), properties).marshal(),
        *(frame.Body(1, piece).marshal() for piece in pieces),
    ]


def connection():
    """Return a Connection without a socket, with one consumer, and the list of what it delivers."""
    delivered = []

    def consume(_channel, method, properties, body):
        delivered.append(
            (
                method.delivery_tag,
                method.redelivered,
                method.consumer_tag,
                method.exchange,
                method.routing_key,
                properties.message_id,
                properties.headers,
                body,
            )
        )

    one = framing.Connection.__new__(framing.Connection)
    one.callbacks = CallbackManager()
    one.connection_state = one.CONNECTION_OPEN
    one.decoder = framing.PropertiesDecoder()
    one.emitted = []
    one.emitted_size = 0
    one.bytes_received = 0
    one.bytes_sent = 0
    one.frames_sent = 0
    one._frame_buffer = b''
    one._body_max_length = FRAME_MAX - 8

    channel = framing.Channel(one, 1, None)
    channel._set_state(channel.OPEN)
    channel._consumers = {'ctag': consume}
    channel._cancelled = set()
    one._channels = {1: channel}

    def process_frame(value):
        if value.channel_number:
            channel._handle_content_frame(value)

    one._process_frame = process_frame
    return one, delivered


@given(BODIES, st.lists(st.integers(1, 5000), max_size=20), st.booleans())
@example([0, 1, FRAME_MAX - 8, FRAME_MAX - 7], [1] * 20, True)
def test_deliveries_are_whole_however_the_stream_is_cut(sizes, cuts, heartbeats):
    sent, stream = [], b''
    for number, size in enumerate(sizes, 1):
        body = bytes(byte % 256 for byte in range(number, number + size))
        sent.append(
            (
                number,
                number % 2 == 0,
                'ctag',
                'exchange',
                'kéy',
                f'id-{number}',
                {'n': number},
                body,
            )
        )
        frames = frames_of(
            number, body, pika.BasicProperties(message_id=f'id-{number}', headers={'n': number})
        )
        stream += (frame.Heartbeat().marshal() if heartbeats else b'').join(
            frames
        )  # on channel 0, so in between
    one, delivered = connection()
    for cut in cuts:
        one._on_data_available(stream[:cut])
        stream = stream[cut:]
    one._on_data_available(stream)
    assert delivered == sent and one._frame_buffer == b''


@given(st.binary(max_size=3 * FRAME_MAX), st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_pika_reads_the_frames_of_basic_publish(body, exchange, routing_key, mandatory):
    one, _ = connection()
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
    assert all(len(value.fragment) <= FRAME_MAX - 8 for value in bodies)


def test_a_frame_without_its_end_byte_raises():
    one, delivered = connection()
    frames = b''.join(frames_of(1, b'body', pika.BasicProperties()))
    with pytest.raises(pika.exceptions.InvalidFrameError):
        one._on_data_available(frames[:-1] + b'\0')
    assert delivered == []


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
    decoder = framing.PropertiesDecoder()
    for number in order:
        encoded = b''.join(kinds[number % len(kinds)].encode())
        properties = framing.Properties(encoded, decoder)
        by_pika = pika.BasicProperties().decode(encoded)
        assert all(getattr(properties, name) == value for name, value in vars(by_pika).items())


@given(PROPERTIES, st.lists(st.text('0123-ab', min_size=5, max_size=5), min_size=1))
def test_a_template_encodes_as_pika_does(common, ids):
    common.headers = None
    make = framing.template(5, common)
    for message_id in ids:
        properties = make(message_id)
        assert (properties.message_id, properties.app_id, properties.headers) == (
            message_id,
            common.app_id,
            None,
        )
        common.message_id = message_id
        assert b''.join(properties.encode()) == b''.join(common.encode())
        properties.headers = {'x-attempt': 2}
        decoded = pika.BasicProperties().decode(b''.join(properties.encode()))
        assert (decoded.headers, decoded.message_id, decoded.app_id) == (
            {'x-attempt': 2},
            message_id,
            common.app_id,
        )


@given(st.binary(max_size=60))
def test_properties_made_of_any_bytes_can_be_read(encoded):
    properties = framing.Properties(encoded)
    assert isinstance(properties.content_type, (str, bytes, type(None)))
    assert SimpleNamespace(**vars(properties)).message_id == properties.message_id


def test_undecodable_properties_say_why():
    table = b'\x04when' + b'T' + struct.pack('>Q', 2**63)
    properties = framing.Properties(struct.pack('>HL', 1 << 13, len(table)) + table)
    assert properties.content_type.startswith('undecodable: ') and properties.headers is None


def test_the_last_properties_remembered_are_those_of_the_same_connection():
    encoded = [
        b''.join(pika.BasicProperties(app_id=app_id, message_id=message_id).encode())
        for app_id, message_id in (('a', '1'), ('b', '2'))
    ]
    decoders = [framing.PropertiesDecoder(), framing.PropertiesDecoder()]
    for _ in range(2):
        for data, decoder, app_id in zip(encoded, decoders, 'ab'):
            assert framing.Properties(data, decoder).app_id == app_id
    assert [decoder.attributes['app_id'] for decoder in decoders] == ['a', 'b']
