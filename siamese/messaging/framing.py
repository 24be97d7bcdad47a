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

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pika
from pika import frame, spec

from siamese.messaging import frames, handshake, size_limits
from siamese.messaging.fast_path import ACK_FRAME, AckRun, Learner, Shape, Template, acks_at
from siamese.messaging.properties import Properties, PropertiesDecoder

# At most this much is read from the socket at a time: a larger buffer is mapped and
# unmapped by the allocator for each read. More is handed to the transport when it has
# less than this left to write.
CHUNK_BYTES = 1 << 16


class Channel(pika.channel.Channel):
    """A Channel that writes a message in one piece, and hands out confirms directly.

    With `on_run_callback` a consumer takes deliveries by the run, where they come in
    runs: on_run_callback(channel, shape, first delivery tag, message_ids).
    """

    connection: Connection
    on_ack: Callable[[frame.Method], None] | None = None
    asked_at = math.inf  # time.monotonic() of the request that is not answered yet
    refused = ''  # the method over which the broker closed the channel, if it says that

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.consumed: dict[str, str] = {}  # queues by consumer tag
        self.run_callbacks: dict[str, Callable[..., None]] = {}  # by consumer tag
        super().__init__(*args, **kwargs)

    @property
    def awaited(self) -> str:
        """The method that the broker has not answered yet, for example queue.declare, or ''."""
        return (self._blocking or '').lower()

    def _rpc(self, *args: Any, **kwargs: Any) -> None:
        was_blocking = self._blocking
        super()._rpc(*args, **kwargs)
        if self._blocking and not was_blocking:
            self.asked_at = time.monotonic()

    def _on_close_from_broker(self, method_frame: frame.Method) -> None:
        self.refused = handshake.refused_method(method_frame.method)
        super()._on_close_from_broker(method_frame)

    def confirm_delivery(
        self,
        ack_nack_callback: Callable[[frame.Method], None],
        callback: Callable[[frame.Method], None] | None = None,
    ) -> None:
        self.on_ack = ack_nack_callback
        super().confirm_delivery(ack_nack_callback, callback)

    def basic_consume(
        self,
        queue: str,
        *args: Any,
        on_run_callback: Callable[..., None] | None = None,
        **kwargs: Any,
    ) -> str:
        consumer_tag = str(super().basic_consume(queue, *args, **kwargs))
        self.consumed[consumer_tag] = queue
        if on_run_callback:
            self.run_callbacks[consumer_tag] = on_run_callback
        return consumer_tag

    def consumer(self, consumer_tag: str) -> Callable[..., None] | None:
        """Return the callback of a consumer, if it takes deliveries now."""
        # pika drops what comes for a consumer that is cancelled, as all are while a channel closes.
        if self._cancelled:
            return None
        callback: Callable[..., None] | None = self._consumers.get(consumer_tag)
        return callback

    def run_consumer(self, consumer_tag: str) -> Callable[..., None] | None:
        """Return the callback of a consumer that takes deliveries by the run now."""
        if not self.consumer(consumer_tag):
            return None
        return self.run_callbacks.get(consumer_tag)

    def is_between_messages(self) -> bool:
        """Return whether no message is under way, of which more frames are to come."""
        parts = self._content_assembler
        is_begun = parts._method_frame or parts._header_frame or parts._body_fragments
        return not is_begun

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
        content = frames.CONTENT_PREFIX.pack(spec.Basic.INDEX, 0, size)
        header = content + b''.join(properties.encode())
        pieces = (
            frames.publish_frame(number, exchange, routing_key, mandatory),
            frames.FRAME_PREFIX.pack(frames.FRAME_HEADER, number, len(header)),
            header,
            frames.FRAME_END_BYTE,
            frames.FRAME_PREFIX.pack(frames.FRAME_BODY, number, size),
            body,
            frames.FRAME_END_BYTE,
        )
        connection._adapter_emit_data(b''.join(pieces))

    def publish_batch(self, template: Template, ids: Sequence[bytes]) -> None:
        """Publish a message of the template for each message_id, in one piece."""
        connection = self.connection
        batch = template.batch(ids, self.channel_number, connection._body_max_length)
        connection._adapter_emit_data(batch)


