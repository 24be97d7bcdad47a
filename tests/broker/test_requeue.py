"""requeue.py on a real broker: dead letters are published into their queues again."""

import json
import signal
import struct
from collections import Counter

import pika
import pytest
from support.builders import NOON, letter
from support.messages import DEAD_LETTERS, MALFORMED, declare_dead
from support.monitor import published, watch
from support.processes import wait_until
from support.queues import drain, waiting
from support.raw_properties import undecodable, with_header, with_message_id

import monitor
from siamese.monitoring import database, dead_letters, requeue
from siamese.testbed import proxy


@pytest.mark.pair
def test_malformed_dead_letters_are_kept_as_they_are_and_requeued(
    start, run, broker, channel, tmp_path
):
    path = tmp_path / 'siamese.db'
    odd = [
        *MALFORMED.values(),
        *((properties, b'Hello') for properties in undecodable(b'text/plain')),
        (with_message_id(b'\x00\xff', b'\xff\xfe'), b'<script>alert(1)</script>'),
        (pika.BasicProperties(headers={'x-death': 'nobody', 'CC': ['copy']}), b'a'),
        (with_header(b'text/plain', b'price', b'd' + struct.pack('>d', 1.5)), b'1.5'),
        (
            pika.BasicProperties(
                headers={'x-death': [{'queue': 7, 'reason': [], 'time': None, 'count': 'x'}]}
            ),
            b'b',
        ),
    ]
    declare_dead(channel)
    channel.queue_declare('copy')
    channel.queue_declare('strange', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    for properties, body in odd:
        channel.basic_publish('', 'strange', body, properties)
    channel.basic_publish('siamese.dlx', '', b'nobody knows from where')
    monitor, db = watch(start, broker, path)
    wait_until(lambda: dead_letters.find(db)[1] == len(odd) + 1, 'all dead letters')
    kept = [dead_letters.get(db, row['id']) for row in dead_letters.find(db, limit=-1)[0]]
    assert Counter(row['body'] for row in kept if row['queue']) == Counter(body for _, body in odd)
    assert {(row['queue'], row['reason']) for row in kept} == {
        ('strange', 'expired'),
        ('', 'unknown'),
    }
    channel.queue_purge('copy')
    channel.queue_delete('strange')
    channel.queue_declare('strange', durable=True)
    done = run('monitor.py', '--requeue', 'all', '--history', path)
    assert done.status == 3
    counts = f'{len(odd)} of {len(odd) + 1} dead letters requeued, 0 unroutable, 1 from no'
    assert counts in done.out
    assert waiting(channel, 'strange') == len(odd) and waiting(channel, 'copy') == 0
    back = [channel.basic_get('strange', auto_ack=True)[2] for _ in range(len(MALFORMED))]
    assert Counter(back) == Counter(body for _, body in MALFORMED.values())
    stopped = monitor.stop()
    assert stopped.status == 0 and 'Traceback' not in stopped.err and '\x1b' not in stopped.out
    assert (
        run('monitor.py', '--report', 'dead', '--history', path).out.isprintable() is False
    )  # but line by line:
    assert all(
        line.isprintable()
        for line in run('monitor.py', '--report', 'dead', '--history', path).out.split('\n')
    )


def test_requeue_of_one_of_a_queue_and_of_a_deleted_queue(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    declare_dead(channel)
    for queue in 'gone', 'there':
        channel.queue_declare(queue, durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
        published(channel, queue, 3)
    _, db = watch(start, broker, path)
    wait_until(lambda: dead_letters.find(db)[1] == 6, 'six dead letters')
    for queue in 'gone', 'there':
        channel.queue_delete(queue)
    channel.queue_declare('there', durable=True)
    first = dead_letters.ids(db, 'there')[0]
    one = run('monitor.py', '--requeue', f'#{first}', '--history', path)
    assert one.status == 0 and one.out.startswith(f'1 dead letter of #{first} to requeue\n1 of 1 ')
    assert (
        channel.basic_get('there', auto_ack=True)[1].message_id
        == dead_letters.get(db, first)['message_id']
    )
    assert run('monitor.py', '--requeue', 'there', '--history', path).status == 0
    assert waiting(channel, 'there') == 2
    lost = run('monitor.py', '--requeue', 'all', '--history', path)
    assert lost.status == 3 and '0 of 3 dead letters requeued, 3 unroutable' in lost.out
    assert (
        dead_letters.ids(db, 'all') == dead_letters.ids(db, 'gone')
        and len(dead_letters.ids(db, 'gone')) == 3
    )
    assert run('monitor.py', '--requeue', 'there', '--history', path).status == 3


@pytest.fixture
def kept(tmp_path):
    """A function that writes dead letters of these queues; it returns the history and its path."""

    def keep(*queues):
        path = tmp_path / 'siamese.db'
        db = database.open_for_writing(str(path))
        dead_letters.insert(
            db,
            [
                letter(number, queue=queue, body=b'%d' % number)
                for number, queue in enumerate(queues)
            ],
            's',
            NOON,
        )
        return db, path

    return keep


def test_only_one_process_requeues_at_a_time(start, run, url, channel, kept):
    _, path = kept(*['work'] * 5)
    channel.queue_declare('work', durable=True)
    with proxy.in_front_of(url) as between:
        between.hold()
        first = start('monitor.py', '--requeue', 'all', '--history', path, AMQP_URL=between.url)
        first.wait_for('5 dead letters of all to requeue', first.out)
        second = run('monitor.py', '--requeue', 'all', '--history', path)
        assert second.status == 3 and second.out == ''
        assert second.err.count('\n') == 1 and 'another process is requeueing' in second.err
        between.release()
        assert first.end().status == 0
    assert [body for _, body in drain(channel, 'work')] == [b'%d' % number for number in range(5)]
    last = run('monitor.py', '--requeue', 'all', '--history', path)
    assert last.status == 3 and 'no dead letter of all waits' in last.err


@pytest.mark.pair
def test_dead_letters_stay_that_a_full_queue_does_not_accept(run, channel, kept):
    db, path = kept('full', 'work', 'full', 'work')
    for queue, limits in (
        ('full', {'x-max-length': 1, 'x-overflow': 'reject-publish'}),
        ('work', {}),
    ):
        channel.queue_declare(queue, durable=True, arguments=limits)
    channel.basic_publish('', 'full', b'in the way')
    done = run('monitor.py', '--requeue', 'all', '--history', path)
    assert (
        done.status == 3
        and '2 of 4 dead letters requeued, 0 unroutable, 0 from no known queue' in done.out
    )
    (line,) = (line for line in done.err.splitlines() if 'not requeued' in line)
    assert line.endswith('2 dead letters not requeued: no room in full; make room, and try again')
    assert [body for _, body in drain(channel, 'work')] == [b'1', b'3']
    assert [body for _, body in drain(channel, 'full')] == [b'in the way'] and dead_letters.ids(
        db, 'all'
    ) == [1, 3]
    assert run('monitor.py', '--requeue', '#1', '--history', path).status == 0
    assert [body for _, body in drain(channel, 'full')] == [b'0']


@pytest.mark.parametrize('number', [None, signal.SIGINT])
def test_under_an_alarm_it_ends_on_its_own_and_on_one_signal(number, start, broker, channel, kept):
    db, path = kept('work', 'work')
    channel.queue_declare('work', durable=True)
    broker.ctl('set_vm_memory_high_watermark', 0)
    try:
        sending = start('monitor.py', '--requeue', 'work', '--history', path)
        sending.wait_for('broker blocks publishers')
        if number:
            sending.send(number)
        done = sending.end()
    finally:
        broker.ctl('set_vm_memory_high_watermark', 0.4)
    assert (
        done.status == 3
        and '0 of 2 dead letters requeued' in done.out
        and 'Traceback' not in done.err
    )
    (line,) = (line for line in done.err.splitlines() if 'not requeued' in line)
    assert '2 dead letters not requeued: broker blocks publishers: low on memory, ' in line
    assert len(dead_letters.ids(db, 'all')) == 2


@pytest.mark.parametrize(
    'name',
    ['ü' * 127 + 'x', 'a\tb', 'a\u202eb', 'amqp://host', '--all', '#²', '#' + '9' * 25],
)
def test_a_queue_may_have_any_name(name, run, channel, kept):
    _, path = kept(name, 'another')
    flags = ('monitor.py', f'--requeue={name}', '--history', path, '--json', '-')
    assert '0 of 1 dead letter requeued, 1 unroutable' in run(*flags[:-2]).out  # it is no more
    channel.queue_declare(name, durable=True)
    done = run(*flags)
    assert done.status == 0 and json.loads(done.out)['requeued'] == 1
    assert [body for _, body in drain(channel, name)] == [b'0']
    again = run(*flags)
    assert again.status == 3 and again.err.count('\n') == 1 and again.err.rstrip('\n').isprintable()
    reported = run(
        'monitor.py',
        '--report',
        'dead',
        f'--queue={name}',
        '--history',
        path,
        '--since',
        '1970-01-01',
    )
    assert reported.status == 0 and reported.out.count('\n') == 3


@pytest.mark.parametrize('name', ['n' * 300, 'ü' * 128])
def test_a_name_that_no_queue_can_have_keeps_no_other_back(name, run, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    db = database.open_for_writing(str(path))
    letters = [letter(1, queue=name), letter(2, queue='work', body=b'mine')]
    dead_letters.insert(db, letters, 's', NOON)
    channel.queue_declare('work', durable=True)
    done = run('monitor.py', '--requeue', 'all', '--history', path)
    assert done.status == 3 and '1 of 2 dead letters requeued' in done.out
    assert '1 from no known queue' in done.out
    assert 'dead letter #1 is not requeued' in done.err and 'Traceback' not in done.err
    assert [body for _, body in drain(channel, 'work')] == [b'mine']
    assert dead_letters.ids(db, 'all') == [1]


def test_while_the_broker_is_unreachable_one_signal_ends_it(start, kept):
    db, path = kept('work', 'work')
    sending = start(
        'monitor.py', '--requeue', 'all', '--history', path, AMQP_URL='amqp://127.0.0.1:1'
    )
    sending.wait_for('broker unreachable at')
    done = sending.stop()
    assert (
        done.status == 3
        and '0 of 2 dead letters requeued' in done.out
        and 'stopped: SIGINT' in done.out
    )
    assert 'not requeued' not in done.err and dead_letters.ids(db, 'all') == [1, 2]


def test_a_missing_history_is_not_created(run, tmp_path):
    done = run('monitor.py', '--requeue', 'all', '--history', tmp_path / 'typo.db')
    assert done.status == 3 and done.err.count('\n') == 1 and 'cannot open the history' in done.err
    assert list(tmp_path.iterdir()) == []


def test_dead_letters_that_another_process_requeued_or_deleted_are_left_out(
    url, channel, tmp_path, monkeypatch
):
    path = str(tmp_path / 'siamese.db')
    db = database.open_for_writing(path)
    dead_letters.insert(
        db, [letter(number, queue='work', body=b'%d' % number) for number in (1, 2)], 's', NOON
    )
    monkeypatch.setattr(dead_letters, 'ids', lambda *_: [1, 2, 3])  # as it was a moment ago
    dead_letters.mark_requeued(db, [1], NOON)
    channel.queue_declare('work', durable=True)
    assert (
        requeue.requeue(monitor.parse_args(['--requeue', 'all', '--history', path, '--url', url]))
        == 3
    )
    assert [body for _, body in drain(channel, 'work')] == [b'2']
