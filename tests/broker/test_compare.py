"""compare.py against real brokers of two kinds; some refuse, go away, corrupt or lose messages."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import junitparser
import pika
import pytest
from support import small_broker
from support.documents import normal, steps_of
from support.processes import Running, wait_until
from support.queues import manage

from siamese import ROOT
from siamese.testbed import measured, rabbitmq
from siamese.testbed.conclusion import conclusion
from siamese.testbed.proxy import in_front_of

RABBITMQ4 = ROOT / '.rabbitmq4'  # made by make rabbitmq4
STRICT = 'deprecated_features.permit.transient_nonexcl_queues = false\n'
BUDGET = 500
ROUNDS = ('--rounds', measured.FEWEST_ROUNDS)
FOR_FIGURES = 5000  # messages; with fewer a round is too short to tell a rate
# Facts about a broker.
LARGE = 'message of 20 MiB'
SHARED = 'shared queue that is not durable'
UNREACHABLE = re.compile('broker unreachable at')


@pytest.fixture(scope='module')
def other():
    """A second broker: RabbitMQ 4.x that permits nothing deprecated, if this machine has it."""
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
        if line.startswith(('differences', 'compared', 'RabbitMQ')):
            break
        label = line[:17].strip() or label
        cells = found.setdefault(label, ['', ''])
        found[label] = [f'{cell} {part}' for cell, part in zip(cells, (line[17:65], line[65:]))]
    return {label: list(map(normal, cells)) for label, cells in found.items() if label}


def column_of(table, number):
    """Return what a table says of one of its brokers."""
    return {label: cells[number] for label, cells in rows(table).items()}


@pytest.mark.pair
def test_two_brokers_side_by_side(compare, tmp_path, broker, url, other):
    # What another user has on the first one.
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in 'siamese.dead', 'siamese.blocks':
            channel.queue_declare(queue, durable=True)
            channel.basic_publish('', queue, b'of another user')
    page = tmp_path / 'page.html'
    flags = ('--budget', FOR_FIGURES, *ROUNDS, '--html', page)
    done = result(compare(url, other.url, *flags), tmp_path)
    assert done.status == 0, done.err
    for column, name in zip(done.json['brokers'], ('integrity', 'reconnect')):
        assert set(verdicts(column).values()) == {'pass'} and name in column['checks'], column
        rate = column['checks']['throughput']['figures']['rate']
        assert 0 < rate['low'] <= rate['median'] <= rate['high']
        assert (len(rate['rounds']), rate['better']) == (measured.FEWEST_ROUNDS, 'more')
        assert column['messages'] <= FOR_FIGURES
    versions = [column['broker'] for column in done.json['brokers']]
    assert all(re.fullmatch(r'RabbitMQ \d+\.\d+\.\d+', version) for version in versions)
    ((_, sample),) = steps_of(ROOT / 'docs/explanation/compare.md')
    for number, version in enumerate(versions):
        column_of_sample = int(version > 'RabbitMQ 4')  # it has one of RabbitMQ 3 and one of 4
        assert column_of(done.out, number) == column_of(sample, column_of_sample)
    strict = STRICT in rabbitmq.CONF
    expected = 'allowed'
    if strict:
        expected = 'refused (INTERNAL_ERROR - '
    assert done.json['brokers'][1]['facts'][SHARED].startswith(expected)
    if versions[0] != versions[1]:
        texts = done.json['differences']['message returned 25 times to a quorum queue']
        assert texts[0] != texts[1]
        assert 'differences, all of them legal:' in done.out
        legal, _, _ = sample.partition('compared, ')
        shown = re.findall(r'^  (\S[^:]*): ', legal, re.MULTILINE)
        found = {*done.json['differences'], LARGE}
        expected = {*shown, *[SHARED] * strict}
        assert expected <= found
        if all(version in sample for version in versions):
            assert found == expected
    published = json.loads(manage(other, 'GET', 'overview'))['message_stats']['publish']
    assert FOR_FIGURES / 2 < published <= FOR_FIGURES
    assert_compared(done)
    nothing_left(broker, url)
    nothing_left(other, other.url)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in 'siamese.dead', 'siamese.blocks':
            method, _, body = connection.channel().basic_get(queue)
            assert body == b'of another user'
            assert not method.redelivered and not method.message_count
    assert_self_contained(page, done)


def assert_compared(done):
    """Each figure of the rounds is compared, and the machine and the run are told."""
    compared = done.json['comparisons']
    assert [each['figure'] for each in compared] == ['rate', 'p50', 'p99']
    for each in compared:
        assert each['verdict'] == 'not known' and each['ratio'] > 0
        assert f'{measured.FEWEST_ROUNDS} rounds cannot tell' in each['text']
        assert each['text'] in done.out
    assert done.json['load']['text'] in done.out
    assert 0 <= done.json['load']['during'] <= 1
    assert done.json['settings']['rounds'] == measured.FEWEST_ROUNDS
    assert done.json['command'].startswith('./compare.py amqp://127.0.0.1:')


def assert_self_contained(page: Path, done):
    html = page.read_text()
    assert not re.search(r'https?://|src=|href=|<link|<script|url\(|@import', html)
    assert html.count('<svg') == html.count('</svg>') == 5 and html.count('<rect') == 10
    assert conclusion(done.json) in html
    for text in *done.json['brokers'][0]['checks'], done.json['brokers'][1]['address'], 'pass':
        assert text in html


def test_a_user_without_permission_to_declare_is_told_so(compare, tmp_path, broker, url):
    user = f'reader-{os.getpid()}'
    vhost = pika.URLParameters(url).virtual_host
    broker.ctl('add_user', user, 'secret')
    broker.ctl('set_permissions', '-p', vhost, user, '^$', '.*', '.*')
    url_of_user = url.replace('guest:guest', f'{user}:secret')
    done = result(compare(url_of_user, '--budget', BUDGET, *ROUNDS), tmp_path)
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
    running = compare(other.url, '--budget', BUDGET, *only('integrity', 'non-ASCII', 'RPC'))
    running.wait_for('integrity: pass')
    wait_until(lambda: b'.utf-8' in manage(other, 'GET', 'queues'))
    other.kill()
    running.wait_for('non-ASCII: not known')
    other.start()
    done = result(running, tmp_path)
    assert verdicts(done.json['brokers'][0]) == {
        'integrity': 'pass',
        'non-ASCII': 'not known',
        'RPC': 'not known',
    }
    assert done.status == 3 and UNREACHABLE.search(done.out)
    wait_until(lambda: manage(other, 'GET', 'queues'))
    # The broker may take longer to come back than compare.py waits for it.
    nothing_left(other, other.url, but=done.json['brokers'][0]['left'])


def test_a_broker_that_disappears_in_the_rounds_does_not_stop_the_other(
    compare, tmp_path, broker, url
):
    with in_front_of(url) as proxy:
        flags = ('--budget', BUDGET, *ROUNDS, *only('throughput', 'RPC'))
        running = compare(url, proxy.url, *flags)
        wait_until(lambda: proxy.accepted > 8)  # so the first round is over
        proxy.refuse()
        proxy.cut()
        done = result(running, tmp_path)
    one, other = map(verdicts, done.json['brokers'])
    assert set(one.values()) == {'pass'} and set(other.values()) == {'not known'}
    assert re.search(r'in round \d of 5: ', done.json['brokers'][1]['checks']['throughput']['text'])
    assert done.status == 3


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


def test_a_second_signal_in_the_rounds_still_prints_the_table(compare, tmp_path, broker, url):
    running = compare(url, *only('throughput', 'RPC'))
    wait_until(lambda: b'siamese.compare' in manage(broker, 'GET', f'queues/{vhost_of(url)}'))
    running.send(signal.SIGINT)
    running.send(signal.SIGINT)
    done = result(running, tmp_path)
    assert done.status in (3, 130), done.err  # the first may have ended it before the second came
    assert set(verdicts(done.json['brokers'][0]).values()) == {'not known'}
    nothing_left(broker, url)


def test_junit_has_a_suite_for_each_broker(compare, tmp_path, broker, url):
    """What is not possible is skipped, what nothing is known of is an error."""
    (port,) = rabbitmq.free_ports(1)
    path = tmp_path / 'junit.xml'
    gone = f'amqp://guest:guest@127.0.0.1:{port}'
    with small_broker.running(prioritizes=False) as small:
        flags = (*only('priority', 'RPC'), '--junit', path)
        done = result(compare(small.url, gone, *flags), tmp_path)
    assert done.status == 3
    assert 'guest:' not in path.read_text()
    first, second = junitparser.JUnitXml.fromfile(str(path))
    assert first.name.startswith('small broker 1.0 at 127.0.0.1:')
    assert (first.tests, first.skipped, first.failures, first.errors) == (2, 1, 0, 0)
    assert (second.tests, second.errors) == (2, 2)
    texts = {case.name: case.result[0].message for case in second}
    assert all(UNREACHABLE.search(text) for text in texts.values()) and len(texts) == 2


@pytest.mark.parametrize(
    'argv, error',
    [
        (['--rounds', '4'], '--rounds'),
        (['--rounds', '60', '--budget', '500'], '--rounds 60 takes a --budget of 600 messages'),
        (['--junit', '/nowhere/x.xml'], '/nowhere/x.xml'),
    ],
)
def test_wrong_flags_are_said_in_one_line(argv, error):
    done = Running('compare.py', *argv).end()
    assert done.status == 2 and done.err.count('\n') == 1 and error in done.err


def test_an_unreachable_broker_is_not_known(compare, tmp_path):
    (port,) = rabbitmq.free_ports(1)
    done = result(compare(f'amqp://guest:guest@127.0.0.1:{port}', '--only', 'RPC'), tmp_path)
    assert done.status == 3 and UNREACHABLE.search(done.out)


def test_a_bad_url_is_reported_in_one_line():
    done = Running(
        'compare.py', 'amqp://guest:guest@localhost', 'http://guest:guest@localhost'
    ).end()
    assert done.status == 2 and done.err.count('\n') == 1 and 'guest' not in done.err


# ---- what a broker does not offer, and what it offers and does not do


NOT_OFFERED = {
    'rabbitmq': {},
    'qpid': {
        'fanout, TTL': 'no time to live: expiration 60000 is taken for a time',
        'priority': 'no priorities: refused',
        'dead letters': 'no dead letters: refused',
    },
}


@pytest.mark.any_broker
def test_what_a_broker_does_not_offer_is_not_possible(compare, tmp_path, broker, product):
    names = ('integrity', 'fanout, TTL', 'priority', 'dead letters', 'limits met')
    done = result(compare(broker.url, *only(*names)), tmp_path)
    (column,) = done.json['brokers']
    not_offered = NOT_OFFERED[product]
    assert verdicts(column) == {
        name: 'not possible' if name in not_offered else 'pass' for name in names
    }
    for name, text in not_offered.items():
        assert column['checks'][name]['text'].startswith(text)
    assert (done.status, column['left']) == (0, [])


@pytest.mark.pair
def test_what_a_forged_header_does_to_dead_lettering_is_told(broker, compare, tmp_path):
    done = result(compare(broker.url, *only('dead letters')), tmp_path)
    (column,) = done.json['brokers']
    crashes = column['broker'].startswith('RabbitMQ 3.')
    told = 'with a forged x-death crashes the queue' in column['checks']['dead letters']['text']
    assert told == crashes and done.status == 0
    nothing_left(broker, broker.url)


def only(*names):
    """Return the flags for these checks."""
    return [flag for name in names for flag in ('--only', name)]


def compared(compare, tmp_path, *names, **manners):
    """Compare a broker with these manners; return the column, and how it ended."""
    with small_broker.running(**manners) as broker:
        done = result(compare(broker.url, *only(*names)), tmp_path)
    (column,) = done.json['brokers']
    return column, done


def test_what_is_ignored_is_not_possible(compare, tmp_path):
    manners = {'expires': False, 'prioritizes': False, 'dead_letters': False}
    names = ('unread', 'priority', 'dead letters', 'fanout, TTL', 'RPC')
    column, done = compared(compare, tmp_path, *names, **manners)
    texts = {name: cell['text'] for name, cell in column['checks'].items()}
    assert texts.pop('RPC').startswith('200 right answers')
    assert texts == {
        'fanout, TTL': 'no time to live: expiration has no effect',
        'unread': 'no time to live: expiration has no effect',
        'priority': 'no priorities: x-max-priority has no effect',
        'dead letters': 'no dead letters: x-dead-letter-exchange has no effect',
    }
    assert done.status == 0


def test_a_message_that_overtakes_fails_the_check_and_is_named(compare, tmp_path):
    column, done = compared(compare, tmp_path, 'order', overtakes=True)
    cell = column['checks']['order']
    assert cell['verdict'] == 'FAIL' and re.search(r'message \d+ came after \d+', cell['text'])
    assert done.status == 1


def test_confirms_that_are_lost_fail_the_check_with_their_number(compare, tmp_path):
    column, done = compared(compare, tmp_path, 'non-ASCII', loses_confirm_every=700)
    cell = column['checks']['non-ASCII']
    assert cell['verdict'] == 'FAIL' and '1 message not confirmed' in cell['text']
    assert done.status == 1


def test_a_broker_that_leaves_requests_unanswered_does_not_hold_up_the_table(compare, tmp_path):
    """Each check and the clean-up end by themselves, and the next check has a new connection."""
    silent = {'never_answers': ('Confirm.Select', 'Exchange.Delete')}
    column, done = compared(compare, tmp_path, 'integrity', 'dead letters', 'RPC', **silent)
    words = 'confirms are advertised, but confirm.select is not answered within 10 s'
    assert {name: (cell['verdict'], cell['text']) for name, cell in column['checks'].items()} == {
        'integrity': ('FAIL', words),
        'dead letters': ('FAIL', words),
        'RPC': ('pass', column['checks']['RPC']['text']),
    }
    assert done.status == 1 and 'small broker 1.0' in done.out
    assert [name.rpartition('.')[2] for name in column['left']] == ['dlx']
    assert f'./cleanup.py --delete {column["left"][0]}' in done.err


def test_a_request_without_an_answer_is_a_fault_of_a_broker_that_is_there(compare, tmp_path):
    silent = {'never_answers': ('Basic.Get',)}
    column, done = compared(compare, tmp_path, 'dead letters', 'RPC', **silent)
    assert verdicts(column) == {'dead letters': 'FAIL', 'RPC': 'pass'} and done.status == 1
    assert 'no answer for 10 s' in column['checks']['dead letters']['text']


@pytest.fixture
def other_process():
    """A small broker in a process of its own, which can be frozen."""
    running = Running('tests/support/small_broker.py')
    yield running
    running.process.kill()
    running.end()


def test_a_frozen_broker_does_not_hold_up_signals(compare, tmp_path, other_process):
    """The first one ends the check, the second one the clean-up, and the table is printed."""
    url = wait_until(lambda: ''.join(other_process.out).strip(), 'a URL')
    running = compare(url, *only('RPC', 'limits met'))
    running.wait_for('RPC: pass')
    other_process.send(signal.SIGSTOP)
    running.send(signal.SIGINT)
    running.wait_for('limits met: not known')
    running.send(signal.SIGTERM)
    done = result(running, tmp_path)
    assert done.status == 130
    (column,) = done.json['brokers']
    assert verdicts(column) == {'RPC': 'pass', 'limits met': 'not known'}
    assert column['left'] and all(name in done.err for name in column['left'])


# ---- what versions do differently


@pytest.fixture
def limited(broker, url):
    """The URL of a user who may use our names only."""
    user = f'limited{os.getpid()}'
    pattern = r'^(siamese.*|amq\.default)$'
    broker.ctl('add_user', user, 'secret')
    vhost = pika.URLParameters(url).virtual_host
    broker.ctl('set_permissions', '-p', vhost, user, *3 * [pattern])
    yield url.replace('guest:guest', f'{user}:secret')
    broker.ctl('delete_user', user)


def refusal(url, use):
    """Return the code with which a broker refuses something; None if it does not."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            use(connection.channel())
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code
    return None


