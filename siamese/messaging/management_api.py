"""The management API of a broker: GET, PUT and the like, as JSON."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import pika

from common import bracketed
from siamese import flags
from siamese.messaging import credentials

REQUEST_TIMEOUT_S = 5
UNAUTHORIZED = 401

# What RabbitMQ gives as the reason for that where it has none.
NO_REASON = ('', 'Login failed', 'Not_Authorized')

# CloudAMQP serves the management API at the usual ports of HTTP.
CLOUD = '.cloudamqp.com'
CLOUD_PORTS = {'http': 80, 'https': 443}
PORTS = {'http': 15672, 'https': 15671}

# What to do where no management API answers.
REMEDY = 'rabbitmq-plugins enable rabbitmq_management, or see --management-url'

BAD_URL = 'bad management URL: expected http://user:password@host:port'


class Refused(Exception):
    """The API did not do what it was asked to.

    The message is one line for people. `status` is the HTTP status, 0 if there
    was no answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def add_flag(parser: flags.Parser) -> None:
    """Add the flag --management-url."""
    parser.group(flags.BROKER).add_argument(
        '--management-url',
        default=os.environ.get('MANAGEMENT_URL'),
        metavar='URL',
        help='http://user:password@host:port of the management API '
        '(default: MANAGEMENT_URL, '
        'else port 15672 at the host and with the login of the broker)',
    )


class ManagementApi:
    """The management API at one URL, with one login."""

    def __init__(
        self,
        base: str,
        login: pika.PlainCredentials,
        tls_context: ssl.SSLContext,
    ) -> None:
        self.base = base
        self.login = login
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # no proxy
            urllib.request.HTTPSHandler(context=tls_context),
        )

    def get(self, path: str) -> Any:
        """Return what the API has at `path`, decoded; raise Refused.

        A path begins after /api/; its parts are percent-encoded, see part().
        """
        return self._ask(path, 'GET')

    def put(self, path: str, body: object = None) -> None:
        self._ask(path, 'PUT', body)

    def delete(self, path: str) -> None:
        self._ask(path, 'DELETE')

    def _ask(self, path: str, method: str, body: object = None) -> Any:
        """Return what the API answers, decoded, or None; raise Refused."""
        try:
            request = self._request(path, method, body)
            answer = self._open(request)
            return json.loads(answer) if answer else None
        except urllib.error.HTTPError as error:
            user = credentials.login_name(self.login)
            why = f'answers {error.code} {error.reason} to {user}'
            if error.code == UNAUTHORIZED:
                why = f'refuses {user}: {reason_in(error)}'
            raise Refused(f'the management API at {self.base} {why}', error.code) from None
        except credentials.NoToken as error:
            why = f'no login for the management API at {self.base} ({error})'
            raise Refused(why, 0) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, 'reason', None) or error
            why = f'no management API at {self.base} ({cause}); {REMEDY}'
            raise Refused(why, 0) from None

    def _open(self, request: urllib.request.Request) -> bytes:
        timeout = REQUEST_TIMEOUT_S
        with self.opener.open(request, timeout=timeout) as response:
            return response.read()

    def _request(
        self,
        path: str,
        method: str,
        body: object,
    ) -> urllib.request.Request:
        data = None
        if body is not None:
            data = json.dumps(body).encode()
        if isinstance(self.login, credentials.CertificateCredentials):
            raise ValueError('it takes no client certificate; see MANAGEMENT_URL')
        pair = f'{self.login.username}:{self.login.password}'
        secret = base64.b64encode(pair.encode()).decode()
        headers = {
            'Content-Type': 'application/json',
            'Authorization': f'Basic {secret}',
        }
        url = f'{self.base}/api/{path}'
        return urllib.request.Request(url, data, headers, method=method)


def api(
    endpoint: pika.ConnectionParameters,
    url: str | None = None,
) -> ManagementApi:
    """Return the management API of a broker.

    The host, login and TLS settings of `endpoint` are used where `url` names
    none. Raises ValueError for a bad URL, without repeating it.
    """
    parts = _split(endpoint, url)
    credentials.use_token_if_no_user(endpoint)
    login = endpoint.credentials
    if parts.username or parts.password:
        login = credentials.from_login(
            unquote(parts.username or ''),
            unquote(parts.password or ''),
        )
    if endpoint.ssl_options:
        tls_context = endpoint.ssl_options.context
    else:
        tls_context = ssl.create_default_context()
    return ManagementApi(_base(parts), login, tls_context)


def _split(
    endpoint: pika.ConnectionParameters,
    url: str | None,
) -> SplitResult:
    """Return the parts of the URL, or of the usual URL of the endpoint."""
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


def _base(parts: SplitResult) -> str:
    """Return the URL without its login, and with a port."""
    host = unquote(parts.hostname or '')
    ports = CLOUD_PORTS if host.endswith(CLOUD) else PORTS
    port = parts.port or ports[parts.scheme]
    path = parts.path.rstrip('/')
    return f'{parts.scheme}://{bracketed(host)}:{port}{path}'


def reason_in(error: urllib.error.HTTPError) -> str:
    """Return why the API does not let a user in."""
    try:
        reason = str(json.loads(error.read())['reason'])
    except (OSError, ValueError, KeyError, TypeError):
        reason = ''
    if reason in NO_REASON:
        return 'wrong name or password; see MANAGEMENT_URL, AMQP_URL'
    return f'{reason}; see rabbitmqctl set_user_tags'


def part(text: str) -> str:
    """Return `text`, for example the name of a queue, as one part of a path."""
    return quote(text, safe='')
