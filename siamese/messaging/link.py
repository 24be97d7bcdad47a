"""What survives faults: a connection that comes back, publishing until accepted (outbox.py), consuming again.

    with delivery.connected(args, declare) as link:
        link.publish(exchange, routing_key, body, properties)      # a producer
        for channel, method, properties, body in link.deliveries():  # a consumer

`declare(channel, link)` is called on each new channel: it declares, binds, and ends with confirm_delivery or
basic_consume, whose callback is link.on_ready. It may leave out the callbacks of what comes before: pika sends those
methods in order without waiting, and a refusal closes the channel.

pika's SelectConnection is used, not BlockingConnection: only it confirms in windows, and its errors arrive as values,
while BlockingConnection raises three unrelated families of exceptions on connecting and returns in silence when the
broker cancels a consumer. But an exception in a pika callback counts as a lost connection; so the callbacks here
only note facts, and a script's own code runs outside of them.
"""

import logging
import math
import random
import secrets
import time
from collections import Counter
from contextlib import contextmanager
from itertools import cycle

import pika
from pika.exceptions import ConnectionClosedByClient

import common
from common import Failure
from siamese import ledger as books
from siamese import script
from siamese.messaging import credentials as tokens
from siamese.messaging import framing as wire
from siamese.messaging.deliveries import Delivery, Inbox, Invalid, publish_attempt  # noqa: F401
from siamese.messaging.errors import cause, permission_denied, fatal_failure
from siamese.messaging.outbox import Message, Outbox
from siamese.messaging.topology import (  # noqa: F401
    declare_dead_letters,
    declare_passively,
    expiration,
    queue_arguments,
    record_topology,
)

BATCH = 50  # messages acknowledged at once, unless more than TICK passes
TICK = 0.1  # s between looks at the clock and at signals
FIRST_TRY = 5  # s that a run has to connect and declare, even with --duration 0
FIRST_RETRY, LAST_RETRY = (
    0.2,
    5.0,
)  # s; the wait is random, from the first to a limit that doubles up to the last
REDECLARE = 10  # s; who deletes an exchange or a binding tells no consumer
CONFIRM_DEADLINE = 60  # s; above it a confirm may never come (rabbitmq-server#14589), so the channel is opened anew


@contextmanager
def connected(args, declare, window=100, retry_returned=True):
    """Connect to the broker, for as long as the with-block runs; yield a Link.

    `args` are the parsed flags (flags.add_broker_flags); `window` is how many messages may wait for their confirm, 0
    if there are none. At the end everything published is accepted, and the connection closed. A Failure is logged and
    swallowed: link.exit_status and link.stop_reason tell the script how it went.
    A message that is returned, because no queue takes it, is republished once everything is declared again; without
    `retry_returned` it is only counted, and link.unroutable is true until the next one is accepted.
    """
    link = Link(args, declare, window, retry_returned)
    try:
        try:
            try:
                yield link
            except Failure as failure:
                if failure is link.failure:
                    raise
                link.fail(failure)
            link.flush()
            if link.counts['set_aside']:
                raise Failure(
                    f'the broker refuses {link.counts["set_aside"]} messages, see above', 1
                )
        except Failure as failure:
            link.fail(failure)
        link.close()
    except KeyboardInterrupt:
        link.fail(Failure(f'interrupted twice, {link.unconfirmed_count} not accepted', 130))
        link.drop()


