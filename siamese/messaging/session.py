"""One channel after the other: declaring, confirms, acknowledgements, the ledger.

A Session connects reconnect.py, outbox.py and deliveries.py; link.py adds what
scripts call.
"""

from __future__ import annotations

import argparse
import logging
import math
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError, MethodNotImplemented

from common import Failure, display_address
from siamese import ledger
from siamese.messaging import flag_probe, framing
from siamese.messaging.books import Books
from siamese.messaging.cancelled import Look
from siamese.messaging.deliveries import Delivery, Inbox
from siamese.messaging.handshake import Unusable
from siamese.messaging.messages import Message, restart_waits
from siamese.messaging.outbox import Outbox
from siamese.messaging.patience import Patience
from siamese.messaging.receipts import Receipts
from siamese.messaging.reconnect import Reconnector
from siamese.messaging.run_limits import RunLimits
from siamese.messaging.silence import Silence
from siamese.messaging.topology import arguments_of, record_topology

TICK_S = 0.1  # between looks at the clock and at signals
# Rounds of nacks after which a channel is opened anew: one that was opened while a quorum
# queue elects its leader may nack until it is closed.
NACK_ROUNDS = 4

# declare(channel, link) of a script; a Link is made of Session, so it cannot be named here.
Declare = Callable[[Channel, Any], None]


