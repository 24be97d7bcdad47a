"""pika's connection, made cheaper where messages pass, and safe from message properties that cannot be decoded.

pika 1.4 writes method, header and body of a message to the socket one by one, reads 4 kB at a time, cuts what it read
anew for every frame, and decodes all properties; one it cannot decode (a timestamp header in milliseconds, a NaN) ends
the connection, again and again, for the broker redelivers it. Here frames travel together, and properties are decoded
when a script looks at them. bench/RESULTS.md shows what it gains. It rests on methods of pika that begin with an
underscore, so requirements.txt pins its minor version.
"""

import struct
from functools import lru_cache

import pika
from pika import frame, spec
from pika.adapters import select_connection

AT_ONCE = (
    1 << 18
)  # bytes read from the socket at a time, at the most; with fewer left to write, more is handed to it
FRAME, CONTENT = (
    struct.Struct('>BHL'),
    struct.Struct('>HHQ'),
)  # type, channel, size; class, weight, size of the body
DELIVER, ACK = struct.pack('>L', spec.Basic.Deliver.INDEX), struct.pack('>L', spec.Basic.Ack.INDEX)
TAG = struct.Struct('>Q?')  # delivery tag, and redelivered or multiple
FRAME_TYPES, END = (
    (spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT),
    b'\xce',
)


def loop():
    """Return an IOLoop that is ready for use."""
    select_connection.SELECT_TYPE = (
        'select'  # waits to the microsecond, epoll to the millisecond above it
    )
    ioloop = select_connection.IOLoop()
    ioloop.activate_poller()
    return ioloop


class Properties(pika.BasicProperties):
    """Properties that are decoded on first use; content_type tells if they cannot be, and the rest is None.

    Most messages of a run differ from the one before in the message_id only: then only that is decoded.
    """

    before = (
        None,
        b'',
        b'',
        {},
    )  # of the last one: length, what comes before the message_id, what after, as attributes

    def __init__(self, encoded):
        self.encoded = encoded

    def __getattr__(self, name):
        if name.startswith('_') or name == 'encoded':
            raise AttributeError(name)
        length, head, tail, attributes = Properties.before
        encoded = self.encoded
        if len(encoded) == length and encoded.startswith(head) and encoded.endswith(tail):
            self.__dict__.update(attributes)
            self.message_id = encoded[len(head) : length - len(tail)].decode(
                errors='backslashreplace'
            )
        else:
            self._decode()
        return self.__dict__[name]

    def _decode(self):
        try:
            decoded = pika.BasicProperties().decode(self.encoded)
        except Exception as error:  # noqa: BLE001  whatever a stranger's bytes make pika stumble over
            decoded = pika.BasicProperties(
                content_type=f'undecodable: {error or type(error).__name__}'
            )
        self.__dict__.update(vars(decoded))
        id = decoded.message_id
        if (
            isinstance(id, str)
            and id.isascii()
            and self.encoded.count(short := bytes([len(id)]) + id.encode()) == 1
        ):
            at = self.encoded.index(short) + 1
            Properties.before = (
                len(self.encoded),
                self.encoded[:at],
                self.encoded[at + len(id) :],
                vars(decoded),
            )


def template(id_length, properties):
    """Return a function that makes the properties of a message from its message_id, of `id_length` ASCII characters.

    They are as `properties`, a pika.BasicProperties without headers, but quick to encode.
    """
    mark = '\0' * id_length
    head, _, tail = b''.join(
        pika.BasicProperties(**{**vars(properties), 'message_id': mark}).encode()
    ).partition(mark.encode())

    class Templated(pika.BasicProperties):
        def __init__(self, message_id):
            self.message_id = message_id

        def __getattr__(self, name):
            return getattr(properties, name)

        def encode(self):
            if 'headers' in self.__dict__:  # it is republished
                return pika.BasicProperties(**{**vars(properties), **vars(self)}).encode()
            return [head, self.message_id.encode(), tail]

    return Templated


class Channel(pika.channel.Channel):
    """A Channel that remembers whom to tell of confirms, and writes a message in one piece."""

    on_ack = None

    def confirm_delivery(self, ack_nack_callback, callback=None):
        self.on_ack = ack_nack_callback
        super().confirm_delivery(ack_nack_callback, callback)

    def basic_publish(self, exchange, routing_key, body, properties=None, mandatory=False):
        if (
            not self.is_open
            or not properties
            or not 0 < len(body) <= self.connection._body_max_length
        ):
            super().basic_publish(exchange, routing_key, body, properties, mandatory)
            return
        number = self.channel_number
        header = CONTENT.pack(spec.Basic.INDEX, 0, len(body)) + b''.join(properties.encode())
        self.connection._adapter_emit_data(
            b''.join(
                (
                    publish_frame(number, exchange, routing_key, mandatory),
                    FRAME.pack(spec.FRAME_HEADER, number, len(header)),
                    header,
                    END,
                    FRAME.pack(spec.FRAME_BODY, number, len(body)),
                    body,
                    END,
                )
            )
        )


