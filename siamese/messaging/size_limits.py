"""How large a frame and a message may be; more ends the connection.

Who is on the other side could fill our memory otherwise.
"""

from __future__ import annotations

import struct

from pika import spec
from pika.exceptions import AMQPError

MAX_BODY_BYTES = 256 << 20
FRAME_PREFIX = struct.Struct('>BHL')  # frame type, channel number, payload size
OVERHEAD_BYTES = FRAME_PREFIX.size + 1


class TooLarge(AMQPError):
    """A frame or a message that we do not take; the message says which, in one line."""

    def __repr__(self) -> str:  # pika quotes it
        return str(self.args[0])


def check_frame(kind: int, payload_bytes: int, frame_max: int) -> None:
    """Raise TooLarge for a frame above the negotiated frame_max.

    Brokers add x-death to headers that filled a frame, so these may have twice as much: a
    message that is dead-lettered must not end the connection of who reads it.
    """
    size = payload_bytes + OVERHEAD_BYTES
    limit = frame_max
    if kind == spec.FRAME_HEADER:
        limit = 2 * frame_max
    if size > limit:
        raise TooLarge(f'the broker sends a frame of {size:,} bytes; agreed were {frame_max:,}')


def check_first_frame(buffer: bytes, frame_max: int) -> None:
    """Raise TooLarge if the frame that begins in a buffer is too large."""
    if len(buffer) < FRAME_PREFIX.size or buffer.startswith(b'AMQP'):
        return
    kind, _, payload_bytes = FRAME_PREFIX.unpack_from(buffer)
    check_frame(kind, payload_bytes, frame_max)


def check_body(size: int) -> None:
    """Raise TooLarge for a message whose header announces a body that is too large."""
    if size > MAX_BODY_BYTES:
        raise TooLarge(
            f'the broker sends a message of {size:,} bytes; more than {MAX_BODY_BYTES:,} '
            'are not taken'
        )
