"""Messages between publish and the broker's confirm: what is not accepted is republished, what is poison is parked."""

import hashlib
import logging
import time
from collections import deque
from itertools import takewhile

import pika

from siamese.messaging.errors import cause, is_poison

UNSENT = 1_000_000  # bytes that may wait for flush(); above it messages wait here, where they take no memory
STUBBORN = 4  # rounds of nacks; a channel opened while a quorum queue elects its leader may nack until it is closed


class Message:
    """A message on its way: what to publish, and how often it was."""

    __slots__ = (
        'exchange',
        'routing_key',
        'body',
        'properties',
        'due',
        'attempt',
        'sent_at',
        'returned',
        'suspected',
    )

    def __init__(self, exchange, routing_key, body, properties, due):
        self.exchange, self.routing_key, self.body, self.properties = (
            exchange,
            routing_key,
            body,
            properties,
        )
        self.due, self.attempt, self.sent_at, self.returned, self.suspected = due, 0, 0.0, False, 0


class Outbox:
    """The messages of a delivery.Link that are not accepted yet.

    `window` is how many may wait for their confirm, 0 if there are none; without `retry_returned` a message that no
    queue takes is counted, not republished.
    """

    def __init__(self, link, window, retry_returned):
        self.link, self.window, self.retry_returned = link, window, retry_returned
        self.backlog = deque()  # to be sent (again)
        self.unconfirmed = {}  # delivery tag -> Message, oldest first
        self.suspect = None  # the message that is sent alone, for one like it made the broker close
        self.last_tag, self.not_before = 0, 0.0
        self.nacking = self.returning = False  # since the last accepted message

    def __len__(self):
        return len(self.unconfirmed) + len(self.backlog)

    def oldest(self):
        """Return the message that waits longest for its confirm, or None."""
        return next(iter(self.unconfirmed.values()), None)

    def send(self):
        """Publish of the backlog what the window has room for."""
        link = self.link
        while (
            self.backlog
            and link.is_ready
            and link.channel.is_open
            and len(self.unconfirmed) < (self.window or 1)
            and time.monotonic() >= self.not_before
            and link.connection.emitted_size < UNSENT
        ):
            if self.suspect or (self.backlog[0].suspected and self.unconfirmed):
                break
            message = self.backlog.popleft()
            self.suspect = message if message.suspected else None
            message.attempt, message.sent_at, message.returned = (
                message.attempt + 1,
                time.monotonic(),
                False,
            )
            if message.attempt > 1:
                link.counts['republished'] += 1
                message.properties.headers = {
                    **(message.properties.headers or {}),
                    'x-attempt': message.attempt,
                }
            if link.args.ledger:
                facts = {'exchange': message.exchange, 'expiration': message.properties.expiration}
                self._record(
                    'attempted',
                    message,
                    digest=hashlib.sha256(message.body).hexdigest(),
                    **{key: value for key, value in facts.items() if value},
                )
            if self.window:
                self.last_tag += 1
                self.unconfirmed[self.last_tag] = message
            link.channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                message.properties,
                mandatory=True,
            )

    def confirmed(self, frame):
        """The callback of confirm_delivery: accepted, unless the broker nacks the message or had returned it."""
        tag = frame.method.delivery_tag
        tags = list(takewhile(tag.__ge__, self.unconfirmed)) if frame.method.multiple else [tag]
        accepted = []
        self.suspect = None  # it was alone on its way
        for message in [self.unconfirmed.pop(tag) for tag in tags if tag in self.unconfirmed]:
            if message.returned and not self.retry_returned:
                self.link.counts['returned'] += 1
                self._record('returned', message)
            elif message.returned or isinstance(frame.method, pika.spec.Basic.Nack):
                self._retry(message, 'returned' if message.returned else 'nacked')
            else:
                accepted.append(message)
                self._record('confirmed', message)
        if accepted:
            if self.nacking:
                logging.info('broker takes messages again')
            self.nacking = self.returning = False
            self.link.messages_confirmed(accepted)

    def returned(self, _channel, method, properties, _body):
        """The callback of add_on_return_callback: no queue takes a message."""
        waiting = False
        for message in (
            self.unconfirmed.values()
        ):  # basic.return has no delivery tag and comes before the confirm
            if message.properties.message_id == properties.message_id:
                message.returned = waiting = True
        if self.retry_returned:
            if not self.returning:
                self.returning = True
                logging.warning(
                    'message returned: %s (%s); declaring its queue again',
                    method.reply_text,
                    method.routing_key,
                )
            return
        if not self.link.unroutable:
            logging.warning('nobody listens at %s', method.exchange or method.routing_key)
        self.link.unroutable = True
        self.link.counts[
            'returned'
        ] += not waiting  # else when it is confirmed: it may yet be cut off

    def lost(self, reason):
        """The channel is gone: what is not confirmed is to be republished, first of all."""
        for message in self.unconfirmed.values():
            self._record('in_doubt', message)
        if is_poison(reason):
            self._look_for_poison(reason)
        self.suspect, self.last_tag = None, 0
        self.backlog.extendleft(reversed(self.unconfirmed.values()))
        self.unconfirmed.clear()

    def _look_for_poison(self, reason):
        """One of the unconfirmed messages made the broker close: park it if it was alone, else send them one by one."""
        for message in self.unconfirmed.values():
            message.suspected += 1
        if self.suspect and self.suspect.suspected > 1:
            self.unconfirmed.clear()
            self.link.counts['set_aside'] += 1
            self._record('set_aside', self.suspect)
            logging.error(
                'the broker refuses message %s: %s; it is not republished',
                self.suspect.properties.message_id,
                cause(reason),
            )

    def _retry(self, message, event):
        """The broker did not take a message: send it again after a while, and if it was returned, declare anew."""
        link = self.link
        self._record(event, message)
        link.counts[event] += 1
        if event == 'nacked' and not self.nacking:
            self.nacking = True
            logging.warning('broker nacks messages (is a queue full?), trying again')
        self.backlog.append(message)
        if time.monotonic() >= self.not_before:  # once for all that come back together
            link.failures += 1
            self.not_before = time.monotonic() + link.retry_delay()
        if self.unconfirmed or not link.channel.is_open:
            return
        if event == 'returned':
            link.reopen('a message was returned')
        elif link.failures >= STUBBORN:
            link.quiet, link.failures = True, 0
            link.reopen('all messages are nacked')

    def _record(self, event, message, **facts):
        self.link.record(event, id=message.properties.message_id, attempt=message.attempt, **facts)