@pytest.mark.pair
def test_what_versions_do_differently_is_seen(compare, tmp_path, limited):
    """Looks, consumer timeouts and prefetch: what compare.py says is what plain pika meets."""
    done = result(compare(limited, *only('limits met'), '--budget', BUDGET), tmp_path)
    (column,) = done.json['brokers']
    facts = column['facts']
    assert (done.status, column['left']) == (0, []), done.err
    code = refusal(limited, lambda channel: channel.queue_declare('foreign', passive=True))
    look = facts['look at a queue without any permission for it']
    assert look == {403: 'refused', 404: 'allowed'}[code]
    timeout = {'x-consumer-timeout': 60000}
    code = refusal(
        limited,
        lambda channel: channel.queue_declare('siamese.timeout', durable=True, arguments=timeout),
    )
    has_timeout = code is None
    fact = facts['consumer timeout, classic queue']
    assert fact.startswith('not known' if has_timeout else 'none'), fact
    # Where it is a property of quorum queues, it is kept to the second.
    fact = facts['consumer timeout, quorum queue']
    assert fact.startswith('not known' if has_timeout else 'the consumer is cancelled'), fact
    meaning = 'for all its consumers together' if has_timeout else 'for each of its consumers'
    assert facts['prefetch of a channel (global)'] == meaning


def test_what_an_administrator_cannot_see_is_not_known(compare, tmp_path, url):
    done = result(compare(url, *only('limits met'), '--budget', BUDGET), tmp_path)
    (column,) = done.json['brokers']
    look = column['facts']['look at a queue without any permission for it']
    assert look == 'not known: this login has the permission configure for any name'
