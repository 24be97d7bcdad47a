"""soak.py: faults come and go, no message gets lost, and it notices when one does."""

import contextlib
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.processes import TEST_TIMEOUT_S, replace_once, wait_until

from siamese import ROOT
from siamese.monitoring import database, verdicts
from siamese.testbed.proxy import in_front_of
from siamese.testbed.workload import NAMES, at_work, ledger_in

OF_CLIENTS = {
    'kill a script',
    'cut connections',
    'reset connections',
    'black hole',
    'refuse connections',
}


def queues_of(broker, url):
    """Return the names of all queues of the virtual host of a URL."""
    vhost = url.rpartition('/')[2]
    flags = ('-p', vhost, '--quiet', '--no-table-headers')
    return broker.ctl('list_queues', *flags, 'name').split()


def test_on_your_broker_only_clients_suffer(start, url, broker, tmp_path):
    """The same seed makes the same faults; nothing stays behind. It is called by a link."""
    link = tmp_path / 'soak.py'
    link.symlink_to(ROOT / 'soak.py')
    orders = []
    for _ in range(2):
        flags = ('--url', url, '--queue-type', 'classic', '--minutes', 0.1, '--seed', 4)
        history = ('--history', tmp_path / 'siamese.db')
        done = start(link, *flags, '--json', '-', *history).end(3 * TEST_TIMEOUT_S)
        assert done.status == 0 and 'Traceback' not in done.err, done.err
        summary = json.loads(done.out)
        assert summary['verdict'].startswith('valid') and summary['faults']
        orders.append([fault for fault, _ in summary['faults']])
    with contextlib.closing(database.open_for_reading(str(tmp_path / 'siamese.db'))) as db:
        for row in verdicts.find(db)[0]:
            assert (row['script'], row['exit_status']) == ('soak.py', 0)
            assert '--seed 4' in row['command'] and 'guest:' not in row['command']
    assert {*orders[0], *orders[1]} <= OF_CLIENTS
    shorter = min(map(len, orders))
    assert orders[0][:shorter] == orders[1][:shorter]
    assert queues_of(broker, url) == ['siamese.dead']
    assert not broker.ctl('list_connections', '--quiet', '--no-table-headers', 'pid')


def test_two_signals_leave_nothing_behind(start, url, broker, tmp_path):
    flags = ('--url', url, '--queue-type', 'classic', '--minutes', 5)
    soak = start('soak.py', *flags, '--folder', tmp_path)
    soak.wait_for('flowing again', soak.out)
    soak.send(signal.SIGINT)
    soak.wait_for('SIGINT: draining the queues')
    done = soak.stop()
    assert done.status == 130
    assert f'interrupted; see {tmp_path}' in done.err and 'Traceback' not in done.err
    assert queues_of(broker, url) == ['siamese.dead']


@pytest.mark.pair
def test_its_own_cluster_survives_all_faults(start, tmp_path):
    flags = ('--folder', tmp_path / 'kept', '--json', tmp_path / 'summary')
    done = start('soak.py', '--minutes', 0.2, '--seed', 2, *flags).end(3 * TEST_TIMEOUT_S)
    assert done.status == 0 and 'Traceback' not in done.err, done.err
    summary = json.loads((tmp_path / 'summary').read_text())
    lines = done.out.splitlines()
    assert lines[0].startswith('seed 2, 12 s of faults') and lines[-1] == summary['verdict']
    assert sum('flowing again after' in line for line in lines) == len(summary['faults']) > 0
    assert '"confirmed"' in (tmp_path / 'kept' / 'run.jsonl').read_text()


def test_a_byte_that_changes_on_the_way_is_told_by_name(start, url, tmp_path):
    flip, flipped = replace_once('键'.encode(), '锭'.encode())
    with in_front_of(url, alter=flip) as proxy:
        flags = ('--url', proxy.url, '--queue-type', 'classic', '--minutes', 0.05)
        done = start('soak.py', *flags, '--seed', 4, '--folder', tmp_path).end(3 * TEST_TIMEOUT_S)
    assert flipped and done.status == 1 and 'Traceback' not in done.err
    assert 'corrupt: ' in done.err and 'invalid: 1 corrupt' in done.out


