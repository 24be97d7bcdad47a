"""Bytes as a broker sends them, and connections without a socket that read them."""

from types import SimpleNamespace

import pika
from pika import frame, spec
from pika.callback import CallbackManager

from siamese.messaging import framing
from siamese.messaging.fast_path import Learner
from siamese.messaging.properties import PropertiesDecoder

FRAME_MAX = 512
BODY_MAX = FRAME_MAX - 8
CHANNELS = (1, 2)
CONSUMERS = ('ctag', 'other')


def delivery(channel, tag, body, properties, consumer='ctag', redelivered=False):
    """Return the frames of a delivery, as pika writes them."""
    method = spec.Basic.Deliver(consumer, tag, redelivered, 'exchange', 'kéy')
    return [
        frame.Method(channel, method).marshal(),
        frame.Header(channel, len(body), properties).marshal(),
        *body_frames(channel, body),
    ]


def body_frames(channel, body):
    pieces = [body[at : at + BODY_MAX] for at in range(0, len(body), BODY_MAX)]
    return [frame.Body(channel, piece).marshal() for piece in pieces]


def fields(method, properties, body):
    """Return what a script can see of a delivery."""
    texts = (
        method.consumer_tag,
        method.exchange,
        method.routing_key,
        properties.message_id,
        properties.content_type,
    )
    shown = [text(value) for value in texts]
    return (method.delivery_tag, method.redelivered, *shown, properties.headers, body)


def text(value):
    """Return a text; pika leaves what is not UTF-8 in bytes."""
    if isinstance(value, bytes):
        return value.decode(errors='backslashreplace')
    return value


class Reader:
    """A connection without a socket, with two consumers on each of two channels.

    `delivered` are (channel number, fields) in order; `confirms` the frames of basic.ack
    and basic.nack; `runs` how many deliveries came in a run.
    """

    def __init__(self, kind=framing.Connection, by_run=False):
        self.delivered = []
        self.confirms = []
        self.runs = 0
        self.connection = without_socket(kind)
        self.connection._process_frame = self._process
        make_channel = pika.channel.Channel
        if issubclass(kind, framing.Connection):
            make_channel = framing.Channel
        for number in CHANNELS:
            self._add(make_channel(self.connection, number, None), by_run)

    def _add(self, channel, by_run):
        channel._set_state(channel.OPEN)
        channel._consumers = dict.fromkeys(CONSUMERS, self._on_delivery)
        channel._cancelled = set()
        if by_run:
            channel.run_callbacks = dict.fromkeys(CONSUMERS, self._on_run)
        self.connection._channels[channel.channel_number] = channel

    def _process(self, value):
        """Do with a frame what pika's connection does, as far as content is concerned."""
        channel = self.connection._channels.get(value.channel_number)
        method = getattr(value, 'method', None)
        if isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)):
            self.confirms.append(value)
        elif channel:
            channel._handle_content_frame(value)

    def _on_delivery(self, channel, method, properties, body):
        self.delivered.append((channel.channel_number, fields(method, properties, body)))

    def _on_run(self, channel, shape, first_tag, message_ids):
        self.runs += len(message_ids)
        for tag, message_id in enumerate(message_ids, first_tag):
            method = shape.method_of(tag)
            properties = shape.properties_of(message_id)
            self._on_delivery(channel, method, properties, shape.body)

    def read(self, pieces):
        """Read pieces of a stream; return the exception that ended that, or None."""
        try:
            for piece in pieces:
                self.connection._on_data_available(piece)
        except Exception as error:  # noqa: BLE001  as altered bytes may raise any
            return error
        return None


def end(error):
    raise error


def without_socket(kind):
    connection = kind.__new__(kind)
    connection.callbacks = CallbackManager()
    connection.connection_state = connection.CONNECTION_OPEN
    connection._opened = True
    connection._terminate_stream = end
    connection.decoder = PropertiesDecoder()
    connection.learner = Learner()
    connection.emitted = []
    connection.emitted_size = 0
    connection.bytes_received = 0
    connection.bytes_sent = 0
    connection.frames_received = 0
    connection.frames_sent = 0
    connection._frame_buffer = b''
    connection._body_max_length = BODY_MAX
    connection.params = SimpleNamespace(frame_max=FRAME_MAX)
    connection._channels = {}
    return connection


def cut(stream, rng, most=12):
    """Return the stream in pieces, cut anywhere."""
    ends = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(most)))
    begins = [0, *ends]
    return [stream[begin:end] for begin, end in zip(begins, [*ends, len(stream)])]
