"""The message of scenarios 3 and 4: 'Hello world', numbered and dated.

What makes such a message invalid, which copies of it are explained, which are missing.
"""

from __future__ import annotations

import re
import time
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import pika

from siamese import copies, flags
from siamese.messaging.deliveries import Delivery, Invalid
from siamese.messaging.link import Link

TEXT = b'Hello world'
EXCHANGE = 'siamese.fanout'
QUEUE_EXPIRES_MS = 3_600_000  # of scenario 3: without a consumer the broker deletes it
REMEMBERED_MESSAGES = 10_000  # and runs, that a consumer knows of, the latest: 4 MB
MESSAGE_ID = re.compile('(.{1,200})-([0-9a-f]{8})-([1-9][0-9]{0,17})')  # name, run, number

# Deliveries that a quorum queue allows beyond the first; a classic queue has no limit.
DELIVERY_LIMIT = 20
ACK_QUEUE_ARGUMENTS = {
    'classic': {'x-max-priority': 9},
    'quorum': {'x-delivery-limit': DELIVERY_LIMIT},
}


class Hello(NamedTuple):
    """A message as its consumer reads it."""

    producer: str
    run: str
    number: int  # counted from 1 in each run
    age: float  # in seconds, by the clocks of producer and consumer
    overdue: bool  # older than its time to live


def add_exchange_flag(parser: flags.Parser) -> None:
    parser.add_argument(
        '--exchange',
        type=flags.name,
        default=EXCHANGE,
        help='fanout exchange (default: %(default)s)',
    )


def message(
    link: Link,
    number: int,
    **properties: Any,
) -> tuple[bytes, pika.BasicProperties]:
    """Return body and properties of message `number` of this run.

    `properties` are further ones, by the names of pika.BasicProperties.
    """
    return TEXT, pika.BasicProperties(
        message_id=f'{link.args.name}-{link.run}-{number}',
        content_type='text/plain',
        app_id=link.args.name,
        headers={'x-sent-ms': int(time.time() * 1000)},
        **properties,
    )


def parse_hello(properties: pika.BasicProperties, body: bytes) -> Hello:
    """Return the Hello in a message; raise Invalid."""
    if properties.content_type != 'text/plain':
        raise Invalid('foreign content type', properties.content_type)
    if body != TEXT:
        raise Invalid('another text', f'{len(body)} bytes, {body[:40]!r}')
    message_id = properties.message_id
    match = None
    if isinstance(message_id, str):  # pika returns bytes if it is not UTF-8
        match = MESSAGE_ID.fullmatch(message_id)
    if not match or not match[1].isprintable():
        raise Invalid('message_id is no name, run and number', message_id)
    sent_ms = (properties.headers or {}).get('x-sent-ms')
    if not isinstance(sent_ms, int) or isinstance(sent_ms, bool):
        raise Invalid('header x-sent-ms is no number', sent_ms)
    age = time.time() - sent_ms / 1000
    return Hello(
        producer=match[1],
        run=match[2],
        number=int(match[3]),
        age=age,
        overdue=is_overdue(age, properties.expiration or ''),
    )


def is_overdue(age: float, expiration: str) -> bool:
    """Return whether a message of this age (in seconds) should have expired."""
    return expiration.isdecimal() and age > int(expiration) / 1000


class Received:
    """The messages that this process has received, the latest REMEMBERED_MESSAGES."""

    def __init__(self, link: Link) -> None:
        self.link = link
        # message_id -> the latest copy, and its number
        self.known: OrderedDict[str, tuple[copies.Copy, int]] = OrderedDict()

    def add(self, delivery: Delivery, settled: bool = True) -> int:
        """Remember a delivery; return 1 for the first copy of a message, 2 for the second ...

        `settled` is False if the delivery will not be acknowledged. Raises Invalid
        for a copy that is not explained.
        """
        copy = copies.Copy(
            attempt=delivery.attempt,
            channel=self.link.epoch,
            redelivered=delivery.redelivered,
            settled=settled,
        )
        message_id = delivery.properties.message_id
        copy_number = 1
        if message_id in self.known:
            before, last_number = self.known[message_id]
            copy_number = last_number + 1
            explanation = copies.explain(
                [before], copy, self.link.args.queue_type, self.link.flags_redelivered
            )
            if explanation == copies.REPLAYED:
                raise Invalid('replayed', contradiction(before))
        self.known[message_id] = copy, copy_number
        while len(self.known) > REMEMBERED_MESSAGES:
            self.known.popitem(last=False)
        return copy_number


def contradiction(before: copies.Copy) -> str:
    """Return in words why the broker may not deliver the message again as it did."""
    if before.settled:
        return 'settled before'
    return 'not flagged as redelivered'


Run = tuple[str, str]  # producer, run


class Gaps:
    """Which numbers are missing in the runs of all producers, the latest REMEMBERED_MESSAGES."""

    def __init__(self) -> None:
        self.highest: Counter[Run] = Counter()  # the highest number
        self.received: Counter[Run] = Counter()  # how many different numbers
        self.missed_in_forgotten_runs = 0

    def add(self, hello: Hello, is_first: bool) -> int:
        """Add a message; return how many numbers are missing between it and the last one.

        `is_first` is False for a copy of a message that was added before.
        """
        run = (hello.producer, hello.run)
        gap = hello.number - self.highest[run] - 1
        self.highest[run] = max(self.highest[run], hello.number)
        if is_first:
            self.received[run] += 1
        if len(self.highest) > REMEMBERED_MESSAGES:
            self._forget(next(iter(self.highest)))
        return max(0, gap)

    def _forget(self, run: Run) -> None:
        missed = self.highest.pop(run) - self.received.pop(run, 0)
        self.missed_in_forgotten_runs += max(0, missed)

    def missed(self) -> int:
        """Return how many numbers did not come here."""
        missing = self.highest - self.received
        return self.missed_in_forgotten_runs + sum(missing.values())
