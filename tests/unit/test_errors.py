"""errors.py: which errors end a run, and in which words."""

import re

import pytest
from pika import exceptions

import common
from siamese.messaging import credentials, errors, handshake

REPLY = "ACCESS_REFUSED - access to queue 'x' refused"
NO_TLS = "SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)')"
VERIFY = 'CERTIFICATE_VERIFY_FAILED] certificate verify failed'


def alert(name):
    """An alert that ends TLS, in OpenSSL's words, as pika turns it into text."""
    words = f'[SSL: TLSV1_ALERT_{name.upper()}] tlsv1 {name.replace("_", " ")} (_ssl.c:9)'
    return exceptions.IncompatibleProtocolError(f"StreamLostError: SSLError(1, '{words}')")


def unverified(why):
    """The certificate of the server is not trusted, in OpenSSL's words."""
    return exceptions.AMQPConnectionError(f"SSLError(1, '[SSL: {VERIFY}: {why} (_ssl.c:9)')")


def closed(error, code, text):
    """The broker closed a connection that was being opened, as pika turns it into text."""
    return error(f'ConnectionClosedByBroker: ({code}) {text!r}')


@pytest.fixture
def endpoint():
    (found,) = common.endpoints('amqp://alice:secret@host:1/v', 'test')
    return found


FATAL = [
    (
        exceptions.ChannelClosedByBroker(403, REPLY),
        f"user 'alice' lacks permission: {REPLY}; see rabbitmqctl set_permissions",
    ),
    (
        exceptions.ChannelClosedByBroker(403, "queue name 'amq.x' contains reserved prefix"),
        'the broker refuses the name: ',
    ),
    (
        exceptions.ChannelClosedByBroker(403, 'Prefix ["amq."] forbidden, please choose another'),
        'the broker refuses the name: ',  # LavinMQ
    ),
    (
        exceptions.ChannelClosedByBroker(403, "queue limit in vhost 'v' (1) is reached"),
        "the broker refuses the queue: queue limit in vhost 'v' .* is reached; delete others",
    ),
    (
        exceptions.ChannelClosedByBroker(406, "invalid arg 'x-y'"),
        'the broker refuses the queue: ',
    ),
    (
        exceptions.ChannelClosedByBroker(406, "inequivalent arg 'durable'"),
        'a queue or an exchange exists with other properties: ',
    ),
    (
        exceptions.ChannelClosedByBroker(
            406, "inequivalent arg 'type' for exchange 'x' in vhost 'v'"
        ),
        "exchange 'x' exists with other properties: ",
    ),
    (
        exceptions.ChannelClosedByBroker(406, "Existing queue 'q' declared with other arguments"),
        "queue 'q' exists with other properties: ",  # LavinMQ
    ),
    (
        closed(exceptions.ProbableAuthenticationError, 403, 'ACCESS_REFUSED - no'),
        "the broker refuses user 'alice': wrong name or password; see AMQP_URL",
    ),
    (
        closed(exceptions.ProbableAuthenticationError, 403, ''),
        "the broker refuses user 'alice': wrong name or password",
    ),
    (
        closed(exceptions.ProbableAuthenticationError, 504, 'CHANNEL_ERROR - what?'),
        "the broker refuses user 'alice': CHANNEL_ERROR - what?",
    ),
    (
        closed(exceptions.ProbableAccessDeniedError, 530, 'NOT_ALLOWED - vhost v not found'),
        "no virtual host 'v'; see AMQP_URL, rabbitmqctl add_vhost",
    ),
    (
        closed(exceptions.ProbableAccessDeniedError, 530, "access to vhost 'v' refused for user"),
        "no permission for user 'alice' to use the virtual host 'v'; see rabbitmqctl set_perm",
    ),
    (
        closed(exceptions.ProbableAccessDeniedError, 530, "access to vhost 'limit' refused for"),
        "no permission for user 'alice' to use the virtual host 'v'",
    ),
    (unverified('self-signed certificate'), 'the certificate of host cannot be verified'),
    (unverified('self-signed certificate'), '.*; add [?]cacertfile=FILE to the URL'),
    (unverified('certificate has expired'), '.*; it has expired, its server needs a new one'),
    (unverified('certificate is not yet valid'), '.*; it is not valid yet; is this clock right?'),
    (unverified('Hostname mismatch'), '.*; is that its name?'),
    (exceptions.AMQPConnectionError(NO_TLS), 'host:1 speaks no TLS; .*amqp://'),
    (
        alert('certificate_required'),
        'host:1 wants a client certificate .tlsv1 certificate required.; add [?]certfile=FILE',
    ),
    (alert('handshake_failure'), 'host:1 wants a client certificate'),
    (alert('unknown_ca'), 'host:1 refuses this client certificate .*; see certfile and keyfile'),
    (alert('certificate_expired'), 'host:1 refuses this client certificate'),
    (alert('unrecognized_name'), 'host:1 refuses this name .*server_name_indication'),
    (alert('protocol_version'), 'host:1 refuses our TLS'),
    (
        exceptions.MethodNotImplemented('Confirm.Select'),
        'the broker at host:1/v offers no publisher confirms; use another one',
    ),
    (handshake.Unusable('host:1 speaks HTTP'), 'host:1 speaks HTTP'),
]


@pytest.mark.parametrize(('error', 'text'), FATAL)
def test_errors_that_waiting_cannot_heal(endpoint, error, text):
    failure = errors.fatal_failure(error, endpoint)
    assert failure.status == 3
    assert re.match(text, str(failure)), failure
    assert 'secret' not in str(failure)


