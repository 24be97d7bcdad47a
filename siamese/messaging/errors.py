"""What an error of pika means: its cause in a few words, and whether waiting can heal it."""

import re
import time

from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from common import Failure
from siamese.messaging import credentials as tokens

PATIENCE = 4  # failures


def cause(error):
    """Return in a few words why a connection or a channel failed, from the innermost of pika's nested exceptions."""
    while True:
        inner = (
            getattr(error, 'exception', None)
            or (getattr(error, 'exceptions', None) or error.args or [''])[-1]
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, 'reply_text', None) or getattr(error, 'strerror', None) or str(error)
    if 'Transport indicated EOF' in text:
        return 'closed by the other side'
    if re.search(
        'Timeout (while|during) ', text
    ):  # pika's; RabbitMQ tells the 'Timeout value' of acknowledgements
        return 'no answer'
    quoted = re.search(
        r"""\w+\(-?\d+, '(.*?)'|(no AMQP 0-9-1: [^"']*)""", text
    )  # in what pika turned into text
    return quoted[1] or quoted[2] if quoted else text or type(error).__name__


def is_poison(error):
    """Return whether the broker closed because it does not take a message: its properties, its headers or its size."""
    text = str(error.args)
    if isinstance(error, ChannelClosedByBroker) and error.reply_code == 406:
        return not any(
            other in text
            for other in ('inequivalent', 'invalid arg', 'timed out', 'delivery tag', 'disk')
        )
    return isinstance(error, ConnectionClosedByBroker) and error.reply_code in (
        501,
        502,
        503,
        505,
        540,
    )


def permission_denied(error, login):
    """Return whether the broker closed a channel because the user, with the credentials `login`, may not do that."""
    return (
        isinstance(error, ChannelClosedByBroker)
        and error.reply_code == 403
        and not token_expired(error, login)
        and not any(other in str(error.args) for other in ('reserved', 'exclusive'))
    )


def token_expired(error, login):
    """Return whether the broker closed a channel because the token `login` has expired."""
    if not isinstance(login, tokens.Credentials) or getattr(error, 'reply_code', 0) != 403:
        return False
    # A reply has 255 bytes; after a long name there is no room in it for the reason.
    return 'oauth2 returned an error' in str(error.args) or time.time() >= login.expires


def fatal_failure(error, endpoint, failures=0):
    """Return the Failure that ends the run if waiting cannot heal `error`, else None.

    pika's exception classes guess: ProbableAuthenticationError also stands for a connection cut in the handshake.
    The reply code in the text decides. A load balancer may answer for a broker that is away, so what does not speak
    AMQP is refused only after several `failures`.
    """
    text, login = str(error.args), endpoint.credentials
    user, is_token = tokens.login_name(login), isinstance(login, tokens.Credentials)
    rights = 'the scopes of the token' if is_token else 'rabbitmqctl set_permissions'
    if isinstance(error, ProbableAuthenticationError) and '(403)' in text:
        return Failure(
            login.refusal()
            if is_token
            else f'the broker refuses {user}: wrong name or password; see AMQP_URL',
            1,
        )
    if isinstance(error, ProbableAccessDeniedError) and '(530)' in text and 'limit' not in text:
        return Failure(
            f'no virtual host {endpoint.virtual_host!r}, or no right for {user} to use it; '
            f'see AMQP_URL, rabbitmqctl add_vhost, {rights}',
            1,
        )
    if 'CERTIFICATE_VERIFY_FAILED' in cause(error):
        remedy = (
            'is that its name? see ?server_name_indication=NAME'
            if 'mismatch' in cause(error)
            else 'add ?cacertfile=FILE to the URL'
        )
        return Failure(
            f'the certificate of {endpoint.host} cannot be verified ({cause(error)}); {remedy}', 1
        )
    if 'WRONG_VERSION_NUMBER' in cause(error) and failures >= PATIENCE:
        return Failure(
            f'{endpoint.host}:{endpoint.port} speaks no TLS; is the port right, or is it amqp://?',
            3,
        )
    if 'no AMQP 0-9-1' in cause(error) and failures >= PATIENCE:
        return Failure(
            f'{endpoint.host}:{endpoint.port} speaks {cause(error)}; is the port right, or amqps?',
            3,
        )
    if isinstance(error, ChannelClosedByBroker):
        if error.reply_code == 403 and 'reserved' in text:
            return Failure(f'the broker refuses the name: {error.reply_text}; choose another', 1)
        if permission_denied(error, login):
            return Failure(f'{user} lacks a right: {error.reply_text}; see {rights}', 1)
        if token_expired(error, login) and not login.command:
            return Failure(f'the token has expired; {tokens.REMEDY}', 1)
        if error.reply_code == 406 and 'invalid arg' in text:
            return Failure(
                f'the broker refuses the queue: {error.reply_text}; see --queue-arg and --queue-type',
                1,
            )
        if error.reply_code == 406 and 'inequivalent' in text:
            return Failure(
                f'it exists with other properties: {error.reply_text}; '
                'delete it, or choose another name or --queue-type',
                1,
            )
    return None
