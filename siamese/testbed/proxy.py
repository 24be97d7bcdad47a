"""A proxy on loopback between clients and a server. It injects network faults.

with in_front_of(url) as proxy:
    ...                            # a client that uses proxy.url
    proxy.cut(reset=True)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import common
from common import Failure
from siamese.testbed.product import free_ports

DIRECTIONS = ('up', 'down')  # to the server, to the client
READ_BYTES = 65536
CALL_TIMEOUT_S = 60  # for what takes a moment; a machine may be busy
# SO_LINGER on, for 0 s: closing sends RST in place of FIN.
RESET = struct.pack('ii', 1, 0)

Alter = Callable[[bytes], bytes]


def unaltered(data: bytes) -> bytes:
    """Return the data as they are: what a proxy does by default."""
    return data


@contextlib.contextmanager
def in_front_of(
    url: str,
    tls: ssl.SSLContext | None = None,
    alter: Alter = unaltered,
) -> Iterator[Proxy]:
    """Yield a Proxy in front of the server at an AMQP URL.

    What the server sends passes through `alter`. With `tls`, a context for
    servers, clients have to speak TLS to the proxy.
    """
    with contextlib.closing(Proxy(url, tls, alter)) as proxy:
        yield proxy


class Proxy:
    """A proxy, from in_front_of(). Any thread may call its methods; they may raise Failure.

    url: the server's URL, but through the proxy. accepted: the connections so
    far. limit: bytes after which the data of the server on a new connection
    are cut off; None for never.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, alter: Alter) -> None:
        (server,) = common.endpoints(url, 'proxy.py')
        self.target = (server.host, server.port)
        self.tls = tls
        self.alter = alter
        (self.port,) = free_ports(1)
        parts = urlsplit(url)
        login = parts.netloc[: parts.netloc.rfind('@') + 1]
        netloc = f'{login}127.0.0.1:{self.port}'
        self.url = parts._replace(netloc=netloc).geturl()
        self.accepted = 0
        self.limit: int | None = None
        self.tasks: set[asyncio.Future[None]] = set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.flowing: dict[str, asyncio.Event] = {}
        self.server: asyncio.AbstractServer | None = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.release()
        self.accept()

    def cut(self, reset: bool = False) -> None:
        """End all connections, with FIN or RST; held data are dropped."""
        self._call(self._cut(reset))

    def hold(self, *directions: str) -> None:
        """Forward no more data 'up' or 'down'; both by default.

        Connections stay, and new ones are accepted.
        """
        self._call(self._hold(directions or DIRECTIONS))

    def release(self) -> None:
        """Forward data again, beginning with those that were held."""
        self._call(self._release())

    def refuse(self) -> None:
        """Refuse new connections."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Accept connections again."""
        self._call(self._listen())

    def close(self) -> None:
        """End everything; in_front_of() does this."""
        self.refuse()
        self.cut()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        done = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            done.result(CALL_TIMEOUT_S)
        except concurrent.futures.TimeoutError:
            done.cancel()
            why = f'the proxy at port {self.port} has not answered within {CALL_TIMEOUT_S:g} s'
            raise Failure(why, 3) from None

    # ---- in the thread of the loop

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._serve, '127.0.0.1', self.port, ssl=self.tls)

    async def _refuse(self) -> None:
        if self.server:
            self.server.close()

    async def _hold(self, directions: tuple[str, ...]) -> None:
        for direction in directions:
            self.flowing[direction].clear()

    async def _release(self) -> None:
        for direction in DIRECTIONS:
            event = self.flowing.setdefault(direction, asyncio.Event())
            event.set()

    async def _cut(self, reset: bool) -> None:
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            if reset:
                connection = writer.get_extra_info('socket')
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            # Without SO_LINGER the kernel still sends its buffer, and FIN.
            writer.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        self.writers.add(writer)
        writers = [writer]
        try:
            server = await asyncio.open_connection(*self.target)
            server_reader, server_writer = server
            writers.append(server_writer)
            self.writers.add(server_writer)
            await self._forward(
                self._pump(reader, server_writer, 'up'),
                self._pump(server_reader, writer, 'down'),
            )
        except (OSError, asyncio.CancelledError):
            pass  # the server is unavailable, or a cut
        finally:
            self.tasks.discard(task)
            self.writers.difference_update(writers)
            for each in writers:
                each.close()

    async def _forward(self, *pumps: Coroutine[Any, Any, None]) -> None:
        """Run the pumps of a connection until one of them ends."""
        tasks = {asyncio.ensure_future(pump) for pump in pumps}
        self.tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self.tasks.difference_update(tasks)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: str,
    ) -> None:
        left = self.limit
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                await self.flowing[direction].wait()
                if direction == 'down':
                    data = self.alter(data)[:left]
                    if left is not None:
                        left -= len(data)
                writer.write(data)
                await writer.drain()
                if left == 0:
                    return
            await self.flowing[direction].wait()
