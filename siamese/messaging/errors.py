"""What an error of pika means: its cause, and whether waiting can heal it."""

from __future__ import annotations

import re
import time

import pika
from pika.credentials import PlainCredentials
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    MethodNotImplemented,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from common import Failure, display_address
from siamese.messaging import credentials
from siamese.messaging.handshake import Unusable, address_of, ask_again

# The exit status of a run that could not tell.
UNKNOWN = 3

CONNECTION_FORCED = 320
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
UNEXPECTED_FRAME = 505
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540

# With these the broker closes a connection because of what it was sent.
CODES_OF_BAD_FRAMES = (
    FRAME_ERROR,
    SYNTAX_ERROR,
    COMMAND_INVALID,
    UNEXPECTED_FRAME,
    NOT_IMPLEMENTED,
)

# CONNECTION_FORCED, RESOURCE_ERROR and INTERNAL_ERROR: the broker is being
# stopped, is short of something, or its virtual host is down.
CODES_THAT_HEAL = (CONNECTION_FORCED, 506, 541)

# What brokers say of a limit of connections or queues: connection limit (10) is reached.
LIMIT = 'limit'

# What a declaration meets, and what changes: a token that expires or an exclusive
# consumer; a queue that is not there, or whose node is down; a lock that a lost
# connection left.
CODES_OF_STATES = (ACCESS_REFUSED, 404, 405, 504)
STATES = (LIMIT, 'disk', 'timed out')

# What is declared, and what reads and settles: no message of ours can be the cause there.
DECLARATIONS = ('queue.declare', 'exchange.declare', 'queue.bind')
PUBLISH = 'basic.publish'

# The names in a reply tell nothing of its meaning.
NAMES = re.compile(r"""'[^']*'""")

CLOSED_BY_BROKER = (ChannelClosedByBroker, ConnectionClosedByBroker)

# What brokers say of a queue or an exchange that exists with other properties, where they
# do not say which method they refuse: RabbitMQ, LavinMQ, OtterMQ.
ABOUT_ARGUMENTS = ('inequivalent', 'other arguments', 'different properties')

QUEUE_OR_EXCHANGE = re.compile(r"""\b(queue|exchange) '[^']*'""")

# What they say of a name that they keep for themselves.
ABOUT_NAMES = ('reserved', 'choose another')

# PRECONDITION_FAILED for another reason than a message says one of these.
NOT_ABOUT_A_MESSAGE = (
    *ABOUT_ARGUMENTS,
    'invalid arg',
    'timed out',
    'delivery tag',
    'disk',
)

# ACCESS_REFUSED for another reason than a missing permission says one of these.
NOT_ABOUT_PERMISSIONS = (*ABOUT_NAMES, 'exclusive', LIMIT)

TOKEN_EXPIRED = f'the token has expired; {credentials.REMEDY}'
LIMIT_REACHED = 'the broker refuses the queue: {}; delete others, or ask for a higher limit'

# The classes of pika's errors before a connection is open.
AT_LOGIN = (ProbableAuthenticationError, ProbableAccessDeniedError, IncompatibleProtocolError)

# ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - ...', as text in such an error.
CLOSED_AT_LOGIN = re.compile(r"""ConnectionClosedByBroker: \((\d+)\) ['"](.*)['"]""")

# What OpenSSL adds to its words.
SSL_DETAILS = re.compile(r'\[SSL: \w+\] | \(_ssl\.c:\d+\)')

# What OpenSSL says when the first words of a server are not TLS.
NO_TLS = ('WRONG_VERSION_NUMBER', 'PACKET_LENGTH_TOO_LONG', 'RECORD_LAYER_FAILURE')

# In errors that pika turned into text, for example
# ConnectionResetError(104, 'Connection reset by peer')
QUOTED = re.compile(r"""\w+\(-?\d+, '(.*?)'""")

# pika's own words. RabbitMQ's 'Timeout value' is that of acknowledgements.
PIKA_TIMEOUT = re.compile('Timeout (while|during) ')
NO_ANSWER = 'no answer'


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
        return NO_ANSWER
    quoted = QUOTED.search(text)
    if quoted:
        return quoted[1]
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
    if refused_method(error) not in ('', PUBLISH):
        return False
    if isinstance(error, ChannelClosedByBroker):
        is_precondition = error.reply_code == PRECONDITION_FAILED
        return is_precondition and not _says(error, *NOT_ABOUT_A_MESSAGE)
    if isinstance(error, ConnectionClosedByBroker):
        return error.reply_code in CODES_OF_BAD_FRAMES
    return False


def refused_method(error: BaseException) -> str:
    """Return the method over which the broker closed, for example queue.declare, if it said so."""
    return str(getattr(error, 'refused', ''))


def is_about_declaring(error: BaseException, declaring: bool) -> bool:
    """Return whether the broker closed over a declaration.

    Where it does not name the method it is one until everything is declared.
    """
    refused = refused_method(error)
    return refused in DECLARATIONS or (declaring and not refused)


def is_silence(error: BaseException) -> bool:
    """Return whether a server let us connect, and said nothing at all."""
    return isinstance(error, IncompatibleProtocolError) or cause(error) == NO_ANSWER


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


