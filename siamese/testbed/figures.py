"""Figures that are measured on brokers, and how two brokers differ in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siamese.testbed import rounds
from siamese.testbed.rounds import Ratio, Spread
from siamese.text import count_of

MORE = 'more'  # is better
LESS = 'less'
SENTENCES = {
    MORE: '{ahead} is {times} times as fast as {behind}',
    LESS: '{behind} takes {times} times as long as {ahead}',
}
DIFFERENCE = 'difference'
NO_DIFFERENCE = 'no difference'
NOT_KNOWN = 'not known'


@dataclass
class Figure:
    """What was measured on one broker: a value for each round, None if it has none.

    better: MORE or LESS.
    """

    title: str
    unit: str
    better: str
    rounds: list[float | None]

    @property
    def spread(self) -> Spread:
        return rounds.spread(self.rounds)

    def text(self) -> str:
        """Return the median, and between what half of the rounds lie."""
        found = self.spread
        if found.median is None:
            return 'not known'
        text = f'{number(found.median)} {self.unit}'
        if found.low is None or found.high is None:
            return text
        return f'{text} ({number(found.low)} to {number(found.high)})'

    def document(self) -> dict[str, Any]:
        """Return it for --json."""
        return {**vars(self), **vars(self.spread)}


@dataclass
class Comparison:
    """How two brokers differ in a figure; `first` and `second` are their places."""

    check: str
    figure: str
    first: int
    second: int
    ratio: Ratio
    better: str
    least_rounds: int

    @property
    def verdict(self) -> str:
        if self.ratio.is_clear():
            return DIFFERENCE
        if self.ratio.low is None:
            return NOT_KNOWN
        return NO_DIFFERENCE

    def ahead(self) -> int | None:
        """Return the place of the better broker; None without a clear difference."""
        ratio = self.ratio.estimate
        if ratio is None or not self.ratio.is_clear():
            return None
        if (ratio > 1) == (self.better == MORE):
            return self.first
        return self.second

    def times(self) -> Spread:
        """Return how many times the larger value is the smaller one."""
        ratio = self.ratio
        if not ratio.is_clear():
            return Spread(None)
        if ratio.estimate and ratio.low and ratio.high and ratio.high < 1:
            return Spread(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low)
        return Spread(ratio.estimate, ratio.low, ratio.high)

    def text(self, labels: Sequence[str]) -> str:
        """Return the same in words; `labels` are those of all brokers."""
        both = f'{labels[self.first]} and {labels[self.second]}'
        if self.verdict == NOT_KNOWN:
            return (
                f'not known how {both} differ: {count_of(self.ratio.rounds, "round")}'
                f' cannot tell, {self.least_rounds} can'
            )
        if self.verdict == NO_DIFFERENCE:
            return f'no difference beyond noise between {both} ({interval(self.ratio)} times)'
        times = self.times()
        ahead = self.ahead()
        behind = self.first
        if ahead == self.first:
            behind = self.second
        sentence = SENTENCES[self.better].format(
            ahead=labels[ahead or 0],
            behind=labels[behind],
            times=f'{times.median:.2f}',
        )
        return f'{sentence} ({interval(times)})'

    def document(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return it for --json."""
        times = self.times()
        return {
            'check': self.check,
            'figure': self.figure,
            'first': self.first,
            'second': self.second,
            'rounds': self.ratio.rounds,
            'ratio': self.ratio.estimate,
            'low': self.ratio.low,
            'high': self.ratio.high,
            'verdict': self.verdict,
            'ahead': self.ahead(),
            'times': times.median,
            'times_low': times.low,
            'times_high': times.high,
            'text': self.text(labels),
        }


def interval(found: Ratio | Spread) -> str:
    """Return '1.12 to 1.31'."""
    return f'{found.low:.2f} to {found.high:.2f}'


def number(value: float) -> str:
    """Return a number with as many digits as a person reads: 12,345, 12.3 or 1.23."""
    if value >= 100:
        return f'{value:,.0f}'
    if value >= 10:
        return f'{value:.1f}'
    return f'{value:.2f}'