class Connection(pika.SelectConnection):
    """A SelectConnection whose owner calls flush() before and after each turn of the loop.

    emitted_size: how many bytes wait for flush().
    """

    def __init__(self, *args, **kwargs):
        self.emitted, self.emitted_size = [], 0
        super().__init__(*args, **kwargs)

    def flush(self):
        """Hand the transport what was emitted since the last time, in one piece, if it has sent most of what it had."""
        if self.emitted and self._transport and self._get_write_buffer_size() < AT_ONCE:
            data = b''.join(self.emitted)
            self.emitted, self.emitted_size = [], 0
            super()._adapter_emit_data(data)

    def abort(self, why):
        """Drop the connection without a word to a broker that does not answer; it is lost for the reason `why`."""
        self._terminate_stream(pika.exceptions.StreamLostError(why))

    def _create_channel(self, channel_number, on_open_callback):
        return Channel(self, channel_number, on_open_callback)

    def _adapter_emit_data(self, data):
        self.emitted.append(data)
        self.emitted_size += len(data)

    def _proto_connection_made(self, transport):
        transport._MAX_RECV_BYTES = AT_ONCE
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in):
        buffer, at = self._frame_buffer + data_in, 0
        self.bytes_received += len(data_in)
        self._frame_buffer = b''
        while taken := self._take(buffer, at):
            at += taken
        self._frame_buffer = buffer[at:]

    def _take(self, buffer, at):
        """Process one frame, or those of one delivery, of the buffer; return their length, 0 if some are missing."""
        if buffer.startswith(DELIVER, at + FRAME.size) and buffer[at] == spec.FRAME_METHOD:
            taken = self._take_delivery(buffer, at)
            if taken:
                return taken
        if len(buffer) < at + FRAME.size:
            return 0
        kind, channel_number, size = FRAME.unpack_from(buffer, at)
        start, end = at + FRAME.size, at + FRAME.size + size
        if kind not in FRAME_TYPES and not buffer.startswith(b'AMQP'):
            raise pika.exceptions.InvalidFrameError(
                f'no AMQP 0-9-1: {str(buffer[at : at + 20])[2:-1]}'
            )
        if kind == spec.FRAME_METHOD and len(buffer) > end and buffer.startswith(ACK, start):
            channel = self._channels.get(channel_number)
            if channel and channel.on_ack:
                channel.on_ack(
                    frame.Method(
                        channel_number, spec.Basic.Ack(*TAG.unpack_from(buffer, start + 4))
                    )
                )
                return end + 1 - at
        if kind == spec.FRAME_HEADER and len(buffer) > end:
            _, _, body_size = CONTENT.unpack_from(buffer, start)
            value = frame.Header(
                channel_number, body_size, Properties(buffer[start + CONTENT.size : end])
            )
            self._process_frame(value)
            return end + 1 - at
        taken, value = frame.decode_frame(buffer[at : end + 1])
        if value:
            self._process_frame(value)
        return taken

    def _take_delivery(self, buffer, at):
        """Hand out the delivery that begins here if the buffer holds its three frames; return their length, or 0."""
        _, number, size = FRAME.unpack_from(buffer, at)
        header = at + size + 8
        if len(buffer) < header + FRAME.size + CONTENT.size:
            return 0
        header_kind, header_number, header_size = FRAME.unpack_from(buffer, header)
        _, _, body_size = CONTENT.unpack_from(buffer, header + FRAME.size)
        body = header + header_size + 8
        end = body + body_size + 8
        if (
            len(buffer) < end
            or (header_kind, header_number) != (spec.FRAME_HEADER, number)
            or FRAME.unpack_from(buffer, body) != (spec.FRAME_BODY, number, body_size)
            or buffer[end - 1] != spec.FRAME_END
        ):
            return 0
        start = at + FRAME.size + 4
        after = start + 1 + buffer[start]
        (consumer_tag,) = short_strings(buffer[start:after])
        delivery_tag, redelivered = TAG.unpack_from(buffer, after)
        exchange, routing_key = short_strings(buffer[after + TAG.size : header - 1])
        channel = self._channels.get(number)
        consumer = channel and channel._consumers.get(consumer_tag)
        if not consumer:
            return 0
        consumer(
            channel,
            spec.Basic.Deliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key),
            Properties(buffer[header + FRAME.size + CONTENT.size : body - 1]),
            buffer[body + FRAME.size : end - 1],
        )
        return end - at


@lru_cache(maxsize=1000)
def short_strings(encoded):
    """Return the AMQP short strings that bytes consist of; what is no UTF-8 in them is escaped."""
    texts, at = [], 0
    while at < len(encoded):
        end = at + 1 + encoded[at]
        texts.append(encoded[at + 1 : end].decode(errors='backslashreplace'))
        at = end
    return texts


@lru_cache(maxsize=1000)
def publish_frame(channel_number, exchange, routing_key, mandatory):
    """Return the method frame of a basic.publish."""
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return frame.Method(channel_number, method).marshal()
