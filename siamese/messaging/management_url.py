"""Where the management API of a broker is: its URL, login and TLS settings."""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pika

import common
from common import bracketed
from siamese.messaging import credentials
from siamese.messaging.bounded_http import Tls

# CloudAMQP serves the management API at the usual ports of HTTP.
CLOUD = '.cloudamqp.com'
CLOUD_PORTS = {'http': 80, 'https': 443}
PORTS = {'http': 15672, 'https': 15671}
API = '/api'  # begins every path; a URL may name it already

BAD_URL = 'bad management URL: expected http://user:password@host:port'
BAD_KEYS = f'bad management URL: after ? it may have {", ".join(common.TLS_KEYS)}'


def split(endpoint: pika.ConnectionParameters, url: str | None) -> SplitResult:
    """Return the parts of the URL, or of the usual URL of the endpoint.

    Raises ValueError for a bad URL, without repeating it.
    """
    if not url:
        scheme = 'http'
        if endpoint.ssl_options or endpoint.host.endswith(CLOUD):
            scheme = 'https'
        url = f'{scheme}://{bracketed(endpoint.host)}'
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  the property parses
    except ValueError:
        raise ValueError(BAD_URL) from None
    is_complete = parts.hostname and parts.scheme in PORTS
    if not is_complete or '@' in parts.path:
        raise ValueError(BAD_URL)
    return parts


def base(parts: SplitResult) -> str:
    """Return the URL without its login, with a port, up to /api."""
    host = unquote(parts.hostname or '')
    ports = CLOUD_PORTS if host.endswith(CLOUD) else PORTS
    port = parts.port or ports[parts.scheme]
    path = parts.path.rstrip('/')
    if path.endswith(API):
        path = path[: -len(API)].rstrip('/')
    return f'{parts.scheme}://{bracketed(host)}:{port}{path}'


def login(endpoint: pika.ConnectionParameters, parts: SplitResult) -> pika.PlainCredentials:
    """Return the login in the URL, else that of the endpoint."""
    credentials.use_token_if_no_user(endpoint)
    if not parts.username and not parts.password:
        return endpoint.credentials
    return credentials.from_login(
        unquote(parts.username or ''),
        unquote(parts.password or ''),
    )


def tls(endpoint: pika.ConnectionParameters, parts: SplitResult) -> Tls:
    """Return the TLS settings of the URL, else those of the endpoint.

    The name that the endpoint asks for (SNI) is asked for at the same host only.
    """
    keys = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not keys.keys() <= set(common.TLS_KEYS) or (keys and parts.scheme != 'https'):
        raise ValueError(f'{BAD_KEYS}, and these need https://')
    if keys:
        try:
            options = common.tls_options(keys)
        except ValueError as error:
            raise ValueError(str(error).replace('AMQP', 'management')) from None
        return Tls(options.context, options.server_hostname)
    options = endpoint.ssl_options
    if not options:
        return Tls(ssl.create_default_context())
    if unquote(parts.hostname or '').lower() != endpoint.host.lower():
        return Tls(options.context)
    return Tls(options.context, options.server_hostname)
