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

AT_ONCE = 1 << 18  # bytes read from the socket at a time, at the most
FRAME, CONTENT = struct.Struct('>BHL'), struct.Struct('>HHQ')  # type, channel, size; class, weight, size of the body
DELIVER = struct.pack('>L', spec.Basic.Deliver.INDEX)
END = b'\xce'


class Properties(pika.BasicProperties):
    """Properties that are decoded on first use; content_type tells if they cannot be, and the rest is None."""

    def __init__(self, encoded):
        self.encoded = encoded

    def __getattr__(self, name):
        if name.startswith('_') or 'encoded' not in self.__dict__:
            raise AttributeError(name)
        try:
            decoded = pika.BasicProperties().decode(self.encoded)
        except Exception as error:  # noqa: BLE001  whatever a stranger's bytes make pika stumble over
            decoded = pika.BasicProperties(content_type=f'undecodable: {error or type(error).__name__}')
        self.__dict__.update(vars(decoded))
        return self.__dict__[name]


class Connection(pika.SelectConnection):
    """A SelectConnection whose owner calls flush() before and after each turn of the loop."""

    def __init__(self, *args, **kwargs):
        self.outbox = []
        super().__init__(*args, **kwargs)

    def flush(self):
        """Hand the transport what was emitted since the last time, in one piece."""
        if self.outbox and self._transport:
            data = b''.join(self.outbox)
            self.outbox.clear()
            super()._adapter_emit_data(data)

    def _adapter_emit_data(self, data):
        self.outbox.append(data)

    def _proto_connection_made(self, transport):
        transport._MAX_RECV_BYTES = AT_ONCE
        super()._proto_connection_made(transport)

    def _send_message(self, channel_number, method_frame, content):
        properties, body = content
        if len(body) > self._body_max_length:
            return super()._send_message(channel_number, method_frame, content)
        method = publish_frame(channel_number, method_frame.exchange, method_frame.routing_key, method_frame.mandatory)
        header = CONTENT.pack(spec.Basic.INDEX, 0, len(body)) + b''.join(properties.encode())
        pieces = [method, FRAME.pack(spec.FRAME_HEADER, channel_number, len(header)), header, END]
        if body:
            pieces += [FRAME.pack(spec.FRAME_BODY, channel_number, len(body)), body, END]
        self._output_marshaled_frames([b''.join(pieces)])

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
        if kind == spec.FRAME_HEADER and len(buffer) > end:
            _, _, body_size = CONTENT.unpack_from(buffer, start)
            value = frame.Header(channel_number, body_size, Properties(buffer[start + CONTENT.size:end]))
            self._process_frame(value)
            return end + 1 - at
        taken, value = frame.decode_frame(buffer[at:end + 1])
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
        if (len(buffer) < end or (header_kind, header_number) != (spec.FRAME_HEADER, number)
                or FRAME.unpack_from(buffer, body) != (spec.FRAME_BODY, number, body_size)
                or buffer[end - 1] != spec.FRAME_END):
            return 0
        consumer_tag, after = short_string(buffer, at + FRAME.size + 4)
        delivery_tag, redelivered = struct.unpack_from('>Q?', buffer, after)
        exchange, after = short_string(buffer, after + 9)
        routing_key, _ = short_string(buffer, after)
        channel = self._channels.get(number)
        consumer = channel and channel._consumers.get(consumer_tag)
        if not consumer:
            return 0
        consumer(channel, spec.Basic.Deliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key),
                 Properties(buffer[header + FRAME.size + CONTENT.size:body - 1]), buffer[body + FRAME.size:end - 1])
        return end - at


def short_string(buffer, at):
    """Return the AMQP short string at a position, and the position after it; what is no UTF-8 is escaped."""
    end = at + 1 + buffer[at]
    return buffer[at + 1:end].decode(errors='backslashreplace'), end


@lru_cache(maxsize=1000)
def publish_frame(channel_number, exchange, routing_key, mandatory):
    """Return the method frame of a basic.publish."""
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return frame.Method(channel_number, method).marshal()
