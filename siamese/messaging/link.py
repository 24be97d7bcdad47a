"""A connection that recovers from faults.

It reconnects (reconnect.py), republishes unconfirmed messages (outbox.py), and
resumes consuming (deliveries.py).

    with connected(args, declare) as link:
        for number in link.paced(args.rate):                     # a producer
            link.publish(exchange='', routing_key=args.queue, body=body, properties=properties)
        for delivery in link.deliveries(args.idle):              # a consumer
            delivery.ack()

`declare(channel, link)` is called on each new channel. It declares, binds, and
ends with confirm_delivery or basic_consume, whose callback is link.on_ready. The
verbs before that one need no callback: pika sends those methods in order without
waiting, and a refusal closes the channel.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import pika
from pika.channel import Channel

from common import Failure
from siamese import script, start
from siamese.messaging.deliveries import Delivery, ack_batch
from siamese.messaging.link_status import LinkStatus
from siamese.messaging.outbox import Message
from siamese.messaging.run_limits import FIRST_TRY_S
from siamese.messaging.session import TICK_S
from siamese.text import count_of

BATCH = 50  # messages acknowledged at once, unless more than TICK_S passes
EMPTY_CHECK_S = 1  # without a delivery, before the broker is asked whether the queue is empty
REDECLARE_S = 10  # no consumer is told that an exchange or a binding was deleted

PERSISTENT = pika.DeliveryMode.Persistent.value


@contextmanager
def connected(
    args: argparse.Namespace,
    declare: Callable[[Channel, Link], None],
    window: int = 100,
    retry_returned: bool = True,
) -> Iterator[Link]:
    """Connect to the broker, for as long as the with-block runs; yield a Link.

    `args` are the parsed flags (flags.add_broker_flags). `window` is how many
    messages may wait for their confirm, 0 without publisher confirms. At the end
    of the block every published message is confirmed, and the connection is closed.
    A Failure is logged and swallowed: link.exit_status and link.stop_reason tell it.

    Messages that are returned, because no queue takes them, are republished once
    everything is declared again. Without `retry_returned` they are only counted,
    and link.unroutable is true until the broker confirms another one.
    """
    start.finish_on_signal()
    link = Link(args, declare, window, retry_returned)
    try:
        can_confirm = True
        try:
            yield link
        except Failure as failure:
            link.fail(failure)
            # After a failure of the link no confirm comes; after one of the script they do.
            can_confirm = failure is not link.failure
        if can_confirm:
            link.finish_publishing()
        link.close()
    except KeyboardInterrupt:
        unconfirmed = f'interrupted twice, {link.unconfirmed_count} not confirmed'
        link.fail(Failure(unconfirmed, 130))
        link.drop()


class Link(LinkStatus):
    """What scripts publish and consume over. Attributes: see LinkStatus, Session and RunLimits."""

    empty_checked_at = 0.0  # time.monotonic() when the broker was asked whether the queue is empty

    # ---- publishing

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties,
        due: float | None = None,
    ) -> None:
        """Publish a message, again and again until the broker confirms it.

        Waits only while the window is full; it is half empty when this returns, so
        that messages and confirms travel together. `properties` need a message_id of
        their own; delivery_mode is persistent unless it is given, and the header
        x-attempt is set from the second attempt on. `due` is the time.monotonic() at
        which the message should have been published.
        """
        if properties.delivery_mode is None:
            properties.delivery_mode = PERSISTENT
        outbox = self.outbox
        due = due or time.monotonic()
        outbox.backlog.append(Message(exchange, routing_key, body, properties, due))
        self._send()
        if not outbox.window:
            self.wait_until(lambda: not outbox.backlog or self.reason_to_stop())
        elif len(outbox) >= outbox.window:
            half = outbox.window // 2
            self.wait_until(lambda: len(outbox) <= half or self.reason_to_stop())

    def paced(self, rate: float | None = None) -> Iterator[int]:
        """Yield 1, 2, 3 ... until the run is over, each when it is due at `rate` messages/s.

        Without a rate each is due at once. After a delay it catches up.
        """
        number = 0
        while self.keep_running(number, self.started + number / (rate or math.inf)):
            number += 1
            yield number

    def finish_publishing(self) -> None:
        """Wait until every published message is confirmed; log a Failure as that of the run.

        A run that was asked to stop waits for at most --stop-timeout.
        """
        outbox = self.outbox
        try:
            self.wait_until(lambda: not len(outbox) or self.is_overdue())
            if len(outbox):
                self.stop_reason = self.reason_to_stop()
                what = f'{count_of(len(outbox), "message")} not confirmed'
                raise self.unfinished(what, 'the broker has not answered')
            self.check_set_aside()
        except Failure as failure:
            self.fail(failure)

    def withdraw(self) -> bool:
        """Publish no more what waits to be published; return whether that was anything."""
        anything = bool(self.outbox.backlog)
        self.outbox.backlog.clear()
        return anything

    def give_up(self, failure: Failure) -> NoReturn:
        """Raise the Failure that ends the run; no confirm is waited for any more."""
        self.failure = failure
        raise failure

    # ---- consuming

    def deliveries(
        self,
        idle: float | None = None,
        ack_every: int = BATCH,
        until_empty: bool = False,
    ) -> Iterator[Delivery]:
        """Yield each delivery until the run is over.

        It is over after --count, after --duration, on a signal, when the broker
        delivers nothing for `idle` seconds, or, with `until_empty`, when the broker says
        that the queue is empty. Deliveries over a connection that is lost in between
        are dropped: the broker delivers them again.
        """
        ack_every = ack_batch(ack_every, self.args.prefetch)
        while self.keep_running(self.done):
            if not self.inbox:
                self._pump()
            self._declare_again()
            yield from self._batch(ack_every)
            if idle and self._idle_for() > idle:
                self.stop_reason = f'nothing came for {idle:g} s'
            if until_empty and self._idle_for() > EMPTY_CHECK_S:
                self._stop_if_empty()

    def waiting_deliveries(self) -> Iterator[Delivery]:
        """Yield the deliveries that are here already."""
        while self.inbox:
            yield self.inbox.popleft()

    def _batch(self, ack_every: int) -> Iterator[Delivery]:
        """Yield deliveries for at most TICK_S: heartbeats and answers must not wait longer."""
        inbox = self.inbox
        # Without acknowledgements (--auto-ack) the broker sends all it has.
        beyond_prefetch = len(inbox) - self.args.prefetch
        last = self.done + max(BATCH, ack_every, beyond_prefetch)
        if self.args.count:
            last = min(last, self.args.count)
        deadline = time.monotonic() + TICK_S
        while inbox and self.done < last and not script.stop_requested():
            self.last_activity = time.monotonic()
            if self.last_activity > deadline:
                break
            self.done += 1
            delivery = inbox.popleft()
            yield delivery
            # A message that breaks connections comes first again, once the others are acked.
            if inbox.to_ack >= ack_every or delivery.method.redelivered:
                inbox.send_acks(self.channel)

    def _idle_for(self) -> float:
        if self.inbox or not self.is_ready:
            return 0
        return time.monotonic() - self.last_activity

    def _stop_if_empty(self) -> None:
        """Ask the broker whether the queue is empty, once in EMPTY_CHECK_S; end the run if so."""
        now = time.monotonic()
        if now < self.empty_checked_at + EMPTY_CHECK_S or not self.channel.is_open:
            return
        self.empty_checked_at = now
        self.channel.queue_declare(
            queue=self.args.queue,
            passive=True,
            callback=self._on_queue_size,
        )

    def _on_queue_size(self, frame: pika.frame.Method) -> None:
        if not frame.method.message_count and not self.inbox:
            self.stop_reason = 'queue empty'

    def _declare_again(self) -> None:
        if self.is_ready and time.monotonic() > self.declared_at + REDECLARE_S:
            self.declared_at = time.monotonic()
            for declare in self.topology:
                declare()

    # ---- the run

    def keep_running(self, done: int, due: float = 0.0) -> bool:
        """Serve the connection until time.monotonic() is `due`.

        Return whether the run goes on after `done` messages. If it does not, return at
        once; self.stop_reason says why.
        """
        if not done:  # the first try to connect comes before the work
            self.wait_until(self._tried_once)
        self.done = done
        # The timer wakes the loop in time.
        self.reconnector.ioloop.call_later(max(0, due - time.monotonic()), lambda: None)
        self._pump()
        self.wait_until(lambda: time.monotonic() >= due or self.reason_to_stop())
        self.stop_reason = self.reason_to_stop() or self.stop_reason
        return not self.stop_reason

    def _tried_once(self) -> object:
        tried = self.is_ready or self.reconnector.failures
        return tried or script.stop_requested() or not self.in_time(at_least=FIRST_TRY_S)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Serve the connection until `condition()` is true."""
        while not condition():
            self._pump()

    def process_events(self) -> bool:
        """Serve the connection without waiting; return False after --duration or --stop-timeout.

        Heartbeats, confirms and reconnecting go on.
        """
        self.reconnector.ioloop.call_later(0, lambda: None)
        self._pump()
        return self.in_time() and not self.is_overdue()