def exists_with_other_properties(error: BaseException, queue: str) -> bool:
    """Return whether a channel was closed because this queue exists, declared otherwise."""
    return (
        isinstance(error, ChannelClosedByBroker)
        and error.reply_code == PRECONDITION_FAILED
        and (refused_method(error) in DECLARATIONS or _says(error, *ABOUT_ARGUMENTS))
        and f"'{queue}'" in str(error.reply_text)
    )


def token_expired(error: BaseException, login: PlainCredentials) -> bool:
    """Return whether a channel or a connection was closed because the token has expired.

    RabbitMQ up to 4.2 refuses what needs a permission, 4.3 closes the connection.
    """
    if not isinstance(login, credentials.TokenCredentials):
        return False
    code = getattr(error, 'reply_code', 0)
    if isinstance(error, ConnectionClosedByBroker):
        return code == CONNECTION_FORCED and time.time() >= login.expires
    if code != ACCESS_REFUSED:
        return False
    # A reply has 255 bytes. After a long name the reason does not fit into it.
    if _says(error, 'oauth2 returned an error'):
        return True
    return time.time() >= login.expires


def _says(error: BaseException, *words: str) -> bool:
    """Return whether an error says one of these words, outside of the names that it quotes."""
    text = NAMES.sub('', str(getattr(error, 'reply_text', '') or error.args))
    return any(word in text for word in words)


# ---- the errors that waiting cannot heal


class Refusal(Failure):
    """The broker does not let this login in."""


def fatal_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
    declaring: bool = False,
) -> Failure | None:
    """Return the Failure that ends the run if waiting cannot heal `error`, else None.

    What the other side says is fatal unless it is known to heal. Silence, a
    connection that is refused, and one that is lost are waited for. `declaring`:
    not everything was declared yet, so no message can be the cause.
    """
    if isinstance(error, Unusable):
        return Failure(str(error), UNKNOWN)
    if isinstance(error, MethodNotImplemented):
        where = display_address(endpoint)
        why = f'the broker at {where} offers no publisher confirms; use another one'
        return Failure(why, UNKNOWN)
    failure = None
    if isinstance(error, ChannelClosedByBroker):
        failure = _channel_failure(error, endpoint.credentials, declaring)
    failure = failure or _expiry_failure(error, endpoint.credentials)
    failure = failure or _login_failure(error, endpoint)
    failure = failure or _tls_failure(error, endpoint)
    if declaring:
        failure = failure or _declaration_failure(error)
    return failure


def connection_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    """The same for a failed attempt to connect; ask a server that said nothing.

    Takes up to 3 s then, see handshake.ask_again().
    """
    failure = fatal_failure(error, endpoint)
    if not failure and is_silence(error):
        answer = ask_again(endpoint)
        if answer:
            failure = fatal_failure(answer, endpoint)
    return failure


def _declaration_failure(error: BaseException) -> Failure | None:
    """The broker closes a channel, or the connection, over something that is declared."""
    if not isinstance(error, CLOSED_BY_BROKER):
        return None
    if error.reply_code in (*CODES_THAT_HEAL, *CODES_OF_STATES) or _says(error, *STATES):
        return None
    reply = error.reply_text or error.reply_code
    return Failure(
        f'the broker refuses what it is asked to declare: {reply}; '
        'see --queue-type and --queue-arg',
        UNKNOWN,
    )


def _expiry_failure(error: BaseException, login: PlainCredentials) -> Failure | None:
    """The broker closed the connection because the token has expired, and there is no other."""
    is_connection = isinstance(error, ConnectionClosedByBroker)
    if is_connection and token_expired(error, login) and not login.command:
        return Failure(TOKEN_EXPIRED, UNKNOWN)
    return None


def _login_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    """The broker closes the connection while we log in.

    pika's exception classes guess: ProbableAuthenticationError also stands for a
    connection that broke during the handshake. The reply code in the text decides.
    """
    closed = CLOSED_AT_LOGIN.search(str(error))
    if not isinstance(error, AT_LOGIN) or not closed:
        return None
    code = int(closed[1])
    reply = closed[2]
    if code in CODES_THAT_HEAL or LIMIT in NAMES.sub('', reply):
        return None
    login = endpoint.credentials
    user = credentials.login_name(login)
    if isinstance(login, credentials.TokenCredentials):
        is_refused = code == ACCESS_REFUSED or time.time() >= login.expires
        if is_refused:
            return Refusal(login.refusal(), UNKNOWN)
    if code == ACCESS_REFUSED:
        return Refusal(_login_refused(login), UNKNOWN)
    if code == NOT_ALLOWED:
        return Refusal(_vhost_refused(endpoint, reply), UNKNOWN)
    return Refusal(f'the broker refuses {user}: {reply or code}', UNKNOWN)


def _login_refused(login: PlainCredentials) -> str:
    user = credentials.login_name(login)
    if isinstance(login, credentials.CertificateCredentials):
        return f'the broker refuses {user}: it has no user of that name; see certfile'
    return f'the broker refuses {user}: wrong name or password; see AMQP_URL'


