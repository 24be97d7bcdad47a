"""Clocks of machines that disagree, or are set during a run."""

import json

import pytest
from support.clock import Clock


def test_a_latency_below_0_spoils_the_result(start, run, tmp_path):
    clock = Clock(tmp_path)
    clock.set(-3600)
    consumer = start('perf_consumer.py', '--count', 20, '--csv', tmp_path / 'run.csv', **clock.env)
    consumer.wait_for('ready')
    assert run('perf_producer.py', '--count', 20, '--rate', 10).status == 0
    done = consumer.end()
    assert done.status == 0
    assert done.out.endswith(' ms; spoiled by clocks that disagree (20 below 0)\n')
    assert ' -36' in done.out.splitlines()[-1]  # 3,600 s are not hidden
    row = (tmp_path / 'run.csv').read_text().splitlines()[1]
    assert row.split(',')[2].startswith('-36')


@pytest.mark.parametrize('seconds', [3600, -3600])
def test_a_clock_that_is_set_during_the_run_spoils_the_result_but_no_latency(
    seconds, start, run, tmp_path
):
    clock = Clock(tmp_path)
    summary = tmp_path / 'summary'
    consumer = start('perf_consumer.py', '--count', 20, '--json', summary, **clock.env)
    consumer.wait_for('ready')
    assert run('perf_producer.py', '--count', 10).status == 0
    consumer.wait_for('  1 s  ', consumer.out)
    clock.set(seconds)
    # The producer runs on another machine, whose clock is still right.
    assert run('perf_producer.py', '--count', 10).status == 0
    assert consumer.end().status == 0
    found = json.loads(summary.read_text())
    assert found['spoiled'] == [f'a clock that was set by {seconds:+,}.0 s']
    assert 0 < found['latency_us']['min'] <= found['latency_us']['max'] < 60_000_000
