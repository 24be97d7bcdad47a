"""The rule for order: what comes first of two messages?

AMQP 0-9-1 (section 4.7) and RabbitMQ promise: what is published over one channel to one
queue, and delivered over one channel, comes in the order in which it was published. That
is not so for a message that

- was delivered or published before: it is flagged as redelivered, has a later attempt, or
  was seen before. It may have been requeued, or republished;
- has another priority (Sender has it), or none that is known: ledgers of older versions;
- was a dead letter, and came back;
- is of a queue that drops messages: monitor.py can publish dead letters once more.

Where the broker does not flag redeliveries nothing is known of order. A hand-over to
another consumer begins a new channel, and what it repeats is flagged. A quorum queue may
send deliveries that were lost between nodes once more, in another order and without the
flag (rabbitmq-server, pull request 14386): that is a remark, and no fault.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Union

ChannelKey = tuple[str, str, int]  # name, run and epoch


class Sender(NamedTuple):
    """Over which channel messages were published, and how: what has one order."""

    key: ChannelKey
    exchange: str
    queue: str | None  # of the producer
    priority: int | None  # None: not known

    def target(self) -> tuple[str, str | None]:
        """Return the exchange, or the queue: to where this was published."""
        if self.exchange:
            return self.exchange, None
        return '', self.queue


class Way(NamedTuple):
    """From which channel of a producer, through which queue, to which one of a consumer."""

    sender: Sender
    queue: str | None
    receiver: ChannelKey


class Overtaken(NamedTuple):
    """A message that came after one that was published later."""

    message_id: str
    later_one: str
    way: Way


class Arrived(NamedTuple):
    """A first delivery, and where its message stands among those of its sender."""

    way: Way
    number: int
    message_id: str


class Early(NamedTuple):
    """A first delivery that was read before its attempt: another ledger has that."""

    queue: str | None
    message_id: str


Latest = dict[Way, tuple[int, str]]
Origins = Callable[[str], Union[tuple[Sender, int], None]]
MOST_WAITING = 100_000  # deliveries of a channel behind one of which no attempt is known


class Order:
    """Takes first deliveries in the order in which they came.

    Clocks do not tell which of two ledgers is to be read first. So what comes to a channel
    waits behind an early one until that one's attempt is known.
    """

    def __init__(self) -> None:
        self.latest: Latest = defaultdict(lambda: (0, ''))
        self.overtaken: list[Overtaken] = []
        self.waiting: dict[ChannelKey, deque[Arrived | Early]] = {}

    def is_next(
        self,
        way: Way,
        number: int,
    ) -> bool:
        """Return whether all that came this way was published before."""
        return way.receiver not in self.waiting and number > self.latest[way][0]

    def came(
        self,
        way: Way,
        number: int,
        message_id: str,
    ) -> None:
        """Note that a message came, the attempt `number` of its sender; 0 is not known."""
        one = Arrived(way, number, message_id)
        if way.receiver in self.waiting:
            self.waiting[way.receiver].append(one)
        else:
            self.overtaken += overtaken(one, self.latest)

    def came_early(
        self,
        receiver: ChannelKey,
        early: Early,
    ) -> None:
        """Note that a message came of which no attempt is known so far."""
        self.waiting.setdefault(receiver, deque()).append(early)

    def settle(
        self,
        receiver: ChannelKey,
        origins: Origins,
    ) -> None:
        """Look at what waits as far as the attempts are known; `origins` tells them by id."""
        waiting = self.waiting[receiver]
        while waiting:
            one = arrived(waiting[0], receiver, origins)
            if one:
                self.overtaken += overtaken(one, self.latest)
            elif len(waiting) < MOST_WAITING:
                return
            waiting.popleft()
        del self.waiting[receiver]

    def all_overtaken(self, origins: Origins) -> Iterator[Overtaken]:
        """Yield all that is known so far; what was never attempted is passed over."""
        yield from self.overtaken
        for receiver, waiting in self.waiting.items():
            latest = defaultdict(lambda: (0, ''), self.latest)
            for each in waiting:
                one = arrived(each, receiver, origins)
                if one:
                    yield from overtaken(one, latest)


def arrived(
    one: Arrived | Early,
    receiver: ChannelKey,
    origins: Origins,
) -> Arrived | None:
    """Return what came, None if its attempt is not known."""
    if isinstance(one, Arrived):
        return one
    origin = origins(one.message_id)
    if not origin:
        return None
    sender, number = origin
    return Arrived(Way(sender, one.queue, receiver), number, one.message_id)


def overtaken(one: Arrived, latest: Latest) -> Iterator[Overtaken]:
    """Yield the message if it came after a later one; note that it came."""
    way, number, message_id = one
    if way.sender.priority is None or not number:
        return
    highest, latest_id = latest[way]
    if number > highest:
        latest[way] = (number, message_id)
    elif number < highest:
        yield Overtaken(message_id, latest_id, way)