class Session(RunLimits):
    """One connection with one channel, opened again whenever it is lost.

    run: 8 hex digits, new for each process; counts: confirmed, republished,
    connections ...; rejections: how many messages were rejected, by reason.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        declare: Declare,
        window: int,
        retry_returned: bool,
    ) -> None:
        super().__init__(args)
        self.declare = declare
        self.run = secrets.token_hex(4)
        self.counts: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()
        self.auto_ack = getattr(args, 'auto_ack', False)
        self.is_stream = getattr(args, 'queue_type', '') == 'stream'
        self.tick_callbacks: list[Callable[[], None]] = []  # called 10 times a second
        self.on_confirmed: Callable[[list[Message]], Any] = lambda messages: None
        self.ledger = ledger.Writer(args.ledger, by=args.name, run=self.run)
        self.has_lost_lines = False  # of the ledger
        self.receipts = Receipts(self.note)
        books = Books(self.record if args.ledger else None, self.receipts)
        self.inbox = Inbox(self.receipts)
        self.outbox = Outbox(window, retry_returned, self.counts, books)
        self.flag_probe = flag_probe.FlagProbe(self.run, flag_probe.is_wanted(args))
        self.look = Look()
        self.undeclared: Channel | None = None  # new; waits for the answers to these
        self.topology: list[partial[None]] = []
        self.declared_at = self.last_activity = time.monotonic()
        self.reconnector = Reconnector(
            args,
            counts=self.counts,
            record=self.record,
            on_lost=self._on_lost,
            on_reopen=self.inbox.forget,
            on_cancelled=partial(self.look.on_cancelled, self),
            on_return=self.outbox.on_return,
            on_unblocked=self.outbox.unconfirmed.restart_clocks,
        )
        self.reconnector.ioloop.before_sending = partial(write_ledger, self)
        self.patience = Patience(args, self.outbox, self.reconnector)
        self.reconnector.ioloop.call_later(TICK_S, self._tick)

    def _pump(self, until: float = math.inf) -> None:
        channel = self.reconnector.pump(until)
        if channel:
            self.undeclared = channel
            self.look.begin(channel)
            self.flag_probe.begin(self.endpoint, self.reconnector.ioloop)
        if self.undeclared and not (self.look.is_running or self.flag_probe.is_running):
            declare_on(self.undeclared, self)
            self.undeclared = None
        self._send()
        self.connection.flush()
        if self.failure and not self.reconnector.closing:
            raise self.failure

    def _send(self) -> None:
        if self.outbox.backlog and self.reconnector.is_usable():
            self.outbox.send(self.channel, self.connection)

    def _tick(self) -> None:
        self.reconnector.ioloop.call_later(TICK_S, self._tick)
        self.inbox.send_acks(self.channel)
        self.reconnector.renew_token()
        self.log_signal_and_progress()
        for callback in self.tick_callbacks:
            callback()
        self.patience.check()

    # ---- callbacks for declare()

    def on_ready(self, _frame: pika.frame.Method) -> None:
        """Everything is declared, work can begin. The callback of the last verb in declare()."""
        if self.connection.is_ending:
            return
        is_quiet = self.reconnector.reopens_after_nacks
        back = self.reconnector.became_ready()
        text = broker_text(self, back)
        if not is_quiet:
            logging.info('ready: %s', text)
        if self.counts['connections'] == 1:
            self.reconnector.offer.log_missing(self.args, publishes=bool(self.outbox.window))
        self.inbox.rejected.is_kept = self.reconnector.offer.may_return_rejected
        self.last_activity = time.monotonic()
        self.record('connected', broker=text, **facts_for_audit(self))

    def on_delivery(
        self,
        channel: Channel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        """Keep a delivery for deliveries(). The callback of basic_consume."""
        self.inbox.put(Delivery(self, channel, method, properties, body))

    def on_confirm(self, frame: pika.frame.Method) -> None:
        """Take a publisher confirm. The callback of confirm_delivery."""
        outcome = self.outbox.on_confirm(frame.method)
        if outcome.retried:
            self._back_off(outcome.retried)
        if outcome.confirmed:
            self.reconnector.failures = 0
            self.counts['confirmed'] += len(outcome.confirmed)
            self.on_confirmed(outcome.confirmed)

    def _back_off(self, why: str) -> None:
        """Wait before what was nacked or returned is republished, and open a new channel."""
        outbox = self.outbox
        reconnector = self.reconnector
        if time.monotonic() >= outbox.not_before:  # once for all that come back together
            reconnector.failures += 1
            outbox.not_before = time.monotonic() + reconnector.retry_delay()
        if outbox.unconfirmed or not self.channel.is_open:
            return
        if why == 'returned':
            reconnector.reopen('a message was returned')
        elif reconnector.failures >= NACK_ROUNDS:
            reconnector.reopens_after_nacks = True
            reconnector.failures = 0
            reconnector.reopen('all messages are nacked')

    def _on_lost(self, reason: BaseException, channel_only: bool) -> bool:
        self.outbox.lost(reason)
        if not channel_only and not isinstance(reason, Silence):
            restart_waits(self.outbox.backlog)  # that the broker was away has its own clock
        self.inbox.forget()
        return channel_only and self.outbox.returning

    def record(self, event: str, **facts: object) -> None:
        """Note an event for the ledger, if there is one; it is written before we send anything."""
        self.receipts.write()
        self.note(event, **facts)

    def note(self, event: str, **facts: object) -> None:
        """Note an event, behind those before it."""
        self.ledger.note(event, epoch=self.epoch, **facts)

    def close(self) -> None:
        """Close the connection, after all acknowledgements."""
        self.inbox.send_acks(self.channel)
        self.reconnector.close()
        write_ledger(self)

    def drop(self) -> None:
        """Leave the connection as it is: recorded deliveries may not be acknowledged."""
        self.reconnector.closing = True
        self.record('disconnected', reason='interrupted')
        write_ledger(self)

    @property
    def connection(self) -> framing.Connection:
        """The connection of now."""
        return self.reconnector.connection

    @property
    def channel(self) -> Channel:
        """The channel of now; None before the first one is open."""
        return self.reconnector.channel

    @property
    def endpoint(self) -> pika.ConnectionParameters:
        """The endpoint that it is connected to, or tries."""
        return self.reconnector.endpoint

    @property
    def epoch(self) -> int:
        """The number of the channel, counted from 1."""
        return self.reconnector.epoch

    @property
    def is_ready(self) -> bool:
        """Whether everything is declared on an open channel."""
        return self.reconnector.is_ready

    @property
    def failure(self) -> Failure | None:
        """The Failure that ends the run."""
        return self.reconnector.failure

    @failure.setter
    def failure(self, failure: Failure) -> None:
        self.reconnector.failure = failure


def declare_on(channel: Channel, session: Session) -> None:
    """Let the script declare on a new channel, and record what."""
    if not channel.is_open:  # lost while the broker was asked something else
        return
    session.reconnector.offer.adapt(channel)
    session.reconnector.rights.apply(channel)
    with ended_by_failure(channel), record_topology(channel) as session.topology:
        session.declare(channel, session)
    session.declared_at = time.monotonic()


def broker_text(session: Session, back: str) -> str:
    """Return which broker is ready, how long it was away, and what is published again."""
    text = product_at(session.connection, session.endpoint) + back
    again = session.outbox.republish_count()
    if again and session.counts['connections'] > 1:
        text += f', {again} to republish'
    return text


def product_at(connection: framing.Connection, endpoint: pika.ConnectionParameters) -> str:
    """Return 'PRODUCT VERSION at HOST:PORT/VHOST' of the broker."""
    server = connection.server_properties
    words = [str(server[key]) for key in ('product', 'version') if server.get(key)]
    return f'{" ".join(words) or "a broker without a name"} at {display_address(endpoint)}'


@contextmanager
def ended_by_failure(channel: Channel) -> Iterator[None]:
    """End the connection where pika cannot do what declare() asks for."""
    try:
        yield
    except MethodNotImplemented as error:
        channel.connection.abort(error)
    except (AMQPError, ValueError, TypeError, OverflowError, struct.error) as error:
        where = display_address(channel.connection.params)
        why = f'cannot declare at {where} ({error!r}); see --queue-arg'
        if channel.is_open:  # else the callbacks know more
            channel.connection.abort(Unusable(why))


def write_ledger(session: Session) -> None:
    """Write what was noted for the ledger, if there is one; raise Failure if that fails.

    Then nothing is sent any more but the end of the connection: it would have no line.
    """
    if session.has_lost_lines:
        return
    session.receipts.write_singles()
    try:
        session.ledger.flush()
    except OSError as error:
        session.has_lost_lines = True
        session.connection.forget_unsent()
        session.inbox.forget()
        failure = cannot_write(session.args.ledger, error)
        session.failure = failure
        if not session.reconnector.closing:
            raise failure from None


def cannot_write(path: str, error: OSError) -> Failure:
    """Return the Failure of a run whose ledger cannot be written."""
    return Failure(f'cannot write the ledger {path}: {error.strerror}', 3)


def facts_for_audit(session: Session) -> dict[str, object]:
    """Return what a broker was told on a new channel, and what it showed, for audit.py."""
    args = session.args
    facts: dict[str, object] = {**names_in(args), 'vhost': session.endpoint.virtual_host}
    if 'queue' in facts:
        facts['consumes'] = 'prefetch' in args
        arguments = arguments_of(args.queue, session.topology)
        if arguments is not None and not session.reconnector.rights.refusal:
            facts['arguments'] = arguments  # else others have declared it
    if session.flag_probe.answer is not None:
        facts['flags_redelivered'] = session.flag_probe.answer
    return facts


def names_in(args: argparse.Namespace) -> dict[str, str]:
    """Return the exchange and the queue, with its type, that the flags name."""
    flags = vars(args)
    return {name: flags[name] for name in ('exchange', 'queue', 'queue_type') if name in flags}
