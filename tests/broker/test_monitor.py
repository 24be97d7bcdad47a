"""monitor.py on a real broker: its metrics against known counts."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pika
import pytest
from support.messages import DEAD_LETTERS, declare_dead
from support.monitor import a_broker, dead_ids, published, reader, totals, watch
from support.processes import TEST_TIMEOUT_S, let_fault_last, wait_for_value, wait_until
from support.queues import manage, waiting

from siamese import ROOT
from siamese.messaging import management_api
from siamese.monitoring import clients, database, dead_letters, events, queues
from siamese.testbed import proxy
from siamese.testbed import rabbitmq as broker_module

# ---- metrics against known counts


def counted(db):
    """Return the totals but those of siamese.dead, which the broker counts later."""
    return {queue: now for queue, now in totals(db).items() if queue != 'siamese.dead'}


def unroutable(db):
    """Return how many messages no queue took: returned, dropped."""
    rows = database.by_period(db, 'day', total=True)
    return tuple(sum(row[name] for row in rows) for name in database.UNROUTABLE)


def test_known_counts_while_node_and_monitor_restart(start, tmp_path):
    path = tmp_path / 'siamese.db'
    with a_broker('rabbitmq_management', 'rabbitmq_event_exchange') as broker:
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        wait_until(lambda: database.get_fact(db, 'events'), 'the event exchange')

        def load(times):
            """Publish, deliver, ack, reject and let expire in three queues; wait for the counts."""
            connection = pika.BlockingConnection(pika.URLParameters(broker.url))
            channel = connection.channel()
            declare_dead(channel)
            for queue, arguments in (
                ('work', {}),
                ('slow', {'x-message-ttl': 300}),
                ('full', {'x-max-length': 4}),
            ):
                channel.queue_declare(queue, durable=True, arguments={**DEAD_LETTERS, **arguments})
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.UnroutableError):
                channel.basic_publish('', 'nowhere', b'', mandatory=True)
            for _ in range(2):
                channel.basic_publish('', 'nowhere', b'')
            published(channel, 'work', 10)
            published(channel, 'slow', 7)
            published(channel, 'full', 6)
            tags = [channel.basic_get('work')[0].delivery_tag for _ in range(10)]
            for tag in tags[:5]:
                channel.basic_ack(tag)
            for tag in tags[5:8]:
                channel.basic_reject(tag, requeue=False)
            for tag in tags[8:]:
                channel.basic_reject(tag, requeue=True)
            for tag in [channel.basic_get('work')[0].delivery_tag for _ in range(2)]:
                channel.basic_ack(tag)
            wait_until(lambda: not waiting(channel, 'slow'), 'expiry')
            expected = {
                'work': (10, 12, 7, 2, 0, 3, 0),
                'slow': (7, 0, 0, 0, 7, 0, 0),
                # What is dropped for a queue's length stays published;
                # the next time all six push out others.
                'full': (6, 0, 0, 0, 0, 0, 2 if times == 1 else 6),
            }
            wait_until(
                lambda: (
                    {queue: now for queue, now in totals(db).items() if queue in expected}
                    == {
                        queue: tuple(map(sum, zip(figures, base.get(queue, (0,) * 7))))
                        for queue, figures in expected.items()
                    }
                ),
                f'the counts of load {times}: {totals(db)}',
            )
            wait_until(
                lambda: unroutable(db) == (times, 2 * times), f'what no queue took in {times} loads'
            )
            connection.close()

        base = {}
        load(1)
        base = counted(db)
        broker.stop()
        wait_until(
            lambda: database.broker(db)['state'] == 'unavailable', 'the broker is unavailable'
        )
        assert {row['publish_rate'] for row in queues.rows(db)} == {0}
        broker.start()
        wait_until(lambda: database.broker(db)['state'] == 'up', 'the broker back')
        load(2)
        base = counted(db)
        monitor.stop()
        wait_until(lambda: dead_ids(db), 'dead letters')
        before = dead_ids(db)
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        assert (
            counted(db) == base and dead_ids(db) == before and unroutable(db) == (2, 4)
        )  # nothing twice
        load(3)
        base = counted(db)
        monitor.send(signal.SIGKILL)  # ... and one that had no time to say so
        monitor.end()
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        assert counted(db) == base
        load(4)
        done = monitor.stop()
        assert done.status == 0 and 'Traceback' not in done.err and unroutable(db) == (4, 8)
        told = start('monitor.py', '--report', 'day', '--history', path).end().out.splitlines()[-1]
        assert told.endswith('; 4 returned and 8 dropped, for no queue took them')
        assert Counter(dead_ids(db)) == Counter(
            [f'slow-{n}' for n in range(7)] * 4
            + [f'work-{n}' for n in (5, 6, 7)] * 4
            + [f'full-{n}' for n in (0, 1)] * 4
            + [f'full-{n}' for n in (2, 3, 4, 5)] * 3
        )
        assert database.broker(db)['version'] and database.broker(db)['missing'] == []


@pytest.mark.parametrize('first', ['monitor', 'broker'])
def test_on_a_fresh_broker_all_is_counted(first, start, tmp_path):
    path = tmp_path / 'siamese.db'
    with broker_module.throwaway(management=True, started=False) as broker:
        flags = (
            'monitor.py',
            '--history',
            path,
            '--interval',
            0.5,
            '--management-url',
            broker.management_url,
        )
        if first == 'broker':
            broker.start()
        monitor = start(*flags, AMQP_URL=broker.url)
        db = reader(path)
        if first == 'monitor':
            wait_until(
                lambda: database.broker(db)['state'] == 'unavailable', 'the broker is unavailable'
            )
            broker.start()
        else:
            wait_until(lambda: database.get_fact(db, 'collected'), 'a collection')
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            channel = connection.channel()
            declare_dead(channel)
            channel.queue_declare(
                'early', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1}
            )
            published(channel, 'early', 9)
            # The broker counts what a channel published while that is open, once a second.
            wait_for_value(lambda: totals(db).get('early'), (9, 0, 0, 0, 9, 0, 0))
        assert monitor.stop().status == 0


@pytest.mark.pair
def test_dead_letters_whose_acknowledgement_is_lost_count_once_or_may_be_copies(
    start, broker, url, channel, tmp_path
):
    declare_dead(channel)
    channel.exchange_declare('both', 'fanout')
    channel.queue_declare('twice', arguments={'x-dead-letter-exchange': 'both'})
    for queue in 'twice', 'siamese.dead':
        channel.queue_bind(queue, 'both')
    with proxy.in_front_of(url) as between:
        monitor, db = watch(start, broker, tmp_path / 'siamese.db', AMQP_URL=between.url)
        between.hold('up')
        with_id = {'message_id': 'with an id'}
        for properties in {}, with_id, {'headers': {'x': 1}}:
            channel.basic_publish(
                'siamese.dlx', '', b'straight', pika.BasicProperties(**properties)
            )
        identified = pika.BasicProperties(message_id='died twice')
        channel.basic_publish('', 'twice', b'died twice', identified)
        for _ in range(2):
            method = wait_until(lambda: channel.basic_get('twice')[0], 'the message')
            channel.basic_reject(method.delivery_tag, requeue=False)
        wait_until(lambda: dead_letters.find(db)[1] == 5, 'five dead letters')
        between.cut()
        between.release()
        monitor.wait_for('back after')
        channel.basic_publish(
            'siamese.dlx', '', b'', pika.BasicProperties(message_id='behind them')
        )
        wait_until(lambda: 'behind them' in dead_ids(db), 'what came again')
    counts = {
        (row['queue'], row['reason'], row['count'], row['copies'])
        for row in dead_letters.by_queue(db)
    }
    # Of the two without an id nobody can tell whether they are the same.
    assert counts == {('twice', 'rejected', 2, 0), ('', 'unknown', 6, 2)}
    requeued = start('monitor.py', '--requeue', 'all', '--history', tmp_path / 'siamese.db').end()
    assert '8 dead letters of all to requeue, 2 of them may be copies' in requeued.out
    told = start('monitor.py', '--report', 'dead', '--history', tmp_path / 'siamese.db').end().out
    assert told.splitlines()[-1].endswith('not picked up or rejected, 2 of them may be copies')
    assert told.count('  maybe\n') == 2


def test_clients_their_states_and_interruptions(start, broker, url, tmp_path):
    _, db = watch(start, broker, tmp_path / 'siamese.db')
    assert 'amq.rabbitmq.event' in database.broker(db)['missing'][0]
    producer = start('ack_producer.py', '--name', 'alice', '--rate', 20, '--json', '-')
    consumer = start(
        'ack_consumer.py', '--name', 'carol', '--ack', 100, '--reject', 0, '--lose', 0, '--quiet'
    )

    def client(name):
        return next(
            (row for row in clients.rows(db) if row['name'] == name),
            {'state': '?', 'interruptions': 0},
        )

    for name, state in (('alice', 'publishing'), ('carol', 'consuming')):
        wait_until(lambda name=name, state=state: client(name)['state'] == state, f'{name} {state}')
    # The consumers are asked for after the channels: the next collection may bring them.
    wait_until(lambda: client('carol')['does'] == 'consumes siamese.ack', 'what carol does')
    broker.ctl('close_all_connections', '-p', url.rpartition('/')[2], 'maintenance')
    for name in 'alice', 'carol':
        wait_until(lambda name=name: client(name)['interruptions'] == 1, f'{name} interrupted')
        assert client(name)['last_interruption'] <= client(name)['back']
    done = producer.stop()
    assert done.status == 0
    wait_until(lambda: client('alice')['state'] == 'gone', 'alice gone')
    told = json.loads(done.out)
    # As far as collected.
    assert 0 < client('alice')['published'] <= told['published'] + told['republished']
    assert consumer.stop().status == 0
    parameters = pika.URLParameters(url)
    parameters.client_properties = {'connection_name': 'dave'}
    with pika.BlockingConnection(parameters) as connection:
        own = connection.channel()
        own.queue_declare('daves', durable=True)
        published(own, 'daves', 23)
        for _ in range(17):
            assert own.basic_get('daves', auto_ack=True)[0]
        wait_until(lambda: client('dave').get('published') == 23, 'published')
        wait_until(lambda: client('dave').get('delivered') == 17, 'delivered')


class Bytes(str):
    """A text that pika sends as these bytes."""

    def __new__(cls, sent):
        text = super().__new__(cls, repr(sent))
        text.sent = sent
        return text

    def encode(self, *_):
        return self.sent


def test_the_event_exchange_tells_of_clients_between_two_collections(start, tmp_path):
    with a_broker('rabbitmq_management', 'rabbitmq_event_exchange') as broker:
        path = tmp_path / 'siamese.db'
        port = broker_module.free_ports(1)[0]
        monitor = start(
            'monitor.py',
            '--history',
            path,
            '--prometheus',
            port,
            '--interval',
            3600,
            '--management-url',
            broker.management_url,
            AMQP_URL=broker.url,
        )
        db = reader(path)
        wait_until(lambda: database.get_fact(db, 'collected'), 'a collection')

        def queues():
            return [row['name'] for row in json.loads(manage(broker, 'GET', 'queues'))]

        wait_until(
            lambda: any(name.startswith('siamese.events-') for name in queues()),
            'the queue of events',
        )
        for number in (1, 2):
            assert (
                start(
                    'producer.py',
                    '--name',
                    'alice',
                    '--count',
                    1,
                    '--difficulty',
                    1,
                    AMQP_URL=broker.url,
                )
                .end()
                .status
                == 0
            )

            def alice():
                return next((row for row in clients.rows(db) if row['name'] == 'alice'), None)

            wait_until(
                lambda n=number: (
                    alice() and alice()['state'] == 'gone' and alice()['interruptions'] == n - 1
                ),
                f'what was heard of alice: {alice()}',
            )
        stranger = pika.URLParameters(broker.url)
        stranger.client_properties = {'connection_name': Bytes(b'\xff\xfe')}
        with pika.BlockingConnection(stranger):  # its name is no text
            wait_until(lambda: 'client="\ufffd\ufffd"' in metrics_at(port), 'the stranger')
            api = '--management-url', broker.management_url
            once = start(
                'monitor.py', '--once', '--json', '-', '--history', path, *api, AMQP_URL=broker.url
            ).end()
            names = [client['name'] for client in json.loads(once.out)['clients']]
            assert '\ufffd\ufffd' in names and 'alice' in names
        assert monitor.stop().status == 0


@pytest.mark.pair
def test_without_permission_for_events_it_does_without_them(start, tmp_path):
    with a_broker('rabbitmq_management', 'rabbitmq_event_exchange') as broker:
        broker.ctl('add_user', 'watcher', 'secret')
        broker.ctl('set_user_tags', 'watcher', 'monitoring')
        ours = r'^siamese\.(dlx|dead)$'
        broker.ctl('set_permissions', 'watcher', ours, ours, '.*')
        as_watcher = {'AMQP_URL': broker.url.replace('guest:guest', 'watcher:secret')}
        monitor, db = watch(start, broker, tmp_path / 'siamese.db', **as_watcher)
        monitor.wait_for('no permission to have a queue siamese.events-* ')
        broker.ctl('close_all_connections', 'maintenance')
        monitor.wait_for('back after')
        now = time.time()
        wait_until(lambda: database.get_fact(db, 'collected') > now + 1, 'two more collections')
        assert database.broker(db)['missing'] == [events.NO_PERMISSION]
        ours = r'^siamese\.events-'  # as docs/explanation/monitor.md says
        broker.ctl(
            'set_permissions',
            'watcher',
            ours,
            ours,
            rf'{ours}|^siamese\.dead$|^amq\.rabbitmq\.event$',
        )
        broker.ctl('close_all_connections', 'maintenance')
        wait_until(lambda: database.broker(db)['missing'] == [], 'nothing missing')
        done = monitor.stop()
    assert (
        done.status == 0
        and done.err.count('no permission to have a queue') == 1
        and 'Traceback' not in done.err
    )


def test_a_history_that_another_process_locks_is_waited_for(start, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        channel.basic_publish('siamese.dlx', '', b'x', pika.BasicProperties(message_id='kept'))
        monitor.wait_for(f'another process has locked {path}, retrying')
        let_fault_last(12)  # it tries twice more
        other.execute('ROLLBACK')
    wait_until(lambda: dead_ids(db) == ['kept'], 'the letter')
    done = monitor.stop()
    assert done.status == 0 and done.err.count('locked') == 1 and '1 dead letter stored' in done.out


def test_a_full_disk_is_named_and_the_dead_letter_stays(start, channel, tmp_path):
    declare_dead(channel)
    monitor = start(
        'sh',
        '-c',
        f'ulimit -f 500; exec {sys.executable} monitor.py --history {tmp_path}/siamese.db',
    )
    monitor.wait_for('ready')
    channel.basic_publish('siamese.dlx', '', b'x' * 1_000_000)
    done = monitor.end()
    assert done.status == 3 and done.err.splitlines()[-1].endswith('; is the disk full?'), done.err
    wait_until(lambda: waiting(channel, 'siamese.dead') == 1, 'the letter')


def test_what_is_wrong_with_a_history_is_not_taken_for_a_full_disk(
    start, broker, channel, tmp_path
):
    path = tmp_path / 'siamese.db'
    monitor, _ = watch(start, broker, path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('DROP TABLE dead')
    channel.basic_publish('siamese.dlx', '', b'x')
    done = monitor.end()
    assert done.status == 3 and done.err.endswith(': no such table: dead; see --history\n')


# ---- scenario 7: messages that are not picked up


def names_not_picked_up(run, path):
    done = run('monitor.py', '--report', 'dead', '--history', path, '--json', '-')
    return sorted((row['queue'], row['message_id'], row['reason']) for row in json.loads(done.out))


def publish_as_alice(run, script, count, ttl):
    """Publish messages that live for `ttl` seconds; return the summary."""
    flags = '--name', 'alice', '--count', count, '--rate', 50, '--ttl', ttl, '--quiet'
    return json.loads(run(script, *flags, '--json', '-').out)


def test_simple_one_producer_and_no_consumer(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path)
    summary = publish_as_alice(run, 'ack_producer.py', count=5, ttl=0.2)
    wait_until(lambda: dead_letters.find(db)[1] == 5, 'five dead letters')
    assert names_not_picked_up(run, path) == [
        ('siamese.ack', f'alice-{summary["run"]}-{number}', 'expired') for number in range(1, 6)
    ]
    assert (
        run('ack_producer.py', '--name', 'alice', '--count', 3, '--rate', 50, '--quiet').status == 0
    )
    wait_until(lambda: queues.rows(db)[0]['ready'] == 3, 'three messages in the history')
    flags = ('--history', path, '--management-url', broker.management_url)
    words = 'SIAMESE WARNING - siamese.ack: 5 dead letters, expired; siamese.ack waits without '

    def warned():
        done = run('monitor.py', '--once', '--check', *flags)
        return done.out.startswith(words) and done

    checked = wait_until(warned, 'the warning')
    assert checked.status == 1
    assert 'a consumer: 3 messages, oldest ' in checked.out and '| ready=3 ' in checked.out
    assert ' unread=3 ' in checked.out and ' dead=5 ' in checked.out
    done = monitor.stop()
    assert done.status == 0 and done.out.count('expired  siamese.ack  alice-') == 5
    assert done.out.splitlines()[-1].startswith('5 dead letters stored, ')


def test_complex_one_producer_and_some_consumers(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    for queue in 'anna', 'bert', 'carl':
        run('fanout_consumer.py', queue, '--duration', 0)
    consumers = [start('fanout_consumer.py', queue, '--count', 6) for queue in ('anna', 'carl')]
    for consumer in consumers:
        consumer.wait_for('ready')
    summary = publish_as_alice(run, 'fanout_producer.py', count=6, ttl=2)
    assert [consumer.end().status for consumer in consumers] == [0, 0]
    wait_until(lambda: dead_letters.find(db)[1] == 6, 'six dead letters')
    assert names_not_picked_up(run, path) == [
        ('bert', f'alice-{summary["run"]}-{number}', 'expired') for number in range(1, 7)
    ]
    wait_until(
        lambda: [totals(db).get(name, (0,))[0] for name in ('anna', 'bert', 'carl')] == [6, 6, 6],
        'counts',
    )
    wait_until(
        lambda: (
            [totals(db)[name][1:5] for name in ('anna', 'bert', 'carl')]
            == [(6, 6, 0, 0), (0, 0, 0, 6), (6, 6, 0, 0)]
        ),
        'deliveries',
    )


def test_more_complex_several_producers_and_some_consumers(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    producers = [
        start(
            'ack_producer.py',
            '--name',
            name,
            '--queue',
            f'siamese.{queue}',
            '--count',
            8,
            '--rate',
            50,
            '--ttl',
            {'work': 600, 'rest': 3}[queue],
            '--quiet',
            '--json',
            '-',
        )
        for name, queue in (('alice', 'work'), ('bob', 'work'), ('carol', 'rest'), ('dave', 'rest'))
    ]
    runs = {
        json.loads(done.out)['name']: json.loads(done.out)['run']
        for done in (one.end() for one in producers)
    }
    taken = run(
        'ack_consumer.py',
        '--queue',
        'siamese.work',
        '--ack',
        100,
        '--reject',
        0,
        '--lose',
        0,
        '--count',
        16,
    )
    assert taken.status == 0
    wait_until(lambda: dead_letters.find(db)[1] == 16, '16 dead letters')
    assert names_not_picked_up(run, path) == sorted(
        ('siamese.rest', f'{name}-{runs[name]}-{number}', 'expired')
        for name in ('carol', 'dave')
        for number in range(1, 9)
    )


@pytest.mark.pair
def test_more_dead_letters_than_a_quorum_queue_delivers_unacknowledged(
    start, broker, channel, tmp_path
):
    declare_dead(channel)
    for number in range(2500):
        channel.basic_publish('siamese.dlx', '', str(number).encode())
    wait_until(lambda: waiting(channel, 'siamese.dead') == 2500, 'all to be there')
    _, db = watch(start, broker, tmp_path / 'siamese.db', '--quiet')
    wait_until(lambda: dead_letters.find(db)[1] == 2500, 'all stored')
    wait_until(lambda: not waiting(channel, 'siamese.dead'), 'all acknowledged')


# ---- without plugins, without a broker, wrong flags


def test_without_the_management_plugin_it_says_so_and_keeps_dead_letters(start, tmp_path):
    path = tmp_path / 'siamese.db'
    with a_broker() as broker:
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        line = monitor.wait_for('no metrics of queues and clients')
        assert 'rabbitmq-plugins enable rabbitmq_management' in line
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            connection.channel().basic_publish(
                'siamese.dlx', '', b'x', pika.BasicProperties(message_id='m')
            )
            wait_until(lambda: dead_ids(db) == ['m'], 'a dead letter')
        wait_until(
            lambda: database.broker(db)['state'] == 'up' and database.broker(db)['missing'],
            'the state',
        )
        once = start(
            'monitor.py',
            '--once',
            '--check',
            '--history',
            path,
            '--management-url',
            'http://127.0.0.1:1',
            AMQP_URL=broker.url,
        ).end()
        assert once.status == 3 and once.out.startswith(
            'SIAMESE UNKNOWN - no management API at http://127.0.0.1:1 '
        )
        assert management_api.REMEDY in line and management_api.REMEDY in once.out
        done = monitor.stop()
        assert (
            done.status == 0 and done.err.count('no metrics') == 1 and 'Traceback' not in done.err
        )


def test_it_waits_for_an_unavailable_broker_or_gives_up(run, tmp_path):
    port = broker_module.free_ports(1)[0]
    done = run(
        'monitor.py',
        '--history',
        tmp_path / 'm.db',
        '--give-up-after',
        5,
        AMQP_URL=f'amqp://127.0.0.1:{port}',
    )
    assert (
        done.status == 3
        and 'broker unreachable at' in done.err
        and done.out.startswith('0 dead letters stored')
    )
    assert (
        database.broker(database.open_for_reading(str(tmp_path / 'm.db')))['state'] == 'unavailable'
    )


def test_the_management_api_asked_is_that_of_the_node_that_is_there(start, url, tmp_path):
    monitor = start(
        'monitor.py', '--url', f'amqp://localhost:1,{url}', '--history', tmp_path / 'siamese.db'
    )
    monitor.wait_for('no management API at http://127.0.0.1:15672 ')


def metrics_at(port):
    url = f'http://127.0.0.1:{port}/metrics'
    with urllib.request.urlopen(url, timeout=TEST_TIMEOUT_S) as response:
        return response.read().decode()


def test_prometheus(start, broker, channel, tmp_path):
    port = broker_module.free_ports(1)[0]
    name = 'a "queue" \\'
    _, db = watch(start, broker, tmp_path / 'siamese.db', '--prometheus', port)
    channel.queue_declare(name, durable=True)
    published(channel, name, 3)
    wait_until(lambda: totals(db).get(name, (0,))[0] == 3, 'counts')

    # The broker lists a connection some time after it is open.
    wait_until(
        lambda: 'siamese_client_connected{client="monitor.py@' in metrics_at(port), 'the client'
    )
    text = metrics_at(port)
    assert 'siamese_queue_published_total{queue="a \\"queue\\" \\\\"} 3.0' in text
    assert 'siamese_returned_total 0.0' in text and 'siamese_dropped_total 0.0' in text
    assert 'siamese_broker_up 1.0' in text


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--smtp', 'http://me:secret@host'], 'bad SMTP URL'),
        (['--smtp', 'smtp://me:secret%C3%A9@host'], 'ASCII only'),
        (['--mail-to', 'ops@example.org,'], 'expected addresses'),
        (['--mail-to', 'ops@example.org\nBcc: me'], 'expected addresses'),
        (['--management-url', 'ftp://me:secret@host'], 'bad management URL'),
        (['--management-url', 'http://me:se/cret@host'], 'bad management URL'),
        (['--check'], '--check goes with --once'),
        (['--queue', 'q'], '--queue goes with --report'),
        (['--once', '--since', '2026-01-01'], '--since goes with --report'),
        (['--once', '--csv', 'made.csv'], '--csv goes with --report'),
        (['--once', '--mail-to', 'ops@example.org'], '--mail-to does not go with --once'),
        (['--report', 'day', '--csv', '-', '--json', '-'], 'one stdout'),
        (['--report', 'day', '--csv', '/none/made.csv'], 'cannot write /none/made.csv'),
        (['--requeue', ''], '1 to 255 bytes'),
        (['--requeue', 'ü' * 128], '1 to 255 bytes'),
        (['--retention', '1e9'], 'must be from 0.01 to 36500, not 1e9'),
        *(
            (['--mail-to', odd], 'expected addresses')
            for odd in ('ops@', '"', 'ops@[1.2.3', '@', '<>', 'a@b..c', 'a b@c')
        ),
        (['--mail-from', 'me@'], 'expected an address'),
        *(
            (['--smtp', f'smtp://me:secret@{host}'], 'bad SMTP URL')
            for host in ('mail..example.org', 'x' * 64, '.x', '')
        ),
        (['--report', 'week'], 'invalid choice'),
        (['--report', 'day', '--since', 'yesterday'], '--since'),
        (['--once', '--report', 'day'], 'not allowed with'),
    ],
)
def test_wrong_flags_take_one_line_and_leave_nothing(tmp_path, flags, said):
    done = subprocess.run(
        [sys.executable, ROOT / 'monitor.py', *flags],
        cwd=tmp_path,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
        capture_output=True,
    )
    told = done.stderr
    assert (
        done.returncode == 2
        and said in told
        and told.count('\n') == 1
        and not [*tmp_path.iterdir()]
    )
    assert 'secret' not in told and 'se/cret' not in told
