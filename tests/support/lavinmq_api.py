"""The management API of LavinMQ 2.9.1, over a real socket, from answers that were recorded.

Users, permissions and policies are kept, as LavinMQ keeps them: tags that it does not know
are dropped. What was not recorded is not found. The virtual host rec of the record is `/`.
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RECORDED = json.loads((Path(__file__).parent / 'lavinmq-2.9.1' / 'api.json').read_text())
KNOWN_TAGS = ('administrator', 'monitoring', 'management', 'policymaker', 'impersonator')
NOT_FOUND = RECORDED['queues/rec/nonexistent']
KEPT = ('users', 'permissions', 'policies')


class LavinMQ:
    """What the broker keeps: {(kind, key, ...): object}; asked: (method, path) pairs."""

    def __init__(self):
        self.asked = []
        self.kept = {('users', 'guest'): {**RECORDED['whoami']['body']}}
        self.kept['permissions', '/', 'guest'] = {
            **RECORDED['permissions']['body'][0],
            'vhost': '/',
        }

    def answer(self, method, path, body):
        """Return status and content."""
        self.asked.append((method, path))
        plain, _, query = path[len('/api/') :].partition('?')
        keys = tuple(map(unquote, plain.split('/')))
        if method == 'PUT':
            return self.put(keys, body)
        if method == 'DELETE':
            return (204, None) if self.kept.pop(keys, None) else self.not_found()
        if keys[0] == 'users' and keys[-1] == 'permissions':
            return 200, [one for one in self.of('permissions') if one['user'] == keys[1]]
        if keys[0] in KEPT and keys in self.kept:
            return 200, self.kept[keys]
        if keys[0] in KEPT and len(keys) < 3 and keys[1:] in ((), ('/',)):
            return 200, self.of(keys[0])
        return self.recorded(plain, query)

    def put(self, keys, body):
        if keys[0] == 'users':
            tags = [tag for tag in body['tags'].split(',') if tag in KNOWN_TAGS]
            self.kept[keys] = {
                'name': keys[1],
                'password_hash': body.get('password_hash', 'hash of ' + body.get('password', '')),
                'hashing_algorithm': 'rabbit_password_hashing_sha256',
                'tags': ','.join(tags),
            }
        elif keys[0] == 'permissions':
            self.kept[keys] = {'user': keys[2], 'vhost': keys[1], **body}
        elif keys[0] == 'policies':
            self.kept[keys] = {'vhost': keys[1], 'name': keys[2], **body}
        else:
            return self.not_found()
        return 201, None

    def of(self, kind):
        return [kept for keys, kept in self.kept.items() if keys[0] == kind]

    def recorded(self, plain, query):
        """Return what was recorded; only columns at the top are known."""
        found = RECORDED.get(plain.replace('%2F', 'rec'), NOT_FOUND)
        body = json.loads(json.dumps(found['body']).replace('"rec"', '"/"'))
        wanted = query.partition('columns=')[2].split(',')
        if query and isinstance(body, list):
            body = [{key: row[key] for key in wanted if key in row} for row in body]
        return found['status'], body

    def not_found(self):
        return NOT_FOUND['status'], NOT_FOUND['body']


@contextlib.contextmanager
def served():
    """Yield a LavinMQ, and the URL of its management API."""
    broker = LavinMQ()

    class Handler(BaseHTTPRequestHandler):
        def do(self):
            length = int(self.headers.get('Content-Length') or 0)
            sent = json.loads(self.rfile.read(length) or 'null')
            path = urlsplit(self.path)
            status, content = broker.answer(self.command, f'{path.path}?{path.query}', sent)
            answer = b'' if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header('Content-Length', str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_DELETE = do

        def log_message(self, *_):
            """Nobody reads it."""

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield broker, f'http://guest:guest@127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
