"""What an error of pika means: its cause, and whether waiting can heal it."""

from __future__ import annotations

import re
import time

import pika
from pika.credentials import PlainCredentials
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from common import Failure
from siamese.messaging import credentials

# A load balancer may answer for a broker that is unavailable. So a server that
# does not speak our protocol ends the run only after that many failures.
PROTOCOL_FAILURES = 4

ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
UNEXPECTED_FRAME = 505
NOT_IMPLEMENTED = 540

# With these the broker closes a connection because of what it was sent.
CODES_OF_BAD_FRAMES = (
    FRAME_ERROR,
    SYNTAX_ERROR,
    COMMAND_INVALID,
    UNEXPECTED_FRAME,
    NOT_IMPLEMENTED,
)

# PRECONDITION_FAILED for another reason than a message says one of these.
NOT_ABOUT_A_MESSAGE = (
    'inequivalent',
    'invalid arg',
    'timed out',
    'delivery tag',
    'disk',
)

# ACCESS_REFUSED for another reason than a missing permission says one of these.
NOT_ABOUT_PERMISSIONS = ('reserved', 'exclusive')

# In errors that pika turned into text, for example
# ConnectionResetError(104, 'Connection reset by peer')
QUOTED = re.compile(
    r"""\w+\(-?\d+, '(.*?)'"""
    r"""|(no AMQP 0-9-1: [^"']*)"""
)

# pika's own words. RabbitMQ's 'Timeout value' is that of acknowledgements.
PIKA_TIMEOUT = re.compile('Timeout (while|during) ')


# ---- the cause in a few words


def cause(error: BaseException) -> str:
    """Return in a few words why a connection or a channel failed."""
    error = innermost(error)
    text = getattr(error, 'reply_text', None)
    text = text or getattr(error, 'strerror', None)
    text = text or str(error)
    if 'Transport indicated EOF' in text:
        return 'closed by the other side'
    if PIKA_TIMEOUT.search(text):
        return 'no answer'
    quoted = QUOTED.search(text)
    if quoted:
        return quoted[1] or quoted[2]
    return text or type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the innermost of pika's nested exceptions."""
    inner = _inner(error)
    while isinstance(inner, BaseException):
        error = inner
        inner = _inner(error)
    return error


def _inner(error: BaseException) -> object:
    single = getattr(error, 'exception', None)
    if single:
        return single
    several = getattr(error, 'exceptions', None) or error.args
    return several[-1] if several else None


# ---- what kind of error it is


def is_poison(error: BaseException) -> bool:
    """Return whether the broker closed because of a message.

    Its properties, its headers or its size can be the cause.
    """
    if isinstance(error, ChannelClosedByBroker):
        is_precondition = error.reply_code == PRECONDITION_FAILED
        return is_precondition and not _says(error, *NOT_ABOUT_A_MESSAGE)
    if isinstance(error, ConnectionClosedByBroker):
        return error.reply_code in CODES_OF_BAD_FRAMES
    return False


def permission_denied(
    error: BaseException,
    login: PlainCredentials,
) -> bool:
    """Return whether a channel was closed because `login` lacks a permission."""
    return (
        isinstance(error, ChannelClosedByBroker)
        and error.reply_code == ACCESS_REFUSED
        and not token_expired(error, login)
        and not _says(error, *NOT_ABOUT_PERMISSIONS)
    )


def token_expired(error: BaseException, login: PlainCredentials) -> bool:
    """Return whether a channel was closed because the token has expired."""
    if not isinstance(login, credentials.TokenCredentials):
        return False
    if getattr(error, 'reply_code', 0) != ACCESS_REFUSED:
        return False
    # A reply has 255 bytes. After a long name the reason does not fit into it.
    if _says(error, 'oauth2 returned an error'):
        return True
    return time.time() >= login.expires


def _says(error: BaseException, *words: str) -> bool:
    text = str(error.args)
    return any(word in text for word in words)


# ---- the errors that waiting cannot heal


