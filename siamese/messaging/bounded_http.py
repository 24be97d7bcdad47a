"""One HTTP request, with limits of size and of time, that goes nowhere else.

The time is that of the whole request: who sends a byte now and then is not waited
for longer than who sends none.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

MOST_BYTES = 32 * 1024 * 1024  # of an answer
MOST_REDIRECTS = 3
USUAL_PORTS = {'http': 80, 'https': 443}
REDIRECTS = (301, 302, 303, 307, 308)


class TooSlow(OSError):
    """There was no whole answer in time."""


class TooLarge(OSError):
    """The answer is longer than MOST_BYTES."""


class Elsewhere(OSError):
    """The answer sends us to another place, where our login must not go."""


class Tls(NamedTuple):
    """How the other side proves who it is, and the name it must have, None for its host."""

    context: ssl.SSLContext
    server_name: str | None = None


class Answer(NamedTuple):
    """What came back."""

    status: int
    reason: str
    location: str  # where a redirect leads to
    body: bytes


def ask(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    tls: Tls,
    limit_s: float,
) -> Answer:
    """Return the answer to a request; raise OSError or HTTPException.

    A redirect is followed within the same origin only.
    """
    deadline = Deadline(limit_s)
    for _ in range(MOST_REDIRECTS + 1):
        answer = _ask_once(method, urlsplit(url), body, headers, tls, deadline)
        if answer.status not in REDIRECTS or method != 'GET':
            return answer
        target = urljoin(url, answer.location)
        if _origin(urlsplit(target)) != _origin(urlsplit(url)):
            raise Elsewhere(f'it redirects to {_without_login(target)}')
        url = target
    raise Elsewhere(f'more than {MOST_REDIRECTS} redirects')


class Deadline:
    """The time by which the whole answer must be there."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.at = time.monotonic() + limit_s

    def left_s(self) -> float:
        """Return how much time is left; raise TooSlow if there is none."""
        left_s = self.at - time.monotonic()
        if left_s <= 0:
            raise self.passed()
        return left_s

    def passed(self) -> TooSlow:
        """Return the error that there was no whole answer in time."""
        return TooSlow(f'no whole answer within {self.limit_s:g} s')


class Reader(io.RawIOBase):
    """Reads from a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self.deadline = deadline
        self.raw = sock.makefile('rb', buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.deadline.left_s())
        try:
            return self.raw.readinto(buffer)
        except socket.timeout:
            raise self.deadline.passed() from None

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    """A connection that reads until a deadline, with TLS if there is a `tls`."""

    def __init__(
        self,
        host: str,
        port: int,
        deadline: Deadline,
        tls: Tls | None,
    ) -> None:
        super().__init__(host, port)
        self.deadline = deadline
        self.tls = tls
        self.response_class = self._response  # type: ignore[assignment]

    def connect(self) -> None:
        sock = socket.create_connection((self.host, self.port), self.deadline.left_s())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            name = self.tls.server_name or self.host
            sock.settimeout(self.deadline.left_s())
            sock = self.tls.context.wrap_socket(sock, server_hostname=name)
        self.sock = sock

    def _response(
        self,
        sock: socket.socket,
        **options: Any,
    ) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, **options)
        response.fp.close()
        response.fp = io.BufferedReader(Reader(sock, self.deadline))
        return response


def _ask_once(
    method: str,
    url: SplitResult,
    body: bytes | None,
    headers: Mapping[str, str],
    tls: Tls,
    deadline: Deadline,
) -> Answer:
    used_tls = None
    if url.scheme == 'https':
        used_tls = tls
    _, host, port = _origin(url)
    connection = _Connection(host, port, deadline, used_tls)
    path = url.path
    if url.query:
        path = f'{url.path}?{url.query}'
    try:
        connection.request(method, path, body, {**headers, 'Connection': 'close'})
        response = connection.getresponse()
        return Answer(
            status=response.status,
            reason=response.reason,
            location=response.headers.get('Location') or '',
            body=_read(response),
        )
    except socket.timeout:  # while it connects or sends
        raise deadline.passed() from None
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    body = response.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        limit = f'{MOST_BYTES // 1024**2} MiB'
        raise TooLarge(f'the answer has more than {limit}')
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _origin(url: SplitResult) -> tuple[str, str, int]:
    host = unquote(url.hostname or '')
    return url.scheme, host, url.port or USUAL_PORTS.get(url.scheme, 0)


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition('@')[2]
    return f'{parts.scheme}://{host}{parts.path}'
