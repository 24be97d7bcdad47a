"""What a queue was told to drop, and whether that explains that messages are missing.

No honest broker may be accused, and no limit may hide a loss that it cannot explain.
So each rule asks for what *must* have come out of a queue with this limit:

- x-max-length=N drops the oldest message only while more than N others wait: after the
  last drop N messages wait, and all of them come out. With x-max-length-bytes those are
  as many as surely fit. A classic queue without priorities keeps its order: behind what
  it dropped there are N others. With overflow=reject-publish nothing is dropped.
- x-message-ttl drops no message that is younger.
- x-expires drops what waited while the queue had no consumer for so long.
- A delivery limit drops what came back more often than it says.
- A stream forgets by whole segments: nothing can be judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from siamese.clocks import NEVER, Clocks, Moment, Process
from siamese.order import Sender

# Arguments and keys of policies. Of several values the lowest one holds.
LENGTH = 'max-length'
BYTES = 'max-length-bytes'
TTL = 'message-ttl'
EXPIRES = 'expires'
DELIVERIES = 'delivery-limit'
AGE = 'max-age'
NUMBERS = (LENGTH, BYTES, TTL, EXPIRES, DELIVERIES)
# Of quorum queues that were told none; RabbitMQ has it from 4.0 on.
DEFAULT_DELIVERIES = 20
# What a message takes besides its body, at most: quorum queues count properties, too.
OVERHEAD_BYTES = 1024


class Origin(NamedTuple):
    """How a message was published first."""

    sender: Sender
    at: float  # s since 1970, by the ledger of its producer
    number: int  # among what this process published to this queue or exchange
    expiration: str


class Absent(NamedTuple):
    """A confirmed message that did not come out of a queue."""

    message_id: str
    queue: str | None
    where: str  # that, in words, where there are several queues
    origin: Origin
    returned: int  # how often a consumer rejected it, as far as ledgers say


@dataclass
class Channel:
    """One channel of a client, and what its clock showed (s)."""

    exchange: str | None
    queue: str | None
    consumes: bool
    clock: str
    zero: float  # what it shows at time 0 of the ledger
    first: float
    last: float
    heard: float  # the last time that it did something, before it was lost
    end: str = ''  # 'closed' or 'disconnected', if the ledger says


@dataclass
class Flow:
    """What went into a queue, came out, and who consumed it."""

    sent_by: Counter[Process]  # attempts
    unconfirmed: int  # of the attempts: they may be in the queue, or not
    came_out: int  # messages that were delivered, or left as dead letters
    largest: int | None  # bytes of the largest body
    channels: list[Channel]
    clocks: Clocks
    ends: Mapping[str, float]  # where the ledgers end, by each clock

    def published(self, one: Absent) -> Moment:
        """Return when a message was published first."""
        return self.clocks.moment(one.origin.sender.key[:2], one.origin.at)

    @property
    def clock(self) -> str | None:
        """The one clock of all that have to do with the queue, None if there are several."""
        clocks = {channel.clock for channel in self.channels}
        return clocks.pop() if len(clocks) == 1 else None

    @property
    def consumers(self) -> list[Channel]:
        """The channels that consume it, in their order."""
        return sorted((each for each in self.channels if each.consumes), key=began)


@dataclass
class Limits:
    """What is known of the limits of a queue: by its arguments, and by policies."""

    told: dict[str, Any] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)  # as it was told
    queue_type: str = ''
    has_priorities: bool = False
    is_known: bool = False  # whether a ledger holds the arguments

    def add_arguments(
        self,
        arguments: Mapping[str, Any],
        queue_type: str,
    ) -> None:
        """Take the arguments with which the queue was declared."""
        self.is_known = True
        self.queue_type = str(arguments.get('x-queue-type', queue_type))
        self.has_priorities = self.has_priorities or 'x-max-priority' in arguments
        named = {name[len('x-') :]: value for name, value in arguments.items()}
        self._add(named, 'x-{name}={value}')

    def add_policy(self, policy: Mapping[str, Any]) -> None:
        """Take the definition of the policy in effect."""
        self._add(policy, 'policy {name}={value}')

    def _add(
        self,
        named: Mapping[str, Any],
        words: str,
    ) -> None:
        for name, value in named.items():
            if name not in NUMBERS:
                self.told.setdefault(name, value)
            elif isinstance(value, int) and value < self.told.get(name, value + 1):
                self.told[name] = value
                self.words[name] = words.format(name=name, value=value)

    def may_drop(self) -> bool:
        """Return whether the queue drops messages, so that they can be dead letters."""
        return any(name in self.told for name in NUMBERS)

    def delivery_limit(self) -> int | None:
        """Return how often a message may come back, None if that has no limit."""
        if self.queue_type != 'quorum':
            return None
        limit: int = self.told.get(DELIVERIES, DEFAULT_DELIVERIES)
        return limit if limit >= 0 else None

    def keeps_order(self) -> bool:
        """Return whether the first message that goes in is the first one to be dropped."""
        return self.queue_type == 'classic' and not self.has_priorities

    def kept(self, largest: int | None) -> tuple[int, str] | None:
        """Return how many messages stay when it drops one, and in words why it does.

        None if it drops none because of its length.
        """
        if str(self.told.get('overflow', 'drop-head')) != 'drop-head':
            return None
        kept = []
        if LENGTH in self.told:
            kept.append((self.told[LENGTH], self.words[LENGTH]))
        if BYTES in self.told:
            count = 0
            if largest is not None:
                count = self.told[BYTES] // (largest + OVERHEAD_BYTES) - 1
            kept.append((max(0, count), self.words[BYTES]))
        return min(kept, default=None)


def began(channel: Channel) -> float:
    return channel.first


def explained(
    absent: Sequence[Absent],
    limits: Limits,
    flow: Flow,
) -> Iterator[tuple[Absent, str, bool]]:
    """Yield (absent, why, whether that is known) for each that its queue may have dropped.

    It is not known where that depends on how far clocks are apart.
    """
    left = []
    gaps = [*unused(flow, limits.told.get(EXPIRES))]
    for one in absent:
        known, possible = why_dropped(one, limits, flow, gaps)
        if known or possible:
            yield one, known or possible, bool(known)
        else:
            left.append(one)
    for one, why in dropped_from_head(left, limits, flow, others=len(absent) - len(left)):
        yield one, why, True


def why_dropped(
    one: Absent,
    limits: Limits,
    flow: Flow,
    gaps: Iterable[Moment],
) -> tuple[str, str]:
    """Return in words which limit has dropped a message by itself, or '', and which may have."""
    told = limits.told
    if limits.queue_type == 'stream' and (AGE in told or BYTES in told):
        return 'retention of a stream', ''
    found = ['', '']
    for number, later in enumerate((surely_later, perhaps_later)):
        now = flow.published(one)
        if TTL in told and outlived(now, told[TTL] / 1000, flow, later):
            found[number] = limits.words[TTL]
        elif any(later(end, now, flow.clocks) for end in gaps):
            found[number] = limits.words[EXPIRES]
        elif has_come_back_too_often(one, now, limits, flow, later):
            default = f'delivery limit {limits.delivery_limit()}, the default'
            found[number] = limits.words.get(DELIVERIES, default)
    return found[0], found[1]


Later = Callable[[Moment, Moment, Clocks], bool]


def surely_later(
    one: Moment,
    other: Moment,
    clocks: Clocks,
) -> bool:
    """Return whether one moment is known to be no earlier than another."""
    return clocks.earliest(one, other.clock) >= other.at


def perhaps_later(
    one: Moment,
    other: Moment,
    clocks: Clocks,
) -> bool:
    """Return whether one moment is not known to be earlier than another."""
    return clocks.latest(one, other.clock) >= other.at


def outlived(
    now: Moment,
    ttl_s: float,
    flow: Flow,
    later: Later,
) -> bool:
    """Return whether the ledgers end after the time of a message was over."""
    over = now._replace(at=now.at + ttl_s)
    clocks = {channel.clock for channel in flow.channels}
    ends = [Moment(clock, at) for clock, at in flow.ends.items() if clock in clocks]
    return any(later(end, over, flow.clocks) for end in ends)


def has_come_back_too_often(
    one: Absent,
    now: Moment,
    limits: Limits,
    flow: Flow,
    later: Later,
) -> bool:
    """Return whether consumers rejected a message, or left the queue, too often."""
    most = limits.delivery_limit()
    if most is None:
        return False
    # A consumer that was killed writes no end, and may have lived on after its last line.
    left = sum(
        not channel.end or later(Moment(channel.clock, channel.last), now, flow.clocks)
        for channel in flow.consumers
    )
    return left + one.returned > most


def unused(flow: Flow, expires_ms: int | None) -> Iterator[Moment]:
    """Yield when a queue was in use again after each gap in which it may have expired.

    By several clocks such a gap cannot be seen: it may be there until the end.
    """
    if expires_ms is None or not flow.channels:
        return
    clock = flow.clock
    if clock is None:
        yield Moment('several', NEVER)
        return
    in_use_until = min(map(began, flow.channels))  # declared
    for channel in flow.consumers:
        if channel.first - in_use_until >= expires_ms / 1000:
            yield Moment(clock, channel.first)
        in_use_until = max(in_use_until, channel.last)
    until = flow.ends[clock]
    if until - in_use_until >= expires_ms / 1000:
        yield Moment(clock, until)


def dropped_from_head(
    absent: Sequence[Absent],
    limits: Limits,
    flow: Flow,
    others: int,
) -> Iterator[tuple[Absent, str]]:
    """Yield the same for what a queue dropped because it was full.

    `others` are missing for another reason, so that they may be among those it kept.
    """
    kept = limits.kept(flow.largest)
    if not kept:
        return
    count, why = kept
    missing = count - flow.came_out - flow.unconfirmed - others
    total = sum(flow.sent_by.values())

    def behind(one: Absent) -> int:
        """Return how many messages may have been behind this one."""
        if limits.keeps_order():
            return total - one.origin.number
        return total - 1

    candidates = [one for one in absent if behind(one) >= count]
    has_one_clock = flow.clock is not None
    candidates.sort(
        key=lambda one: (
            has_one_clock and flow.published(one).at,
            one.origin.number,
            one.message_id,
        )
    )
    lost = max(0, missing - (len(absent) - len(candidates)))
    for one in candidates[: len(candidates) - lost]:
        yield one, why