def fatal_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
    failures: int = 0,
) -> Failure | None:
    """Return the Failure that ends the run if waiting cannot heal `error`, else None.

    `failures` is how many attempts to connect have failed before this one.
    """
    if isinstance(error, ChannelClosedByBroker):
        return _channel_failure(error, endpoint.credentials)
    failure = _login_failure(error, endpoint)
    if not failure:
        failure = _certificate_failure(error, endpoint)
    if not failure and failures >= PROTOCOL_FAILURES:
        failure = _protocol_failure(error, endpoint)
    return failure


def _login_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    """The broker refuses the login, or access to the virtual host.

    pika's exception classes guess: ProbableAuthenticationError also stands for a
    connection that broke during the handshake. The reply code in the text decides.
    """
    login = endpoint.credentials
    user = credentials.login_name(login)
    is_login = isinstance(error, ProbableAuthenticationError)
    if is_login and _says(error, '(403)'):
        if isinstance(login, credentials.TokenCredentials):
            return Failure(login.refusal(), 1)
        return Failure(
            f'the broker refuses {user}: wrong name or password; see AMQP_URL',
            1,
        )
    is_access = isinstance(error, ProbableAccessDeniedError)
    is_limit = _says(error, 'limit')
    if is_access and _says(error, '(530)') and not is_limit:
        return Failure(
            f'no virtual host {endpoint.virtual_host!r}, '
            f'or no permission for {user} to use it; '
            'see AMQP_URL, rabbitmqctl add_vhost, '
            f'{_where_permissions_are(login)}',
            1,
        )
    return None


def _certificate_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    why = cause(error)
    if 'CERTIFICATE_VERIFY_FAILED' not in why:
        return None
    remedy = 'add ?cacertfile=FILE to the URL'
    if 'mismatch' in why:
        remedy = 'is that its name? see ?server_name_indication=NAME'
    return Failure(
        f'the certificate of {endpoint.host} cannot be verified ({why}); {remedy}',
        1,
    )


def _protocol_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    """The server at this port speaks another protocol."""
    why = cause(error)
    server = f'{endpoint.host}:{endpoint.port}'
    if 'WRONG_VERSION_NUMBER' in why:
        return Failure(
            f'{server} speaks no TLS; is the port right, or is it amqp://?',
            3,
        )
    if 'no AMQP 0-9-1' in why:
        return Failure(
            f'{server} speaks {why}; is the port right, or amqps?',
            3,
        )
    return None


def _channel_failure(
    error: ChannelClosedByBroker,
    login: PlainCredentials,
) -> Failure | None:
    """The broker closed a channel because of one of our requests."""
    message = ''
    if error.reply_code == ACCESS_REFUSED:
        message = _access_refused(error, login)
    elif error.reply_code == PRECONDITION_FAILED:
        message = _precondition_failed(error)
    if not message:
        return None
    return Failure(message, 1)


def _access_refused(
    error: ChannelClosedByBroker,
    login: PlainCredentials,
) -> str:
    reply = error.reply_text
    if _says(error, 'reserved'):
        return f'the broker refuses the name: {reply}; choose another'
    if permission_denied(error, login):
        user = credentials.login_name(login)
        where = _where_permissions_are(login)
        return f'{user} lacks permission: {reply}; see {where}'
    if token_expired(error, login) and not login.command:
        return f'the token has expired; {credentials.REMEDY}'
    return ''


def _precondition_failed(error: ChannelClosedByBroker) -> str:
    reply = error.reply_text
    if _says(error, 'invalid arg'):
        return f'the broker refuses the queue: {reply}; see --queue-arg and --queue-type'
    if _says(error, 'inequivalent'):
        return (
            f'it exists with other properties: {reply}; '
            'delete it (see ./cleanup.py), or choose another name or --queue-type'
        )
    return ''


def _where_permissions_are(login: PlainCredentials) -> str:
    if isinstance(login, credentials.TokenCredentials):
        return 'the scopes of the token'
    return 'rabbitmqctl set_permissions'
