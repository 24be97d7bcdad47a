"""reports.py: the situation now, and the history as table, CSV and JSON."""

import csv
import io
import json
import time

import pytest
from support.builders import letter
from support.messages import declare_dead
from support.monitor import published, totals, watch
from support.processes import wait_until
from support.queues import waiting

from siamese.monitoring import database, dead_letters


def test_once_prints_the_situation_and_leaves_nothing_behind(run, broker, channel, tmp_path):
    path = tmp_path / 'none.db'
    flags = ('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    assert run(*flags, '--check').out.startswith('SIAMESE OK - 0 queues | ready=0 ')
    declare_dead(channel)
    channel.queue_declare('\x1b[2Jevil', durable=True)
    channel.basic_publish('', '\x1b[2Jevil', b'x')
    channel.basic_publish('siamese.dlx', '', b'x')
    wait_until(lambda: '1 warning: 2 queues, 2 messages' in run(*flags).out, 'the messages')
    done = run(*flags, '--json', tmp_path / 'now.json')
    assert (
        done.status == 0
        and '\x1b' not in done.out
        and '1 warning: 2 queues, 2 messages wait, 1 client; counters are up to 5 s old\n'
        in done.out
    )
    assert 'warning: 2 queues wait without a consumer: 2 messages\n' in done.out
    assert '    \\x1b[2Jevil (1), siamese.dead (1)\n    Start a consumer.' in done.out
    found = json.loads((tmp_path / 'now.json').read_text())
    assert {row['name']: row['ready'] for row in found['queues']} == {
        '\x1b[2Jevil': 1,
        'siamese.dead': 1,
    }
    assert not path.exists() and waiting(channel, 'siamese.dead') == 1
    only = run(*flags, '--json', '-')
    assert only.status == 0
    assert [row['name'] for row in json.loads(only.out)['queues']] == [
        '\x1b[2Jevil',
        'siamese.dead',
    ]
    checked = run(*flags, '--check', '--json', '-')
    (warning,) = json.loads(checked.out)['warnings']
    assert checked.status == 1 and len(warning['members']) == 2


def test_once_shortens_long_names(run, broker, channel, tmp_path):
    channel.queue_declare('q' * 250, durable=True)
    flags = (
        'monitor.py',
        '--once',
        '--history',
        tmp_path / 'none.db',
        '--management-url',
        broker.management_url,
    )
    wait_until(lambda: '1 queue, ' in run(*flags).out, 'the queue')
    lines = run(*flags).out.splitlines()
    assert lines[1].startswith('q' * 59 + '…  ') and max(map(len, lines)) < 160


def test_a_history_has_one_writer_and_one_broker(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path)
    second = run('monitor.py', '--history', path)
    assert second.status == 2 and 'another monitor.py writes' in second.err
    flags = ('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    before = database.get_fact(db, 'place')
    assert run(*flags).status == 0
    monitor.stop()
    assert run(*flags).status == 0
    other = run(*flags, AMQP_URL=broker.url)
    assert other.status == 2 and f'is the history of {before}, not of' in other.err


def test_a_monitor_goes_on_whoever_looks_at_its_history(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path, '--mail-to', 'ops@example.org')
    files = database.files(str(path))
    api = '--management-url', broker.management_url
    for _ in range(2):
        assert run('monitor.py', '--once', '--history', path, *api).status == 0
    assert database.files(str(path)) == files
    now = time.time()
    wait_until(lambda: database.get_fact(db, 'collected') > now, 'a collection')
    assert monitor.stop().status == 0


def test_reports_as_csv_and_json_agree_with_the_table(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    for queue in 'one', 'two':
        channel.queue_declare(queue, durable=True)
        published(channel, queue, 3)
    wait_until(
        lambda: [totals(db).get(queue, (0,))[0] for queue in ('one', 'two')] == [3, 3], 'counts'
    )
    flags = ('monitor.py', '--report', 'day', '--history', path)
    assert run(*flags).out.splitlines()[-1] == '2 lines, 0 messages not picked up or rejected'
    rows = list(csv.DictReader(io.StringIO(run(*flags, '--csv', '-').out)))
    assert [(row['queue'], row['published']) for row in rows] == [('one', '3'), ('two', '3')]
    found = json.loads(run(*flags, '--queue', 'two', '--json', '-').out)
    assert [(row['queue'], row['published'], row['day']) for row in found] == [
        ('two', 3, rows[0]['day'])
    ]
    assert run(*flags, '--since', '2099-01-01').status == 3
    for period, length in (('month', 7), ('year', 4)):
        assert (
            run('monitor.py', '--report', period, '--history', path).out.splitlines()[1][:length]
            == (rows[0]['day'][:length])
        )


@pytest.mark.parametrize('flags', [['--report', 'day'], ['--requeue', 'all']])
def test_a_history_that_is_not_there_or_holds_nothing(run, tmp_path, flags):
    done = run('monitor.py', *flags, '--history', tmp_path / 'none.db')
    assert done.status == 3 and done.err.count('\n') == 1 and 'Traceback' not in done.err


def test_the_management_api_with_a_wrong_password(run, broker):
    wrong = broker.management_url.replace('guest:guest', 'guest:S3cr3t')
    done = run('monitor.py', '--once', '--management-url', wrong)
    assert (
        done.status == 3
        and "refuses user 'guest': wrong name or password" in done.err
        and 'S3cr3t' not in done.err
    )


def test_a_check_that_fails_is_unknown_to_nagios(run, tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text(
        'these are no metrics, but a text that is longer than the head of a database | ' * 9
    )
    done = run('monitor.py', '--once', '--check', '--history', path)
    assert done.status == 3 and done.out.startswith(
        f'SIAMESE UNKNOWN - {path} is not a history of monitor.py'
    )
    assert done.out.count('\n') == 1 and 'Traceback' not in done.err


def test_what_strangers_invent_fills_neither_line_nor_table(run, broker, channel, tmp_path):
    """20,000 names of queues, each in the header x-death of one message, and one that matters."""
    path = tmp_path / 'siamese.db'
    flags = '--history', path, '--management-url', broker.management_url
    channel.queue_declare('orders', durable=True)
    db = database.open_for_writing(str(path))
    names = [f'invented {n} ' + 'x' * (5000 if n < 100 else 0) for n in range(20_000)]
    invented = [letter(n, queue=name) for n, name in enumerate(names)]
    dead_letters.insert(db, [*invented, letter(queue='orders')], 's', time.time())
    wait_until(lambda: '1 queue, ' in run('monitor.py', '--once', *flags).out, 'the queue')
    checked = run('monitor.py', '--once', '--check', *flags)
    assert checked.status == 1 and len(checked.out) < 1024
    words = 'SIAMESE WARNING - 20,001 queues: 20,001 dead letters, expired. '
    assert checked.out.startswith(words) and ' Most: orders (1), invented 0 ' in checked.out
    assert ', and 19,998 more. | ' in checked.out
    once = run('monitor.py', '--once', *flags).out
    assert len(once) < 50_000 and 'warning: 20,001 queues: 20,001 dead letters' in once
    report = run('monitor.py', '--report', 'dead', *flags).out
    assert len(report) < 5_000_000
    assert '20,001 lines, of which these are the last 10,000 (--csv FILE writes all)' in report
    rows = list(
        csv.reader(io.StringIO(run('monitor.py', '--report', 'dead', *flags, '--csv', '-').out))
    )
    assert len(rows) == 20_002 and len(rows[1][2]) > 5000
