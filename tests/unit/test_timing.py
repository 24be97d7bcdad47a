"""timing.py: percentiles are right, memory is bounded, a span tells the rate."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese.scenarios import timing


def exact(values, q):
    """Return the quantile by its definition.

    It is the smallest value that at least q of all do not exceed.
    """
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=300))
def test_percentiles_are_less_than_one_percent_off(values):
    latencies = timing.Latencies()
    for value in values:
        latencies.add(value)
    found = latencies.percentiles()
    assert list(found) == ['min', 'median', 'p75', 'p95', 'p99', 'max']
    for name, q in (
        ('min', 0),
        ('median', 0.5),
        ('p75', 0.75),
        ('p95', 0.95),
        ('p99', 0.99),
        ('max', 1),
    ):
        assert 0.99 * exact(values, q) <= found[name] <= exact(values, q)


def test_percentiles_of_a_known_distribution():
    latencies, numbers = timing.Latencies(), random.Random(7)
    for _ in range(200_000):
        latencies.add(int(numbers.expovariate(1 / 5000)))  # quantiles: -5000 ln(1 - q)
    found = latencies.percentiles()
    for name, q in (('median', 0.5), ('p75', 0.75), ('p95', 0.95), ('p99', 0.99)):
        assert found[name] == pytest.approx(-5000 * math.log(1 - q), rel=0.03)
    assert len(latencies.counts) < 2000


def test_memory_is_bounded_for_any_latencies():
    latencies = timing.Latencies()
    for power in range(60):
        for step in range(1000):
            latencies.add((1 << power) + (step << power) // 1000)
    assert len(latencies.counts) < 8000


def test_no_latency_no_percentiles():
    assert timing.Latencies().percentiles() == {}


def test_latencies_below_0_are_counted_and_kept():
    latencies = timing.Latencies()
    for value in (-3_600_000_000, -1, 0, 1):
        latencies.add(value, times=2)
    assert latencies.negative() == 4
    found = latencies.percentiles()
    assert found['min'] == pytest.approx(-3_600_000_000, rel=0.01) and found['max'] == 1


def test_a_clock_is_steady_and_tells_by_how_much_the_machines_was_set(monkeypatch):
    clock = timing.Clock()
    before, right = clock.now(), timing.time.time
    for seconds in 3600, -7200:
        monkeypatch.setattr(timing.time, 'time', lambda by=seconds: right() + by)
        assert clock.now() == pytest.approx(before, abs=60)
        assert clock.moved_s() == pytest.approx(seconds, abs=0.01)


def test_a_span_tells_the_rate_between_its_first_and_last_event(monkeypatch):
    span = timing.Span()
    assert span.rate(1) == 0
    times = iter([10.0, 11.0, 14.0])
    monkeypatch.setattr(timing.time, 'monotonic', lambda: next(times))
    span.mark()
    assert span.rate(1) == 0
    span.mark()
    span.mark()
    assert span.rate(10) == 2.5
