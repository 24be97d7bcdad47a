"""Messages that wait for a publisher confirm.

Unconfirmed messages are republished; poison messages are set aside. The outbox
knows no link: it publishes over the channel it is given, and returns what else
is to be done.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile

import pika
from pika.channel import Channel
from pika.spec import Basic

from siamese.messaging.errors import cause, is_poison
from siamese.messaging.framing import Connection

# Above it messages wait in the backlog, where they take no memory twice.
MAX_UNSENT_BYTES = 1_000_000


class Message:
    """A message on its way: what to publish, and how often that was done."""

    __slots__ = (
        'attempt',
        'body',
        'due',
        'exchange',
        'properties',
        'returned',
        'routing_key',
        'sent_at',
        'suspicions',
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties,
        due: float,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.due = due  # time.monotonic() at which it should have been published
        self.attempt = 0
        self.sent_at = 0.0
        self.returned = False
        self.suspicions = 0  # how often the broker closed over a message while it was unconfirmed


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
        self.unconfirmed: dict[int, Message] = {}  # by delivery tag, oldest first
        self.suspected_poison: Message | None = None  # published alone, to see if it is the one
        self.last_tag = 0
        self.not_before = 0.0  # time.monotonic() of the next attempt after a nack
        self.nacking = False  # since the last confirm
        self.returning = False  # likewise
        self.unroutable = False  # likewise, without retry_returned

    def __len__(self) -> int:
        return len(self.unconfirmed) + len(self.backlog)

    def oldest_wait_s(self) -> float | None:
        """Return how long the oldest unconfirmed message has waited; None if there is none."""
        oldest = next(iter(self.unconfirmed.values()), None)
        if not oldest:
            return None
        return time.monotonic() - oldest.sent_at

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
            self.last_tag += 1
            self.unconfirmed[self.last_tag] = message
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
        nacked = isinstance(method, Basic.Nack)
        for message in self._answered(method):
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

    def _answered(self, method: Basic.Ack | Basic.Nack) -> list[Message]:
        tag = method.delivery_tag
        unconfirmed = self.unconfirmed
        if method.multiple:
            tags = list(takewhile(tag.__ge__, unconfirmed))
            return [unconfirmed.pop(answered) for answered in tags]
        if tag in unconfirmed:
            return [unconfirmed.pop(tag)]
        return []

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
        waiting = False
        # basic.return has no delivery tag, and comes before the confirm.
        for message in self.unconfirmed.values():
            if message.properties.message_id == properties.message_id:
                message.returned = True
                waiting = True
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
        self.last_tag = 0
        self.backlog.extendleft(reversed(self.unconfirmed.values()))
        self.unconfirmed.clear()

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

    def restart_clocks(self) -> None:
        """Let the wait for each confirm begin only now: the broker blocked publishers."""
        now = time.monotonic()
        for message in self.unconfirmed.values():
            message.sent_at = now

    def _record(self, event: str, message: Message, **facts: str) -> None:
        if self.record:
            message_id = message.properties.message_id
            self.record(event, id=message_id, attempt=message.attempt, **facts)


def facts_of(message: Message) -> dict[str, str]:
    """Return what the ledger says of a message when it is published."""
    facts = {'digest': hashlib.sha256(message.body).hexdigest()}
    if message.exchange:
        facts['exchange'] = message.exchange
    if message.properties.expiration:
        facts['expiration'] = message.properties.expiration
    return facts
