"""The lowest layer of all scripts: the AMQP URL, block hashing, prime checks."""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import pika

DEFAULT_URL = 'amqp://guest:guest@localhost:5672/%2F'
EXPECTED = 'expected amqp://user:password@host:port/vhost'
TLS_KEYS = ('cacertfile', 'certfile', 'keyfile', 'password', 'verify', 'server_name_indication')
TIMEOUT_KEYS = ('socket_timeout', 'stack_timeout', 'blocked_connection_timeout')
KNOWN_KEYS = ('connection_timeout', *TLS_KEYS, 'heartbeat', 'channel_max', *TIMEOUT_KEYS)
GENESIS = {'hash': '', 'proof': 100003}


class Failure(Exception):
    """An expected failure: a one-line message that names the remedy, and the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoUser(pika.PlainCredentials):
    """The login of a URL that names no user: guest, or a token (see credentials.py)."""


def endpoints(urls: str, name: str) -> list[pika.URLParameters]:
    """Turn URLs, separated by commas or spaces, into pika parameters in failover order.

    `name` becomes the AMQP connection_name. Query parameters are KNOWN_KEYS: those of the
    RabbitMQ URI specification (connection_timeout in ms), and timeouts of pika (in s).
    amqps:// verifies the certificate unless verify=verify_none. Raises ValueError with one
    line that never repeats a part of the URL that may hold a password.
    """
    found = [_endpoint(url, name) for url in re.split(r'[,\s]+', urls) if url]
    if not found:
        raise ValueError(f'no AMQP URL given; {EXPECTED}')
    return found


def display_address(parameters: pika.ConnectionParameters) -> str:
    """Return 'host:port/vhost' of pika parameters: the printable part of a URL."""
    return f'{parameters.host}:{parameters.port}/{quote(parameters.virtual_host, safe="")}'


def block_hash(previous: dict[str, Any], proof: int) -> str:
    """Return the SHA-256 of previous hash, previous proof and proof as text, in hexadecimal."""
    return hashlib.sha256(f'{previous["hash"]}{previous["proof"]}{proof}'.encode()).hexdigest()


def is_prime(number: int) -> bool:
    """Return whether `number` is prime."""
    import sympy  # takes 0.3 s and 30 MB; `from sympy import` would cost 0.5 us on each call

    return sympy.isprime(number)


def _bad(complaint: str) -> ValueError:
    return ValueError(f'bad AMQP URL: {complaint}')


def _endpoint(url: str, name: str) -> pika.URLParameters:
    parts = _split(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = {key: query.pop(key) for key in TLS_KEYS if key in query}
    try:
        for host in str(parts.hostname), tls.get('server_name_indication', ''):
            host.encode('idna')
    except UnicodeError:
        raise _bad('a part of the host is empty or longer than 63 characters') from None
    parameters = _with_query(query)
    parameters.host = parts.hostname
    parameters.port = parts.port or (5671 if parts.scheme == 'amqps' else 5672)
    parameters.virtual_host = unquote(parts.path[1:]) or '/'
    parameters.credentials = _login(parts)
    parameters.client_properties = {'connection_name': name, 'product': 'siamese'}
    if parts.scheme == 'amqps':
        parameters.ssl_options = _tls(tls)
    elif tls:
        raise _bad('TLS parameters need amqps://')
    return parameters


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  the property parses
    except ValueError:
        raise _bad('the port is above 65535, or one of / ? # @ : is not percent-encoded') from None
    vhost = unquote(parts.path[1:]).encode(errors='replace')
    for wrong, complaint in (
        (not url.isprintable(), 'write what cannot be printed as %XX, the bytes of UTF-8'),
        (parts.scheme not in ('amqp', 'amqps'), 'it must begin with amqp:// or amqps://'),
        (not parts.hostname, f'the host is missing; {EXPECTED}'),
        ('@' in parts.path, 'write a / in user or password as %2F, an @ in the vhost as %40'),
        (parts.path.count('/') > 1, 'write a / in the name of the virtual host as %2F'),
        (len(vhost) > 255, 'the name of the virtual host has more than 255 bytes'),
        (parts.fragment, 'write a # in user, password or virtual host as %23'),
    ):
        if wrong:
            raise _bad(complaint)
    return parts


def _with_query(query: dict[str, str]) -> pika.URLParameters:
    if not query.keys() <= set(KNOWN_KEYS):
        raise _bad(f'unknown query parameter; known: {", ".join(KNOWN_KEYS)}')
    names = ', '.join(query)
    try:
        if 'connection_timeout' in query:
            query['socket_timeout'] = str(int(query.pop('connection_timeout')) / 1000)
        parameters = pika.URLParameters('amqp://?' + urlencode({'heartbeat': 10, **query}))
        if not 0 <= (parameters.heartbeat or 0) <= 65535:
            raise ValueError
    except (ValueError, OverflowError):
        raise _bad(
            f'a value among {names} is out of range: milliseconds, heartbeat up to 65535 s'
        ) from None
    return parameters


def _login(parts: SplitResult) -> pika.PlainCredentials:
    if parts.username is None:
        return NoUser('guest', 'guest')
    if parts.username.startswith('eyJ') and '.' in parts.username:  # {" in base64
        raise _bad('a token is written as the password, after a colon and no user name')
    return pika.PlainCredentials(unquote(parts.username), unquote(parts.password or ''))


def _tls(keys: dict[str, str]) -> pika.SSLOptions:
    if keys.get('verify', 'verify_peer') not in ('verify_peer', 'verify_none'):
        raise _bad('verify is verify_peer or verify_none')
    try:
        context = ssl.create_default_context(cafile=keys.get('cacertfile'))
        if 'certfile' in keys:
            context.load_cert_chain(keys['certfile'], keys.get('keyfile'), keys.get('password', ''))
    except (OSError, ValueError) as error:
        raise _bad(f'cannot read cacertfile, certfile or keyfile ({error})') from None
    if keys.get('verify') == 'verify_none':
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, keys.get('server_name_indication'))
