"""Messages that wait for a publisher confirm.

Unconfirmed messages are republished; poison messages are set aside. The outbox
knows no link: it publishes over the channel it is given, and returns what else
is to be done.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pika
from pika.spec import Basic

from siamese.messaging.books import Books
from siamese.messaging.errors import cause, is_poison
from siamese.messaging.fast_path import BatchMessage
from siamese.messaging.framing import Channel, Connection
from siamese.messaging.messages import Message
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
    published again.
    """

    def __init__(
        self,
        window: int,
        retry_returned: bool,
        counts: Counter[str],
        books: Books,
    ) -> None:
        self.window = window
        self.retry_returned = retry_returned
        self.counts = counts
        self.books = books
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
        if self.backlog or self.suspected_poison or now < self.not_before:
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
        if self.books:
            self.books.batch_attempted(batch)
        if self.window:
            self.unconfirmed.add(batch)
        channel.publish_batch(template, [message.message_id for message in batch])
        return len(batch)

    def _publish(self, message: Message, channel: Channel, now: float) -> None:
        if message.suspicions:
            self.suspected_poison = message
        message.attempt += 1
        message.sent_at = now
        message.returned = ''
        if message.attempt > 1:
            self.counts['republished'] += 1
            headers = message.properties.headers or {}
            message.properties.headers = {**headers, 'x-attempt': message.attempt}
        if self.books:  # saves a call for each message
            self.books.attempted(message)
        if self.window:
            self.unconfirmed.add([message])
        # By position: keywords take 0.1 us more for each message.
        channel.basic_publish(
            message.exchange, message.routing_key, message.body, message.properties, mandatory=True
        )

    def on_confirm(self, method: Basic.Ack | Basic.Nack) -> Outcome:
        """Take the broker's answer to one or more messages; return what came of it.

        A message is confirmed unless the broker nacks it (LavinMQ returns it, too, where a
        queue is full), or had returned it.
        """
        self.suspected_poison = None  # it was published alone
        outcome = Outcome()
        answered = self.unconfirmed.take(method)
        nacked = isinstance(method, Basic.Nack)
        for message in answered:
            if nacked:
                self._retry(message, 'nacked', outcome)
            elif message.returned:
                self._take_back(message, outcome)
            else:
                outcome.confirmed.append(message)
        if outcome.confirmed:
            if self.books:  # saves a look at each message
                self.books.confirmed(outcome.confirmed)
            self._taken_again()
        return outcome

    def _take_back(self, message: Message, outcome: Outcome) -> None:
        self._log_return(message.returned, message.exchange, message.routing_key)
        if self.retry_returned:
            self._retry(message, 'returned', outcome)
        else:
            self.counts['returned'] += 1
            self.books.note('returned', message)

    def _taken_again(self) -> None:
        if self.nacking:
            logging.info('broker takes messages again')
        self.nacking = False
        self.returning = False
        self.unroutable = False

    def _retry(self, message: Message, event: str, outcome: Outcome) -> None:
        self.books.note(event, message)
        self.counts[event] += 1
        outcome.retried = outcome.retried or event
        if event == 'nacked' and not self.nacking:
            self.nacking = True
            logging.warning('broker nacks messages (is a queue full?), retrying')
        message.unanswered_since = message.sent_at = 0.0  # this was an answer
        self.backlog.append(message)

    def on_return(
        self,
        _channel: Channel,
        method: Basic.Return,
        properties: pika.BasicProperties,
        _body: bytes,
    ) -> None:
        """Note that no queue takes a message. The callback of add_on_return_callback."""
        if self.unconfirmed.mark_returned(properties.message_id, method.reply_text):
            return  # it counts when the broker confirms it
        self._log_return(method.reply_text, method.exchange, method.routing_key)
        if not self.retry_returned:
            self.counts['returned'] += 1
            for message in withdrawn(self.backlog, properties.message_id):
                self.books.note('returned', message)

    def _log_return(self, why: str, exchange: str, routing_key: str) -> None:
        if self.retry_returned and not self.returning:
            text = 'message returned: %s (%s); declaring its queue again'
            logging.warning(text, why, routing_key)
        if not self.retry_returned and not self.unroutable:
            text = 'message returned: no queue is bound to %s'
            logging.warning(text, exchange or routing_key)
        self.returning = self.retry_returned
        self.unroutable = not self.retry_returned

    def lost(self, reason: BaseException) -> None:
        """Take back all unconfirmed messages, for the channel is gone for this reason."""
        for message in self.unconfirmed.values():
            message.unanswered_since = message.unanswered_since or message.sent_at
            self.books.note('in_doubt', message)
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
            self.books.note('set_aside', self.suspected_poison)
            logging.error(
                'the broker refuses message %s: %s; it is not published again',
                self.suspected_poison.properties.message_id,
                cause(reason),
            )


def why_unconfirmed(outbox: Outbox) -> str:
    """Return why messages of the outbox are not confirmed, for people."""
    if outbox.nacking:
        return 'the broker nacks them'
    if outbox.returning:
        return 'no queue takes them'
    return 'the broker has not answered'


def withdrawn(backlog: deque[Message], message_id: str) -> list[Message]:
    """Take from the backlog what was nacked, and returned only then, as Qpid does."""
    found = [
        message
        for message in backlog
        if message.attempt and message.properties.message_id == message_id
    ]
    for message in found:
        backlog.remove(message)
    return found
