"""bench: its arithmetic against known values, and its names against today's siamese."""

import ast
import contextlib
import importlib
import inspect
import json
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from siamese import ROOT

sys.path.append(str(ROOT / 'bench'))

from harness import percentile, put, table

from bench import perf_peers as perf
from siamese.monitoring import database

PIKA = perf.CONTENDERS['pika-naive']
MODULES = sorted(path.stem for path in (ROOT / 'bench').glob('*.py'))


def stale_names(module):
    """Return each `other.name` in a module's code for which module `other` has no `name`."""
    found = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            other = getattr(module, node.value.id, None)
            if inspect.ismodule(other) and not hasattr(other, node.attr):
                found.append(f'{node.value.id}.{node.attr}')
    return found


@pytest.mark.parametrize('name', MODULES)
def test_each_measurement_imports_and_uses_names_that_exist(name):
    assert stale_names(importlib.import_module(f'bench.{name}')) == []


def test_a_stale_name_is_found(tmp_path, monkeypatch):
    (tmp_path / 'stale.py').write_text('import json\n\ndef run():\n    json.dumps(json.FIGURES)\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert stale_names(importlib.import_module('stale')) == ['json.FIGURES']


def test_a_small_history_is_filled_and_answers(tmp_path):
    history = importlib.import_module('bench.database')
    pages = importlib.import_module('bench.pages')
    with contextlib.closing(database.open_for_writing(str(tmp_path / 'siamese.db'))) as db:
        assert history.fill(db, 8, 0.1) > 0
        pages.fill_the_rest(db, 8)
        assert all(seconds >= 0 for _, seconds in history.answers(db))


def test_mining_is_measured_beside_its_limit(monkeypatch):
    blocks = importlib.import_module('bench.blocks')
    monkeypatch.setattr(blocks, 'SECONDS', 0.05)
    rows = blocks.mining_rows(1)
    obvious, *_ = rows
    assert obvious[-1] == '1.0'
    found = blocks.Validation(9000, 8000, 30, 31, '3.10.8')
    args = SimpleNamespace(rounds=1, blocks=500)
    lines = blocks.section('here', found, rows, args)
    assert '| with --ledger | 8,000 |' in lines
    assert '| producer.py | 31 |' in lines


@pytest.mark.parametrize('last, cells', [(22, ('1.10', 'flat')), (23, ('1.15', 'GROWS'))])
def test_memory_that_grows_is_named(last, cells):
    memory = importlib.import_module('bench.memory')
    sizes = [(0.05, 90), (0.1, 20), (0.25, 20), (0.5, 20), (0.75, 21), (1.0, last)]
    *_, ratio, verdict = memory.growth(sizes)
    assert (ratio, verdict) == cells


def test_a_run_without_confirms_has_no_latency_of_confirms():
    confirm_cost = importlib.import_module('bench.confirm_cost')
    runs = [{'published_per_s': 1000, 'latency_us': None}]
    assert confirm_cost.row('nothing', runs) == ('nothing', '1,000', '')
    runs = [{'confirmed_per_s': 2000, 'published_per_s': 2100, 'latency_us': {'p99': 1500}}]
    assert confirm_cost.row('all', runs) == ('all', '2,000', '1.5')


@pytest.mark.parametrize(
    'percent, value', [(0, 15), (5, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)]
)
def test_percentile_is_of_the_nearest_rank(percent, value):
    assert percentile([35, 20, 15, 50, 40], percent) == value


def ran(*outputs):
    return SimpleNamespace(outputs=outputs)


def test_latencies_second_by_second():
    summary = json.dumps(
        {'received': 2000, 'latency_us': [*range(1000, 0, -1), *range(2001, 3001)]}
    )
    assert perf.peer_latency(ran(f'a word\n{summary}\n')) == ([(500, 990), (2500, 2990)], 2980)


def test_latencies_as_perf_test_prints_them():
    words = 'min/median/75th/95th/99th'
    out = [
        f'id: a, time 1.000 s, sent: 9 msg/s, {words} consumer latency: 1/2/3/4/5 µs, '
        'confirm latency: 7/7/7/7/7 µs',
        f'id: a, time 2.000 s, sent: 9 msg/s, {words} consumer latency: 2/3/4/5/6 µs, '
        'confirm latency: 7/7/7/7/7 µs',
        f'id: a, consumer latency {words} 1/3/4/5/8 µs',
        f'id: a, confirm latency {words} 7/7/7/7/7 µs',
    ]
    assert perf.perf_test_latency(ran('\n'.join(out))) == ([(2, 5), (3, 6)], 8)


def test_latencies_of_our_own_pair():
    out = [
        'time_s,delivered_per_s,median_us,p99_us',
        '1.0,1000,20,30',
        '2.0,0,,',
        '3.0,1000,21,31',
        json.dumps({'latency_us': {'median': 20, 'p99': 32}}),
    ]
    assert perf.siamese_latency(ran('\n'.join(out))) == ([(20, 30), (21, 31)], 32)


def test_rates_come_from_the_counters_of_the_broker():
    """2 s for 100 messages, of which the second half took 0.5 s; what the
    broker had counted before does not matter.
    """
    samples = [
        perf.Sample(int(at * 1e9), 0, received, 0, 0, acked)
        for at, received, acked in [
            (3, 7, 7),
            (5, 8, 7),
            (6.5, 100, 57),
            (7, 107, 107),
            (9, 107, 107),
        ]
    ]
    run = perf.Run([], cpu=0.01, memory=5, began=0, base=samples[0], samples=samples)
    observer = SimpleNamespace(run=lambda contender, work: run)
    args = SimpleNamespace(url='', count=100, size=256)
    assert perf.full_speed(observer, PIKA, 'q', args) == {
        'rate': 50,
        'half': 100,
        'cpu': 100,
        'memory': 5,
    }


def test_targets_are_computed():
    medians = {
        'siamese': {'rate': 34, 'cpu': 5, 'p50': 120, 'p99': 120},
        'PerfTest': {'rate': 20, 'cpu': 10, 'p50': 100, 'p99': 100},
        'rabbitmq-c': {'rate': 50},
        'py-amqp': {'rate': 18},
    }
    verdicts = {row[:2]: row[2:] for row in perf.verdicts(medians)}
    assert verdicts['PerfTest', 'msg/s'] == ('1.70', '≥ 1.70', 'met')
    assert verdicts['PerfTest', 'CPU µs/msg'] == ('0.50', '≤ 0.45', 'not met')
    assert verdicts['PerfTest', 'p50 µs'] == ('1.20', '≤ 1.20', 'met')
    assert verdicts['PerfTest', 'p99 µs'] == ('1.20', '≤ 1.00', 'not met')
    assert verdicts['rabbitmq-c', 'msg/s'] == ('0.68', '≥ 1.00', 'not met')
    assert verdicts['py-amqp', 'msg/s'] == ('1.89', '≥ 2.00', 'not met')
    assert verdicts['aio-pika', 'msg/s'] == ('', '≥ 2.00', 'not measured')


def test_a_section_takes_the_place_of_its_predecessor(tmp_path):
    file = tmp_path / 'RESULTS.md'
    put('One', table(('', 'MB'), [('a', '1'), ('b', '≤ 2')]), file)
    put('Two', ['second'], file)
    put('One', ['first'], file)
    head, one, two = file.read_text().split('\n## ')
    assert head.startswith('# Measured\n') and (one, two) == ('One\n\nfirst\n', 'Two\n\nsecond\n')
    put('One', table(('', 'MB'), [('a', '≤ 1'), ('b', '2')]), file)
    assert '|  | MB |\n|---|---:|\n| a | ≤ 1 |\n| b | 2 |\n\n## Two\n' in file.read_text()


NAMED, EQUAL = ('id-1', b'a'), ('', b'b')


@pytest.mark.parametrize(
    'stored, marked, words',
    [
        ({NAMED: 1, EQUAL: 2}, {}, ''),
        ({NAMED: 1, EQUAL: 3}, {EQUAL: 1}, ''),
        ({NAMED: 2, EQUAL: 2}, {NAMED: 1}, ''),
        ({NAMED: 1, EQUAL: 1}, {}, '1 letters are missing'),
        ({NAMED: 2, EQUAL: 2}, {EQUAL: 1}, 'not marked'),
        ({NAMED: 1, EQUAL: 23}, {EQUAL: 21}, 'after 1 breaks'),
    ],
)
def test_a_history_that_is_not_the_truth_is_told(stored, marked, words):
    faults = importlib.import_module('bench.monitor_faults')
    published = Counter({NAMED: 1, EQUAL: 2})
    found = faults.letters_wrong(published, Counter(stored), Counter(marked), breaks=1)
    assert bool(found) == bool(words) and words in '; '.join(found)


@pytest.mark.parametrize('counted, is_right', [(10, True), (8, True), (7, False), (11, False)])
def test_a_counter_may_lack_what_the_broker_forgot(counted, is_right):
    faults = importlib.import_module('bench.monitor_faults')
    assert (faults.count_wrong(counted, published=10, lost=2) == []) == is_right