@pytest.mark.parametrize(
    'error',
    [
        exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue 'x'"),
        exceptions.ChannelClosedByBroker(405, 'RESOURCE_LOCKED - exclusive'),
        exceptions.ChannelClosedByBroker(403, 'exclusive access refused'),
        exceptions.ConnectionClosedByBroker(320, 'CONNECTION_FORCED'),
        exceptions.ProbableAuthenticationError('Transport indicated EOF'),
        exceptions.IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)"),
        closed(exceptions.ProbableAccessDeniedError, 530, 'connection limit (10) is reached'),
        closed(exceptions.ProbableAccessDeniedError, 541, "INTERNAL_ERROR - vhost 'v' is down"),
        closed(exceptions.ProbableAuthenticationError, 320, 'CONNECTION_FORCED - shutdown'),
        alert('internal_error'),
        exceptions.StreamLostError("SSLError(1, '[SSL: BAD_RECORD_MAC] bad record mac')"),
        exceptions.AMQPConnectionError("SSLEOFError(8, '[SSL] EOF occurred')"),
        ConnectionRefusedError(111, 'Connection refused'),
        OSError(5, 'Input/output error'),
    ],
)
@pytest.mark.parametrize('declaring', [False, True])
def test_errors_that_may_heal(endpoint, error, declaring):
    assert errors.fatal_failure(error, endpoint, declaring) is None


@pytest.mark.parametrize(
    'error',
    [
        exceptions.ConnectionClosedByBroker(542, 'Unsupported queue declare argument'),
        exceptions.ChannelClosedByBroker(540, 'NOT_IMPLEMENTED'),
        exceptions.ChannelClosedByBroker(530, 'NOT_ALLOWED'),
    ],
)
def test_what_a_broker_says_to_a_declaration_does_not_heal(endpoint, error):
    failure = errors.fatal_failure(error, endpoint, declaring=True)
    assert 'the broker refuses what it is asked to declare' in str(failure)
    assert not errors.fatal_failure(error, endpoint)  # a message may be the cause


def test_a_token_that_expired_while_we_connected_is_named_as_such(endpoint):
    error = closed(exceptions.ProbableAccessDeniedError, 530, "access to vhost 'v' refused")
    endpoint.credentials = credentials.TokenCredentials('token', None)
    assert 'no permission for this token' in str(errors.fatal_failure(error, endpoint))
    endpoint.credentials.expires = 0
    failure = errors.fatal_failure(error, endpoint)
    assert re.match('the broker refuses this token: it expired .* s ago', str(failure))


@pytest.mark.parametrize(
    ('command', 'text'),
    [(None, 'the token has expired; see AMQP_URL'), ('echo', '')],
)
def test_an_expired_token_ends_the_run_unless_a_command_brings_the_next(endpoint, command, text):
    endpoint.credentials = credentials.TokenCredentials('token', command)
    endpoint.credentials.expires = 0
    failure = errors.fatal_failure(exceptions.ChannelClosedByBroker(403, REPLY), endpoint)
    assert str(failure or '').startswith(text)
    assert bool(failure) == bool(text)


@pytest.mark.parametrize(
    ('error', 'poison'),
    [
        (exceptions.ChannelClosedByBroker(406, 'invalid expiration'), True),
        (exceptions.ChannelClosedByBroker(406, 'unknown delivery tag 7'), False),
        (exceptions.ChannelClosedByBroker(406, "inequivalent arg 'x'"), False),
        (exceptions.ChannelClosedByBroker(404, 'no exchange'), False),
        (exceptions.ConnectionClosedByBroker(501, 'frame too large'), True),
        (exceptions.ConnectionClosedByBroker(320, 'CONNECTION_FORCED'), False),
    ],
)
def test_poison_is_what_the_broker_closes_for_because_of_a_message(error, poison):
    assert errors.is_poison(error) is poison


def refused(method, error):
    """An error that names the method over which the broker closed."""
    error.refused = method
    return error


@pytest.mark.parametrize('words', ['inequivalent', 'Existing queue declared otherwise', ''])
def test_406_for_a_declaration_means_other_properties_whatever_the_words(endpoint, words):
    error = refused('queue.declare', exceptions.ChannelClosedByBroker(406, words))
    assert str(errors.fatal_failure(error, endpoint)).startswith(
        'the queue exists with other properties'
    )
    assert not errors.is_poison(error)


def test_406_for_an_acknowledgement_is_about_no_message():
    assert not errors.is_poison(
        refused('basic.ack', exceptions.ChannelClosedByBroker(406, 'what?'))
    )
    assert errors.is_poison(
        refused('basic.publish', exceptions.ChannelClosedByBroker(406, 'what?'))
    )


def test_names_that_are_quoted_tell_nothing(endpoint):
    reply = "access to queue 'reserved.limit' refused for user 'exclusive'"
    error = exceptions.ChannelClosedByBroker(403, reply)
    assert 'lacks permission' in str(errors.fatal_failure(error, endpoint))


@pytest.mark.parametrize('code', [403, 406])
def test_a_limit_is_a_limit(endpoint, code):
    error = exceptions.ChannelClosedByBroker(code, "the limit of queues in 'v' (3) was exceeded")
    failure = errors.fatal_failure(error, endpoint, declaring=True)
    assert str(failure).startswith('the broker refuses the queue: the limit')
