"""Where Prometheus asks: http://127.0.0.1:PORT/metrics, for this machine only.

A page of another site, whose name leads to this address, gets nothing. So many are
answered at a time, and none may take long to ask.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from siamese import hosts
from siamese.refusals import log

if TYPE_CHECKING:  # an extra: only --prometheus needs it
    from prometheus_client import CollectorRegistry

REQUEST_TIMEOUT_S = 10
MAX_REQUESTS = 16  # at a time; more have to wait
ADDRESS = '127.0.0.1'

Start = Callable[..., Any]


class Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, *_args: Any) -> None:
        """Log nothing: Prometheus asks every few seconds."""


class Server(ThreadingMixIn, WSGIServer):
    """A server that answers each request in a thread, and so many at a time."""

    daemon_threads = True
    turns = threading.Semaphore(MAX_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.turns.acquire(timeout=REQUEST_TIMEOUT_S):
            super().process_request(request, client_address)
            return
        log.warning('refused metrics to %s: %d ask for them', client_address[0], MAX_REQUESTS)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # What a client sends byte by byte would never run into the timeout of one recv().
        end = threading.Timer(2 * REQUEST_TIMEOUT_S, cut, [request])
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self.turns.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log who broke off, in one line."""
        log.warning('metrics: %s broke off', client_address[0])


def cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed


def start(registry: CollectorRegistry, port: int) -> None:
    """Serve the metrics of a registry, in a thread; raise OSError."""
    from prometheus_client import make_wsgi_app

    server = Server((ADDRESS, port), Handler)
    server.set_app(checking_host(make_wsgi_app(registry)))
    threading.Thread(target=server.serve_forever, daemon=True).start()


def checking_host(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return a WSGI application that answers only who asks for this machine."""

    def answer(environ: dict[str, Any], start_response: Start) -> Any:
        if is_for_this_machine(environ.get('HTTP_HOST', '')):
            return application(environ, start_response)
        log.warning('refused metrics to %s: another Host', environ.get('REMOTE_ADDR'))
        start_response('403 Forbidden', [('content-type', 'text/plain')])
        return [b'Only as http://localhost or http://127.0.0.1.\n']

    return answer


def is_for_this_machine(header: str) -> bool:
    try:
        return hosts.is_loopback(hosts.named_in(header))
    except ValueError:
        return False
