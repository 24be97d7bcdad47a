"""errors.py: which errors end a run, and in which words."""

import pytest
from pika import exceptions

import common
from siamese.messaging import credentials, errors

REPLY = "ACCESS_REFUSED - access to queue 'x' refused"
HTTP = "InvalidFrameError('no AMQP 0-9-1: HTTP/1.1 400')"
NO_TLS = "SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number')"


@pytest.fixture
def endpoint():
    (found,) = common.endpoints('amqp://alice:secret@host:1/v', 'test')
    return found


@pytest.mark.parametrize(
    ('error', 'status', 'text'),
    [
        (
            exceptions.ChannelClosedByBroker(403, REPLY),
            1,
            f"user 'alice' lacks permission: {REPLY}; see rabbitmqctl set_permissions",
        ),
        (
            exceptions.ChannelClosedByBroker(403, "queue name 'amq.x' contains reserved prefix"),
            1,
            'the broker refuses the name: ',
        ),
        (
            exceptions.ChannelClosedByBroker(406, "invalid arg 'x-y'"),
            1,
            'the broker refuses the queue: ',
        ),
        (
            exceptions.ChannelClosedByBroker(406, "inequivalent arg 'durable'"),
            1,
            'it exists with other properties: ',
        ),
        (
            exceptions.ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'no'"),
            1,
            "the broker refuses user 'alice': wrong name or password",
        ),
        (
            exceptions.ProbableAccessDeniedError("ConnectionClosedByBroker: (530) 'no'"),
            1,
            "no virtual host 'v', or no permission for user 'alice' to use it",
        ),
        (
            exceptions.AMQPConnectionError('CERTIFICATE_VERIFY_FAILED'),
            1,
            'the certificate of host cannot be verified',
        ),
        (
            exceptions.AMQPConnectionError(HTTP),
            3,
            'host:1 speaks no AMQP 0-9-1: HTTP/1.1 400',
        ),
        (
            exceptions.AMQPConnectionError(NO_TLS),
            3,
            'host:1 speaks no TLS',
        ),
    ],
)
def test_errors_that_waiting_cannot_heal(endpoint, error, status, text):
    failure = errors.fatal_failure(error, endpoint, errors.PROTOCOL_FAILURES)
    assert failure.status == status
    assert str(failure).startswith(text)
    assert 'secret' not in str(failure)


@pytest.mark.parametrize(
    'error',
    [
        exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue 'x'"),
        exceptions.ChannelClosedByBroker(405, 'RESOURCE_LOCKED - exclusive'),
        exceptions.ChannelClosedByBroker(403, 'exclusive access refused'),
        exceptions.ConnectionClosedByBroker(320, 'CONNECTION_FORCED'),
        exceptions.ProbableAuthenticationError('Transport indicated EOF'),
        exceptions.ProbableAccessDeniedError("(530) 'connection limit (10) is reached'"),
        exceptions.AMQPConnectionError(HTTP),
        exceptions.AMQPConnectionError(NO_TLS),
        ConnectionRefusedError(111, 'Connection refused'),
        OSError(5, 'Input/output error'),
    ],
)
def test_errors_that_may_heal(endpoint, error):
    assert errors.fatal_failure(error, endpoint) is None


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