class Connection(handshake.Connection):
    """A SelectConnection that collects what it has to write.

    Its owner calls flush() before and after each turn of the loop.
    `emitted_size` is how many bytes wait for flush(). `has_more`: the last read brought as
    much as it could, so more is there.
    """

    has_more = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.emitted: list[bytes] = []
        self.emitted_size = 0
        self.decoder = PropertiesDecoder()
        self.learner = Learner()
        self._frame_buffer = b''
        super().__init__(*args, **kwargs)

    def flush(self) -> None:
        """Hand the transport what was emitted since the last flush, in one piece.

        It all stays here while the transport has much left to send.
        """
        self.ioloop.before_sending()
        if not self.emitted or not self._transport:
            return
        if self._get_write_buffer_size() < CHUNK_BYTES:
            data = b''.join(self.emitted)
            self.forget_unsent()
            self._write(data)

    def forget_unsent(self) -> None:
        """Drop what was emitted since the last flush."""
        self.emitted = []
        self.emitted_size = 0

    def _write(self, data: bytes) -> None:
        """Write to the socket at once: pika would wait until a turn of the loop says it can."""
        transport = self._transport
        if not self.params.ssl_options and not transport.get_write_buffer_size():
            with suppress(OSError):  # the transport will meet it again, and knows what to do
                data = data[transport._sock.send(data) :]
        if data:
            super()._adapter_emit_data(data)

    def awaited(self) -> tuple[str, float]:
        """Return the method that was not answered for longest, and for how long; '' without one."""
        waiting = [channel for channel in self._channels.values() if channel.awaited]
        if not waiting:
            return '', 0.0
        oldest = min(waiting, key=lambda channel: channel.asked_at)
        return oldest.awaited, time.monotonic() - oldest.asked_at

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
        if not self.params.ssl_options:  # with TLS what was read ahead is in no socket
            transport._MAX_CONSUME_BYTES = 1  # one recv() for each time that select() reports
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        self.has_more = len(data_in) == CHUNK_BYTES
        buffer = self._frame_buffer + data_in
        self.bytes_received += len(data_in)
        self._frame_buffer = b''
        at = 0
        while taken := self._take(buffer, at):
            at += taken
        self._frame_buffer = buffer[at:]

    def _take(self, buffer: bytes, at: int) -> int:
        """Process the frame at `at`, or a run of deliveries or of confirms, or a delivery.

        Return how many bytes that were, or 0 if the buffer does not hold all.
        """
        start = at + frames.PREFIX_BYTES
        if buffer.startswith(frames.DELIVER, start) and buffer[at] == frames.FRAME_METHOD:
            shape = self.learner.shape
            taken = shape and self._take_run(shape, buffer, at)
            taken = taken or self._take_delivery(buffer, at)
            if taken:
                return taken
        if buffer.startswith(frames.ACK, start) and buffer[at] == frames.FRAME_METHOD:
            taken = self._take_acks(buffer, at)
            if taken:
                return taken
        return self._take_frame(buffer, at)

    def _take_frame(self, buffer: bytes, at: int) -> int:
        """Process the frame at `at`, as _take() does."""
        start = at + frames.PREFIX_BYTES
        if len(buffer) < start:
            return 0
        kind, number, size = frames.FRAME_PREFIX.unpack_from(buffer, at)
        end = start + size
        if kind not in handshake.FRAME_TYPES:
            self._end_over(buffer[at:])
            return 0
        size_limits.check_frame(kind, size, self.params.frame_max)
        if len(buffer) <= end:
            return 0
        is_header = kind == frames.FRAME_HEADER and buffer.startswith(frames.BASIC, start)
        if is_header and buffer[end] == frames.FRAME_END:
            self._take_header(number, buffer[start:end])
            return size + frames.OVERHEAD_BYTES
        taken, value = frame.decode_frame(buffer[at : end + 1])
        if value:
            self._process_frame(value)
        return taken

    def _take_header(self, number: int, payload: bytes) -> None:
        """Process a content header that arrives apart from its delivery."""
        _, _, body_size = frames.CONTENT_PREFIX.unpack_from(payload)
        size_limits.check_body(body_size)
        properties = Properties(payload[frames.CONTENT_BYTES :], self.decoder)
        self._process_frame(frame.Header(number, body_size, properties))

    def _take_acks(self, buffer: bytes, at: int) -> int:
        """Hand the confirms at `at` to their channel, as many as follow on each other."""
        _, number, _ = frames.FRAME_PREFIX.unpack_from(buffer, at)
        channel = self._channels.get(number)
        if not channel or not channel.on_ack:
            return 0
        acks = acks_at(buffer, at)
        if acks:
            channel.on_ack(frame.Method(number, AckRun(acks)))
        return len(acks) * ACK_FRAME.size

    def _take_run(self, shape: Shape, buffer: bytes, at: int) -> int:
        """Hand the deliveries of this shape at `at` to their consumer."""
        message_ids = shape.message_ids(buffer, at)
        if not message_ids:
            return 0
        _, number, _ = frames.FRAME_PREFIX.unpack_from(buffer, at)
        channel = self._channels.get(number)
        consumer = channel and channel.run_consumer(shape.method.consumer_tag)
        if not consumer or not channel.is_between_messages():
            return 0
        self.learner.found_run()
        consumer(channel, shape, shape.tag(buffer, at), message_ids)
        return len(message_ids) * shape.size

    def _take_delivery(self, buffer: bytes, at: int) -> int:
        """Hand the delivery at `at` to its consumer.

        Return how many bytes its three frames have, or 0 if the buffer does not
        hold them all.
        """
        # Where frames begin: method at `at`, then header, then body.
        _, number, size = frames.FRAME_PREFIX.unpack_from(buffer, at)
        header = at + size + frames.OVERHEAD_BYTES
        content = header + frames.PREFIX_BYTES
        if len(buffer) < content + frames.CONTENT_BYTES:
            return 0
        prefix = frames.FRAME_PREFIX.unpack_from(buffer, header)
        class_id, _, body_size = frames.CONTENT_PREFIX.unpack_from(buffer, content)
        body = header + prefix[-1] + frames.OVERHEAD_BYTES
        end = body + body_size + frames.OVERHEAD_BYTES
        if (
            len(buffer) < end
            or class_id != spec.Basic.INDEX
            or not 0 < body_size <= self._body_max_length
            or body < content + frames.CONTENT_BYTES
            or prefix[:-1] != (frames.FRAME_HEADER, number)
            or frames.FRAME_PREFIX.unpack_from(buffer, body)
            != (frames.FRAME_BODY, number, body_size)
            or not buffer[header - 1] == buffer[body - 1] == buffer[end - 1] == frames.FRAME_END
        ):
            return 0
        channel = self._channels.get(number)
        arguments = at + frames.PREFIX_BYTES + frames.METHOD_ID_BYTES
        method = frames.deliver_method(buffer, arguments, header - 1)
        consumer = method and channel and channel.consumer(method.consumer_tag)
        if not consumer or not channel.is_between_messages():
            return 0
        encoded = buffer[content + frames.CONTENT_BYTES : body - 1]
        properties = Properties(encoded, self.decoder)
        payload = buffer[body + frames.PREFIX_BYTES : end - 1]
        if channel.run_callbacks and self.learner.wants(end - at):
            self.learner.learn(Shape(buffer[at:end], method, properties, payload))
        consumer(channel, method, properties, payload)
        return end - at
