"""A proxy on loopback between clients and a server, which does to their connections what networks do.

with proxy.before(url) as between:
    ...                            # a client that uses between.url
    between.cut(reset=True)
"""

import asyncio
import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

from siamese.testbed import rabbitmq as broker

WAYS = ('up', 'down')  # to the server, to the client
AT_ONCE = 65536  # bytes read at a time
RESET = struct.pack('ii', 1, 0)  # SO_LINGER on, for 0 s: closing sends RST in place of FIN


@contextlib.contextmanager
def before(url, tls=None, alter=lambda data: data):
    """Yield a Proxy before the server at an AMQP URL; it passes what the server sends through `alter`.

    With `tls`, an ssl.SSLContext for servers, clients are to speak TLS to it.
    """
    with contextlib.closing(Proxy(url, tls, alter)) as proxy:
        yield proxy


class Proxy:
    """A proxy from before(). Its methods may be called from any thread.

    url: as the server's, but through the proxy; port; accepted: connections so far; limit: bytes after which what the
    server sends over a new connection is cut off, None for never.
    """

    def __init__(self, url, tls, alter):
        parts = urlsplit(url)
        self.target, self.tls, self.alter = (parts.hostname, parts.port), tls, alter
        (self.port,) = broker.free_ports(1)
        login = ''.join(parts.netloc.rpartition('@')[:2])  # with the @, if there is one
        self.url = parts._replace(netloc=f'{login}127.0.0.1:{self.port}').geturl()
        self.accepted, self.limit, self.tasks, self.ends, self.flow = 0, None, set(), set(), {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.release()
        self.accept()

    def cut(self, reset=False):
        """End all connections, with FIN or RST; what is held is dropped."""
        self._call(self._cut(reset))

    def hold(self, *ways):
        """Forward nothing more, 'up' or 'down' (without either: both), but keep and accept connections."""
        self._call(self._let(False, ways or WAYS))

    def release(self):
        """Forward again, and first what was held."""
        self._call(self._let(True, WAYS))

    def refuse(self):
        """Refuse new connections."""
        self._call(self._refuse())

    def accept(self):
        """Accept connections again."""
        self._call(self._listen())

    def close(self):
        """End everything; before() does this."""
        self.refuse()
        self.cut()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _call(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    # ---- in the thread of the loop

    async def _listen(self):
        self.server = await asyncio.start_server(self._serve, '127.0.0.1', self.port, ssl=self.tls)

    async def _refuse(self):
        self.server.close()

    async def _let(self, flow, ways):
        for way in ways:
            event = self.flow.setdefault(way, asyncio.Event())
            event.set() if flow else event.clear()

    async def _cut(self, reset):
        for task in self.tasks:
            task.cancel()
        for end in self.ends:
            if reset:
                end.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.transport.abort()  # without SO_LINGER the kernel still sends what it has, and FIN
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.accepted += 1
        self.tasks.add(asyncio.current_task())
        self.ends.add(writer)
        ends = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            ends.append(server_writer)
            self.ends.add(server_writer)
            pumps = [
                asyncio.ensure_future(self._pump(*ends, way))
                for *ends, way in ((reader, server_writer, 'up'), (server_reader, writer, 'down'))
            ]
            self.tasks.update(pumps)
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            self.tasks.difference_update(pumps)
        except (OSError, asyncio.CancelledError):  # the server is away, or a cut
            pass
        finally:
            self.tasks.discard(asyncio.current_task())
            self.ends.difference_update(ends)
            for end in ends:
                end.close()

    async def _pump(self, reader, writer, way):
        left = self.limit
        with contextlib.suppress(OSError):
            while data := await reader.read(AT_ONCE):
                await self.flow[way].wait()
                if way == 'down':
                    data = self.alter(data)[:left]
                    left = left and left - len(data)
                writer.write(data)
                await writer.drain()
                if left == 0:
                    return
            await self.flow[way].wait()