def _vhost_refused(endpoint: pika.ConnectionParameters, reply: str) -> str:
    login = endpoint.credentials
    user = credentials.login_name(login)
    vhost = repr(endpoint.virtual_host)
    if 'not found' in reply:
        return f'no virtual host {vhost}; see AMQP_URL, rabbitmqctl add_vhost'
    where = _where_permissions_are(login)
    if 'refused' in reply:
        return f'no permission for {user} to use the virtual host {vhost}; see {where}'
    return f'the virtual host {vhost} refuses {user}: {reply}; see AMQP_URL, {where}'


def _tls_failure(
    error: BaseException,
    endpoint: pika.ConnectionParameters,
) -> Failure | None:
    """TLS cannot be agreed on."""
    why = cause(error)
    is_lost = isinstance(error, StreamLostError)  # it worked before
    if is_lost or '[SSL' not in why or 'EOF' in why:
        return None
    server = address_of(endpoint)
    words = SSL_DETAILS.sub('', why)
    if 'CERTIFICATE_VERIFY_FAILED' in why:
        message = f'the certificate of {endpoint.host} cannot be verified ({words})'
        return Failure(f'{message}; {_certificate_remedy(words)}', UNKNOWN)
    if 'ALERT' in why:
        return _alert_failure(words, server)
    if any(word in why for word in NO_TLS):
        return Failure(f'{server} speaks no TLS; is the port right, or is it amqp://?', UNKNOWN)
    return Failure(f'{server} and we agree on no TLS ({words}); is the port right?', UNKNOWN)


def _certificate_remedy(why: str) -> str:
    if 'expired' in why:
        return 'it has expired, its server needs a new one'
    if 'not yet valid' in why:
        return 'it is not valid yet; is this clock right?'
    if 'mismatch' in why:
        return 'is that its name? see ?server_name_indication=NAME'
    return 'add ?cacertfile=FILE to the URL'


def _alert_failure(why: str, server: str) -> Failure | None:
    """The server ended TLS with an alert."""
    if 'internal' in why:  # an error of the server, which may pass
        return None
    if 'certificate required' in why or 'handshake failure' in why:
        remedy = 'add ?certfile=FILE&keyfile=FILE to the URL'
        return Failure(f'{server} wants a client certificate ({why}); {remedy}', UNKNOWN)
    what = 'our TLS'
    remedy = 'ask whoever runs it'
    if 'certificate' in why or 'unknown ca' in why:
        what = 'this client certificate'
        remedy = 'see certfile and keyfile in the URL'
    if 'unrecognized name' in why:
        what = 'this name'
        remedy = 'see ?server_name_indication=NAME'
    return Failure(f'{server} refuses {what} ({why}); {remedy}', UNKNOWN)


def _channel_failure(
    error: ChannelClosedByBroker,
    login: PlainCredentials,
    declaring: bool,
) -> Failure | None:
    """The broker closed a channel because of one of our requests."""
    message = ''
    if error.reply_code == ACCESS_REFUSED:
        message = _access_refused(error, login)
    elif error.reply_code == PRECONDITION_FAILED:
        message = _precondition_failed(error, declaring)
    if not message:
        return None
    return Failure(message, UNKNOWN)


def _access_refused(
    error: ChannelClosedByBroker,
    login: PlainCredentials,
) -> str:
    reply = error.reply_text
    if _says(error, *ABOUT_NAMES):
        return f'the broker refuses the name: {reply}; choose another'
    if _says(error, LIMIT):
        return LIMIT_REACHED.format(reply)
    if permission_denied(error, login):
        user = credentials.login_name(login)
        where = _where_permissions_are(login)
        return f'{user} lacks permission: {reply}; see {where}'
    if token_expired(error, login) and not login.command:
        return TOKEN_EXPIRED
    return ''


def _precondition_failed(error: ChannelClosedByBroker, declaring: bool) -> str:
    reply = error.reply_text
    declares = is_about_declaring(error, declaring)
    if _says(error, 'invalid arg'):
        return f'the broker refuses the queue: {reply}; see --queue-arg and --queue-type'
    if declares and _says(error, LIMIT):
        return LIMIT_REACHED.format(reply)
    if declares and _says(error, *STATES):
        return ''
    if declares or _says(error, *ABOUT_ARGUMENTS):
        return (
            f'{_what_exists(error)} exists with other properties: {reply}; '
            'delete it (see ./cleanup.py), or choose another name or --queue-type'
        )
    return ''


def _what_exists(error: ChannelClosedByBroker) -> str:
    """Return which queue or exchange a reply is about, as far as the broker tells."""
    named = QUEUE_OR_EXCHANGE.search(str(error.reply_text))
    if named:
        return named[0]
    noun = refused_method(error).partition('.')[0]
    if noun in ('queue', 'exchange'):
        return f'the {noun}'
    return 'a queue or an exchange'


def _where_permissions_are(login: PlainCredentials) -> str:
    if isinstance(login, credentials.TokenCredentials):
        return 'the scopes of the token'
    return 'rabbitmqctl set_permissions'
