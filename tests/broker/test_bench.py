"""bench against real processes, and a short run of a peer on a real broker."""

import sys

import pytest
from support.processes import Running

from siamese import ROOT

sys.path.append(str(ROOT / 'bench'))

from harness import RunFailed, weigh

from bench import perf_peers as perf

PIKA = perf.CONTENDERS['pika-naive']


def test_programs_are_weighed():
    work = """
import time
x = bytearray(80_000_000)
end = time.process_time() + 0.5
while time.process_time() < end: 0
"""
    outputs, cpu, peak, _ = weigh([sys.executable, '-c', work], [sys.executable, '-c', 'print(7)'])
    assert outputs == ['', '7\n'] and cpu >= 0.5 and peak >= 85


@pytest.mark.parametrize(
    'command, why',
    [
        ([sys.executable, '-c', '1 / 0'], 'ZeroDivisionError: division by zero'),
        (['bench/.peers/none'], 'none: No such file or directory'),
    ],
)
def test_a_program_that_fails_says_why(command, why):
    with pytest.raises(RunFailed, match=why):
        weigh(command)


def test_a_consumer_that_fails_is_not_waited_for():
    with pytest.raises(RunFailed, match='ValueError: mine'):
        weigh(
            [sys.executable, '-c', 'raise ValueError("mine")'],
            [sys.executable],
            ready=lambda: False,
        )


def test_the_broker_counts_what_a_peer_does(broker, url):
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


def test_the_pages_of_a_small_history_are_timed():
    done = Running('bench/pages.py', '--queues', 10, '--years', 0.05).end()
    assert done.status in (0, 1), done.err  # 1: a page was slow, as may be on a busy machine
    for page in 'all queues', 'one queue', 'dead letters', 'clients':
        assert f'\n| {page} | ' in done.out


def test_monitor_py_keeps_a_right_history_whatever_goes_wrong_around_it():
    done = Running('bench/monitor_faults.py', '--minutes', 0.5, '--seed', 4).end(300)
    assert done.status == 0, done.out + done.err
    assert 'the history is right' in done.out


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
    ).end(300)
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
