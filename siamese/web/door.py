"""The door of a server: how many connections it lets in, and how long each may take.

They are counted at accept, in all and per address, so before TLS. What a client
does is a stage, which has an end in time and in bytes. Where too many are in, the
one that has kept us waiting longest has to go; only if all are being answered the
new one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from typing import Any, NamedTuple

from siamese import hosts
from siamese.refusals import log

MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 64
UNLIMITED = sys.maxsize


class Stage(NamedTuple):
    """What a client does; `seconds` and `bytes` are how much of it we take."""

    name: str
    seconds: float | None
    bytes: int
    is_awaited: bool = True  # it is the client's turn


NEW = Stage('accept', None, 0)
HANDSHAKE = Stage('TLS handshake', 10, 1 << 16)
HEAD = Stage('request head', 10, 1 << 16)
BODY = Stage('request body', 20, 1 << 20)
ANSWER = Stage('answer', 120, 1 << 20, is_awaited=False)
WEBSOCKET = Stage('websocket', None, UNLIMITED, is_awaited=False)


class Guest(socket.socket):
    """A connection that came in by a door."""

    def __init__(
        self,
        door: Door,
        accepted: socket.socket,
        address: tuple[Any, ...],
    ) -> None:
        super().__init__(fileno=accepted.detach())
        self.door = door
        self.address = address
        self.sender = hosts.sender(address[0])
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stage = NEW
        self.left = 0  # bytes that it may still send in this stage

    def enter(self, stage: Stage) -> None:
        """Begin a stage, unless it is the present one."""
        if stage is self.stage or self.address not in self.door.guests:
            return
        self.stop_timer()
        self.stage = stage
        self.left = stage.bytes
        if stage.seconds is not None:
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(stage.seconds, self.be_late)
        self.door.came_forward(self)

    def be_late(self) -> None:
        log.warning(
            'closed a connection from %s: its %s took more than %g s',
            self.address[0],
            self.stage.name,
            self.stage.seconds,
            extra={'kind': f'late {self.stage.name}'},
        )
        self.dismiss()

    def is_over_limit(self) -> bool:
        """Return whether it has sent all that it may; log that."""
        if self.left > 0:
            return False
        log.warning(
            'closed a connection from %s: its %s has more than %s bytes',
            self.address[0],
            self.stage.name,
            f'{self.stage.bytes:,}',
            extra={'kind': f'long {self.stage.name}'},
        )
        return True

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive, but no more than the stage allows; b'' is the end."""
        if self.is_over_limit():
            return b''
        data = super().recv(min(size, self.left), flags)
        self.left -= len(data)
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """The same, into a buffer; 0 is the end."""
        if self.is_over_limit():
            return 0
        room = min(size or len(buffer), self.left)
        received = super().recv_into(buffer, room, flags)
        self.left -= received
        return received

    def dismiss(self) -> None:
        """Close the connection, whatever is under way."""
        self.door.forget(self)
        if self.transport:
            self.transport.abort()
            return
        with contextlib.suppress(OSError):  # the client was faster
            self.shutdown(socket.SHUT_RDWR)  # asyncio still holds it, and will see the end

    def stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def close(self) -> None:
        self.door.forget(self)
        super().close()


class Door(socket.socket):
    """A listening socket that lets only so many connections in.

    `proxy` is the address of a proxy, which stands for many clients.
    """

    def __init__(
        self,
        listening: socket.socket,
        is_tls: bool,
        proxy: str | None,
    ) -> None:
        super().__init__(fileno=listening.detach())
        self.first_stage = HANDSHAKE if is_tls else HEAD
        self.proxy = proxy
        # Set where asyncio has to close a connection before it accepts the next one.
        self.is_pausing = False
        # In order: whose stage began first is first.
        self.guests: dict[tuple[Any, ...], Guest] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = min(MAX_CONNECTIONS, soft // 2)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection for asyncio, which calls this until it raises BlockingIOError."""
        if self.is_pausing:
            self.is_pausing = False
            raise BlockingIOError
        accepted, address = super().accept()
        guest = Guest(self, accepted, address)
        if not self.has_room_for(guest):
            guest.close()
            raise BlockingIOError
        self.guests[address] = guest
        guest.enter(self.first_stage)
        return guest, address

    def has_room_for(self, guest: Guest) -> bool:
        """Return whether a connection may come in; another one may have to go for it."""
        neighbours = [each for each in self.guests.values() if each.sender == guest.sender]
        if len(neighbours) >= MAX_PER_ADDRESS and guest.sender != self.proxy:
            return self.make_room(neighbours, guest)
        if len(self.guests) >= self.most:
            return self.make_room(list(self.guests.values()), guest)
        return True

    def make_room(self, inside: list[Guest], newcomer: Guest) -> bool:
        """Dismiss the one that keeps us waiting longest; return whether there is such a one."""
        waiting = [each for each in inside if each.stage.is_awaited]
        if not waiting:
            log.warning(
                'refused a connection from %s: %d are being answered',
                newcomer.address[0],
                len(inside),
            )
            return False
        log.warning(
            'closed a connection from %s, whose %s was awaited: there are %d',
            waiting[0].address[0],
            waiting[0].stage.name,
            len(inside),
        )
        waiting[0].dismiss()
        self.is_pausing = True
        return True

    def came_forward(self, guest: Guest) -> None:
        """Note that a connection has entered another stage."""
        self.guests[guest.address] = self.guests.pop(guest.address)

    def forget(self, guest: Guest) -> None:
        """Note that a connection is closed."""
        guest.stop_timer()
        if self.guests.get(guest.address) is guest:
            del self.guests[guest.address]

    def guest_of(self, transport: asyncio.BaseTransport) -> Guest | None:
        """Return the connection of a transport, None if it was dismissed already."""
        address = transport.get_extra_info('peername')
        return self.guests.get(address)
