"""A faster pika connection that also survives message properties pika cannot decode.

pika 1.4 writes method, header and body of a message to the socket one by one,
reads 4 kB at a time, and copies the rest of what it read for every frame. It
decodes all properties, and properties that it cannot decode (a timestamp header
in milliseconds, a NaN) end the connection, again and again, because the broker
redelivers the message.

Here frames travel together, and properties are decoded when a script looks at
them. bench/RESULTS.md shows the gain. This module overrides methods of pika
whose names begin with an underscore, so requirements.txt pins pika's minor
version.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Callable

import pika
from pika import frame, spec

from siamese.messaging import handshake

# At most this much is read from the socket at a time. More is handed to the
# transport when it has less than this left to write.
CHUNK_BYTES = 1 << 18

FRAME_TYPES = handshake.FRAME_TYPES
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

# delivery tag, and the bit "redelivered" (basic.deliver) or "multiple" (basic.ack)
TAG_AND_BIT = struct.Struct('>Q?')
TAG_AND_BIT_BYTES = TAG_AND_BIT.size

METHOD_ID_BYTES = 4
DELIVER = struct.pack('>L', spec.Basic.Deliver.INDEX)
ACK = struct.pack('>L', spec.Basic.Ack.INDEX)


# ---- properties


class PropertiesDecoder:
    """Decodes the properties of one connection, and remembers the last ones.

    Most messages of a run differ from the one before in the message_id only.
    Then the message_id is all that is decoded.
    """

    __slots__ = ('attributes', 'head', 'size', 'tail')

    def __init__(self) -> None:
        self.size = -1  # bytes of the last properties; -1: none are remembered
        self.head = b''  # their bytes before the text of the message_id
        self.tail = b''  # their bytes after it
        self.attributes: dict[str, Any] = {}

    def decode(self, encoded: bytes) -> pika.BasicProperties:
        """Decode all properties, and remember them.

        Properties that cannot be decoded get a content_type that says why.
        """
        decoded = pika.BasicProperties()
        try:
            decoded = decoded.decode(encoded)
        except Exception as error:  # noqa: BLE001  as invalid bytes may raise any
            why = error or type(error).__name__
            content_type = f'undecodable: {why}'
            decoded = pika.BasicProperties(content_type)
        self._remember(encoded, decoded)
        return decoded

    def _remember(self, encoded: bytes, decoded: pika.BasicProperties) -> None:
        message_id = decoded.message_id
        if not isinstance(message_id, str) or not message_id.isascii():
            return
        short_string = bytes([len(message_id)]) + message_id.encode()
        if encoded.count(short_string) != 1:
            return
        head, _, self.tail = encoded.partition(short_string)
        self.head = head + short_string[:1]
        self.size = len(encoded)
        self.attributes = vars(decoded)


class Properties(pika.BasicProperties):
    """Properties that are decoded when one of them is first looked at.

    If they cannot be decoded, content_type says why, and the others are None.
    """

    # As slots they are not among the decoded attributes in vars().
    __slots__ = ('decoder', 'encoded')

    def __init__(
        self,
        encoded: bytes,
        decoder: PropertiesDecoder | None = None,
    ) -> None:
        self.encoded = encoded
        self.decoder = decoder

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name in ('encoded', 'decoder'):
            raise AttributeError(name)
        encoded = self.encoded
        decoder = self.decoder or PropertiesDecoder()
        attributes = self.__dict__
        head = decoder.head
        tail = decoder.tail
        size = len(encoded)
        if size == decoder.size and encoded.startswith(head) and encoded.endswith(tail):
            attributes.update(decoder.attributes)
            message_id = encoded[len(head) : size - len(tail)]
            attributes['message_id'] = message_id.decode(
                errors='backslashreplace',
            )
        else:
            attributes.update(vars(decoder.decode(encoded)))
        return attributes[name]


def template(
    id_length: int,
    properties: pika.BasicProperties,
) -> Callable[[str], pika.BasicProperties]:
    """Return a function that makes the properties of a message from its message_id.

    They are like `properties`, which have no headers, but quick to encode. The
    message_id has `id_length` ASCII characters.
    """
    placeholder = '\0' * id_length
    encoded = encode_with(properties, message_id=placeholder)
    head, _, tail = b''.join(encoded).partition(placeholder.encode())

    class Templated(pika.BasicProperties):
        def __init__(self, message_id: str) -> None:
            self.message_id = message_id

        def __getattr__(self, name: str) -> Any:
            return getattr(properties, name)

        def encode(self) -> list[bytes]:
            if 'headers' in self.__dict__:  # the message is republished
                return encode_with(properties, **vars(self))
            return [head, self.message_id.encode(), tail]

    return Templated


def encode_with(
    properties: pika.BasicProperties,
    **changed: Any,
) -> list[bytes]:
    """Encode properties with some of them changed."""
    attributes = {**vars(properties), **changed}
    return pika.BasicProperties(**attributes).encode()


# ---- channel and connection


class Channel(pika.channel.Channel):
    """A Channel that writes a message in one piece, and hands out confirms directly."""

    connection: Connection
    on_ack: Callable[[frame.Method], None] | None = None

    def confirm_delivery(
        self,
        ack_nack_callback: Callable[[frame.Method], None],
        callback: Callable[[frame.Method], None] | None = None,
    ) -> None:
        self.on_ack = ack_nack_callback
        super().confirm_delivery(ack_nack_callback, callback)

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        connection = self.connection
        size = len(body)
        fits_one_frame = 0 < size <= connection._body_max_length
        if not self.is_open or not properties or not fits_one_frame:
            super().basic_publish(
                exchange,
                routing_key,
                body,
                properties,
                mandatory,
            )
            return
        number = self.channel_number
        content = CONTENT_PREFIX.pack(spec.Basic.INDEX, 0, size)
        header = content + b''.join(properties.encode())
        pieces = (
            publish_frame(number, exchange, routing_key, mandatory),
            FRAME_PREFIX.pack(FRAME_HEADER, number, len(header)),
            header,
            FRAME_END_BYTE,
            FRAME_PREFIX.pack(FRAME_BODY, number, size),
            body,
            FRAME_END_BYTE,
        )
        connection._adapter_emit_data(b''.join(pieces))


class Connection(handshake.Connection):
    """A SelectConnection that collects what it has to write.

    Its owner calls flush() before and after each turn of the loop.
    `emitted_size` is how many bytes wait for flush().
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.emitted: list[bytes] = []
        self.emitted_size = 0
        self.decoder = PropertiesDecoder()
        self._frame_buffer = b''
        super().__init__(*args, **kwargs)

    def flush(self) -> None:
        """Hand the transport what was emitted since the last flush, in one piece.

        It all stays here while the transport has much left to send.
        """
        if not self.emitted or not self._transport:
            return
        if self._get_write_buffer_size() < CHUNK_BYTES:
            data = b''.join(self.emitted)
            self.emitted = []
            self.emitted_size = 0
            super()._adapter_emit_data(data)

    def abort(self, why: Exception) -> None:
        """Drop the connection; `why` becomes the reason of the loss."""
        self._terminate_stream(why)

    def _create_channel(
        self,
        channel_number: int,
        on_open_callback: Callable[[Any], None] | None,
    ) -> Channel:
        return Channel(self, channel_number, on_open_callback)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.emitted.append(data)
        self.emitted_size += len(data)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = CHUNK_BYTES
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        buffer = self._frame_buffer + data_in
        self.bytes_received += len(data_in)
        self._frame_buffer = b''
        at = 0
        while taken := self._take(buffer, at):
            at += taken
        self._frame_buffer = buffer[at:]

    def _take(self, buffer: bytes, at: int) -> int:
        """Process the frame at `at`, or the three frames of a delivery.

        Return how many bytes that were, or 0 if the buffer does not hold all.
        """
        start = at + PREFIX_BYTES
        is_deliver = buffer.startswith(DELIVER, start)
        if is_deliver and buffer[at] == FRAME_METHOD:
            taken = self._take_delivery(buffer, at)
            if taken:
                return taken
        if len(buffer) < start:
            return 0
        kind, number, size = FRAME_PREFIX.unpack_from(buffer, at)
        end = start + size
        if kind not in FRAME_TYPES:
            self._end_over(buffer[at:])
            return 0
        if len(buffer) <= end:
            return 0
        if kind == FRAME_METHOD and buffer.startswith(ACK, start):
            channel = self._channels.get(number)
            if channel and channel.on_ack:
                tag = start + METHOD_ID_BYTES
                ack = spec.Basic.Ack(*TAG_AND_BIT.unpack_from(buffer, tag))
                channel.on_ack(frame.Method(number, ack))
                return size + OVERHEAD_BYTES
        elif kind == FRAME_HEADER:
            self._take_header(number, buffer[start:end])
            return size + OVERHEAD_BYTES
        taken, value = frame.decode_frame(buffer[at : end + 1])
        if value:
            self._process_frame(value)
        return taken

    def _take_header(self, number: int, payload: bytes) -> None:
        """Process a content header that arrives apart from its delivery."""
        _, _, body_size = CONTENT_PREFIX.unpack_from(payload)
        properties = Properties(payload[CONTENT_BYTES:], self.decoder)
        self._process_frame(frame.Header(number, body_size, properties))

    def _take_delivery(self, buffer: bytes, at: int) -> int:
        """Hand the delivery at `at` to its consumer.

        Return how many bytes its three frames have, or 0 if the buffer does not
        hold them all.
        """
        # Where frames begin: method at `at`, then header, then body.
        _, number, size = FRAME_PREFIX.unpack_from(buffer, at)
        header = at + size + OVERHEAD_BYTES
        content = header + PREFIX_BYTES
        if len(buffer) < content + CONTENT_BYTES:
            return 0
        kind, header_number, size = FRAME_PREFIX.unpack_from(buffer, header)
        _, _, body_size = CONTENT_PREFIX.unpack_from(buffer, content)
        body = header + size + OVERHEAD_BYTES
        end = body + body_size + OVERHEAD_BYTES
        if (
            len(buffer) < end
            or kind != FRAME_HEADER
            or header_number != number
            or buffer[end - 1] != FRAME_END
            or FRAME_PREFIX.unpack_from(buffer, body) != (FRAME_BODY, number, body_size)
        ):
            return 0
        channel = self._channels.get(number)
        arguments = at + PREFIX_BYTES + METHOD_ID_BYTES
        method = deliver_method(buffer, arguments, header - 1)
        consumer = channel and channel._consumers.get(method.consumer_tag)
        # pika drops what comes for a consumer that is cancelled, as all are while a channel closes.
        if not consumer or channel._cancelled:
            return 0
        encoded = buffer[content + CONTENT_BYTES : body - 1]
        consumer(
            channel,
            method,
            Properties(encoded, self.decoder),
            buffer[body + PREFIX_BYTES : end - 1],
        )
        return end - at


def deliver_method(
    buffer: bytes,
    start: int,
    end: int,
) -> spec.Basic.Deliver:
    """Decode the arguments of a basic.deliver, which stand from `start` to `end`."""
    tag = start + 1 + buffer[start]
    (consumer_tag,) = short_strings(buffer[start:tag])
    delivery_tag, redelivered = TAG_AND_BIT.unpack_from(buffer, tag)
    exchange, routing_key = short_strings(buffer[tag + TAG_AND_BIT_BYTES : end])
    return spec.Basic.Deliver(
        consumer_tag,
        delivery_tag,
        redelivered,
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
