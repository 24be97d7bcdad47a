"""Dead letters, whatever becomes of monitor.py, its connection and its file: none is lost."""

import contextlib
import itertools
import json
import os
import pathlib
import shlex
import shutil
import signal
from collections import Counter
from functools import partial

import pika
import pytest
from support.messages import declare_dead
from support.monitor import dead_ids, is_back, locked, reader, watch
from support.processes import let_fault_last, wait_for_value, wait_until
from support.queues import manage, waiting

import common
from siamese.monitoring import database, dead_letters
from siamese.testbed import proxy

pytestmark = pytest.mark.pair

# Kills and cuts of monitor.py while letters flow; BREAKS=50 for a long run.
ROUNDS = int(os.environ.get('BREAKS', '4'))
BREAKS = 30  # RabbitMQ 4.x drops a message after the 21st, unless it is told otherwise


def publish(channel, *message_ids):
    for message_id in message_ids:
        channel.basic_publish('siamese.dlx', '', b'', pika.BasicProperties(message_id=message_id))


class Flow:
    """Dead letters of four kinds that flow; three are alike byte for byte, and have no id.

    published: how many, by kind; the body says it.
    """

    def __init__(self, channel):
        self.channel = channel
        self.numbers = itertools.count()
        self.published = Counter()
        declare_dead(channel)
        arguments = {'x-dead-letter-exchange': 'siamese.dlx', 'x-message-ttl': 0}
        channel.queue_declare('hot', durable=True, arguments=arguments)

    def publish(self, times):
        for _ in range(times):
            identified = pika.BasicProperties(message_id=f'alice-{next(self.numbers)}')
            self.put('siamese.dlx', 'identified', identified)
            self.put('siamese.dlx', 'equal', pika.BasicProperties())
            self.put('siamese.dlx', 'headers', pika.BasicProperties(headers={'z': 1, 'a': 2}))
            self.put('', 'expired', pika.BasicProperties())

    def put(self, exchange, kind, properties):
        self.channel.basic_publish(exchange, 'hot', kind.encode(), properties)
        self.published[kind] += 1


def stored(db):
    """Return how many dead letters are stored by kind, and how many of them may be copies."""
    rows = db.execute('SELECT CAST(body AS TEXT) AS kind, copy FROM dead').fetchall()
    marked = Counter(row['kind'] for row in rows if row['copy'])
    return Counter(row['kind'] for row in rows), marked


def has_stored(db, message_id):
    return db.execute('SELECT 1 FROM dead WHERE message_id = ?', [message_id]).fetchone()


def break_with_letters_in_hand(url, channel, count):
    """Take all dead letters, as a consumer does, and lose the connection with them."""
    wait_for_value(lambda: waiting(channel, 'siamese.dead'), count)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        own = connection.channel()
        for _ in range(count):
            assert own.basic_get('siamese.dead')[0]


def test_no_dead_letter_is_lost_to_crashes_with_letters_in_hand(
    start, broker, url, channel, tmp_path
):
    path = tmp_path / 'siamese.db'
    monitor, _ = watch(start, broker, path)
    with locked(path):
        publish(channel, 'a', 'b', 'c')
        wait_for_value(lambda: waiting(channel, 'siamese.dead'), 0)  # they are in hand
        monitor.send(signal.SIGKILL)
        monitor.end()
    for _ in range(BREAKS - 1):
        break_with_letters_in_hand(url, channel, 3)
    _, db = watch(start, broker, path)
    wait_for_value(lambda: dead_ids(db), ['a', 'b', 'c'])


def statistics_of(broker, vhost, queue):
    """Return what the management API knows of a queue, when it knows more than its name."""

    def known():
        row = json.loads(manage(broker, 'GET', f'queues/{vhost}/{queue}'))
        return row if 'open_files' in row else None  # and a limit, if there is one

    return wait_until(known, 'the statistics')


def drops_dead_letters(db):
    """Return what the page says of a limit of siamese.dead: one text, or none."""
    return [text for text in database.broker(db)['missing'] if 'drops a dead letter' in text]


def test_a_queue_of_an_older_version_goes_on_and_is_told_how_not_to_drop(
    start, run, broker, url, channel, tmp_path
):
    channel.queue_declare('siamese.dead', durable=True, arguments={'x-queue-type': 'quorum'})
    vhost = url.rpartition('/')[2]
    has_limit = isinstance(statistics_of(broker, vhost, 'siamese.dead').get('delivery_limit'), int)
    monitor, db = watch(start, broker, tmp_path / 'siamese.db')
    assert 'siamese.dead was declared otherwise, taking it as it is' in ''.join(monitor.err)
    expired = run('ack_producer.py', '--count', 1, '--ttl', 0.1, '--quiet')
    assert expired.status == 0 and expired.err.count('taking it as it is') == 1
    wait_until(lambda: len(dead_ids(db)) == 1, 'the dead letter')
    told = drops_dead_letters(db)
    assert len(told) == has_limit == ''.join(monitor.err).count('drops a dead letter')
    if not told:
        return
    command = shlex.split(told[0].partition('rabbitmqctl ')[2])
    broker.ctl(command[0], '-p', vhost, *command[1:])
    wait_until(lambda: not drops_dead_letters(db), 'that it drops nothing any more')
    assert monitor.stop().status == 0
    publish(channel, 'kept')
    for _ in range(BREAKS):
        break_with_letters_in_hand(url, channel, 1)
    _, db = watch(start, broker, tmp_path / 'siamese.db')
    wait_until(lambda: 'kept' in dead_ids(db), 'the dead letter that many breaks could not drop')


