"""The lowest layer of all scripts: the AMQP URL, block hashing, prime checks."""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import pika

DEFAULT_URL = 'amqp://guest:guest@localhost:5672/%2F'
TLS_KEYS = ('cacertfile', 'certfile', 'keyfile', 'password', 'verify', 'server_name_indication')
SECONDS = ('socket_timeout', 'stack_timeout', 'blocked_connection_timeout')
UNIT = {'connection_timeout': 'ms', 'heartbeat': 's, up to 65535', 'channel_max': 'up to 65535'}
KNOWN_KEYS = (*UNIT, *SECONDS, *TLS_KEYS, 'auth_mechanism')
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

    `name` becomes the AMQP connection_name. Raises ValueError with one line that tells no secret.
    """
    found = [url for url in re.split(r'[,\s]+', urls) if url]
    if not found:
        raise ValueError('no AMQP URL given; expected amqp://user:password@host:port/vhost')
    if any('://' not in url for url in found[1:]):
        raise ValueError('bad AMQP URL: write a comma in it as %2C, a blank as %20')
    return [_endpoint(url, name) for url in found]


def display_address(parameters: pika.ConnectionParameters) -> str:
    """Return 'host:port/vhost' of pika parameters: the printable part of a URL."""
    return f'{bracketed(parameters.host)}:{parameters.port}/{quote(parameters.virtual_host, "")}'


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL: an IPv6 address in brackets, its zone after %25."""
    return f'[{host.replace("%", "%25")}]' if ':' in host else host


def block_hash(previous: dict[str, Any], proof: int) -> str:
    """Return the SHA-256 of previous hash, previous proof and proof as text, in hexadecimal."""
    return hashlib.sha256(f'{previous["hash"]}{previous["proof"]}{proof}'.encode()).hexdigest()


def is_prime(number: int) -> bool:
    """Return whether `number` is prime."""
    import sympy  # takes 0.3 s and 30 MB; `from sympy import` would cost 0.5 us on each call

    return sympy.isprime(number)


def _endpoint(url: str, name: str) -> pika.URLParameters:
    parts = _split(url)
    parameters = pika.URLParameters('amqp://?heartbeat=10')
    parameters.host = unquote(parts.hostname or '')
    parameters.port = parts.port or (5671 if parts.scheme == 'amqps' else 5672)
    parameters.virtual_host = unquote(parts.path[1:]) or '/'
    parameters.client_properties = {'connection_name': name, 'product': 'siamese'}
    parameters.credentials = NoUser('guest', 'guest')
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = {key: query.pop(key) for key in TLS_KEYS if key in query}
    if parts.scheme == 'amqps':
        parameters.ssl_options = tls_options(tls)
    mechanism = query.pop('auth_mechanism', 'plain').lower()
    if mechanism == 'external' and 'certfile' in tls:
        parameters.credentials = pika.credentials.ExternalCredentials()
    elif mechanism != 'plain':
        raise ValueError('bad AMQP URL: auth_mechanism is plain, or external with a certfile')
    elif parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or '')
        parameters.credentials = pika.PlainCredentials(user, password)
    for key, text in query.items():
        if key not in KNOWN_KEYS:
            raise ValueError(f'bad AMQP URL: unknown parameter; known: {", ".join(KNOWN_KEYS)}')
        try:
            if key == 'connection_timeout':
                parameters.socket_timeout = int(text) / 1000
            else:
                number = float(text) if key in SECONDS else range(65536).index(int(text))
                setattr(parameters, key, number)
        except (ValueError, OverflowError):
            raise ValueError(
                f'bad AMQP URL: {key} is out of range ({UNIT.get(key, "s")})'
            ) from None
    return parameters


def _split(url: str) -> SplitResult:
    scheme, _, rest = url.partition('://')
    authority = re.split('[/?#]', rest)[0]
    tail = rest[len(authority) :]
    user, _, address = authority.rpartition('@')
    host = re.fullmatch(r'(\[[^][]*\]|[^][:]*)(?::([0-9]*))?', address)
    is_port = host and 0 < int(host[2] or '1') < 65536
    vhost = re.split('[?#]', tail)[0][1:]
    for wrong, complaint in (
        (not url.isprintable(), 'write what cannot be printed as %XX, the bytes of UTF-8'),
        (scheme not in ('amqp', 'amqps'), 'it must begin with amqp:// or amqps://'),
        (re.search(r'[][]', user), 'write a [ in user or password as %5B, a ] as %5D'),
        (re.match(r'eyJ[^:]*\.', user), 'a token is a password: it stands after a colon'),
        (not is_port and '@' in tail, f'write a {tail[:1]} in it as {quote(tail[:1], safe="")}'),
        (not host and address.count(':') > 1, 'write an IPv6 address in brackets: [::1]'),
        (not is_port, 'the port is no number from 1 to 65535'),
        (host and not host[1], 'the host is missing'),
        (re.match(r'\[(?![\da-fA-F:.]+[]%])', address), 'an IPv6 address is hexadecimal: [::1]'),
        ('@' in vhost, 'write a / in user or password as %2F, an @ in the vhost as %40'),
        ('/' in vhost, 'write a / in the name of the virtual host as %2F'),
        (len(unquote(vhost).encode(errors='replace')) > 255, 'the vhost has more than 255 bytes'),
        (scheme == 'amqp' and {*TLS_KEYS} & {*re.split('[?&=]', tail)}, 'TLS keys need amqps://'),
        (re.search('verify=(?!verify_(peer|none))', tail), 'verify is verify_peer or verify_none'),
        ('#' in tail, 'write a # in user, password or virtual host as %23'),
    ):
        if wrong:
            raise ValueError(f'bad AMQP URL: {complaint}')
    try:
        parts = urlsplit(url)
        str(parts.hostname).encode('idna')
    except ValueError:
        raise ValueError('bad AMQP URL: the host is neither a name nor an address') from None
    return parts


def tls_options(keys: dict[str, str]) -> pika.SSLOptions:
    try:
        keys.get('server_name_indication', '').encode('idna')
        context = ssl.create_default_context(cafile=keys.get('cacertfile'))
        if 'certfile' in keys:
            context.load_cert_chain(keys['certfile'], keys.get('keyfile'), keys.get('password', ''))
    except (OSError, ValueError) as error:
        raise ValueError(f'bad AMQP URL: cannot read {" or ".join(keys)} ({error})') from None
    if keys.get('verify') == 'verify_none':
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, keys.get('server_name_indication'))
