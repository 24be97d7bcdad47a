"""The HTTP API of RabbitMQ's management plugin (LavinMQ and CloudAMQP have it too).

    for queue in management.call('http://guest:guest@localhost:15672', 'GET', 'queues?columns=name,messages'):
        print(queue['name'])
"""

import base64
import json
import re
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import common
from common import Failure

TIMEOUT = 30  # s; with thousands of queues an answer takes its time


class Refused(Failure):
    """The API answered with an error; `code` is its HTTP status: 401 or 403 a right is missing, 404 nothing there."""

    def __init__(self, message, code):
        super().__init__(message, 3 if code >= 500 else 1)
        self.code = code


def url_of(amqp_urls):
    """Return where the API of the first broker of `amqp_urls` usually is, with the same user, password and TLS keys.

    RabbitMQ's ports are 15672 and, with TLS, 15671; CloudAMQP serves it at 443.
    """
    parts = urlsplit(next(filter(None, re.split(r'[,\s]+', amqp_urls))))
    login = parts.netloc.rpartition('@')[0] or 'guest:guest'
    host = f'[{parts.hostname}]' if ':' in parts.hostname else parts.hostname
    tls = parts.scheme == 'amqps' or host.endswith('.cloudamqp.com')
    port = '' if host.endswith('.cloudamqp.com') else ':15671' if tls else ':15672'
    return f'http{"s" * tls}://{login}@{host}{port}?{parts.query}'


def check(url):
    """Raise ValueError, with one line that repeats nothing secret, unless `url` is one that call() takes."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ('http', 'https') and parts.hostname and (parts.port or True) and not parts.fragment
    except ValueError:
        right = False
    if not right:
        raise ValueError('bad management URL: expected http://user:password@host:15672 or https://..., '
                         'with / ? # @ : in a password percent-encoded')
    common.tls_options(dict(parse_qsl(parts.query)))


def place(url):
    """Return 'host:port' of a management URL: what may be printed of it."""
    return urlsplit(url).netloc.rpartition('@')[2]


def login_of(url):
    """Return user and password of a management URL, both '' where it has none."""
    parts = urlsplit(url)
    return unquote(parts.username or ''), unquote(parts.password or '')


def log_in(url, user, password):
    """Return a management URL with another user and password."""
    return urlsplit(url)._replace(netloc=f'{quote(user, safe="")}:{quote(password, safe="")}@{place(url)}').geturl()


def call(url, method, path, body=None):
    """Call the management API at `url` (http://user:password@host:port, or https with cacertfile, verify ... as in an
    AMQP URL); return what it answers, decoded from JSON, or None if that is empty.

    `path` is what follows /api/, its names quoted (urllib.parse.quote(name, safe='')); `body` is sent as JSON. Raises
    Refused when it answers with an error, another Failure when it does not answer, or not as this API does.
    """
    parts = urlsplit(url)
    headers = {'Authorization': 'Basic ' + base64.b64encode(':'.join(login_of(url)).encode()).decode()}
    if body is not None:
        headers['Content-Type'] = 'application/json'
    # Not urllib.request: it would go through http_proxy, even to localhost.
    if parts.scheme == 'https':
        context = common.tls_options(dict(parse_qsl(parts.query))).context
        connection = HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT, context=context)
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
    try:
        connection.request(method, f'{parts.path.rstrip("/")}/api/{path}',
                           None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, HTTPException) as error:
        raise Failure(f'no management API at {place(url)} ({getattr(error, "strerror", None) or error}); is '
                      'rabbitmq_management enabled, is MANAGEMENT_URL right?', 3) from None
    finally:
        connection.close()
    try:
        answer = json.loads(answer) if answer else None
    except ValueError:
        if response.status < 400:
            raise Failure(f'{place(url)} is no management API: its answer to {method} {path} is no JSON; '
                          'is MANAGEMENT_URL right?', 3) from None
    if not 200 <= response.status < 300:
        reason = answer.get('reason') if isinstance(answer, dict) else None
        raise Refused(f'the management API at {place(url)} refuses user {login_of(url)[0]!r} {method} {path}: '
                      f'{response.status} {str(reason or response.reason)[:200]}', response.status)
    return answer
