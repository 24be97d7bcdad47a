"""A reverse proxy in front of a management API that may be slow, or may lie."""

import contextlib
import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from support.serving import serving


class ApiProxy:
    """Answers as the API behind it does, unless it is told otherwise.

    delay_s: before each answer; lies: {part of a path: (status, headers, body)}; decodes:
    whether it turns %2F into /. asked: the paths that were asked for; logins: their
    Authorization headers.
    """

    def __init__(self, target, tls=None):
        self.target = urlsplit(target)
        self.delay_s = 0
        self.held = ''  # part of a path that is not passed on until release()
        self.is_holding = threading.Event()  # something waits
        self.released = threading.Event()
        self.lies = {}
        self.decodes = False
        self.asked = []
        self.logins = []
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), self.handler())
        self.server.daemon_threads = True
        scheme = 'http'
        if tls:
            scheme = 'https'
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        login = self.target.netloc.rpartition('@')[0] or 'guest:guest'
        self.url = f'{scheme}://{login}@127.0.0.1:{self.server.server_port}'

    def handler(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do(self):
                proxy.asked.append(self.path)
                proxy.logins.append(self.headers.get('Authorization'))
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                status, headers, answer = proxy.answer(self.command, self.path, self.headers, body)
                with contextlib.suppress(OSError):  # whoever asked has gone
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header('Content-Length', str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            do_GET = do_PUT = do_DELETE = do

            def log_message(self, *_):
                """Nobody reads it."""

        return Handler

    def hold(self, fragment):
        """Pass on no path with this fragment until release()."""
        self.released.clear()
        self.held = fragment

    def release(self):
        self.held = ''
        self.released.set()

    def answer(self, method, path, headers, body):
        time.sleep(self.delay_s)
        if self.held and self.held in path:
            self.is_holding.set()
            self.released.wait()
        for fragment, lie in self.lies.items():
            if fragment in path:
                return lie
        if self.decodes:
            plain, question, query = path.partition('?')
            path = unquote(plain) + question + query
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=30)
        with contextlib.closing(connection):
            passed = {key: value for key, value in headers.items() if key != 'Host'}
            connection.request(method, path, body, passed)
            response = connection.getresponse()
            return response.status, {}, response.read()


@contextlib.contextmanager
def in_front_of(target, tls=None):
    """Yield an ApiProxy in front of the management API at a URL; `tls` is its SSLContext."""
    proxy = ApiProxy(target, tls)
    with serving(proxy.server):
        yield proxy
