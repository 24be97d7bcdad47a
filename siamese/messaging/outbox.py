"""Messages that wait for a publisher confirm.

Unconfirmed messages are republished; poison messages are set aside. The outbox
knows no link: it publishes over the channel it is given, and returns what else
is to be done.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pika
from pika.spec import Basic

from siamese.messaging.errors import cause, is_poison
from siamese.messaging.fast_path import BatchMessage
from siamese.messaging.framing import Channel, Connection
from siamese.messaging.messages import Message, facts_of
from siamese.messaging.unconfirmed import Unconfirmed

# Above it messages wait in the backlog, where they take no memory twice.
MAX_UNSENT_BYTES = 1_000_000


@dataclass
class Outcome:
    """What a publisher confirm (or nack) brought."""

    confirmed: list[Message] = field(default_factory=list)
    retried: str = ''  # 'nacked' or 'returned', if messages are to be published again


class Outbox:
    """The messages of a link that are not confirmed yet.

    `window` is how many may wait for their confirm, 0 without publisher confirms.
    Without `retry_returned`, messages that no queue takes are counted, and not
    published again. `record` writes an event into the ledger; None without one.
    """

    def __init__(
        self,
        window: int,
        retry_returned: bool,
        counts: Counter[str],
        record: Callable[..., None] | None,
    ) -> None:
        self.window = window
        self.retry_returned = retry_returned
        self.counts = counts
        self.record = record
        self.backlog: deque[Message] = deque()  # to be published (again)
        self.unconfirmed = Unconfirmed()
        self.suspected_poison: Message | None = None  # published alone, to see if it is the one
        self.not_before = 0.0  # time.monotonic() of the next attempt after a nack
        self.nacking = False  # since the last confirm
        self.returning = False  # likewise
        self.unroutable = False  # likewise, without retry_returned

    def __len__(self) -> int:
        return len(self.unconfirmed) + len(self.backlog)

    def republish_count(self) -> int:
        """Return how many messages of the backlog were published before."""
        return sum(message.attempt > 0 for message in self.backlog)

    def send(self, channel: Channel, connection: Connection) -> None:
        """Publish from the backlog what the window has room for, over an open channel."""
        now = time.monotonic()
        if now < self.not_before:
            return
        limit = self.window or 1
        backlog = self.backlog
        while (
            backlog and len(self.unconfirmed) < limit and connection.emitted_size < MAX_UNSENT_BYTES
        ):
            if self.suspected_poison or (backlog[0].suspicions and self.unconfirmed):
                break
            self._publish(backlog.popleft(), channel, now)

    def send_batch(
        self, batch: Sequence[BatchMessage], channel: Channel, connection: Connection
    ) -> int:
        """Publish new messages of one template, in one piece; return how many.

        The others, or all where that is not possible, take the way through the backlog.
        """
        now = time.monotonic()
        # The ledger has a line for each message.
        if self.record or self.backlog or self.suspected_poison or now < self.not_before:
            return 0
        template = batch[0].template
        room = (MAX_UNSENT_BYTES - connection.emitted_size) // template.message_bytes
        if self.window:
            room = min(room, self.window - len(self.unconfirmed))
        batch = batch[: max(room, 0)]
        if not batch:
            return 0
        for message in batch:
            message.attempt = 1
            message.sent_at = now
        if self.window:
            self.unconfirmed.add(batch)
        channel.publish_batch(template, [message.message_id for message in batch])
        return len(batch)

    def _publish(self, message: Message, channel: Channel, now: float) -> None:
        if message.suspicions:
            self.suspected_poison = message
        message.attempt += 1
        message.sent_at = now
        message.returned = False
        if message.attempt > 1:
            self.counts['republished'] += 1
            headers = message.properties.headers or {}
            message.properties.headers = {**headers, 'x-attempt': message.attempt}
        if self.record:  # saves a call for each message
            self._record('attempted', message, **facts_of(message))
        if self.window:
            self.unconfirmed.add([message])
        # By position: keywords take 0.1 us more for each message.
        channel.basic_publish(
            message.exchange, message.routing_key, message.body, message.properties, mandatory=True
        )

    def on_confirm(self, method: Basic.Ack | Basic.Nack) -> Outcome:
        """Take the broker's answer to one or more messages; return what came of it.

        A message is confirmed unless the broker nacks it, or had returned it.
        """
        self.suspected_poison = None  # it was published alone
        outcome = Outcome()
        answered = self.unconfirmed.take(method)
        nacked = isinstance(method, Basic.Nack)
        for message in answered:
            if message.returned and not self.retry_returned:
                self.counts['returned'] += 1
                self._record('returned', message)
            elif message.returned:
                self._retry(message, 'returned', outcome)
            elif nacked:
                self._retry(message, 'nacked', outcome)
            else:
                outcome.confirmed.append(message)
                if self.record:  # saves a call for each message
                    self._record('confirmed', message)
        if outcome.confirmed:
            self._taken_again()
        return outcome

    def _taken_again(self) -> None:
        if self.nacking:
            logging.info('broker takes messages again')
        self.nacking = False
        self.returning = False
        self.unroutable = False

    def _retry(self, message: Message, event: str, outcome: Outcome) -> None:
        self._record(event, message)
        self.counts[event] += 1
        outcome.retried = outcome.retried or event
        if event == 'nacked' and not self.nacking:
            self.nacking = True
            logging.warning('broker nacks messages (is a queue full?), retrying')
        self.backlog.append(message)

    def on_return(
        self,
        _channel: Channel,
        method: Basic.Return,
        properties: pika.BasicProperties,
        _body: bytes,
    ) -> None:
        """Note that no queue takes a message. The callback of add_on_return_callback."""
        waiting = self.unconfirmed.mark_returned(properties.message_id)
        if self.retry_returned:
            self._log_first_return(method)
            return
        if not self.unroutable:
            target = method.exchange or method.routing_key
            logging.warning('message returned: no queue is bound to %s', target)
        self.unroutable = True
        if not waiting:  # else it is counted when the broker confirms it
            self.counts['returned'] += 1

    def _log_first_return(self, method: Basic.Return) -> None:
        if not self.returning:
            self.returning = True
            logging.warning(
                'message returned: %s (%s); declaring its queue again',
                method.reply_text,
                method.routing_key,
            )

    def lost(self, reason: BaseException) -> None:
        """Take back all unconfirmed messages, for the channel is gone for this reason."""
        for message in self.unconfirmed.values():
            self._record('in_doubt', message)
        if is_poison(reason):
            self._look_for_poison(reason)
        self.suspected_poison = None
        self.backlog.extendleft(reversed(self.unconfirmed.values()))
        self.unconfirmed.forget()

    def _look_for_poison(self, reason: BaseException) -> None:
        """One of the unconfirmed messages made the broker close.

        Set it aside if it was alone, else publish them one by one.
        """
        for message in self.unconfirmed.values():
            message.suspicions += 1
        if self.suspected_poison and self.suspected_poison.suspicions > 1:
            self.unconfirmed.clear()
            self.counts['set_aside'] += 1
            self._record('set_aside', self.suspected_poison)
            logging.error(
                'the broker refuses message %s: %s; it is not published again',
                self.suspected_poison.properties.message_id,
                cause(reason),
            )

    def _record(self, event: str, message: Message, **facts: str) -> None:
        if self.record:
            message_id = message.properties.message_id
            self.record(event, id=message_id, attempt=message.attempt, **facts)
