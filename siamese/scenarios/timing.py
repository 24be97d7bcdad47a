"""How long things take: the rate of events, latencies in bounded memory, percentiles."""

from __future__ import annotations

import math
import time
from collections import Counter

QUANTILES = {'min': 0, 'median': 0.5, 'p75': 0.75, 'p95': 0.95, 'p99': 0.99, 'max': 1}
OFFSET_TRIES = 10


class Span:
    """The time from the first to the last event."""

    def __init__(self) -> None:
        self.first = 0.0  # time.monotonic()
        self.last = 0.0

    def mark(self) -> None:
        """Note an event that happens now."""
        self.last = time.monotonic()
        if not self.first:
            self.first = self.last

    def rate(self, count: int) -> float:
        """Return `count` per second."""
        if self.last <= self.first:
            return 0
        return round(count / (self.last - self.first), 1)


class Clock:
    """The time since 1970, steady from when it is made: nobody can set it."""

    def __init__(self) -> None:
        self.since_1970 = offset()

    def now(self) -> float:
        return self.since_1970 + time.monotonic()

    def moved_s(self) -> float:
        """Return by how much the machine's clock was set meanwhile."""
        return offset() - self.since_1970


def offset() -> float:
    """Return time.time() at the time.monotonic() 0.

    Of several tries, that in which least came in between.
    """
    tries = []
    for _ in range(OFFSET_TRIES):
        before = time.monotonic()
        now = time.time()
        after = time.monotonic()
        tries.append((after - before, now - after))
    return min(tries)[1]


class Latencies:
    """Latencies in whole microseconds.

    They are kept as counts in at most 8,000 classes, each less than 1 % wide.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, microseconds: int, times: int = 1) -> None:
        """Count a latency, which was seen so many times."""
        shift = max(0, microseconds.bit_length() - 8)
        self.counts[microseconds >> shift << shift] += times

    def update(self, other: Latencies) -> None:
        """Count all latencies of another."""
        self.counts.update(other.counts)

    def negative(self) -> int:
        """Return how many are below 0: the clocks of both ends disagree."""
        return sum(times for value, times in self.counts.items() if value < 0)

    def percentiles(self) -> dict[str, int]:
        """Return {'min': microseconds, ... 'max': microseconds}, by nearest rank.

        {} if there are no latencies.
        """
        total = sum(self.counts.values())
        ranks = {name: max(1, math.ceil(q * total)) for name, q in QUANTILES.items()}
        found: dict[str, int] = {}
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            for name, rank in ranks.items():
                if seen >= rank:
                    found.setdefault(name, value)
        return found


def format_percentiles(percentiles: dict[str, int]) -> str:
    """Return percentiles for people: '0.31/1.2/1.9/3.1/5.0/12 ms'."""
    return '/'.join(map(format_ms, percentiles.values())) + ' ms'


def format_ms(microseconds: int) -> str:
    if microseconds < 10_000:
        return f'{microseconds / 1000:.2f}'
    return f'{microseconds / 1000:.0f}'
