"""The management API of a broker: GET, PUT and the like, as JSON."""

import base64
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from urllib.parse import quote, unquote, urlsplit

from siamese.messaging import credentials as tokens

PATIENCE = 5  # s
CLOUD = '.cloudamqp.com'  # has it at the usual port of https


class Refused(Exception):
    """The API did not do it: the message is one line for people, `status` the HTTP status, 0 if there was no answer."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


def add_flag(parser):
    parser.add_argument(
        '--management-url',
        default=os.environ.get('MANAGEMENT_URL'),
        metavar='URL',
        help='http://user:password@host:port of the management API '
        '(default: MANAGEMENT_URL, else port 15672 at the host and with the login of the broker)',
    )


def api(endpoint, url=None):
    """Return call(path, method='GET', body=None), which returns what the API answers, decoded; it raises Refused.

    `endpoint` are the pika parameters of the broker: its host, login and TLS settings are used where `url` names none.
    A path begins after /api/, with its parts percent-encoded. Raises ValueError for a bad URL, without repeating it.
    No proxy is used.
    """
    secure = endpoint.ssl_options
    try:
        usual = 'https' if secure or endpoint.host.endswith(CLOUD) else 'http'
        parts = urlsplit(url or f'{usual}://{bracketed(endpoint.host)}')
        ports = (
            {'http': 80, 'https': 443}
            if parts.hostname.endswith(CLOUD)
            else {'http': 15672, 'https': 15671}
        )
        host = f'{bracketed(parts.hostname)}:{parts.port or ports[parts.scheme]}'
    except (ValueError, KeyError, AttributeError):
        raise ValueError('bad management URL: expected http://user:password@host:port') from None
    if not parts.hostname or '@' in parts.path:
        raise ValueError('bad management URL: expected http://user:password@host:port')
    login = (
        tokens.credentials(unquote(parts.username or ''), unquote(parts.password or ''))
        if parts.username or parts.password
        else endpoint.credentials
    )
    base = f'{parts.scheme}://{host}{parts.path.rstrip("/")}'
    context = secure.context if secure else ssl.create_default_context()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )

    def call(path, method='GET', body=None):
        request = urllib.request.Request(
            f'{base}/api/{path}',
            None if body is None else json.dumps(body).encode(),
            {'Content-Type': 'application/json'},
            method=method,
        )
        try:
            secret = base64.b64encode(f'{login.username}:{login.password}'.encode()).decode()
            request.add_header('Authorization', f'Basic {secret}')
            with opener.open(request, timeout=PATIENCE) as response:
                answer = response.read()
                return json.loads(answer) if answer else None
        except urllib.error.HTTPError as error:
            why = f'the management API at {base} answers {error.code} {error.reason} to {tokens.login_name(login)}'
            raise Refused(why, error.code) from None
        except tokens.NoToken as error:
            raise Refused(f'no login for the management API at {base} ({error})', 0) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(
                f'no management API at {base} ({getattr(error, "reason", None) or error})', 0
            ) from None

    return call


def bracketed(host):
    """Return a host as it stands in a URL: an address of IPv6 in brackets."""
    return f'[{host}]' if ':' in host else host


def part(text):
    """Return `text`, the name of a virtual host or a queue say, as a part of a path."""
    return quote(text, safe='')
