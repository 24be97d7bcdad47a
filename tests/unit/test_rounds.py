"""rounds.py: the interval is right, and how often it errs with rounds of real brokers.

Recorded rounds are drawn again and again with fixed seeds, so that the results are always
the same. They come from RabbitMQ 3.10.8 on a machine with two processors on which ten times
as many processes wanted to work, so they vary more than most.
"""

import csv
import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese import ROOT
from siamese.testbed import rounds
from siamese.testbed.measured import DEFAULT_ROUNDS, FEWEST_ROUNDS

FIGURES = 3  # throughput, two of latency
RUNS = 400


def recorded(name):
    """Return the recorded rounds of a file, a tuple of figures for each."""
    with open(ROOT / f'tests/support/rounds/{name}.csv', newline='') as file:
        _, *rows = csv.reader(file)
    return [tuple(map(float, row)) for row in rows]


def signed_rank_probability(values):
    """Return the probability of the signed-rank test, two-sided, by trying all signs."""
    ranks = sorted(range(len(values)), key=lambda place: abs(values[place]))
    found = sum(rank for rank, place in enumerate(ranks, 1) if values[place] > 0)
    total = sum(range(1, len(values) + 1))
    extreme = min(found, total - found)
    sums = (
        sum(rank for rank, sign in enumerate(signs, 1) if sign)
        for signs in itertools.product((0, 1), repeat=len(values))
    )
    return min(1, 2 * sum(each <= extreme for each in sums) / 2 ** len(values))


# ---- the interval


@given(st.lists(st.integers(-1000, 1000), min_size=5, max_size=9, unique_by=abs), st.data())
def test_the_interval_is_the_signed_rank_test(values, data):
    """It leaves out 1 if, and only if, the test with all signs refutes that nothing differs."""
    error = data.draw(st.sampled_from([0.01, 0.02, 0.05, 0.1]))
    left_out = rounds.most_left_out(len(values), error)
    means = sorted(rounds.walsh_averages(values))
    is_refuted = signed_rank_probability(values) <= error
    is_left_out = left_out is not None and not means[left_out] <= 0 <= means[-1 - left_out]
    touches = left_out is not None and 0 in (means[left_out], means[-1 - left_out])
    if not touches:  # a mean of exactly 0 is for neither side
        assert is_left_out == is_refuted


@pytest.mark.parametrize(
    'count, error, expected',
    # Tables of the signed-rank test: its critical value for both sides together.
    [(5, 0.05, None), (6, 0.05, 0), (10, 0.05, 8), (10, 0.01, 3), (20, 0.05, 52), (20, 0.01, 37)],
)
def test_critical_values_are_those_of_the_tables(count, error, expected):
    assert rounds.most_left_out(count, error) == expected


def test_the_estimate_does_not_follow_one_disturbed_round():
    first = [100.0] * 20
    second = [50.0] * 19 + [1.0]
    assert rounds.ratio(first, second, FIGURES).estimate == pytest.approx(2)


def test_ratio_is_the_same_from_either_side():
    drawn = random.Random(1)
    first = [drawn.uniform(1, 2) for _ in range(12)]
    second = [drawn.uniform(1, 3) for _ in range(12)]
    one = rounds.ratio(first, second, FIGURES)
    other = rounds.ratio(second, first, FIGURES)
    assert one.low == pytest.approx(1 / other.high) and one.high == pytest.approx(1 / other.low)
    assert one.estimate == pytest.approx(1 / other.estimate)


def test_rounds_that_lack_a_value_or_have_none_above_0_are_left_out():
    found = rounds.ratio([2, None, 2, 0.0, 2], [1, 1, None, 1, 1, 1], FIGURES)
    assert (found.rounds, found.low) == (2, None) and found.estimate == pytest.approx(2)
    assert rounds.ratio([None], [1], FIGURES) == rounds.Ratio(0)


def test_more_figures_take_more_rounds():
    least = [rounds.least_rounds(figures) for figures in (1, 3, 9, 30)]
    assert least == sorted(least) and FEWEST_ROUNDS < least[1] < least[-1] < DEFAULT_ROUNDS


def test_the_more_figures_the_wider_the_interval():
    drawn = random.Random(2)
    first, second = ([drawn.uniform(1, 2) for _ in range(20)] for _ in 'ab')
    one, three = (rounds.ratio(first, second, figures) for figures in (1, 3))
    assert three.low < one.low < one.high < three.high


def test_spread_has_the_middle_half():
    assert rounds.spread([5, None, 1, 2, 3, 4]) == rounds.Spread(3, 2, 4)
    assert rounds.spread([3, 1]) == rounds.Spread(2)
    assert rounds.spread([None]) == rounds.Spread(None)


# ---- the order


def test_each_order_is_turned_round_in_the_next_round():
    orders = list(rounds.orders('abc', 7))
    assert len(orders) == 7 and all(sorted(order) == ['a', 'b', 'c'] for order in orders)
    for one, other in zip(orders[::2], orders[1::2]):
        assert one == other[::-1]
    assert len(set(map(tuple, rounds.orders('abc', 100)))) == 6


# ---- how often it errs


def claims(drawn, recordings, count, slower=1.0):
    """Return how many of FIGURES are said to differ in one run of `count` recorded rounds.

    Which broker is the first is drawn by lot, as the order is.
    """
    picked = [drawn.choice(recordings) for _ in range(count)]
    half = len(picked[0]) // 2
    pairs = []
    for values in picked:
        sides = [values[:half], values[half:]]
        drawn.shuffle(sides)
        pairs.append(sides)
    found = 0
    for number in range(half):
        first = [one[number] for one, _ in pairs]
        second = [other[number] * slower for _, other in pairs]
        found += rounds.ratio(first, second, FIGURES).is_clear()
    return found


@pytest.mark.parametrize('count', [10, DEFAULT_ROUNDS])
def test_the_same_broker_twice_is_no_difference_in_19_of_20_runs(count):
    recordings = recorded('one-broker-twice')
    drawn = random.Random(20)
    wrong = sum(claims(drawn, recordings, count) > 0 for _ in range(RUNS))
    assert wrong <= RUNS * 0.02 + 3 * math.sqrt(RUNS * 0.02 * 0.98)
    assert wrong < RUNS / 20


def test_a_broker_that_is_30_percent_slower_is_found_in_9_of_10_runs():
    recordings = recorded('one-slower-by-30-percent')
    drawn = random.Random(30)
    found = 0
    for _ in range(RUNS):
        picked = [drawn.choice(recordings) for _ in range(10)]
        first, second = zip(*picked)
        ratio = rounds.ratio(first, second, FIGURES)
        found += ratio.is_clear() and ratio.estimate > 1
    assert found >= RUNS * 0.9


@pytest.mark.parametrize('deviation, least', [(0.1, 0.99), (0.2, 0.9), (0.5, 0.15)])
def test_how_much_noise_leaves_30_percent_visible(deviation, least):
    """Rounds of each broker vary by this standard deviation (of their logarithms)."""
    drawn = random.Random(5)
    found = 0
    for _ in range(RUNS):
        first, second = (
            [math.exp(drawn.gauss(0, deviation)) for _ in range(DEFAULT_ROUNDS)] for _ in 'ab'
        )
        slower = [0.7 * value for value in second]
        ratio = rounds.ratio(first, slower, FIGURES)
        found += ratio.is_clear() and ratio.estimate > 1
    assert found >= RUNS * least


def test_the_recorded_rounds_are_as_noisy_as_they_are_said_to_be():
    logarithms = [math.log(row[0] / row[3]) for row in recorded('one-broker-twice')]
    assert statistics.stdev(logarithms) > 0.4
