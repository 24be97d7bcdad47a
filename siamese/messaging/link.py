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
from typing import Any

import pika
from pika.channel import Channel

from common import Failure
from siamese import script
from siamese.messaging.deliveries import Delivery
from siamese.messaging.outbox import Message
from siamese.messaging.run_limits import FIRST_TRY_S
from siamese.messaging.session import TICK_S, Session

BATCH = 50  # messages acknowledged at once, unless more than TICK_S passes
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
            link.check_set_aside()
        except Failure as failure:
            link.fail(failure)
        link.close()
    except KeyboardInterrupt:
        unconfirmed = f'interrupted twice, {link.unconfirmed_count} not confirmed'
        link.fail(Failure(unconfirmed, 130))
        link.drop()


class Link(Session):
    """What scripts publish and consume over. Attributes: see Session and RunLimits."""

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
            self.wait_until(lambda: not outbox.backlog)
        elif len(outbox) >= outbox.window:
            half = outbox.window // 2
            self.wait_until(lambda: len(outbox) <= half or script.stop_requested())

    def paced(self, rate: float | None = None) -> Iterator[int]:
        """Yield 1, 2, 3 ... until the run is over, each when it is due at `rate` messages/s.

        Without a rate each is due at once. After a delay it catches up.
        """
        number = 0
        while self.keep_running(number, self.started + number / (rate or math.inf)):
            number += 1
            yield number

    def flush(self) -> None:
        """Wait until every published message is confirmed."""
        self.wait_until(lambda: not len(self.outbox))

    # ---- consuming

    def deliveries(self, idle: float | None = None, ack_every: int = BATCH) -> Iterator[Delivery]:
        """Yield each delivery until the run is over.

        It is over after --count, after --duration, on a signal, or when the broker
        delivers nothing for `idle` seconds. Deliveries over a connection that is lost
        in between are dropped: the broker delivers them again.
        """
        # A broker that waits for acknowledgements sends nothing.
        ack_every = min(ack_every, max(1, self.args.prefetch // 2))
        while self.keep_running(self.done):
            if not self.inbox:
                self._pump()
            self._declare_again()
            yield from self._batch(ack_every)
            if idle and self._idle_for() > idle:
                self.stop_reason = f'nothing came for {idle:g} s'

    def _batch(self, ack_every: int) -> Iterator[Delivery]:
        """Yield deliveries for at most TICK_S: heartbeats and answers must not wait longer."""
        inbox = self.inbox
        # Without acknowledgements (--auto-ack) the broker sends all it has.
        unasked = len(inbox) - self.args.prefetch
        stop = self.done + max(BATCH, ack_every, unasked)
        if self.args.count:
            stop = min(stop, self.args.count)
        soon = time.monotonic() + TICK_S
        while inbox and self.done < stop and not script.stop_requested():
            self.last_activity = time.monotonic()
            if self.last_activity > soon:
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
        """Serve the connection without waiting; return False after --duration.

        Heartbeats, confirms and reconnecting go on.
        """
        self.reconnector.ioloop.call_later(0, lambda: None)
        self._pump()
        return self.in_time()

    # ---- what scripts ask

    @property
    def free_window(self) -> int:
        """How many messages publish() takes now without waiting."""
        return (self.outbox.window or 100) - len(self.outbox)

    @property
    def unconfirmed_count(self) -> int:
        """How many published messages are not confirmed yet."""
        return len(self.outbox)

    @property
    def unroutable(self) -> bool:
        """Whether the latest message was returned, without retry_returned."""
        return self.outbox.unroutable

    @unroutable.setter
    def unroutable(self, value: bool) -> None:
        self.outbox.unroutable = value

    @property
    def invalid_count(self) -> int:
        """How many deliveries were rejected as invalid."""
        return sum(self.rejections.values())

    @property
    def problem(self) -> str:
        """What keeps messages from flowing, with its duration, or ''."""
        return self.reconnector.problem()

    @property
    def blocked_s(self) -> float:
        """How long the broker has blocked publishers in this run."""
        return self.reconnector.alarm.lasted_s

    @property
    def away_since(self) -> float:
        """The time.monotonic() since which the broker is unavailable, if it is."""
        return self.reconnector.away_since

    @property
    def is_down(self) -> bool:
        """Whether the connection is closed, at the end."""
        return self.reconnector.is_down

    def check_set_aside(self) -> None:
        """Raise Failure if messages were set aside."""
        count = self.counts['set_aside']
        if count:
            raise Failure(f'the broker refuses {count} messages, see above', 1)

    def summary(self) -> dict[str, Any]:
        """Return what every summary holds."""
        return {
            'name': self.args.name,
            'run': self.run,
            'connections': self.counts['connections'],
            'duration_s': round(time.monotonic() - self.started, 3),
            'stopped': self.stop_reason,
            'exit_status': self.exit_status,
        }
