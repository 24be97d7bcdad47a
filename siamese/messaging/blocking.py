"""BlockingConnection as a context manager that raises Failure."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionBlockedTimeout

import common
from common import Failure
from siamese.messaging.credentials import use_token_if_no_user
from siamese.messaging.errors import cause, connection_failure
from siamese.messaging.handshake import Connection

# How long the broker may block publishers, unless the URL says it (s).
BLOCKED_TIMEOUT_S = 10

# What pika raises when a connection fails.
ERRORS = (AMQPError, AMQPConnectorException, OSError)


@contextmanager
def connected(endpoint: pika.ConnectionParameters) -> Iterator[pika.BlockingConnection]:
    """Connect for as long as the with-block runs.

    Raises Failure: the broker refuses us, is or becomes unreachable.
    """
    use_token_if_no_user(endpoint)
    endpoint = copy.copy(endpoint)
    endpoint.blocked_connection_timeout = endpoint.blocked_connection_timeout or BLOCKED_TIMEOUT_S
    try:
        connection = pika.BlockingConnection(endpoint, Connection)
    except ERRORS as error:
        raise _failure('broker unreachable', error, endpoint) from None
    try:
        with closed_at_end(connection):
            yield connection
    except ConnectionBlockedTimeout:
        raise Failure(
            f'{common.display_address(endpoint)} blocks publishers; '
            'is there a memory or disk alarm? see rabbitmqctl status',
            3,
        ) from None
    except ERRORS as error:
        raise _failure('cannot go on', error, endpoint) from None


@contextmanager
def closed_at_end(connection: pika.BlockingConnection) -> Iterator[None]:
    """Close the connection after the with-block, unless Ctrl-C ended that."""
    try:
        yield
    except KeyboardInterrupt:
        # pika cannot close a connection while it waits for an answer.
        raise
    except BaseException:
        close(connection)
        raise
    close(connection)


def close(connection: pika.BlockingConnection) -> None:
    if connection.is_open:
        connection.close()


def _failure(what: str, error: Exception, endpoint: pika.ConnectionParameters) -> Failure:
    # The caller knows what a closed channel means, see errors.permission_denied().
    if not isinstance(error, ChannelClosedByBroker):
        failure = connection_failure(error, endpoint)
        if failure:
            return failure
    address = common.display_address(endpoint)
    return Failure(
        f'{what} at {address} ({cause(error)}); is it running, is AMQP_URL right?',
        3,
    )


def first_reachable(
    endpoints: Sequence[pika.ConnectionParameters],
) -> pika.ConnectionParameters:
    """Return the first of the endpoints that accepts us; raise the Failure of the last."""
    *others, last = endpoints
    for endpoint in others:
        failure = _failure_to_connect(endpoint)
        if not failure:
            return endpoint
        logging.warning('%s; trying the next URL', failure)
    with connected(last):
        return last


def _failure_to_connect(endpoint: pika.ConnectionParameters) -> Failure | None:
    try:
        with connected(endpoint):
            return None
    except Failure as failure:
        return failure


# BlockingConnection hides the connection that knows these.


def server_properties(connection: pika.BlockingConnection) -> dict[str, Any]:
    """Return what the broker says of itself: product, version, capabilities."""
    return connection._impl.server_properties


def negotiated(connection: pika.BlockingConnection) -> pika.connection.Parameters:
    """Return the parameters on which client and broker agreed, such as the heartbeat."""
    return connection._impl.params