@pytest.mark.parametrize('breaks', ['kills', 'cuts'])
def test_each_dead_letter_is_stored_whatever_breaks_and_what_may_be_a_copy_is_marked(
    start, broker, url, channel, tmp_path, breaks
):
    path = tmp_path / 'siamese.db'
    flow = Flow(channel)
    with proxy.in_front_of(url) as between:

        def watched():
            return watch(start, broker, path, '--quiet', AMQP_URL=between.url)

        monitor, db = watched()
        for number in range(ROUNDS):
            flow.publish(20)
            if number % 2:  # every acknowledgement from now on is lost
                between.hold('up')
                flow.publish(5)
            if breaks == 'kills':
                monitor.send(signal.SIGKILL)
                monitor.end()
            between.cut()
            between.release()
            if breaks == 'kills':
                monitor, db = watched()
            else:
                wait_until(partial(is_back, monitor, number + 1), 'the monitor')
        flow.put('siamese.dlx', 'identified', pika.BasicProperties(message_id='last'))
        wait_until(lambda: has_stored(db, 'last'), 'the last letter, and so all before it')
        assert monitor.stop().status == 0
    wait_for_value(lambda: waiting(channel, 'siamese.dead'), 0)
    found, marked = stored(db)
    assert found['identified'] == flow.published['identified'] and not marked['identified']
    for kind, count in flow.published.items():
        assert found[kind] - marked[kind] <= count <= found[kind], (kind, found, marked)
    surplus = sum(found.values()) - sum(flow.published.values())
    assert surplus <= ROUNDS * dead_letters.PREFETCH
    assert sum(marked.values()) <= ROUNDS * dead_letters.PREFETCH


def letters_of(path):
    """Return (message_id, whether it may be a copy) of each dead letter, in their order."""
    found = dead_letters.find(reader(path), limit=-1)[0]
    return sorted((row['message_id'], row['copy']) for row in found)


def test_what_was_stored_as_the_file_went_away_was_not_acknowledged(start, channel, tmp_path):
    folder = tmp_path / 'history'
    away = tmp_path / 'away'
    folder.mkdir()
    path = folder / 'siamese.db'
    flags = ('monitor.py', '--history', path, '--interval', 3600)
    monitor = start(*flags)
    monitor.wait_for('no management API')  # at the end of the first collection
    with locked(path):
        publish(channel, 'named', None)
        monitor.wait_for('another process has locked')
        let_fault_last(1)  # it waits for the lock again
        folder.rename(away)  # while monitor.py waits for the lock: it stores into what has moved
    assert monitor.end().status == 3
    away.rename(folder)
    assert letters_of(path) == [('', 0), ('named', 0)]
    again = start(*flags)
    wait_for_value(lambda: letters_of(path), [('', 0), ('', 1), ('named', 0)])
    assert again.stop().status == 0


def test_acknowledgements_that_were_lost_while_it_ended_are_in_doubt(
    start, broker, url, channel, tmp_path
):
    path = tmp_path / 'siamese.db'
    with proxy.in_front_of(url) as between:
        monitor, _ = watch(start, broker, path, AMQP_URL=between.url)
        between.hold('up')
        publish(channel, 'named', None)
        wait_for_value(lambda: letters_of(path), [('', 0), ('named', 0)])
        monitor.send(signal.SIGTERM)
        monitor.wait_for('SIGTERM: finishing')
        wait_for_value(lambda: waiting(channel, 'siamese.dead'), 0)
        between.cut()
        monitor.end()
        between.release()
        again, _ = watch(start, broker, path, AMQP_URL=between.url)
        wait_for_value(lambda: letters_of(path), [('', 0), ('', 1), ('named', 0)])
        assert again.stop().status == 0


# ---- the file


def replaced(path):
    copy = path.with_name('copy.db')
    shutil.copy(path, copy)
    copy.replace(path)


@pytest.mark.parametrize(
    'lose',
    [
        pathlib.Path.unlink,
        lambda path: path.rename(path.with_name('moved.db')),
        replaced,
        lambda path: path.with_name('siamese.db-wal').unlink(),
    ],
    ids=['removed', 'moved', 'replaced', 'without its -wal'],
)
@pytest.mark.parametrize('interval', [0.5, 3600], ids=['collecting', 'delivering'])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(start, channel, tmp_path, lose, interval):
    path = tmp_path / 'siamese.db'
    monitor = start('monitor.py', '--history', path, '--interval', interval)
    monitor.wait_for('no management API')  # at the end of the first collection
    lose(path)
    if interval > 1:
        publish(channel, 'kept')
    done = monitor.end()
    line = f' the history {path} was removed, moved or replaced; start again, see --history'
    assert done.status == 3 and done.err.splitlines()[-1].endswith(line), done.err
    assert done.out.startswith('0 dead letters stored')
    if interval > 1:
        wait_for_value(lambda: waiting(channel, 'siamese.dead'), 1)


def test_a_history_is_that_of_the_broker_that_was_reached(start, run, url, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    nowhere = 'amqp://127.0.0.1:1'
    flags = ('monitor.py', '--history', path)
    assert run(*flags, '--url', nowhere, '--give-up-after', 0.5).status == 3
    for urls in f'{nowhere},{url}', url:
        monitor = start(*flags, '--url', urls)
        monitor.wait_for('no management API')  # at the end of the first collection
        assert monitor.stop().status == 0
    other = run(*flags, AMQP_URL=broker.url)
    where = common.display_address(pika.URLParameters(url))
    assert other.status == 2 and f'{path} is the history of {where}, not of ' in other.err
    unreachable = run(*flags, '--url', nowhere, '--give-up-after', 0.5)
    assert unreachable.status == 3 and 'is the history of' not in unreachable.err
