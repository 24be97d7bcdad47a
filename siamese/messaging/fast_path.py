"""The fast path: messages of one shape are read and written by the run.

Messages of a load differ in their delivery tag and their message_id only. So
what one recv() brought is cut by one struct, and what one send() takes is put
together by one join.

Nothing is trusted: every byte is compared. The first message that differs from
the shape in any byte ends the run and takes the ordinary way of framing.py,
with the same result. perf_producer.py and perf_consumer.py ask for this; without
their link.publish_batch() and link.runs() nothing else needs this module.
bench/RESULTS.md shows the gain.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pika
from pika import spec

from siamese.messaging import frames
from siamese.messaging.messages import Message
from siamese.messaging.properties import Properties, encode_with, text_of

LONGEST_PAUSE = 64  # deliveries

# A basic.ack frame: all before the delivery tag, the tag, the bit "multiple", the end byte.
ACK_FRAME = struct.Struct('>11sQBB')
ACK_PAYLOAD_BYTES = frames.METHOD_ID_BYTES + frames.TAG_AND_BITS_BYTES
ACK_HEAD = struct.pack('>L', ACK_PAYLOAD_BYTES) + frames.ACK  # after frame type and channel
ACK_HEAD_AT = 3


# ---- deliveries


class Shape:
    """What the deliveries of a run have in common: every byte but delivery tag and message_id.

    It is learned from one of them: `delivery` are its three frames, the others are what
    is in them.
    """

    def __init__(
        self,
        delivery: bytes,
        method: spec.Basic.Deliver,
        properties: Properties,
        body: bytes,
    ) -> None:
        encoded = properties.encoded
        self.method = method
        self.properties = properties
        self.body = body
        self.decoder = properties.decoder
        id_begin, id_end = frames.message_id_span(encoded)
        self.properties_head = encoded[:id_begin]
        self.properties_tail = encoded[id_end:]
        self.size = len(delivery)
        consumer_tag_at = frames.PREFIX_BYTES + frames.METHOD_ID_BYTES
        self.tag_at = consumer_tag_at + 1 + delivery[consumer_tag_at]
        tail_bytes = len(self.properties_tail) + 1 + frames.OVERHEAD_BYTES + len(body)
        id_at = self.size - tail_bytes - (id_end - id_begin)
        self.head = delivery[: self.tag_at]
        self.middle = delivery[self.tag_at + frames.TAG_BYTES : id_at]
        self.tail = delivery[self.size - tail_bytes :]
        self.fields = struct.Struct(
            f'>{self.tag_at}sQ{len(self.middle)}s{id_end - id_begin}s{tail_bytes}s'
        )

        decoded = properties.message_id or ''
        found = encoded[id_begin:id_end]
        # Not if pika reads these properties in another way than we do.
        self.is_sound = text_of(found) == decoded

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the body, in hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()

    def message_ids(self, buffer: bytes, at: int) -> list[bytes]:
        """Return the message_ids of the deliveries from `at` on that have this shape.

        Their delivery tags follow on each other.
        """
        size = self.size
        end = at + (len(buffer) - at) // size * size
        if end == at:
            return []
        tag = self.tag(buffer, at)
        # What a loop over millions of messages looks up is local.
        our_head = self.head
        our_middle = self.middle
        our_tail = self.tail
        ids = []
        whole = memoryview(buffer)[at:end]
        for head, its_tag, middle, message_id, tail in self.fields.iter_unpack(whole):
            if its_tag != tag or tail != our_tail or middle != our_middle or head != our_head:
                break
            tag += 1
            ids.append(message_id)
        return ids

    def tag(self, buffer: bytes, at: int) -> int:
        """Return the delivery tag of the delivery at `at`."""
        (tag,) = frames.TAG.unpack_from(buffer, at + self.tag_at)
        return tag

    def method_of(self, tag: int) -> spec.Basic.Deliver:
        """Return the method of the delivery with this tag."""
        method = self.method
        return spec.Basic.Deliver(
            method.consumer_tag,
            tag,
            method.redelivered,
            method.exchange,
            method.routing_key,
        )

    def properties_of(self, message_id: bytes) -> Properties:
        """Return the properties of the delivery with this message_id."""
        encoded = self.properties_head + message_id + self.properties_tail
        return Properties(encoded, self.decoder)


class Learner:
    """Finds the shape in which the deliveries of one connection come, if they come in one."""

    def __init__(self) -> None:
        self.shape: Shape | None = None
        self.last_size = 0  # bytes of the delivery before this one, if it was in no run
        self.pause = 0  # deliveries until a shape is looked for
        self.next_pause = 1

    def found_run(self) -> None:
        """Note that deliveries came in the shape."""
        self.last_size = 0
        self.pause = 0
        self.next_pause = 1

    def wants(self, size: int) -> bool:
        """Return whether to learn from a delivery of `size` bytes that is in no run.

        It should be as long as the one before. Where that led to no run, fewer and fewer
        are looked at, so that mixed messages cost nothing.
        """
        if self.pause:
            self.pause -= 1
            return False
        is_second = size == self.last_size
        self.last_size = size
        return is_second

    def learn(self, shape: Shape) -> None:
        """Expect deliveries of this shape."""
        self.pause = self.next_pause
        if shape.is_sound:
            self.shape = shape
        self.next_pause = min(2 * self.next_pause, LONGEST_PAUSE)


# ---- confirms


class AckRun(spec.Basic.Ack):
    """The basic.acks that arrived together on one channel; by itself the last of them.

    `acks` holds the (delivery tag, multiple) of each.
    """

    def __init__(self, acks: Sequence[tuple[int, bool]]) -> None:
        super().__init__(*acks[-1])
        self.acks = acks


def acks_at(buffer: bytes, at: int) -> list[tuple[int, bool]]:
    """Return (delivery tag, multiple) of the basic.acks from `at` on, all of one channel."""
    if not buffer.startswith(ACK_HEAD, at + ACK_HEAD_AT):
        return []
    size = ACK_FRAME.size
    end = at + (len(buffer) - at) // size * size
    head = buffer[at : at + ACK_HEAD_AT] + ACK_HEAD
    acks = []
    for its_head, tag, bits, end_byte in ACK_FRAME.iter_unpack(memoryview(buffer)[at:end]):
        if its_head != head or end_byte != frames.FRAME_END:
            break
        acks.append((tag, bool(bits & 1)))
    return acks


# ---- publishing


class Template:
    """Messages that are alike but for their message_id, which has `id_bytes` ASCII characters.

    They are mandatory, and their `properties` have no headers.
    """

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties,
        id_bytes: int,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.common = properties
        self.id_bytes = id_bytes
        placeholder = '\0' * id_bytes
        encoded = b''.join(encode_with(properties, message_id=placeholder))
        self.head, _, self.tail = encoded.partition(placeholder.encode())
        self.message_bytes = len(self.head) + id_bytes + len(self.tail) + len(body)
        self.last_around: tuple[tuple[int, int], tuple[bytes, bytes]] | None = None

    def properties(self, message_id: bytes) -> pika.BasicProperties:
        """Return the properties of one message, quick to encode."""
        return Templated(self, message_id.decode())

    def batch(self, ids: Sequence[bytes], number: int, body_max: int) -> bytes:
        """Return the frames of messages with these message_ids, on the channel `number`.

        A frame holds at most `body_max` bytes of a body.
        """
        before, after = self.around(number, body_max)
        return b''.join((before, (after + before).join(ids), after))

    def around(self, number: int, body_max: int) -> tuple[bytes, bytes]:
        """Return what stands before and after the message_id of each message."""
        key = (number, body_max)
        if not self.last_around or self.last_around[0] != key:
            self.last_around = (key, self._around(number, body_max))
        return self.last_around[1]

    def _around(self, number: int, body_max: int) -> tuple[bytes, bytes]:
        content = frames.CONTENT_PREFIX.pack(spec.Basic.INDEX, 0, len(self.body))
        size = len(content) + len(self.head) + self.id_bytes + len(self.tail)
        before = (
            frames.publish_frame(number, self.exchange, self.routing_key, True),
            frames.FRAME_PREFIX.pack(frames.FRAME_HEADER, number, size),
            content,
            self.head,
        )
        after = (
            self.tail,
            frames.FRAME_END_BYTE,
            frames.body_frames(number, self.body, body_max),
        )
        return b''.join(before), b''.join(after)


class Templated(pika.BasicProperties):
    """The properties of one message of a Template, quick to encode."""

    def __init__(self, template: Template, message_id: str) -> None:
        self.template = template
        self.message_id = message_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self.template.common, name)

    def encode(self) -> list[bytes]:
        if 'headers' in self.__dict__:  # the message is republished
            return encode_with(
                self.template.common,
                message_id=self.message_id,
                headers=self.headers,
            )
        return [self.template.head, self.message_id.encode(), self.template.tail]


class BatchMessage(Message):
    """A message of a Template. What only the ordinary way needs is made when asked for."""

    def __init__(self, template: Template, message_id: bytes, due: float) -> None:
        self.template = template
        self.message_id = message_id
        self.due = due

    def __getattr__(self, name: str) -> Any:
        if name not in ('exchange', 'routing_key', 'body', 'properties'):
            raise AttributeError(name)
        template = self.template
        self.exchange = template.exchange
        self.routing_key = template.routing_key
        self.body = template.body
        self.properties = template.properties(self.message_id)
        return getattr(self, name)
