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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import NoReturn, TypeVar

import pika
from pika.channel import Channel

from common import Failure
from siamese import script, start
from siamese.messaging.deliveries import Delivery, Run, ack_batch
from siamese.messaging.fast_path import BatchMessage, Shape, Template
from siamese.messaging.messages import Message
from siamese.messaging.outbox import why_unconfirmed
from siamese.messaging.serving import Serving
from siamese.messaging.session import TICK_S
from siamese.text import count_of

BATCH = 50  # messages acknowledged at once, unless more than TICK_S passes
EMPTY_CHECK_S = 1  # without a delivery, before the broker is asked whether the queue is empty
REDECLARE_S = 10  # no consumer is told that an exchange or a binding was deleted

Taken = TypeVar('Taken', Delivery, Run)

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


class Link(Serving):
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

        It is sent with the next turn of the loop. Waits only while the window is full; it is
        half empty when this returns, so that messages and confirms travel together.
        `properties` need a message_id of their own; delivery_mode is persistent unless it is
        given, and the header x-attempt is set from the second attempt on. `due` is the
        time.monotonic() at which the message should have been published.
        """
        if properties.delivery_mode is None:
            properties.delivery_mode = PERSISTENT
        due = due or time.monotonic()
        self.outbox.backlog.append(Message(exchange, routing_key, body, properties, due))
        self._send()
        self._wait_for_window()

    def publish_batch(
        self, template: Template, message_ids: Iterable[bytes], dues: Iterable[float]
    ) -> None:
        """Publish messages of a template, as publish() does, but in one piece.

        `message_ids` are their message_ids, all of the length that the template says;
        `dues` when each should have been published. The window should have room for them.
        """
        batch = list(map(BatchMessage, repeat(template), message_ids, dues))
        self._send()
        sent = 0
        if self.reconnector.is_usable():
            sent = self.outbox.send_batch(batch, self.channel, self.connection)
        self.outbox.backlog.extend(batch[sent:])
        self.connection.flush()
        self._wait_for_window()

    def _wait_for_window(self) -> None:
        outbox = self.outbox
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
        while self.keep_publishing(number, self.started + number / (rate or math.inf)):
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
                raise self.unfinished(what, why_unconfirmed(outbox))
            self.check_connected()
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
        return self._consumed(self.inbox.take_delivery, idle, ack_every, until_empty)

    def runs(
        self,
        idle: float | None = None,
        ack_every: int = BATCH,
        until_empty: bool = False,
    ) -> Iterator[Run]:
        """Yield what deliveries() does, in runs.

        The on_run_callback of basic_consume is link.on_run.
        """
        return self._consumed(self.inbox.take_run, idle, ack_every, until_empty)

    def _consumed(
        self,
        take: Callable[[int], Taken],
        idle: float | None,
        ack_every: int,
        until_empty: bool,
    ) -> Iterator[Taken]:
        ack_every = ack_batch(ack_every, self.args.prefetch)
        while self.keep_consuming():
            self._declare_again()
            yield from self._batch(take, ack_every)
            if idle and self._idle_for() > idle:
                self.stop_reason = f'nothing came for {idle:g} s'
            if until_empty and self._idle_for() > EMPTY_CHECK_S:
                self._stop_if_empty()

    def on_run(
        self, channel: Channel, shape: Shape, first_tag: int, message_ids: list[bytes]
    ) -> None:
        """Keep deliveries for runs(). The on_run_callback of basic_consume."""
        self.taken += len(message_ids)
        self.inbox.put_run(Run(self, channel, shape, first_tag, message_ids))

    def waiting_deliveries(self) -> Iterator[Delivery]:
        """Yield the deliveries that are here already."""
        while self.inbox:
            yield self.inbox.popleft()

    def _batch(self, take: Callable[[int], Taken], ack_every: int) -> Iterator[Taken]:
        """Yield deliveries for at most TICK_S: heartbeats and answers must not wait longer.

        `take` takes them from the inbox, at most as many as it is told.
        """
        inbox = self.inbox
        most = max(BATCH, ack_every)
        if self.auto_ack:  # the broker sends all it has
            most = max(most, inbox.waiting_count() - self.args.prefetch)
        last = self.done + most
        if self.args.count:
            last = min(last, self.args.count)
        deadline = time.monotonic() + TICK_S
        while inbox and self.done < last and not script.stop_requested():
            self.last_activity = time.monotonic()
            if self.last_activity > deadline:
                break
            taken = take(last - self.done)
            self.done += taken.count
            yield taken
            # A message that breaks connections comes first again, once the others are acked.
            if inbox.to_ack >= ack_every or taken.redelivered:
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
        if self.reconnector.is_usable() and time.monotonic() > self.declared_at + REDECLARE_S:
            self.declared_at = time.monotonic()
            for declare in self.topology:
                declare()
