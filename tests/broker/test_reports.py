"""reports.py: the situation now, and the history as table, CSV and JSON."""

import csv
import io
import json

import pytest
from support.messages import declare_dead
from support.monitor import published, totals, watch
from support.processes import wait_until
from support.queues import waiting

from siamese.monitoring import database


def test_once_prints_the_situation_and_leaves_nothing_behind(run, broker, channel, tmp_path):
    path = tmp_path / 'none.db'
    flags = ('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    assert run(*flags, '--check').out.startswith('SIAMESE OK - 0 queues | ready=0 ')
    declare_dead(channel)
    channel.queue_declare('\x1b[2Jevil', durable=True)
    channel.basic_publish('', '\x1b[2Jevil', b'x')
    channel.basic_publish('siamese.dlx', '', b'x')
    wait_until(lambda: '2 messages wait' in run(*flags).out, 'the messages')
    done = run(*flags, '--json', tmp_path / 'now.json')
    assert (
        done.status == 0
        and '\x1b' not in done.out
        and '2 warnings: 2 queues, 2 messages wait, 1 client; counters are up to 5 s old\n'
        in done.out
    )
    assert 'warning: siamese.dead: 1 message and no consumer' in done.out
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
    assert checked.status == 1 and len(json.loads(checked.out)['warnings']) == 2


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
