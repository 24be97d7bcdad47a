"""The management API of a broker: GET, PUT and the like, as JSON."""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import ssl
from typing import Any
from urllib.parse import quote

import pika

from siamese import flags
from siamese.messaging import bounded_http, credentials, management_url
from siamese.text import shorten

TIMEOUT_S = 15  # for one whole answer
UNAUTHORIZED = 401
NOT_ALLOWED = (401, 403)
NOT_FOUND = 404
STARTING = 503

# What RabbitMQ gives as the reason for that where it has none.
NO_REASON = ('', 'Login failed', 'Not_Authorized')
LONGEST_REASON = 200  # characters

# What to do where no management API answers.
REMEDY = 'rabbitmq-plugins enable rabbitmq_management, or see --management-url'
ELSEWHERE = 'the login is not sent there; is that the API? then see --management-url'
SLOW = 'see --management-timeout'
NO_TLS = 'see ?cacertfile= and ?server_name_indication= of --management-url'


class Refused(Exception):
    """The API did not do what it was asked to.

    The message is one line for people. `status` is the HTTP status, 0 if there
    was no answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def add_flag(parser: flags.Parser) -> None:
    """Add the flags --management-url and --management-timeout."""
    group = parser.group(flags.BROKER)
    group.add_argument(
        '--management-url',
        default=os.environ.get('MANAGEMENT_URL'),
        metavar='URL',
        help='http://user:password@host:port of the management API '
        '(default: MANAGEMENT_URL, '
        'else port 15672 at the host and with the login of the broker)',
    )
    group.add_argument(
        '--management-timeout',
        type=flags.number(float, 0.1, 3600),
        default=TIMEOUT_S,
        metavar='S',
        help='wait S seconds for each whole answer of the management API (default: %(default)s)',
    )


class ManagementApi:
    """The management API at one URL, with one login."""

    def __init__(
        self,
        base: str,
        login: pika.PlainCredentials,
        tls: bounded_http.Tls,
        timeout_s: float,
    ) -> None:
        self.base = base
        self.login = login
        self.tls = tls
        self.timeout_s = timeout_s

    def get(self, path: str) -> Any:
        """Return what the API has at `path`, decoded; raise Refused.

        A path begins after /api/; its parts are percent-encoded, see part(). It may
        be JSON of any shape: see answers.py.
        """
        return self._ask(path, 'GET')

    def put(self, path: str, body: object = None) -> None:
        self._ask(path, 'PUT', body)

    def delete(self, path: str) -> None:
        self._ask(path, 'DELETE')

    def _ask(self, path: str, method: str, body: object = None) -> Any:
        """Return what the API answers, decoded, or None; raise Refused."""
        try:
            answer = self._send(path, method, body)
            if answer.status // 100 == 2:
                return json.loads(answer.body) if answer.body else None
        except credentials.NoToken as error:
            why = f'no login for the management API at {self.base} ({error})'
            raise Refused(why, 0) from None
        except bounded_http.Elsewhere as error:
            why = f'the management API at {self.base} is not there: {in_short(error)}; {ELSEWHERE}'
            raise Refused(why, 0) from None
        except bounded_http.TooSlow as error:
            why = f'the management API at {self.base} is too slow: {error}; {SLOW}'
            raise Refused(why, 0) from None
        except ssl.SSLError as error:
            why = f'no TLS with the management API at {self.base} ({in_short(error)}); {NO_TLS}'
            raise Refused(why, 0) from None
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            why = f'no management API at {self.base} ({in_short(error)}); {REMEDY}'
            raise Refused(why, 0) from None
        raise self._refused(answer)

    def _send(self, path: str, method: str, body: object) -> bounded_http.Answer:
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
        return bounded_http.ask(method, url, data, headers, self.tls, self.timeout_s)

    def _refused(self, answer: bounded_http.Answer) -> Refused:
        user = credentials.login_name(self.login)
        reason = reason_in(answer.body)
        why = f'answers {answer.status} {in_short(answer.reason)} to {user}'
        if answer.status == UNAUTHORIZED:
            why = f'refuses {user}: {why_not_let_in(reason)}'
        elif reason and reason != answer.reason:
            why = f'{why}: {reason}'
        return Refused(f'the management API at {self.base} {why}', answer.status)


def api(
    endpoint: pika.ConnectionParameters,
    url: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> ManagementApi:
    """Return the management API of a broker.

    The host, login and TLS settings of `endpoint` are used where `url` names
    none. Raises ValueError for a bad URL, without repeating it.
    """
    parts = management_url.split(endpoint, url)
    return ManagementApi(
        management_url.base(parts),
        management_url.login(endpoint, parts),
        management_url.tls(endpoint, parts),
        timeout_s,
    )


def of_flags(args: argparse.Namespace, endpoint: pika.ConnectionParameters) -> ManagementApi:
    """Return the management API that the flags of add_flag() name; raise ValueError."""
    return api(endpoint, args.management_url, args.management_timeout)


def in_short(found: object) -> str:
    """Return what the other side said, on one line that is not too long."""
    return shorten(' '.join(str(found).split()), LONGEST_REASON)


def reason_in(body: bytes) -> str:
    """Return the reason that an answer gives for an error, '' for none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ''
    if not isinstance(found, dict):
        return ''
    reason = found.get('reason', found.get('error', ''))
    if not isinstance(reason, str):
        reason = json.dumps(reason)
    return in_short(reason)


def why_not_let_in(reason: str) -> str:
    """Return why the API does not let a user in, and the remedy."""
    if reason in NO_REASON:
        return 'wrong name or password; see MANAGEMENT_URL, AMQP_URL'
    return f'{reason}; see rabbitmqctl set_user_tags'


def part(text: str) -> str:
    """Return `text`, for example the name of a queue, as one part of a path."""
    return quote(text, safe='')
