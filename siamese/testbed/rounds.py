"""What rounds of a measurement tell: the median, its spread, and whether two brokers differ.

Brokers are measured in rounds, all of them in each round, so that what else the machine
does falls on all alike. Values of one round belong together: what is looked at is their
ratio, round by round. Ratios are few, and not normal: one disturbance makes one of them
huge. So the test is Wilcoxon's signed-rank test of their logarithms, and the interval of
the ratio is the one that Hodges and Lehmann made of it: it holds all ratios that the
test does not refute. For two equal brokers each logarithm is as likely to be above 0 as
below it, as the order within a round is drawn by lot. That alone is what the test
assumes. Its probabilities are counted, not approximated.

F. Wilcoxon, Individual comparisons by ranking methods (1945); J. L. Hodges and
E. L. Lehmann, Estimates of location based on rank tests (1963).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

# The probability that equal brokers are said to differ, in any of the figures compared.
ERROR = 0.02
LEAST_FOR_SPREAD = 5  # values

Values = Sequence['float | None']  # a value for each round; None where there is none
AnyBroker = TypeVar('AnyBroker')


@dataclass
class Spread:
    """The median of some values, and between what half of them lie (None for few)."""

    median: float | None
    low: float | None = None
    high: float | None = None


@dataclass
class Ratio:
    """How many times one broker's values are another's.

    low, high: between what it lies; None if there are too few rounds to say so.
    """

    rounds: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None

    def is_clear(self) -> bool:
        """Return whether the values differ beyond noise."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= 1 <= self.high


def orders(brokers: Sequence[AnyBroker], rounds: int) -> Iterator[list[AnyBroker]]:
    """Yield the order of the brokers in each round.

    It is drawn by lot, and turned round in the next one: A B, B A.
    """
    order: list[AnyBroker] = []
    for number in range(rounds):
        order.reverse()
        if number % 2 == 0:
            order = random.sample(brokers, len(brokers))
        yield list(order)


def spread(values: Values) -> Spread:
    """Return median and quartiles."""
    known = [value for value in values if value is not None]
    if not known:
        return Spread(None)
    median = statistics.median(known)
    if len(known) < LEAST_FOR_SPREAD:
        return Spread(median)
    low, _, high = statistics.quantiles(known, n=4, method='inclusive')
    return Spread(median, low, high)


def ratio(first: Values, second: Values, figures: int) -> Ratio:
    """Return how many times the first values are the second ones.

    figures: how many are compared at once. Each may err with its share of ERROR only
    (Bonferroni), so that all of them together keep to it.
    """
    logarithms = [math.log(a / b) for a, b in zip(first, second) if a and b]
    count = len(logarithms)
    if not count:
        return Ratio(0)
    means = sorted(walsh_averages(logarithms))
    found = Ratio(count, math.exp(statistics.median(means)))
    left_out = most_left_out(count, ERROR / figures)
    if left_out is not None:
        found.low = math.exp(means[left_out])
        found.high = math.exp(means[-1 - left_out])
    return found


def walsh_averages(values: Sequence[float]) -> Iterator[float]:
    """Yield the mean of each two values, and of each with itself."""
    for number, value in enumerate(values):
        for other in values[number:]:
            yield (value + other) / 2


def most_left_out(rounds: int, error: float) -> int | None:
    """Return how many Walsh averages may be left out at either end of the interval.

    None if even with none left out it would err more often than `error`.
    """
    total = 0
    sums = 0
    for ways in ways_to_rank_sums(rounds):
        total += ways
        if 2 * total > error * 2**rounds:
            break
        sums += 1
    return sums - 1 if sums else None


def ways_to_rank_sums(rounds: int) -> list[int]:
    """Return, for each sum of ranks from 0 on, how many subsets of 1 ... `rounds` have it."""
    ways = [1]
    for rank in range(1, rounds + 1):
        without = ways + [0] * rank
        with_it = [0] * rank + ways
        ways = [a + b for a, b in zip(without, with_it)]
    return ways


def least_rounds(figures: int) -> int:
    """Return how many rounds it takes before a difference can be told at all."""
    rounds = 1
    while most_left_out(rounds, ERROR / figures) is None:
        rounds += 1
    return rounds
