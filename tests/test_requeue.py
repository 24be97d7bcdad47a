"""requeue.py on a real broker: dead letters go back where they came from."""

import struct
from collections import Counter

import pika
from conftest import drain, wait_until, waiting
from greetings import DEAD_LETTERS, MALFORMED, declare_dead
from histories import NOON, letter
from raw import undecodable, with_header, with_message_id
from watching import published, watch

import dead
import history
import monitor
import requeue


def test_malformed_dead_letters_are_kept_as_they_are_and_go_back(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    odd = [*MALFORMED.values(), *((properties, b'Hello') for properties in undecodable(b'text/plain')),
           (with_message_id(b'\x00\xff', b'\xff\xfe'), b'<script>alert(1)</script>'),
           (pika.BasicProperties(headers={'x-death': 'nobody', 'CC': ['copy']}), b'a'),
           (with_header(b'text/plain', b'price', b'd' + struct.pack('>d', 1.5)), b'1.5'),
           (pika.BasicProperties(headers={'x-death': [{'queue': 7, 'reason': [], 'time': None, 'count': 'x'}]}), b'b')]
    declare_dead(channel)
    channel.queue_declare('copy')
    channel.queue_declare('strange', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    for properties, body in odd:
        channel.basic_publish('', 'strange', body, properties)
    channel.basic_publish('siamese.dlx', '', b'nobody knows from where')
    monitor, db = watch(start, broker, path)
    wait_until(lambda: dead.letters(db)[1] == len(odd) + 1, 'all dead letters')
    kept = [dead.letter(db, row['id']) for row in dead.letters(db, limit=-1)[0]]
    assert Counter(row['body'] for row in kept if row['queue']) == Counter(body for _, body in odd)
    assert {(row['queue'], row['reason']) for row in kept} == {('strange', 'expired'), ('', 'unknown')}
    channel.queue_purge('copy')
    channel.queue_delete('strange')
    channel.queue_declare('strange', durable=True)
    done = run('monitor.py', '--requeue-dead', 'all', '--history', path)
    assert done.status == 1
    assert f'{len(odd)} of {len(odd) + 1} dead letters sent back, 0 returned, 1 from no' in done.out
    assert waiting(channel, 'strange') == len(odd) and waiting(channel, 'copy') == 0
    back = [channel.basic_get('strange', auto_ack=True)[2] for _ in range(len(MALFORMED))]
    assert Counter(back) == Counter(body for _, body in MALFORMED.values())
    stopped = monitor.stop()
    assert stopped.status == 0 and 'Traceback' not in stopped.err and '\x1b' not in stopped.out
    assert run('monitor.py', '--report', 'dead', '--history', path).out.isprintable() is False  # but line by line:
    assert all(line.isprintable() for line in run('monitor.py', '--report', 'dead', '--history', path).out.split('\n'))


def test_requeue_of_one_of_a_queue_and_of_one_that_is_no_more(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    declare_dead(channel)
    for queue in 'gone', 'there':
        channel.queue_declare(queue, durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
        published(channel, queue, 3)
    _, db = watch(start, broker, path)
    wait_until(lambda: dead.letters(db)[1] == 6, 'six dead letters')
    for queue in 'gone', 'there':
        channel.queue_delete(queue)
    channel.queue_declare('there', durable=True)
    first = dead.ids(db, 'there')[0]
    one = run('monitor.py', '--requeue-dead', f'#{first}', '--history', path)
    assert one.status == 0 and one.out.startswith(f'1 dead letter of #{first} to send back\n1 of 1 ')
    assert channel.basic_get('there', auto_ack=True)[1].message_id == dead.letter(db, first)['message_id']
    assert run('monitor.py', '--requeue-dead', 'there', '--history', path).status == 0
    assert waiting(channel, 'there') == 2
    lost = run('monitor.py', '--requeue-dead', 'all', '--history', path)
    assert lost.status == 1 and '0 of 3 dead letters sent back, 3 returned' in lost.out
    assert dead.ids(db, 'all') == dead.ids(db, 'gone') and len(dead.ids(db, 'gone')) == 3
    assert run('monitor.py', '--requeue-dead', 'there', '--history', path).status == 3


def test_what_somebody_else_sent_back_or_deleted_meanwhile_is_left_out(url, channel, tmp_path, monkeypatch):
    path = str(tmp_path / 'siamese.db')
    db = history.open_for_writing(path)
    dead.store(db, [letter(number, queue='work', body=b'%d' % number) for number in (1, 2)], 's', NOON)
    monkeypatch.setattr(dead, 'ids', lambda *_: [1, 2, 3])  # as it was a moment ago
    dead.mark_requeued(db, [1], NOON)
    channel.queue_declare('work', durable=True)
    assert requeue.send_back(monitor.parse_args(['--requeue-dead', 'all', '--history', path, '--url', url])) == 1
    assert [body for _, body in drain(channel, 'work')] == [b'2']
