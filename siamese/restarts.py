"""When the broker may have restarted: all channels that were open were lost.

That is known by one clock. Whether it was between two channels of which another clock
tells may depend on how far the two are apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from siamese.clocks import Clocks, Moment
from siamese.limits import Channel
from siamese.order import ChannelKey

# Within which all clients notice that a broker is gone: two heartbeats (s).
NOTICED_WITHIN_S = 20

NO, MAYBE, YES = '', 'maybe', 'yes'  # each one goes before those that follow


class Restarts:
    """When the broker may have restarted, by each clock."""

    def __init__(
        self,
        channels: Mapping[ChannelKey, Channel] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.channels = channels or {}
        self.clocks = clocks or Clocks()
        by_clock: dict[str, list[Channel]] = defaultdict(list)
        for channel in self.channels.values():
            by_clock[channel.clock].append(channel)
        self.times = {clock: [*restarts(same)] for clock, same in by_clock.items()}

    def between(self, keys: Iterable[ChannelKey]) -> str:
        """Return whether there may have been one between the first and last channel.

        NO, MAYBE if that depends on how far clocks are apart, else YES.
        """
        channels = [self.channels[key] for key in keys if key in self.channels]
        if len(channels) < 2:
            return NO
        return max((self._answer(channels, clock) for clock in self.times), default=NO)

    def _answer(
        self,
        channels: Sequence[Channel],
        clock: str,
    ) -> str:
        """Return what the restarts by one clock answer."""
        times = self.times[clock]
        if not times:
            return NO
        begun = [Moment(channel.clock, channel.first) for channel in channels]
        latest = [self.clocks.latest(one, clock) for one in begun]
        earliest = [self.clocks.earliest(one, clock) for one in begun]
        if has_between(times, min(latest), max(earliest)):
            return YES
        return MAYBE if has_between(times, min(earliest), max(latest)) else NO


def has_between(
    times: list[float],
    first: float,
    last: float,
) -> bool:
    """Return whether one of the sorted times is between two others."""
    after = bisect_left(times, first)
    return after < len(times) and times[after] < last


def restarts(channels: list[Channel]) -> Iterator[float]:
    """Yield when the broker may have restarted: when all channels that were open were lost.

    All of them by one clock.
    """
    channels.sort(key=lambda channel: channel.first)
    losses = sorted(channel.last for channel in channels if channel.end == 'disconnected')
    closed_until = lost_until = -float('inf')  # of the channels that were open before
    number = 0
    for loss in losses:
        while number < len(channels) and channels[number].first <= loss:
            channel = channels[number]
            if channel.end == 'closed':
                closed_until = max(closed_until, channel.last)
            else:
                lost_until = max(lost_until, channel.last)
            number += 1
        if closed_until <= loss and lost_until <= loss + NOTICED_WITHIN_S:
            yield loss