def test_it_stops_at_the_first_fault_if_asked(start, url, broker, tmp_path):
    """An hour would be over much later than this test."""
    flip, flipped = replace_once('键'.encode(), '锭'.encode())
    with in_front_of(url, alter=flip) as proxy:
        flags = ('--url', proxy.url, '--queue-type', 'classic', '--minutes', 60)
        done = start('soak.py', *flags, '--stop-on-fault', '--json', '-').end(3 * TEST_TIMEOUT_S)
    summary = json.loads(done.out)
    assert flipped and done.status == summary['exit_status'] == 1
    (proven,) = summary['proven']
    assert f'{proven}\n' in done.err and proven.startswith('corrupt: ')
    assert 'a fault is proven: draining the queues' in done.err
    assert queues_of(broker, url) == ['siamese.dead']


def test_workers_may_be_stopped_before_they_begin(url, tmp_path):
    open(ledger_in(tmp_path), 'x').close()
    with at_work(url, 'classic', str(tmp_path), 1, lambda: '') as workload:
        assert workload.drain() == []


def test_workers_may_be_stopped_before_they_are_connected(url, tmp_path):
    open(ledger_in(tmp_path), 'x').close()
    with in_front_of(url) as proxy:
        proxy.hold('down')
        with at_work(proxy.url, 'classic', str(tmp_path), 1, lambda: '') as workload:
            wait_until(lambda: proxy.accepted >= len(NAMES), 'the workers')
            with ThreadPoolExecutor() as others:
                drained = others.submit(workload.drain)
                wait_until(lambda: not workload.processes.is_running('alice'), 'the end of alice')
                proxy.release()
                assert drained.result() == []


def test_what_somebody_else_takes_is_lost(start, url, broker, channel, tmp_path):
    """That is known when the queues are drained, and not before."""
    flags = ('--url', url, '--queue-type', 'classic', '--minutes', 60, '--stop-on-fault')
    soak = start('soak.py', *flags, '--folder', tmp_path)
    soak.wait_for('flowing again', soak.out)
    (texts,) = (name for name in queues_of(broker, url) if name.endswith('.texts'))
    taken = channel.consume(texts)
    for _ in range(10):  # one of them alone may be a copy
        method, _, _ = next(taken)
        channel.basic_ack(method.delivery_tag)
    channel.close()
    done = soak.stop()
    assert done.status == 1 and re.search(r'invalid: \d+ lost', done.out)
    assert 'SIGINT: draining the queues' in done.err and 'proven' not in done.err


@pytest.mark.parametrize(
    'flags, complaint',
    [
        (['--minutes', '-1'], 'must be at least 0.01'),
        (['--minutes', '0'], 'must be at least 0.01'),
        (['--url', 'http://x'], 'bad AMQP URL'),
        (['--url', ''], 'no AMQP URL'),
        (['--seed', 'x'], 'invalid'),
    ],
)
def test_bad_flags_are_reported_in_one_line(run, flags, complaint):
    done = run('soak.py', *flags)
    assert done.status == 2 and complaint in done.err and done.err.count('\n') == 1


@pytest.mark.parametrize(
    'change, cause',
    [
        (('127.0.0.1', '127.0.0.2'), 'broker unreachable at 127.0.0.2'),
        (('guest:guest', 'guest:guessed'), "refuses user 'guest': wrong name or password"),
    ],
)
def test_a_broker_that_it_cannot_use_is_told_before_anything_begins(
    run, url, tmp_path, change, cause
):
    done = run('soak.py', '--url', url.replace(*change), '--folder', tmp_path / 'kept')
    assert done.status in (1, 3) and cause in done.err
    assert done.err.count('\n') == 1 and 'guessed' not in done.err
    assert done.out == '' and not (tmp_path / 'kept').exists()


def test_without_rabbitmq_it_says_how_to_install_it(run):
    done = run('soak.py', RABBITMQ_HOME='/none')
    assert done.status == 3 and 'Install RabbitMQ' in done.err and 'Traceback' not in done.err
