"""What all scripts share: the AMQP URL, blocks and their proof of work, primes.

Plain functions, nothing done at import. The frame of a script is in script.py, what survives a broken connection in
delivery.py.
"""

import hashlib
import math
import os
import random
import re
import ssl
from array import array
from bisect import bisect_left
from functools import lru_cache
from itertools import chain, compress, takewhile
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pika

from siamese.messaging import credentials as tokens

DEFAULT_URL = 'amqp://guest:guest@localhost:5672/%2F'


class Failure(Exception):
    """An end that was to be reckoned with: one line for the person, naming the remedy, and the exit status."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


# ---------------------------------------------------------------------------------------- the AMQP URL

TLS_KEYS = ('cacertfile', 'certfile', 'keyfile', 'password', 'verify', 'server_name_indication')
PIKA_KEYS = (
    'heartbeat',
    'channel_max',
    'socket_timeout',
    'stack_timeout',
    'blocked_connection_timeout',
)


def endpoints(urls, name):
    """Turn one URL, or several separated by commas or spaces, into pika parameters in failover order.

    `name` becomes the AMQP connection_name. Query parameters as in the RabbitMQ URI specification: cacertfile,
    certfile, keyfile, password (of the key), verify, server_name_indication, heartbeat (s), connection_timeout (ms),
    channel_max; and pika's socket_timeout, stack_timeout, blocked_connection_timeout (s). amqps:// verifies the
    certificate unless verify=verify_none. Raises ValueError with one line that never repeats any part of a URL
    that may hold a password.
    """
    found = [_endpoint(url, name) for url in re.split(r'[,\s]+', urls) if url]
    if not found:
        raise ValueError('no AMQP URL given; expected amqp://user:password@host:port/vhost')
    return found


def _endpoint(url, name):
    if not url.isprintable():
        raise ValueError(
            'bad AMQP URL: write what cannot be printed in it as %XX, its bytes in UTF-8'
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  the property parses
    except ValueError:
        raise ValueError(
            'bad AMQP URL: the port is not a number up to 65535, or the password holds one of / ? # @ :'
            ' that is not percent-encoded'
        ) from None
    if parts.scheme not in ('amqp', 'amqps'):
        raise ValueError('bad AMQP URL: it must begin with amqp:// or amqps://')
    if not parts.hostname:
        raise ValueError(
            'bad AMQP URL: the host is missing; expected amqp://user:password@host:port/vhost'
        )
    if '@' in parts.path:
        raise ValueError(
            'bad AMQP URL: write a / in user or password as %2F, an @ in the virtual host as %40'
        )
    if parts.path.count('/') > 1:
        raise ValueError('bad AMQP URL: a / in the name of the virtual host is written %2F')
    if parts.fragment:
        raise ValueError('bad AMQP URL: write a # in user, password or virtual host as %23')
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = {key: query.pop(key) for key in TLS_KEYS if key in query}
    if 'connection_timeout' in query:
        query['socket_timeout'] = _milliseconds(query.pop('connection_timeout'))
    if not set(query) <= set(PIKA_KEYS):
        raise ValueError(
            f'bad AMQP URL: unknown query parameter; known: connection_timeout, '
            f'{", ".join(TLS_KEYS + PIKA_KEYS)}'
        )
    try:
        parameters = pika.URLParameters('amqp://?' + urlencode({'heartbeat': 10, **query}))
    except ValueError:
        raise ValueError(
            f'bad AMQP URL: a value among {", ".join(query)} is out of range'
        ) from None
    if (parameters.heartbeat or 0) > 65535:
        raise ValueError('bad AMQP URL: heartbeat is a number of seconds up to 65535')
    for host in parts.hostname, tls.get('server_name_indication', ''):
        _check_host(host)
    parameters.host = parts.hostname
    parameters.port = parts.port or (5671 if parts.scheme == 'amqps' else 5672)
    parameters.virtual_host = unquote(parts.path[1:]) or '/'
    if len(parameters.virtual_host.encode()) > 255:
        raise ValueError('bad AMQP URL: the name of the virtual host has more than 255 bytes')
    if tokens.claims(unquote(parts.username or '')):
        raise ValueError(
            'bad AMQP URL: a token is written as the password, after a colon and no user name'
        )
    if parts.username is not None or tokens.COMMAND in os.environ:
        parameters.credentials = tokens.credentials(
            unquote(parts.username or ''), unquote(parts.password or '')
        )
    parameters.client_properties = {'connection_name': name, 'product': 'siamese'}
    if parts.scheme == 'amqps':
        parameters.ssl_options = _tls(tls)
    elif tls:
        raise ValueError('bad AMQP URL: TLS parameters need amqps://')
    return parameters


def _check_host(name):
    try:
        name.encode('idna')
    except UnicodeError:
        raise ValueError(
            'bad AMQP URL: a part of the host is empty or longer than 63 characters'
        ) from None


def _milliseconds(text):
    try:
        return int(text) / 1000
    except (ValueError, OverflowError):
        raise ValueError('bad AMQP URL: connection_timeout is a number of milliseconds') from None


def _tls(keys):
    if keys.get('verify', 'verify_peer') not in ('verify_peer', 'verify_none'):
        raise ValueError('bad AMQP URL: verify is verify_peer or verify_none')
    try:
        context = ssl.create_default_context(cafile=keys.get('cacertfile'))
        if 'certfile' in keys:
            context.load_cert_chain(keys['certfile'], keys.get('keyfile'), keys.get('password', ''))
    except (OSError, ValueError) as error:
        raise ValueError(
            f'bad AMQP URL: cannot read cacertfile, certfile or keyfile ({error})'
        ) from None
    if keys.get('verify') == 'verify_none':
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return pika.SSLOptions(context, keys.get('server_name_indication'))


def display_address(parameters):
    """Return 'host:port/vhost' of pika parameters: what may be printed of a URL."""
    return f'{parameters.host}:{parameters.port}/{quote(parameters.virtual_host, safe="")}'


# ------------------------------------------------------------------------- blocks, proof of work, primes

GENESIS = {'hash': '', 'proof': 100003}
MIN_PROOF = 100_000
# About 1.5 million primes lie below: at four zeros a block without a solution is a chance of 1 in 10**10. Below
# 999,999, the obvious bound, it would be one block in three, and a search there would never end.
MAX_PROOF = 25_000_000
HIGHEST_PROOF = 10**12  # above it the sieve would need more memory than a script should take
WINDOW = 1 << 20  # numbers sieved at a time: half a megabyte, 0.05 s of mining


def block_hash(previous, proof):
    """Return sha256 over previous hash, previous proof and proof as text, in hexadecimal (the wiki's scenario 1)."""
    return hashlib.sha256(f'{previous["hash"]}{previous["proof"]}{proof}'.encode()).hexdigest()


def mine(previous, zeros, low=MIN_PROOF, high=MAX_PROOF, idle=lambda: True):
    """Find the block after `previous`, {'hash': str, 'proof': int}; return such a block and the attempts it took.

    Its hash begins with `zeros` zeros; its proof is the first prime that does it after a random number between `low`
    and `high`, going round the range. `idle` is called every 0.1 s or so, for heartbeats; when it returns False the
    search ends, and the block is None. Raises Failure when every prime of the range was tried.
    """
    prefix = hashlib.sha256(f'{previous["hash"]}{previous["proof"]}'.encode())
    highest = bytes.fromhex('0' * zeros + 'f' * (64 - zeros))
    attempts, start = 0, random.randint(low, high)
    for first, stop in chain(_windows(start + 1, high + 1), _windows(low + 1, start + 1)):
        proofs = odd_primes(first, stop)
        for tried, proof in enumerate(proofs, 1):
            attempt = prefix.copy()
            attempt.update(b'%d' % proof)
            if attempt.digest() <= highest:
                return {'hash': attempt.hexdigest(), 'proof': proof}, attempts + tried
        attempts += len(proofs)
        if not idle():
            return None, attempts
    if not attempts:
        raise Failure(f'no prime lies between {low} and {high}; use a larger --max', 2)
    raise Failure(
        f'none of the {attempts} primes between {low} and {high} gives a hash with {zeros} zeros; '
        f'{_remedy(zeros, low)}',
        2,
    )


def is_prime(number):
    """Return whether `number` is prime. By sympy, imported only here: it takes 0.3 s and 30 MB."""
    from sympy import isprime

    return isprime(number)


def next_prime(number):
    """Return the smallest prime above `number`, by sympy."""
    from sympy import nextprime

    return nextprime(number)


def doubt(zeros, low, high):
    """Return a warning if blocks without a solution are likely (more than 1 in a million) in this range, else ''."""
    unsolvable = math.exp(-_prime_count(low, high) / 16**zeros)
    return (
        (
            f'one block in {1 / unsolvable:,.0f} has no solution with {zeros} zeros and a proof between {low} and '
            f'{high}; {_remedy(zeros, low)}'
        )
        if unsolvable > 1e-6
        else ''
    )


def _remedy(zeros, low):
    high = 2 * low
    while _prime_count(low, high) < 20 * 16**zeros:  # e**-20: one block in 500 million
        high *= 2
    return f'use --max {high}' if high <= HIGHEST_PROOF else 'use a smaller --difficulty'


def _prime_count(low, high):
    return sum(
        sign * n / max(1, math.log(n) - 1) for sign, n in ((1, high), (-1, low))
    )  # prime number theorem


def _windows(first, stop):
    while first < stop:
        end = min(stop, (first // WINDOW + 1) * WINDOW)
        yield first, end
        first = end


def odd_primes(first, stop):
    """Return the odd primes from `first` up to, but without, `stop`, both in one WINDOW, as an array."""
    found = _sieve(first // WINDOW * WINDOW)
    return found[bisect_left(found, first) : bisect_left(found, stop)]


@lru_cache(maxsize=32)  # 16 MB, and the default range is sieved only once
def _sieve(base):
    """Return the odd primes of the WINDOW that begins at `base`, by the sieve of Eratosthenes."""
    flags = bytearray([1]) * (WINDOW // 2)  # of base + 1, base + 3, ...
    root = math.isqrt(base + WINDOW)
    for p in takewhile(root.__ge__, _small_odd_primes(1 << root.bit_length())):
        multiple = max(p * p, -(-base // p) * p)
        first = (multiple + p * (multiple % 2 == 0) - base) // 2
        flags[first::p] = bytes(len(range(first, len(flags), p)))
    flags[0] &= base > 0  # 1 is no prime
    return array('Q', compress(range(base + 1, base + WINDOW, 2), flags))


@lru_cache(maxsize=1)
def _small_odd_primes(stop):
    flags = bytearray([1]) * stop
    for n in range(3, math.isqrt(stop) + 1, 2):
        if flags[n]:
            flags[n * n :: n] = bytes(len(range(n * n, stop, n)))
    return list(compress(range(3, stop, 2), flags[3::2]))
