"""One connection with one channel, opened again whenever it is lost.

pika's SelectConnection is used, not BlockingConnection: only it confirms in
windows, and its errors arrive as values. BlockingConnection raises three
unrelated families of exceptions on connecting, and returns in silence when the
broker cancels a consumer. But an exception in a pika callback counts as a lost
connection; so the callbacks here only note facts.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import cycle

import pika
from pika.channel import Channel
from pika.exceptions import ConnectionClosedByClient

from common import Failure, display_address
from siamese.messaging import credentials, framing
from siamese.messaging.capabilities import offers_of
from siamese.messaging.errors import (
    Refusal,
    cause,
    connection_failure,
    fatal_failure,
    is_silence,
    permission_denied,
)
from siamese.messaging.handshake import AFTER_TLS, Unusable
from siamese.messaging.loop import Loop
from siamese.messaging.rights import Rights
from siamese.messaging.silence import LIMITED, Silence

# The wait before a retry is random, up to a limit that doubles from the first to the last.
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
# That the broker has to close a connection, and that it may be silent meanwhile.
CLOSE_TIMEOUT_S = 5
SILENCE_S = 2


class Alarm:
    """Whether the broker blocks publishers (connection.blocked), and for how long it did."""

    def __init__(self, on_unblocked: Callable[[], None]) -> None:
        self.report_end = on_unblocked
        self.since: float | None = None
        self.reason = ''
        self.lasted_s = 0.0  # all alarms of this run that are over

    def text(self) -> str:
        """Return why publishers are blocked, and for how long."""
        lasted_s = time.monotonic() - (self.since or 0)
        return f'broker blocks publishers: {self.reason}, {lasted_s:.0f} s'

    def on_blocked(self, _connection: framing.Connection, frame: pika.frame.Method) -> None:
        """The callback of connection.blocked."""
        self.since = time.monotonic()
        self.reason = frame.method.reason
        logging.warning('broker blocks publishers: %s', self.reason)

    def on_unblocked(self, *_: object) -> None:
        """The callback of connection.unblocked; also called when the connection is lost."""
        if self.since:
            blocked_s = time.monotonic() - self.since
            self.lasted_s += blocked_s
            logging.info('broker no longer blocks publishers, after %.1f s', blocked_s)
            self.report_end()
        self.since = None


def channel_failure(
    reason: BaseException,
    endpoint: pika.ConnectionParameters,
    passive_only: Failure | None,
    declaring: bool,
) -> Failure | None:
    """Return the Failure that ends the run because of a closed channel; None if it may heal."""
    if passive_only and getattr(reason, 'reply_code', 0) == 404:
        return Failure(
            f'{passive_only}; nor does it exist: {cause(reason)}; '
            'let an administrator run this once',
            3,
        )
    return fatal_failure(reason, endpoint, declaring)


class Refusals:
    """Which endpoints have refused us since the last success."""

    def __init__(self, endpoint_count: int) -> None:
        self.endpoint_count = endpoint_count
        # By id(): pika's parameters are not hashable.
        self.refused: set[int] = set()
        self.asked: set[int] = set()  # which said nothing, and were asked again
        self.was_ready = False

    def clear(self) -> None:
        """Forget all, after a success."""
        self.was_ready = True
        self.refused.clear()
        self.asked.clear()

    def connection_failure(
        self, reason: BaseException, endpoint: pika.ConnectionParameters, declaring: bool
    ) -> Failure | None:
        """Return the Failure that ends the run because of a lost connection, if there is one.

        A refusal is fatal only when each endpoint has refused us. Who says nothing
        is asked again, once until the next success.
        """
        failure = fatal_failure(reason, endpoint, declaring)
        # Where we were connected before, it is a load balancer whose broker is down.
        if not self.was_ready and AFTER_TLS in cause(reason):
            failure = Failure(f'{display_address(endpoint)} {AFTER_TLS}', 3)
        if not failure and is_silence(reason) and id(endpoint) not in self.asked:
            self.asked.add(id(endpoint))
            failure = connection_failure(reason, endpoint)
        if not failure:
            return None
        login = endpoint.credentials
        is_token = isinstance(failure, Refusal) and isinstance(login, credentials.TokenCredentials)
        if is_token and login.reject():
            return None
        if id(endpoint) not in self.refused:
            self.refused.add(id(endpoint))
            if len(self.refused) < self.endpoint_count:
                logging.warning('%s; trying the next URL', failure)
        return failure if len(self.refused) == self.endpoint_count else None


class Reconnector:
    """Keeps a connection to one of the endpoints; its owner calls pump() again and again.

    on_lost(reason, channel_only) tells that a channel is gone, and returns whether that
    was expected, so that it is not logged; on_reopen, that one is being closed;
    on_cancelled(channel, frame), that a consumer was cancelled. on_return takes
    basic.return; on_unblocked tells that an alarm is over; record(event) fills a ledger.

    epoch: number of the channel, from 1; failures: in a row; failure: it ends the run.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        counts: Counter[str],
        record: Callable[..., None],
        on_lost: Callable[[BaseException, bool], bool],
        on_reopen: Callable[[], None],
        on_cancelled: Callable[..., None],
        on_return: Callable[..., None],
        on_unblocked: Callable[[], None],
    ) -> None:
        self.endpoint_count = len(args.endpoints)
        self.endpoints = cycle(args.endpoints)
        self.offers = offers_of(args)
        self.counts = counts
        self.record = record
        self.on_lost = on_lost
        self.on_reopen = on_reopen
        self.on_cancelled = on_cancelled
        self.on_return = on_return
        self.alarm = Alarm(on_unblocked)
        self.refusals = Refusals(self.endpoint_count)
        self.ioloop = Loop()
        self.channel: Channel | None = None
        self.undeclared_channel: Channel | None = None  # new, nothing is declared on it yet
        self.failure: Failure | None = None
        self.retry_timer: object | None = None
        self.rights = Rights()
        self.is_ready = False
        self.closing = False
        self.is_closed = False
        self.is_closed_by_us = False  # and the broker has answered to that
        self.reopens_after_nacks = False  # of all messages, which is not logged
        self.loss_reason = ''
        self.sent_token = ''  # which the broker has
        self.epoch = 0
        self.failures = 0
        self.unavailable_since = time.monotonic()
        self._connect()

    def pump(self, until: float = math.inf) -> Channel | None:
        """Turn the loop once, see Loop.turn(); return a new channel, if there is one."""
        self.connection.flush()
        self.ioloop.turn(until)
        if not self.undeclared_channel:
            return None
        self.channel = self.undeclared_channel
        self.undeclared_channel = None
        return self.channel

    def is_usable(self) -> bool:
        """Return whether messages can be published."""
        return self.is_ready and self.channel is not None and self.channel.is_open

    def became_ready(self) -> str:
        """Note that everything is declared on the new channel; return how long it was away."""
        back = ''
        if self.counts['connections']:
            back = f', back after {time.monotonic() - self.unavailable_since:.1f} s'
        self.counts['connections'] += 1
        self.is_ready = True
        self.reopens_after_nacks = False
        self.failures = 0
        self.refusals.clear()
        return back

    def reopen(self, why: str) -> None:
        """Close the channel, so that a new one is opened and everything declared again."""
        if self.channel and self.channel.is_open:
            self.on_reopen()
            self.channel.close(0, why)

    def retry_delay(self) -> float:
        """Return how long to wait before the next try, in s."""
        return retry_delay(self.failures // self.endpoint_count)

    def renew_token(self) -> None:
        """Give the broker the next token before the one that it has expires."""
        login = self.endpoint.credentials
        if self.connection.is_open and isinstance(login, credentials.TokenCredentials):
            token = login.renew()
            if token != self.sent_token:
                self.sent_token = token
                self.connection.update_secret(token, 'renewed')

    def close(self) -> None:
        """Close the connection, after everything that was sent; wait at most 5 s."""
        self.closing = True
        if self.connection.is_open:  # pika cannot close one that is being opened
            self.connection.close()
            wait_for_close(self)
        self.ioloop.close()

    def _connect(self) -> None:
        self.endpoint: pika.ConnectionParameters = next(self.endpoints)
        self.offer = self.offers[id(self.endpoint)]
        credentials.use_token_if_no_user(self.endpoint)
        self.rights = Rights()
        self.connection = framing.Connection(
            self.endpoint,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_down,
            on_close_callback=self._on_down,
            custom_ioloop=self.ioloop,
        )

    def _on_open(self, connection: framing.Connection) -> None:
        self.offer.look(connection.server_properties)
        self.sent_token = getattr(self.endpoint.credentials, 'token', '')
        connection.add_on_connection_blocked_callback(self.alarm.on_blocked)
        connection.add_on_connection_unblocked_callback(self.alarm.on_unblocked)
        self._open_channel()

    def _open_channel(self) -> None:
        if self.connection.is_open:
            self.connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(partial(self.on_cancelled, channel))
        channel.add_on_return_callback(self.on_return)
        self.epoch += 1
        self.undeclared_channel = channel

    def _on_channel_closed(self, channel: framing.Channel, reason: BaseException) -> None:
        if not self.connection.is_open or self.closing:
            return
        reason.refused = channel.refused  # type: ignore[attr-defined]
        if not self.is_ready and self._can_do_less(reason):
            self._open_channel()
        else:
            self._lost(reason, channel_only=True)

    def _can_do_less(self, reason: BaseException) -> bool:
        """Return whether less is to be declared over a new channel, because of this refusal."""
        if permission_denied(reason, self.endpoint.credentials):
            return self.rights.lower(reason, fatal_failure(reason, self.endpoint))
        return self.rights.keep_old_queue(reason)

    def _on_down(self, connection: framing.Connection, reason: BaseException) -> None:
        reason.refused = connection.refused  # type: ignore[attr-defined]
        self.alarm.on_unblocked()
        if not self.closing:
            self._lost(reason, channel_only=False)
            return
        self.is_closed = True
        self.is_closed_by_us = isinstance(reason, ConnectionClosedByClient)
        event = 'closed' if self.is_closed_by_us else 'disconnected'
        self.record(event, reason=cause(reason))

    def _lost(self, reason: BaseException, channel_only: bool) -> None:
        """Note that channel or connection is gone, and open it again after a while."""
        self.undeclared_channel = None
        self.loss_reason = cause(reason)
        expected = self.on_lost(reason, channel_only)
        self.reopens_after_nacks = self.reopens_after_nacks and channel_only
        reason = self.offer.meaning(reason, getattr(self.channel, 'awaited', ''))
        if not self.is_ready and self.offer.gives_in(reason):
            expected = True
        else:
            self.failure = self.failure or self._fatal(reason, channel_only)
        if not (self.failure or self.reopens_after_nacks or expected):
            self._log_loss(channel_only)
        if self.is_ready:
            self.counts['lost_channels' if channel_only else 'lost_connections'] += 1
            self.record('disconnected', reason=self.loss_reason)
            self.is_ready = False
            self.unavailable_since = time.monotonic()
        if self.retry_timer:
            self.ioloop.remove_timeout(self.retry_timer)
        again = self._open_channel if channel_only else self._connect
        self.retry_timer = self.ioloop.call_later(self.retry_delay(), again)
        self.failures += 1

    def _fatal(self, reason: BaseException, channel_only: bool) -> Failure | None:
        declaring = not self.is_ready
        if not channel_only:
            return self.refusals.connection_failure(reason, self.endpoint, declaring)
        failure = channel_failure(reason, self.endpoint, self.rights.refusal, declaring)
        if failure and declaring and self.endpoint_count > 1:
            self.connection.abort(Unusable(str(failure)))  # on to the next URL
            return None
        return failure

    def _log_loss(self, channel_only: bool) -> None:
        if self.is_ready or not self.failures:  # else it was logged
            what = kind_of_loss(self.loss_reason, self.is_ready, channel_only)
            where = display_address(self.endpoint)
            logging.warning('%s %s (%s), retrying', what, where, self.loss_reason)


def wait_for_close(reconnector: Reconnector) -> None:
    """Serve a connection until it is closed, for at most CLOSE_TIMEOUT_S.

    Where the broker sends nothing, SILENCE_S is enough.
    """
    connection = reconnector.connection
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    silent_until = time.monotonic() + SILENCE_S
    received = connection.bytes_received
    while not reconnector.is_closed and time.monotonic() < min(deadline, silent_until):
        reconnector.pump()
        connection.flush()
        awaited, waited_s = connection.awaited()
        if awaited in LIMITED and waited_s > SILENCE_S:  # pika waits for that before it closes
            connection.abort(Silence(f'no answer to {awaited}'))
        if connection.bytes_received != received:
            received = connection.bytes_received
            silent_until = time.monotonic() + SILENCE_S


def kind_of_loss(loss_reason: str, was_ready: bool, channel_only: bool) -> str:
    """Return what happened, in words to which an address is added."""
    if channel_only:
        return 'channel closed at'
    if was_ready:
        return 'connection lost to'
    if credentials.COMMAND in loss_reason or '(403)' in loss_reason:
        return 'login refused at'
    return 'broker unreachable at'


def retry_delay(rounds: int) -> float:
    """Return how long to wait after so many failures at each endpoint, in s."""
    limit = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(rounds + 1, 10))
    return random.uniform(FIRST_RETRY_S, limit)
