"""BlockingConnection as a context manager that raises Failure."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
)

import common
from common import Failure
from siamese.messaging import handshake
from siamese.messaging.credentials import use_token_if_no_user
from siamese.messaging.errors import cause, connection_failure
from siamese.messaging.silence import ANSWER_TIMEOUT_S, Silence

# How long the broker may block publishers, unless the URL says it (s).
BLOCKED_TIMEOUT_S = 10

WATCH_INTERVAL_S = 0.1

# What pika raises when a connection fails.
ERRORS = (AMQPError, AMQPConnectorException, OSError)


class Unreachable(Failure):
    """No broker answers there."""


class Watch:
    """Ends a wait for the broker: after a time, or with what `stopped()` returns."""

    def __init__(
        self,
        connection: pika.SelectConnection,
        timeout_s: float,
        stopped: Callable[[], Exception | None],
    ) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s
        self.stopped = stopped
        self._again()

    def _again(self) -> None:
        self.timer = self.connection.ioloop.call_later(WATCH_INTERVAL_S, self._look)

    def _look(self) -> None:
        error = self.stopped()
        if not error and time.monotonic() > self.deadline:
            error = Silence(f'no answer for {self.timeout_s:g} s')
        if error:
            self.connection._terminate_stream(error)
        else:
            self._again()

    def end(self) -> None:
        self.connection.ioloop.remove_timeout(self.timer)


class PatientConnection(pika.BlockingConnection):
    """A BlockingConnection that waits for each answer, but not for ever.

    `stopped` is asked meanwhile: what it returns is raised.
    """

    def __init__(
        self,
        endpoint: pika.ConnectionParameters,
        timeout_s: float,
        stopped: Callable[[], Exception | None],
    ) -> None:
        self.timeout_s = timeout_s
        self.stopped = stopped
        super().__init__(endpoint, handshake.Connection)

    def _flush_output(self, *waiters: Callable[[], bool]) -> None:
        """All that waits for the broker comes by here."""
        watch = Watch(self._impl, self.timeout_s, self.stopped)
        try:
            super()._flush_output(*waiters)
        finally:
            watch.end()


def go_on() -> None:
    """Nothing stops what waits."""


@contextmanager
def connected(
    endpoint: pika.ConnectionParameters,
    timeout_s: float | None = None,
    stopped: Callable[[], Exception | None] = go_on,
) -> Iterator[pika.BlockingConnection]:
    """Connect for as long as the with-block runs.

    Raises Failure: the broker refuses us, is or becomes unreachable, or owes an answer
    for `timeout_s` (default: ANSWER_TIMEOUT_S). What `stopped()` returns is raised too.
    """
    use_token_if_no_user(endpoint)
    endpoint = copy.copy(endpoint)
    endpoint.blocked_connection_timeout = endpoint.blocked_connection_timeout or BLOCKED_TIMEOUT_S
    patience_s = max(ANSWER_TIMEOUT_S, endpoint.blocked_connection_timeout + 1)
    try:
        connection = PatientConnection(endpoint, timeout_s or patience_s, stopped)
    except ERRORS as error:
        raise _failure_to_reach(error, endpoint) from None
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


def _failure_to_reach(error: Exception, endpoint: pika.ConnectionParameters) -> Failure:
    failure = connection_failure(error, endpoint)
    if failure:
        return failure
    return Unreachable(_text('broker unreachable', error, endpoint), 3)


def _failure(
    what: str,
    error: Exception,
    endpoint: pika.ConnectionParameters,
) -> Failure:
    # The caller knows what a closed channel means, see errors.permission_denied().
    if not isinstance(error, ChannelClosedByBroker):
        failure = connection_failure(error, endpoint)
        if failure:
            return failure
    return Failure(_text(what, error, endpoint), 3)


def _text(what: str, error: Exception, endpoint: pika.ConnectionParameters) -> str:
    address = common.display_address(endpoint)
    return f'{what} at {address} ({cause(error)}); is it running, is AMQP_URL right?'


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