class Link:
    """One connection with one channel, opened again whenever it is lost.

    Attributes for scripts: run (8 hex digits, new for each process), counts (accepted, republished, connections ...),
    reasons (of what was refused), reason (why the run ended), status (exit status so far), epoch (number of the
    channel, counted from 1).
    """

    def __init__(self, args, declare, window, retry_returned):
        self.args, self.declare, self.outbox = args, declare, Outbox(self, window, retry_returned)
        self.on_confirm = self.outbox.confirmed
        self.run, self.counts, self.exit_status, self.stop_reason = (
            secrets.token_hex(4),
            Counter(),
            0,
            '',
        )
        self.rejections = Counter()
        self.endpoints = cycle(args.endpoints)
        self.ioloop = wire.loop()
        self.connection = self.channel = self.opened = self.failure = self.timer = None
        self.passive_only = (
            None  # the Failure, where the user may not declare and therefore only looks
        )
        self.refused = (
            set()
        )  # ids of the endpoints that refused us since the last success; pika's are not hashable
        self.is_ready = self.closing = self.is_down = self.stop_noted = self.unroutable = False
        self.lost_by = ''  # the cause of the last failure
        self.secret = ''  # the token that the broker has
        self.quiet = False  # while a channel is opened because of nacks
        self.epoch = self.failures = 0
        self.auto_ack = getattr(args, 'auto_ack', False)
        self.is_stream = getattr(args, 'queue_type', '') == 'stream'
        self.inbox = Inbox()  # delivered, not yet looked at
        self.started = self.away_since = self.last_activity = time.monotonic()
        self.blocked_since, self.blocked_reason, self.blocked_s = None, '', 0.0
        self.done = 0
        self.on_tick, self.on_confirmed = lambda: None, lambda messages: None
        self.write_ledger = books.writer(args.ledger, by=args.name, run=self.run)
        self._connect()
        self.ioloop.call_later(TICK, self._tick)

    # ---- what scripts call

    def publish(self, exchange, routing_key, body, properties, due=None):
        """Send a message, again and again until the broker accepts it; wait only while the window is full.

        `properties` need a message_id of their own; the header x-attempt is set here from the second attempt on, and
        delivery_mode to persistent unless it is given. `due` is the time.monotonic() at which it should have been sent.
        A window that was full is half empty when this returns: messages and confirms travel in company.
        """
        if properties.delivery_mode is None:
            properties.delivery_mode = pika.DeliveryMode.Persistent.value
        outbox = self.outbox
        outbox.backlog.append(
            Message(exchange, routing_key, body, properties, due or time.monotonic())
        )
        outbox.send()
        if not outbox.window:
            self.wait_until(lambda: not outbox.backlog)
        elif len(outbox) >= outbox.window:
            self.wait_until(lambda: len(outbox) <= outbox.window // 2 or script.stop_requested())

    def flush(self):
        """Wait until everything published is accepted."""
        self.wait_until(lambda: not self.unconfirmed_count)

    def deliveries(self, idle=None, ack_every=BATCH):
        """Yield (channel, method, properties, body) of each delivery until the run is over.

        It is over after --count, after --duration, on a signal, or when none came for `idle` seconds. What was
        delivered over a connection that is lost in between is dropped: the broker delivers it again.
        """
        ack_every = min(
            ack_every, max(1, self.args.prefetch // 2)
        )  # a broker that waits for acks sends nothing
        while self.keep_running(self.done):
            if not self.inbox:
                self._turn()
            if self.is_ready and time.monotonic() > self.declared_at + REDECLARE:
                self.declared_at = time.monotonic()
                for declare in self.topology:
                    declare()
            unbidden = (
                len(self.inbox) - self.args.prefetch
            )  # without acknowledgements the broker sends all it has
            stop = min(self.done + max(BATCH, ack_every, unbidden), self.args.count or math.inf)
            soon = (
                time.monotonic() + TICK
            )  # what takes longer is not to keep answers and heartbeats waiting
            while self.inbox and self.done < stop and not script.stop_requested():
                self.last_activity = time.monotonic()
                if self.last_activity > soon:
                    break
                self.done += 1
                delivery = self.inbox.popleft()
                yield delivery
                if (
                    self.inbox.to_ack >= ack_every or delivery.method.redelivered
                ):  # so what breaks connections comes first again
                    self._send_acks()
            if (
                idle
                and not self.inbox
                and self.is_ready
                and time.monotonic() - self.last_activity > idle
            ):
                self.stop_reason = f'nothing came for {idle:g} s'

    def paced(self, rate=None):
        """Yield 1, 2, 3 ..., each when it is due, until the run is over."""
        done = 0
        while self.keep_running(done, self.started + done / (rate or math.inf)):
            done += 1
            yield done

    @property
    def invalid_count(self):
        """How many messages were rejected as invalid."""
        return sum(self.rejections.values())

    def keep_running(self, done, due=0.0):
        """Serve the connection until time.monotonic() is `due`; return whether the run goes on after `done` messages.

        If it does not, that is told at once, and self.stop_reason says why.
        """
        if (
            not done
        ):  # the first try to connect comes before the work; a wrong password need not wait for it
            self.wait_until(
                lambda: (
                    self.is_ready
                    or self.failures
                    or script.stop_requested()
                    or not self._in_time(at_least=FIRST_TRY)
                )
            )
        self.done = done
        self.ioloop.call_later(
            max(0, due - time.monotonic()), lambda: None
        )  # wakes the loop in time
        self._turn()
        self.wait_until(lambda: time.monotonic() >= due or self.reason_to_stop())
        self.stop_reason = self.reason_to_stop() or self.stop_reason
        return not self.stop_reason

    def reason_to_stop(self):
        """Return why the run is over, or ''."""
        if script.stop_requested():
            return script.stop_requested()
        if self.args.count and self.done >= self.args.count:
            return 'count reached'
        return '' if self._in_time() else 'duration over'

    def wait_until(self, done):
        """Serve the connection until `done()` is true."""
        while not done():
            self._turn()

    def process_events(self):
        """Serve the connection without waiting: heartbeats, confirms, reconnecting; return False after --duration."""
        self.ioloop.call_later(0, lambda: None)
        self._turn()
        return self._in_time()

    @property
    def free_window(self):
        """How many messages publish() takes now without waiting."""
        return (self.outbox.window or 100) - len(self.outbox)

    @property
    def problem(self):
        """What keeps messages from flowing, with its duration, or ''."""
        now = time.monotonic()
        if self.blocked_since:
            return (
                f'broker blocks publishers: {self.blocked_reason}, {now - self.blocked_since:.0f} s'
            )
        return '' if self.is_ready else f'broker away, {now - self.away_since:.0f} s'

    @property
    def unconfirmed_count(self):
        """How many messages are published but not accepted yet."""
        return len(self.outbox)

    def fail(self, failure):
        """Note and log why the run ended early."""
        logging.error('%s', failure)
        self.exit_status, self.stop_reason = failure.status, str(failure)

    def set_exit_status(self, done, wrong):
        """Set the exit status of a run that did so much, and found so much of it wrong."""
        if self.exit_status in (0, 3):
            self.exit_status = (
                1 if wrong else 3 if done < (self.args.count or 1) else self.exit_status
            )

    def summary(self):
        """Return what every summary holds, as a dict."""
        return {
            'name': self.args.name,
            'run': self.run,
            'connections': self.counts['connections'],
            'duration_s': round(time.monotonic() - self.started, 3),
            'stopped': self.stop_reason,
            'exit_status': self.exit_status,
        }

    def record(self, event, **facts):
        """Write a line into the ledger, if there is one; raise Failure if that cannot be done."""
        if not self.args.ledger:
            return
        try:
            self.write_ledger(event, epoch=self.epoch, **facts)
        except OSError as error:
            self.failure = Failure(
                f'cannot write the ledger {self.args.ledger}: {error.strerror}', 3
            )
            if not self.closing:
                raise self.failure from None

    # ---- what declare() hands to pika

    def on_ready(self, _frame):
        """The callback of the last verb in declare(): everything is declared, work can begin."""
        now, again = time.monotonic(), sum(message.attempt > 0 for message in self.outbox.backlog)
        server = self.connection.server_properties
        text = f'{server.get("product")} {server.get("version")} at {common.display_address(self.endpoint)}'
        if self.counts['connections']:
            text += f', back after {now - self.away_since:.1f} s'
            text += f', {again} to republish' if again else ''
        if not self.quiet:
            logging.info('ready: %s', text)
        self.quiet = False
        self.counts['connections'] += 1
        where = {
            key: value
            for key, value in vars(self.args).items()
            if key in ('exchange', 'queue', 'queue_type')
        }
        self.record('connected', broker=text, **where)
        self.is_ready, self.failures, self.away_since, self.last_activity = True, 0, None, now
        self.refused.clear()

    def on_delivery(self, channel, method, properties, body):
        """The callback of basic_consume: keeps a delivery for messages()."""
        self.inbox.append(Delivery(self, channel, method, properties, body))

    # ---- the connection

    def _in_time(self, at_least=0):
        duration = self.args.duration
        return duration is None or time.monotonic() < self.started + max(duration, at_least)

    def _turn(self):
        self.connection.flush()
        self.ioloop.poll()
        self.ioloop.process_timeouts()
        if self.opened:
            self.channel, self.opened = self.opened, None
            if self.passive_only:
                declare_passively(self.channel)
            with record_topology(self.channel) as self.topology:
                self.declare(self.channel, self)
            self.declared_at = time.monotonic()
        self.outbox.send()
        self.connection.flush()
        if self.failure and not self.closing:
            raise self.failure

    def _tick(self):
        self.ioloop.call_later(TICK, self._tick)
        now = time.monotonic()
        if script.stop_requested() and not self.stop_noted:
            self.stop_noted = True
            logging.info(
                '%s: finishing what is in hand; once more stops at once', script.stop_requested()
            )
        self._send_acks()
        self._renew()
        script.show_progress(self.done, now - self.started, self.args)
        self.on_tick()
        patience = self.args.give_up_after
        if patience is not None and not self.is_ready and now - self.away_since > patience:
            why = f' ({self.lost_by})' if self.lost_by else ''
            self.failure = Failure(
                f'no broker at {common.display_address(self.endpoint)} for {patience:g} s{why}, '
                f'{self.unconfirmed_count} not accepted; is it running, is AMQP_URL right?',
                3,
            )
        oldest = self.outbox.oldest()
        if oldest and not self.blocked_since:
            self._look_at_the_deadline(now - oldest.sent_at)

    def _look_at_the_deadline(self, waited):
        """The oldest message has waited for its confirm so long (in s): open a new channel, or a new connection."""
        if waited > CONFIRM_DEADLINE and self.channel.is_open:
            logging.warning(
                'no confirm for %.0f s (a quorum queue without majority?), trying a new channel',
                waited,
            )
            self.reopen('no confirm')
        elif waited > 2 * CONFIRM_DEADLINE and self.connection.is_open:
            self.connection.abort('a channel cannot be closed')

    def _renew(self):
        """Give the broker the next token before the one that it has expires."""
        credentials = self.endpoint.credentials
        if self.connection.is_open and isinstance(credentials, tokens.Credentials):
            token = credentials.renew()
            if token != self.secret:
                self.secret = token
                self.connection.update_secret(token, 'renewed')

    def _connect(self):
        self.endpoint, self.passive_only = next(self.endpoints), None
        self.connection = wire.Connection(
            self.endpoint,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_down,
            on_close_callback=self._on_down,
            custom_ioloop=self.ioloop,
        )

    def _on_open(self, connection):
        self.secret = getattr(self.endpoint.credentials, 'token', '')
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._open_channel()

    def _open_channel(self):
        if self.connection.is_open:
            self.connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel):
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(lambda _frame: self.reopen('consumer cancelled'))
        channel.add_on_return_callback(self.outbox.returned)
        self.epoch += 1
        self.opened = channel

    def _on_channel_closed(self, _channel, reason):
        if not self.connection.is_open or self.closing:
            return
        if (
            permission_denied(reason, self.endpoint.credentials)
            and not self.is_ready
            and not self.passive_only
        ):
            self.passive_only = fatal_failure(reason, self.endpoint)
            logging.info('may not declare (%s): looking whether everything is there', cause(reason))
            self._open_channel()
        else:
            self._lost(reason, self._open_channel)

    def _on_down(self, _connection, reason):
        self._on_unblocked()
        if self.closing:
            self.is_down = True
            self.record(
                'closed' if isinstance(reason, ConnectionClosedByClient) else 'lost',
                reason=cause(reason),
            )
        else:
            self._lost(reason, self._connect)

    def _lost(self, reason, again):
        """The channel or the connection is gone: note it, and do `again` after a while."""
        self.outbox.lost(reason)
        self.inbox.forget()
        self.opened, self.lost_by = None, cause(reason)
        self.failure = self.failure or self._refusal(reason, again)
        self.quiet = self.quiet and again == self._open_channel
        told = self.quiet or (self.outbox.returning and again == self._open_channel)
        if not self.failure and not told and (self.is_ready or not self.failures):
            refused = tokens.COMMAND in cause(reason) or '(403)' in cause(reason)
            what = (
                'channel closed'
                if again == self._open_channel
                else 'broker gone'
                if self.is_ready
                else 'no login'
                if refused
                else 'no broker'
            )
            logging.warning(
                '%s at %s (%s), trying again',
                what,
                common.display_address(self.endpoint),
                cause(reason),
            )
        if self.is_ready:
            self.counts['lost_channels' if again == self._open_channel else 'lost_connections'] += 1
            self.record('lost', reason=cause(reason))
            self.is_ready, self.away_since = False, time.monotonic()
        if self.timer:
            self.ioloop.remove_timeout(self.timer)
        self.timer = self.ioloop.call_later(self.retry_delay(), again)
        self.failures += 1

    def _refusal(self, reason, again):
        """Return the Failure that ends the run: what cannot heal, and at each URL if it is the connection."""
        failure = fatal_failure(reason, self.endpoint, self.failures // len(self.args.endpoints))
        if (
            failure
            and again == self._connect
            and getattr(self.endpoint.credentials, 'reject', bool)()
        ):
            return None
        if self.passive_only and getattr(reason, 'reply_code', 0) == 404:
            failure = Failure(
                f'{self.passive_only}; nor is it there: {cause(reason)}; let an administrator run this once',
                1,
            )
        if not failure or again != self._connect:
            return failure
        if id(self.endpoint) not in self.refused:
            self.refused.add(id(self.endpoint))
            if len(self.refused) < len(self.args.endpoints):
                logging.warning('%s; trying the next URL', failure)
        return failure if len(self.refused) == len(self.args.endpoints) else None

    def _on_blocked(self, _connection, frame):
        self.blocked_since, self.blocked_reason = time.monotonic(), frame.method.reason
        logging.warning('broker blocks publishers: %s', frame.method.reason)

    def _on_unblocked(self, *_):
        if self.blocked_since:
            blocked_s = time.monotonic() - self.blocked_since
            self.blocked_s += blocked_s
            logging.info('broker no longer blocks publishers, after %.1f s', blocked_s)
            for (
                message
            ) in self.outbox.unconfirmed.values():  # their wait for a confirm begins only now
                message.sent_at = time.monotonic()
        self.blocked_since = None

    def _send_acks(self):
        self.inbox.send_acks(self.channel)

    # ---- what the outbox calls

    def messages_confirmed(self, messages):
        """The broker has confirmed messages."""
        self.failures, self.unroutable = 0, False
        self.counts['confirmed'] += len(messages)
        self.on_confirmed(messages)

    def reopen(self, why):
        """Close the channel, so that a new one is opened and everything declared again."""
        self.inbox.forget()
        if self.channel.is_open:
            self.channel.close(0, why)

    def retry_delay(self):
        """Return how long to wait before the next try, in s."""
        rounds = self.failures // len(self.args.endpoints)
        return random.uniform(FIRST_RETRY, min(LAST_RETRY, FIRST_RETRY * 2 ** min(rounds + 1, 10)))

    # ---- the end

    def close(self):
        """Close the connection in good order (the broker then has all acknowledgements); wait 5 s at the most."""
        self._send_acks()
        self.closing, deadline = True, time.monotonic() + 5
        if self.connection.is_open:  # pika cannot close one that is still being opened
            self.connection.close()
            while not self.is_down and time.monotonic() < deadline:
                self._turn()
        self.ioloop.close()

    def drop(self):
        """Leave the connection as it is; the ledger says lost: what was recorded last may not be acknowledged."""
        self.closing = True
        self.record('lost', reason='interrupted')
