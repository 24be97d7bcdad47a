"""bench: its arithmetic against known values, and a short run of a peer on a real broker."""

import json
import sys
from types import SimpleNamespace

import pytest
from support.processes import Running

from siamese import ROOT

sys.path.append(str(ROOT / 'bench'))

from harness import RunFailed, percentile, put, table, weigh

from bench import perf_peers as perf

PIKA = perf.CONTENDERS['pika-naive']


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


def test_latencies_as_perf_test_tells_them():
    words = 'min/median/75th/95th/99th'
    out = [
        f'id: a, time 1.000 s, sent: 9 msg/s, {words} consumer latency: 1/2/3/4/5 µs, confirm latency: 7/7/7/7/7 µs',
        f'id: a, time 2.000 s, sent: 9 msg/s, {words} consumer latency: 2/3/4/5/6 µs, confirm latency: 7/7/7/7/7 µs',
        f'id: a, consumer latency {words} 1/3/4/5/8 µs',
        f'id: a, confirm latency {words} 7/7/7/7/7 µs',
    ]
    assert perf.perf_test_latency(ran('\n'.join(out))) == ([(2, 5), (3, 6)], 8)


def test_latencies_of_our_own_pair():
    out = [
        'time_s,received_per_s,median_us,p99_us',
        '1.0,1000,20,30',
        '2.0,0,,',
        '3.0,1000,21,31',
        json.dumps({'latency_us': {'median': 20, 'p99': 32}}),
    ]
    assert perf.siamese_latency(ran('\n'.join(out))) == ([(20, 30), (21, 31)], 32)


def test_rates_come_from_the_counters_of_the_broker():
    """2 s for 100 messages, of which the second half took 0.5 s; what the broker had counted before does not matter."""
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
        'siamese': {'rate': 30, 'cpu': 12, 'p99': 120},
        'PerfTest': {'rate': 30, 'cpu': 10, 'p99': 100},
        'rabbitmq-c': {'rate': 50},
        'py-amqp': {'rate': 16},
    }
    verdicts = {row[:2]: row[2:] for row in perf.verdicts(medians)}
    assert verdicts['PerfTest', 'msg/s'] == ('1.00', '≥ 1.00', 'met')
    assert verdicts['PerfTest', 'CPU µs/msg'] == ('1.20', '≤ 1.00', 'not met')
    assert verdicts['PerfTest', 'p99 µs'] == ('1.20', '≤ 1.20', 'met')
    assert verdicts['rabbitmq-c', 'msg/s'] == ('0.60', '≥ 0.60', 'met')
    assert verdicts['py-amqp', 'msg/s'] == ('1.88', '≥ 2.00', 'not met')
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


def test_programs_are_weighed():
    work = 'import time; x = bytearray(80_000_000); end = time.process_time() + 0.5\nwhile time.process_time() < end: 0'
    outputs, cpu, peak, _ = weigh([sys.executable, '-c', work], [sys.executable, '-c', 'print(7)'])
    assert outputs == ['', '7\n'] and cpu >= 0.5 and peak >= 85


@pytest.mark.parametrize(
    'command, why',
    [
        ([sys.executable, '-c', '1 / 0'], 'ZeroDivisionError: division by zero'),
        (['bench/.peers/none'], 'none: No such file or directory'),
    ],
)
def test_what_fails_says_why(command, why):
    with pytest.raises(RunFailed, match=why):
        weigh(command)


def test_a_consumer_that_fails_is_not_waited_for():
    with pytest.raises(RunFailed, match='ValueError: mine'):
        weigh(
            [sys.executable, '-c', 'raise ValueError("mine")'],
            [sys.executable],
            ready=lambda: False,
        )


def test_the_broker_keeps_the_books(broker, url):
    """A peer that sends one message more than it should is found out."""
    consume, produce = range(2)

    def one_more(work):
        commands = PIKA.commands(work)
        return commands[consume], PIKA.commands(work._replace(count=work.count + 1))[produce]

    work = perf.Work(url, 'siamese.bench', 200, perf.BATCH, 256, 0)
    with pytest.raises(RunFailed, match='200 messages of work, but the broker counted .201'):
        perf.Observer(broker).run(PIKA._replace(commands=one_more), work)


def test_a_round_from_expiry_to_the_mailbox():
    done = Running('bench/alert_latency.py', '--rounds', 1).end()
    rows = [
        line.strip('|\n ').split(' | ')
        for line in done.out.splitlines()
        if line.endswith(' ≤ 15 s |')
    ]
    assert [row[0] for row in rows] == ['the history', 'a page asked for then', 'the mailbox'], (
        done.err
    )
    assert all(0 < float(row[1]) == float(row[2]) for row in rows)


def test_a_run_of_the_naive_peer():
    done = Running(
        'bench/perf_peers.py',
        '--peers',
        'pika-naive',
        '--rounds',
        1,
        '--count',
        200,
        '--seconds',
        1,
    ).end()
    assert done.status == 0, done.err
    speed, latency, target = (
        line.strip('|\n ').split(' | ')
        for line in done.out.splitlines()
        if line.startswith('| pika-naive |')
    )
    _, messages, rate, half, cpu, _, first, _ = speed
    _, p50, p99, _, reached = latency
    assert messages == '200' and target[-1] == 'not measured'
    rate, half, cpu, first, p50, p99, reached = (
        float(figure.replace(',', '')) for figure in (rate, half, cpu, first, p50, p99, reached)
    )
    assert min(rate, half, cpu, first, p50, reached) > 0 and p99 >= p50
