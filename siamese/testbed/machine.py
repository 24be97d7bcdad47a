"""The machine on which brokers are compared: what it is, and what others do there meanwhile.

Between the rounds nothing of ours works, and the brokers have nothing to do. Whatever the
processors do then is the work of other processes.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

LOOK_S = 0.3
SETTLE_S = 0.2  # until a broker rests
# The share of all processors above which other processes spoil the figures. A producer,
# a consumer and a broker want three.
SPOILING = 0.2
STAT = '/proc/stat'  # of Linux, see proc(5)
IDLE_FIELDS = slice(3, 5)  # idle, iowait
ALL_FIELDS = slice(0, 8)  # without guests, which are counted as users already
UNKNOWN = 'not known what other processes did meanwhile'


def description() -> dict[str, Any]:
    """Return what kind of machine this is; it names neither its owner nor itself."""
    system = f'{platform.system()} {platform.release()} {platform.machine()}'
    return {'system': system, 'processors': os.cpu_count()}


def look() -> float | None:
    """Return which share of all processors is at work now, 0 to 1; None if it is not known."""
    time.sleep(SETTLE_S)
    before = ticks()
    time.sleep(LOOK_S)
    after = ticks()
    if not before or not after:
        return None
    total = sum(after[ALL_FIELDS]) - sum(before[ALL_FIELDS])
    idle = sum(after[IDLE_FIELDS]) - sum(before[IDLE_FIELDS])
    if total <= 0:
        return None
    return min(1.0, max(0.0, 1 - idle / total))


def ticks() -> list[int]:
    """Return what the processors did since the start, in ticks, by kind; [] if not known."""
    try:
        with open(STAT, encoding='ascii') as file:
            return list(map(int, file.readline().split()[1:]))
    except (OSError, ValueError):
        return []


def load_average() -> float | None:
    """Return the load of the last minute for each processor, at most 1; None if not known."""
    try:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (AttributeError, OSError):
        return None


def percent(share: float) -> str:
    return f'{share:.0%}'.replace('%', ' %')


@dataclass
class Load:
    """What other processes do: shares of all processors, before the rounds and between them."""

    before: float | None = None
    looks: list[float] = field(default_factory=list)

    def look_before(self) -> None:
        """Look before anything of ours works."""
        self.before = look()
        if self.before is None:
            self.before = load_average()

    def look_between(self) -> None:
        """Look between two rounds."""
        share = look()
        if share is not None:
            self.looks.append(share)

    @property
    def during(self) -> float | None:
        """The share that other processes usually had between the rounds."""
        if not self.looks:
            return None
        return statistics.median(self.looks)

    @property
    def spoils(self) -> bool | None:
        """Whether other processes spoil the figures."""
        known = [share for share in (self.before, self.during) if share is not None]
        if not known:
            return None
        return max(known) > SPOILING

    @property
    def text(self) -> str:
        """The same in words."""
        if self.spoils is None:
            return UNKNOWN
        parts = []
        if self.before is not None:
            parts.append(f'{percent(self.before)} before')
        if self.during is not None:
            most = percent(max(self.looks))
            parts.append(f'{percent(self.during)} between the rounds (at most {most})')
        processors = os.cpu_count() or 'all'
        text = f'load of {processors} processors by other processes: {", ".join(parts)}'
        if self.spoils:
            text += '; that spoils the figures: they are worse, and vary more'
        return text

    def document(self) -> dict[str, Any]:
        """Return the same for --json."""
        return {
            'before': self.before,
            'during': self.during,
            'most': max(self.looks, default=None),
            'spoils': self.spoils,
            'text': self.text,
        }
