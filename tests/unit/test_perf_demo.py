"""make perf: which flag goes to which script, and what both sides have shown."""

import perf
import pytest


@pytest.mark.parametrize(
    'argv, producer, consumer',
    [
        ('', '', ''),
        ('--rate 100 --persistent', '--rate 100 --persistent', ''),
        ('--prefetch 9 --size 300', '--size 300', '--prefetch 9'),
        ('--queue-type=quorum --auto-ack', '--queue-type=quorum', '--queue-type=quorum --auto-ack'),
        ('--queue-arg a=1 --queue-arg b=2', *['--queue-arg a=1 --queue-arg b=2'] * 2),
    ],
)
def test_each_script_gets_the_flags_that_it_knows(argv, producer, consumer):
    assert perf.split(argv.split()) == (producer.split(), consumer.split())


def test_a_run_always_ends():
    assert perf.with_end(['--rate', '5']) == [*perf.USUAL, '--rate', '5']
    for end in (['--count', '5'], ['--duration=5']):
        assert perf.with_end(end) == end


def sides(published=10, delivered=10, invalid=0, spoiled=()):
    times = dict(zip(('min', 'median', 'p75', 'p95', 'p99', 'max'), range(900, 60_000, 9900)))
    producer = {
        'published': published,
        'confirmed': published,
        'confirmed_per_s': 5.0,
        'spoiled': [*spoiled],
        'latency_us': times,
    }
    consumer = {
        'delivered': delivered,
        'delivered_per_s': 4.0,
        'invalid': invalid,
        'spoiled': [],
        'latency_us': {},
    }
    return producer, consumer


@pytest.mark.parametrize(
    'how, status, words',
    [
        ({}, 0, 'all 10 messages arrived'),
        ({'spoiled': ['1 lost connection']}, 0, 'spoiled by 1 lost connection'),
        ({'delivered': 9}, 3, '9 of 10 published messages were delivered'),
        ({'published': 0, 'delivered': 0}, 3, '0 of 0'),
        ({'invalid': 2}, 1, '2 of 10 messages were altered'),
    ],
)
def test_the_verdict_on_both_sides(how, status, words):
    text, found = perf.verdict(*sides(**how))
    assert found == status and words in text


def test_numbers_stand_below_their_names_and_what_is_unknown_is_no_0():
    head, confirmed, delivered, _ = perf.summary_table(*sides())
    end = head.index('max') + 3
    assert confirmed[:end].endswith(' 50') and delivered[:end].endswith('-')
    assert confirmed.split()[:4] == ['confirmed', '10', '5', '0.9']
