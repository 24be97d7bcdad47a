"""Was a consumer there while a message lived? For messages with a time to live.

A queue must deliver such a message if a consumer was connected from before it was
published until after it had expired. That is known

- by one clock that producer and consumer share, or by two, as far as they may be apart
  (clocks.py);
- by order: an earlier message of the same producer came over this channel, so queue and
  consumer were there; and so did a later one, or the channel lasted until this one had
  expired.

What one of them proves is lost. Where clocks could be so far apart that it is lost, or
not, nobody can tell. All else is expired, or was published before the queue was there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from siamese.clocks import NEVER, Clocks, Moment, Process
from siamese.limits import Channel, Origin
from siamese.order import ChannelKey

LOST, EXPIRED, CANNOT_TELL = 'lost', 'expired', 'cannot_tell'

Source = tuple[Process, tuple[str, 'str | None'], 'int | None']  # process, target, priority


class Reach(NamedTuple):
    """What began where, sorted, and how far all that began before reached at most."""

    begins: list[float]
    ends: list[float]

    def of(self, before: float) -> float:
        """Return how far reached what began before this, -NEVER if nothing did."""
        count = bisect_left(self.begins, before)
        return self.ends[count - 1] if count else -NEVER


NOWHERE = Reach([], [])


def reach_of(pairs: Iterable[tuple[float, float]]) -> Reach:
    """Return the reach of (begin, end)."""
    sorted_pairs = sorted(pairs)
    ends = accumulate((end for _, end in sorted_pairs), max)
    return Reach([begin for begin, _ in sorted_pairs], [*ends])


class Passages:
    """Of each queue and producer the lowest and highest number that came over a channel."""

    def __init__(self) -> None:
        self.spans: dict[str | None, dict[Source, dict[ChannelKey, list[int]]]]
        self.spans = defaultdict(lambda: defaultdict(dict))

    def came(
        self,
        queue: str | None,
        origin: Origin,
        key: ChannelKey,
    ) -> None:
        """Note that a message came over a channel."""
        span = self.spans[queue][source_of(origin)].setdefault(key, [origin.number] * 2)
        span[0] = min(span[0], origin.number)
        span[1] = max(span[1], origin.number)


def source_of(origin: Origin) -> Source:
    """Return from where messages come that keep the order of their numbers."""
    sender = origin.sender
    return sender.key[:2], sender.target(), sender.priority


class Life(NamedTuple):
    """A message that was confirmed, and how long it may have lived."""

    origin: Origin
    begun: Moment
    until: float  # when it had expired, by the same clock
    is_first_attempt: bool  # and the only one


class Presence:
    """When a queue of an exchange had consumers, by each clock and by numbers of messages."""

    def __init__(
        self,
        channels: dict[ChannelKey, Channel],
        spans: dict[Source, dict[ChannelKey, list[int]]],
        clocks: Clocks,
    ) -> None:
        self.clocks = clocks
        times = defaultdict(list)
        for channel in channels.values():
            times[channel.clock].append((channel.first, channel.heard))
        self.times = {clock: reach_of(pairs) for clock, pairs in times.items()}
        self.numbers = {
            source: reach_of((lowest, highest) for lowest, highest in of.values())
            for source, of in spans.items()
        }
        self.lasting: dict[Source, dict[str, Reach]] = {}
        for source, of in spans.items():
            heard = defaultdict(list)
            for key, (lowest, _) in of.items():
                if key in channels:
                    heard[channels[key].clock].append((lowest, channels[key].heard))
            self.lasting[source] = {clock: reach_of(pairs) for clock, pairs in heard.items()}

    def judge(self, life: Life) -> str:
        """Return LOST, EXPIRED or CANNOT_TELL; '' if the queue was not yet there."""
        if self._must_deliver(life):
            return LOST
        if any(self._may_deliver(life, clock) for clock in self.times):
            return CANNOT_TELL
        return EXPIRED if self._was_there(life) else ''

    def _must_deliver(self, life: Life) -> bool:
        number = life.origin.number
        source = source_of(life.origin)
        passed = self.numbers.get(source, NOWHERE).of(number)
        if life.is_first_attempt and passed > number:
            return True
        lasting = self.lasting.get(source, {})
        heard = [(clock, reach.of(number)) for clock, reach in lasting.items()]
        heard += [(clock, self._surely_heard(life, clock)) for clock in self.times]
        here = life.begun.clock
        return any(
            self.clocks.earliest(Moment(clock, at), here) > life.until for clock, at in heard
        )

    def _surely_heard(
        self,
        life: Life,
        clock: str,
    ) -> float:
        """Return until when a consumer was there that surely came before the message."""
        return self.times[clock].of(self.clocks.earliest(life.begun, clock))

    def _may_deliver(
        self,
        life: Life,
        clock: str,
    ) -> bool:
        """Return whether clocks may be so far apart that a consumer was there."""
        if clock == life.begun.clock:
            return False  # that is known
        heard = self.times[clock].of(self.clocks.latest(life.begun, clock))
        until = Moment(clock, heard)
        return heard > -NEVER and self.clocks.latest(until, life.begun.clock) > life.until

    def _was_there(self, life: Life) -> bool:
        passed = self.numbers.get(source_of(life.origin), NOWHERE).of(life.origin.number)
        surely = (self._surely_heard(life, clock) for clock in self.times)
        return max(passed, *surely, -NEVER) > -NEVER


def presences_of(
    channels: dict[ChannelKey, Channel],
    passages: Passages,
    clocks: Clocks,
) -> dict[str, dict[str, Presence]]:
    """Return when the queues of each exchange had consumers: {exchange: {queue: Presence}}."""
    found: dict[str, dict[str, dict[ChannelKey, Channel]]]
    found = defaultdict(lambda: defaultdict(dict))
    for key, channel in channels.items():
        if channel.exchange and channel.queue:
            found[channel.exchange][channel.queue][key] = channel
    return {
        exchange: {
            queue: Presence(of_queue, passages.spans.get(queue, {}), clocks)
            for queue, of_queue in queues.items()
        }
        for exchange, queues in found.items()
    }
