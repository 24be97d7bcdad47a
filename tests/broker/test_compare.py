"""compare.py against real brokers of two kinds; some refuse, go away, corrupt or lose messages."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pika
import pytest
from support.documents import normal, steps_of
from support.processes import Running, wait_until
from support.queues import manage

from siamese import ROOT
from siamese.testbed import rabbitmq
from siamese.testbed.proxy import in_front_of

RABBITMQ4 = ROOT / '.rabbitmq4'  # made by make rabbitmq4
STRICT = 'deprecated_features.permit.transient_nonexcl_queues = false\n'
BUDGET = 500
# Facts about a broker.
LARGE = 'message of 20 MiB'
SHARED = 'shared queue that is not durable'
UNREACHABLE = re.compile('broker unreachable at')


@pytest.fixture(scope='module')
def other():
    """A second broker: RabbitMQ 4.x, as strict as 4.3, if this machine has it."""
    with pytest.MonkeyPatch.context() as patch:
        if 'RABBITMQ_HOME' in os.environ:
            patch.delenv('RABBITMQ_HOME')
        elif (RABBITMQ4 / 'sbin').exists():
            patch.setenv('RABBITMQ_HOME', str(RABBITMQ4))
            patch.setattr(rabbitmq, 'CONF', rabbitmq.CONF + STRICT)
        with rabbitmq.throwaway(management=True) as throwaway:
            yield throwaway


@pytest.fixture
def compare(tmp_path):
    """A function that starts compare.py; it is killed at the end if it still runs."""
    started = []

    def compare(*argv):
        started.append(Running('compare.py', *argv, '--json', tmp_path / 'json'))
        return started[-1]

    yield compare
    for running in started:
        running.process.kill()
        running.end()


def result(running, tmp_path):
    """Return the exit status, the log and the output of compare.py, and its JSON."""
    done = running.end(300)
    assert 'Traceback' not in done.err and 'guest:' not in done.err + done.out, done.err
    return SimpleNamespace(**vars(done), json=json.loads((tmp_path / 'json').read_text()))


def verdicts(column):
    return {name: cell['verdict'] for name, cell in column['checks'].items()}


def vhost_of(url):
    return quote(pika.URLParameters(url).virtual_host, safe='')


def connections(broker, url):
    return manage(broker, 'GET', f'vhosts/{vhost_of(url)}/connections')


def nothing_left(broker, url, but=()):
    """Wait until no connection, queue or exchange of compare.py is left on the broker.

    `but` are those that it said it could not remove.
    """

    def gone():
        found = [
            json.loads(manage(broker, 'GET', f'{kind}/{vhost_of(url)}'))
            for kind in ('queues', 'exchanges')
        ]
        names = [
            one['name']
            for kind in found
            for one in kind
            if 'compare' in one['name'] or '.rpc.' in one['name']
        ]
        names = set(names).difference(but)
        users = json.loads(connections(broker, url))
        return not names and not users

    wait_until(gone, 'nothing left')


def rows(table):
    """Return the rows of a table of two brokers as {label: [text of each]}, numbers aside."""
    found = {}
    label = ''
    for line in table.splitlines():
        if line.startswith(('differences', 'RabbitMQ')):
            break
        label = line[:17].strip() or label
        cells = found.setdefault(label, ['', ''])
        found[label] = [f'{cell} {part}' for cell, part in zip(cells, (line[17:65], line[65:]))]
    return {label: list(map(normal, cells)) for label, cells in found.items() if label}


@pytest.mark.pair
def test_two_brokers_side_by_side(compare, tmp_path, broker, url, other):
    # What another user has on the first one.
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in 'siamese.dead', 'siamese.blocks':
            channel.queue_declare(queue, durable=True)
            channel.basic_publish('', queue, b'of another user')
    page = tmp_path / 'page.html'
    done = result(compare(url, other.url, '--budget', BUDGET, '--html', page), tmp_path)
    assert done.status == 0, done.err
    for column, name in zip(done.json['brokers'], ('integrity', 'reconnect')):
        assert set(verdicts(column).values()) == {'pass'} and name in column['checks'], column
        assert column['checks']['throughput']['metrics']['msg/s'] > 0
        assert column['messages'] <= BUDGET
    versions = [column['broker'] for column in done.json['brokers']]
    assert all(re.fullmatch(r'RabbitMQ \d+\.\d+\.\d+', version) for version in versions)
    ((_, sample),) = steps_of(ROOT / 'docs/compare.md')
    assert rows(done.out) == rows(sample)
    strict = STRICT in rabbitmq.CONF
    expected = 'allowed'
    if strict:
        expected = 'refused (INTERNAL_ERROR - '
    assert done.json['brokers'][1]['facts'][SHARED].startswith(expected)
    if versions[0] != versions[1]:
        texts = done.json['differences']['message returned 25 times to a quorum queue']
        assert texts[0] != texts[1]
        assert 'differences, all of them legal:' in done.out
        shown = re.findall(r'^  (\S[^:]*): ', sample, re.MULTILINE)
        assert {*done.json['differences'], LARGE} == {*shown, *[SHARED] * strict}
    published = json.loads(manage(other, 'GET', 'overview'))['message_stats']['publish']
    assert BUDGET / 2 < published <= BUDGET
    nothing_left(broker, url)
    nothing_left(other, other.url)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in 'siamese.dead', 'siamese.blocks':
            method, _, body = connection.channel().basic_get(queue)
            assert body == b'of another user'
            assert not method.redelivered and not method.message_count
    assert_self_contained(page, done)


def assert_self_contained(page: Path, done):
    html = page.read_text()
    assert not re.search(r'//|src=|href=|<link|<script|url\(|@import', html)
    assert html.count('<svg') == html.count('</svg>') == 5 and html.count('<rect') == 10
    for text in *done.json['brokers'][0]['checks'], done.json['brokers'][1]['address'], 'pass':
        assert text in html


def test_a_user_without_permission_to_declare_is_told_so(compare, tmp_path, broker, url):
    user = f'reader-{os.getpid()}'
    vhost = pika.URLParameters(url).virtual_host
    broker.ctl('add_user', user, 'secret')
    broker.ctl('set_permissions', '-p', vhost, user, '^$', '.*', '.*')
    url_of_user = url.replace('guest:guest', f'{user}:secret')
    done = result(compare(url_of_user, '--budget', BUDGET), tmp_path)
    broker.ctl('delete_user', user)
    (column,) = done.json['brokers']
    assert set(verdicts(column).values()) == {'not possible'} and done.status == 3, done.out
    assert all('ACCESS_REFUSED' in cell['text'] for cell in column['checks'].values())
    assert 'secret' not in done.err + done.out
    nothing_left(broker, url)


def test_a_limit_of_the_plan_is_not_a_failure(compare, tmp_path, broker, url, channel):
    channel.queue_declare('of another user', durable=True)
    broker.ctl('set_vhost_limits', '-p', pika.URLParameters(url).virtual_host, '{"max-queues": 1}')
    done = result(compare(url, '--only', 'limits met'), tmp_path)
    assert verdicts(done.json['brokers'][0]) == {'limits met': 'not possible'} and done.status == 3
    assert 'queue limit' in done.err


def test_a_broker_that_disappears_midway_is_not_known(compare, tmp_path, other):
    running = compare(
        other.url, '--budget', BUDGET, '--only', 'integrity', '--only', 'latency', '--only', 'RPC'
    )
    running.wait_for('integrity: pass')
    wait_until(lambda: b'siamese.compare' in manage(other, 'GET', 'queues'))
    other.kill()
    running.wait_for('latency: not known')
    other.start()
    done = result(running, tmp_path)
    assert verdicts(done.json['brokers'][0]) == {
        'integrity': 'pass',
        'latency': 'not known',
        'RPC': 'not known',
    }
    assert done.status == 3 and UNREACHABLE.search(done.out)
    wait_until(lambda: manage(other, 'GET', 'queues'))
    # The broker may take longer to come back than compare.py waits for it.
    nothing_left(other, other.url, but=done.json['brokers'][0]['left'])


def test_a_broker_that_corrupts_fails_the_checks_that_see_it(compare, tmp_path, broker, url):
    right = '值'.encode()
    wrong = b'\xe5\x80\xbd'
    expected = {'integrity': 'pass', 'non-ASCII': 'FAIL', 'throughput': 'FAIL'}
    only = [flag for name in expected for flag in ('--only', name)]
    with in_front_of(url, alter=lambda data: data.replace(right, wrong)) as proxy:
        done = result(compare(proxy.url, '--budget', BUDGET, *only), tmp_path)
    (column,) = done.json['brokers']
    assert verdicts(column) == expected and done.status == 1
    assert 'corrupt' in column['checks']['non-ASCII']['text']
    nothing_left(broker, url)


def test_a_broker_that_loses_fails_the_check_that_sees_it(compare, tmp_path, broker, url):
    vhost = pika.URLParameters(url).virtual_host
    broker.ctl('set_policy', '-p', vhost, 'few', r'\.blocks$', '{"max-length": 3}')
    only = ('--only', 'integrity', '--only', 'dead letters')
    done = result(compare(url, '--budget', BUDGET, *only), tmp_path)
    (column,) = done.json['brokers']
    assert verdicts(column) == {'integrity': 'FAIL', 'dead letters': 'pass'} and done.status == 1
    assert '7 lost' in column['checks']['integrity']['text']
    nothing_left(broker, url)


@pytest.mark.parametrize(
    'code, verdict, status, fact',
    [(541, 'pass', 0, {SHARED: 'refused (INTERNAL_ERROR)'}), (320, 'not known', 3, {})],
)
def test_a_broker_that_closes_the_connection(
    compare, tmp_path, broker, url, code, verdict, status, fact
):
    """RabbitMQ 4.3 refuses a queue with 541; with 320 it goes away."""
    close = pika.frame.Method(
        0, pika.spec.Connection.Close(code, 'INTERNAL_ERROR\nin detail', 50, 10)
    ).marshal()
    with in_front_of(url, alter=lambda data: close if b'.transient' in data else data) as proxy:
        done = result(compare(proxy.url, '--only', 'limits met'), tmp_path)
    (column,) = done.json['brokers']
    assert verdicts(column) == {'limits met': verdict} and done.status == status
    assert fact.items() <= column['facts'].items()
    nothing_left(broker, url)


def test_a_module_that_is_missing_is_no_fault_of_the_broker(
    compare, tmp_path, broker, url, monkeypatch
):
    (tmp_path / 'sympy.py').write_text(
        'raise ModuleNotFoundError("No module named sympy", name="sympy")'
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = result(
        compare(url, '--only', 'RPC', '--only', 'limits met', '--budget', BUDGET), tmp_path
    )
    (column,) = done.json['brokers']
    assert verdicts(column) == {'RPC': 'not known', 'limits met': 'pass'}
    assert done.status == 3
    assert 'sympy' in column['checks']['RPC']['text']
    nothing_left(broker, url)


def test_a_full_disk_of_ours_is_no_fault_of_the_broker(broker, url):
    """With this limit a file takes some 500 bytes, and no ledger fits."""
    command = f'ulimit -f 1; exec {sys.executable} compare.py --only integrity --only RPC {url}'
    done = Running('sh', '-c', command).end()
    assert done.status == 3, done.err
    assert done.out.count('not known: ') == 2 and 'FAIL' not in done.out
    assert 'Traceback' not in done.err
    nothing_left(broker, url)


def test_a_broker_with_an_alarm_is_not_known(compare, tmp_path, broker, url):
    broker.ctl('set_vm_memory_high_watermark', 0)
    try:
        done = result(
            compare(f'{url}?blocked_connection_timeout=1', '--only', 'limits met'), tmp_path
        )
        cell = done.json['brokers'][0]['checks']['limits met']
        assert cell['verdict'] == 'not known' and done.status == 3
        assert 'blocks publishers' in cell['text']
        # The management API goes on listing the connection of the run before for a while.
        wait_until(lambda: connections(broker, url) == b'[]')
        running = compare(url, '--only', 'limits met')
        wait_until(lambda: b'"blocked"' in connections(broker, url))
        for number in signal.SIGINT, signal.SIGTERM:
            running.send(number)
        done = running.end()
        assert done.status == 130 and 'Traceback' not in done.err
    finally:
        broker.ctl('set_vm_memory_high_watermark', 0.4)
    nothing_left(broker, url)


def test_the_first_url_that_answers_is_used(compare, tmp_path, broker, url):
    flags = '--only', 'reconnect', '--budget', BUDGET, '--quiet'
    done = result(compare(f'amqp://guest:guest@127.0.0.1:1, {url}', *flags), tmp_path)
    assert done.status == 0
    assert re.search(f'{UNREACHABLE.pattern} 127.0.0.1:1', done.err)
    assert 'trying the next URL' in done.err
    assert done.out.count('\n') == 1 and done.out.endswith(': 1 pass\n')
    assert f':{broker.ports[0][0]}/' in done.out


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_after_a_signal(compare, tmp_path, broker, url, number):
    running = compare(url, '--only', 'throughput', '--only', 'RPC')
    wait_until(lambda: b'siamese.compare' in manage(broker, 'GET', f'queues/{vhost_of(url)}'))
    running.send(number)
    done = result(running, tmp_path)
    assert done.status == 3 and f'stopped by {number.name}' in done.out
    assert set(verdicts(done.json['brokers'][0]).values()) == {'not known'}
    nothing_left(broker, url)


def test_an_unreachable_broker_is_not_known(compare, tmp_path):
    (port,) = rabbitmq.free_ports(1)
    done = result(compare(f'amqp://guest:guest@127.0.0.1:{port}', '--only', 'RPC'), tmp_path)
    assert done.status == 3 and UNREACHABLE.search(done.out)


def test_a_bad_url_is_reported_in_one_line():
    done = Running(
        'compare.py', 'amqp://guest:guest@localhost', 'http://guest:guest@localhost'
    ).end()
    assert done.status == 2 and done.err.count('\n') == 1 and 'guest' not in done.err
