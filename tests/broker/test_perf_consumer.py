"""perf_consumer.py on a real broker.

It receives, compares, names what differs; pairs with perf_producer.py.
"""

import hashlib
import json
import signal

import pika
import pytest
from support.books import ids_in
from support.messages import declare_dead
from support.processes import replace_after, replace_once, wait_until
from support.queues import dead_letters, drain, judge
from support.raw_properties import undecodable

import audit as audit_script
import perf_consumer
from siamese.messaging import link as delivery
from siamese.scenarios import performance as perf
from siamese.testbed import proxy

QUEUE = 'siamese.perf'
UTF8, UTF16 = 'application/json; charset=utf-8', 'application/json; charset=utf-16'
BODY, _ = perf.body_of('utf-8', 300)


def put(channel, messages):
    declare_dead(channel)
    channel.queue_declare(
        QUEUE,
        durable=True,
        arguments={'x-dead-letter-exchange': 'siamese.dlx', 'x-queue-type': 'classic'},
    )
    for content_type, body, *id in messages:
        channel.basic_publish(
            '',
            QUEUE,
            body,
            pika.BasicProperties(content_type=content_type, message_id=id[0] if id else None),
        )


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
@pytest.mark.parametrize('kind', ['classic', 'quorum', 'stream'])
@pytest.mark.parametrize('confirm', [0, 50])
def test_pairs(start, encoding, kind, confirm):
    flags = '--queue-type', kind, '--count', 2023, '--json', '-'
    may_lose = (
        kind == 'quorum' and not confirm
    )  # RabbitMQ 3.10.8: the last ones before the channel is closed
    consumer = start('perf_consumer.py', *flags, *(('--idle', 10) if may_lose else ()))
    consumer.wait_for('ready')
    producer = start('perf_producer.py', '--encoding', encoding, '--confirm', confirm, *flags)
    sent, received = producer.end(), consumer.end()
    assert sent.status == 0 and received.status in (0, 3 * may_lose), sent.err + received.err
    summary = json.loads(received.out)
    if not may_lose:
        assert (summary['delivered'], summary['stopped']) == (2023, 'count reached')
    assert summary['invalid'] == 0 and 0 < summary['delivered'] <= 2023
    assert 0 < summary['latency_us']['min'] <= summary['latency_us']['p99']


@pytest.mark.any_broker
@pytest.mark.pair
def test_several_of_both_and_audit(start, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    producers = [
        start('perf_producer.py', '--count', 500, '--ledger', ledger, '--name', name)
        for name in 'ab'
    ]
    assert all(producer.end().status == 0 for producer in producers)
    consumers = [
        start('perf_consumer.py', '--exit-when-empty', '--ledger', ledger, '--json', '-')
        for _ in 'cd'
    ]
    assert sum(json.loads(consumer.end().out)['delivered'] for consumer in consumers) == 1000
    assert audit_script.main([str(ledger), '--quiet']) == 0


@pytest.mark.parametrize(
    'encoding, of_it, differs', [('utf-8', 2, 'ad, not ae'), ('utf-16-le', 0, '2d, not 2e')]
)
def test_a_byte_that_changes_on_the_way_is_caught(run, url, channel, encoding, of_it, differs):
    name = encoding.replace('-le', '')
    assert run('perf_producer.py', '--count', 50, '--encoding', name, '--quiet').status == 0
    flip, _ = replace_once('键'.encode(encoding), '锭'.encode(encoding))
    with proxy.in_front_of(url, alter=flip) as between:
        done = run('perf_consumer.py', '--count', 50, '--json', '-', '--url', between.url)
    assert done.status == 1 and json.loads(done.out)['invalid'] == 1
    at = perf.body_of(name, 256)[0].index('键'.encode(encoding)) + of_it
    assert f"invalid: corrupt: 'byte {at} is {differs}' (message_id " in done.err
    assert len(dead_letters(channel, 1)) == 1  # the broker's own copy, unaltered


def test_a_byte_that_changes_in_the_middle_of_a_run_is_caught(run, url, channel):
    count = 2000
    assert run('perf_producer.py', '--count', count, '--quiet').status == 0
    body = perf.body_of('utf-8', 256)[0]
    at = body.index('键'.encode())
    alter = replace_after(b'-0000001000-', '键'.encode(), b'\x00' + '键'.encode()[1:])
    with proxy.in_front_of(url, alter=alter) as between:
        done = run('perf_consumer.py', '--count', count, '--json', '-', '--url', between.url)
    summary = json.loads(done.out)
    assert (done.status, summary['delivered'], summary['invalid']) == (1, count, 1)
    assert f"invalid: corrupt: 'byte {at} is 00, not {body[at]:02x}' (message_id " in done.err
    [(properties, dead)] = dead_letters(channel, 1)
    assert dead == body and f'{properties.message_id!r}' in done.err
    assert properties.message_id.split('-')[1] == '0000001000'
    assert drain(channel, QUEUE) == []


BAD = {
    'empty': (UTF8, b''),
    'cut short': (UTF8, BODY[:-1]),
    'longer': (UTF8, BODY + b' '),
    'not UTF-8': (UTF8, b'\xff' * 300),
    'ten megabytes': (UTF8, b' ' * 10_000_000),
    'foreign content type': ('text/plain', BODY),
    'no content type': (None, BODY),
    'escape': ('\x1b[2J', BODY),
    'the other encoding': (UTF16, BODY),
    'odd size in UTF-16': (UTF16, BODY + b'x'),
    'JSON of another': (UTF8, json.dumps({'testdict': {}}).encode()),
}


def test_bad_bodies_are_rejected_and_named(run, channel):
    put(channel, [*BAD.values(), (UTF8, BODY, 'no number'), (UTF8, BODY)])
    done = run('perf_consumer.py', '--count', len(BAD) + 2, '--json', '-')
    summary = json.loads(done.out)
    assert (
        done.status == 1 and summary['invalid'] == len(BAD) and summary['delivered'] == len(BAD) + 2
    )
    assert (
        done.err.count('invalid: ') == len(BAD)
        and 'Traceback' not in done.err
        and '\x1b' not in done.err
    )
    assert sorted(body for _, body in dead_letters(channel, len(BAD))) == sorted(
        body for _, body in BAD.values()
    )


def test_auto_ack(run, channel):
    assert run('perf_producer.py', '--count', 500, '--quiet').status == 0
    done = run('perf_consumer.py', '--auto-ack', '--count', 500, '--quiet')
    assert done.status == 0 and drain(channel, QUEUE) == []


def test_prefetch_one_is_not_starved_by_batched_acknowledgements(run, channel):
    assert run('perf_producer.py', '--count', 300, '--quiet').status == 0
    done = run(
        'perf_consumer.py', '--prefetch', 1, '--ack-every', 1000, '--count', 300, '--json', '-'
    )
    assert (
        done.status == 0 and json.loads(done.out)['duration_s'] < 20
    )  # at 10 messages a second it would be 30


def test_delivered_messages_are_acknowledged(run, channel):
    put(channel, [(UTF8, BODY)] * 30)
    assert run('perf_consumer.py', '--count', 20, '--quiet').status == 0
    assert len(drain(channel, QUEUE)) == 10


def test_it_waits_for_more_unless_told_to_exit_when_empty(start, run, tmp_path):
    done = run('perf_consumer.py', '--exit-when-empty')
    assert done.status == 3 and 'stopped: queue empty' in done.out
    ledger = tmp_path / 'run.jsonl'
    consumer = start('perf_consumer.py', '--json', '-', '--ledger', ledger)
    consumer.wait_for('ready')
    assert run('perf_producer.py', '--count', 10, '--quiet').status == 0
    wait_until(lambda: '"acked"' in ledger.read_text(), 'a delivery')
    assert consumer.process.poll() is None  # still there
    done = consumer.stop(signal.SIGTERM)
    assert done.status == 0 and json.loads(done.out)['delivered'] in range(1, 11)


def test_a_stream_resumes_where_the_connection_broke(start, run, broker, url, tmp_path):
    half = ['perf_producer.py', '--queue-type', 'stream', '--count', 500, '--quiet']
    flags = ['--queue-type', 'stream', '--count', 1000, '--ledger', tmp_path / 'books']
    consumer = start('perf_consumer.py', *flags, '--json', '-')
    consumer.wait_for('ready')
    assert run(*half).status == 0
    wait_until(lambda: len(ids_in(tmp_path / 'books', 'acked')) == 500, 'the first half')
    broker.ctl('close_all_connections', '-p', url.rpartition('/')[2], 'maintenance')
    consumer.wait_for('back after')
    assert run(*half).status == 0
    done = consumer.end()
    assert done.status == 0 and json.loads(done.out)['delivered'] == 1000
    assert len(ids_in(tmp_path / 'books', 'acked')) == 1000


def test_each_consumer_of_a_stream_gets_all_of_it(run, tmp_path):
    """They are started one after the other, and keep one ledger: that is no fault."""
    flags = ['--queue-type', 'stream', '--count', 50, '--ledger', tmp_path / 'books', '--quiet']
    for script in ('perf_producer.py', 'perf_consumer.py', 'perf_consumer.py'):
        done = run(script, *flags)
        assert done.status == 0, done.err
    status, found = judge(run, tmp_path / 'books')
    assert (status, found['ok'], found['duplicated']) == (0, 50, [])


def test_an_invalid_message_stays_in_a_stream_and_is_passed_over(start, run, channel):
    assert run('perf_producer.py', '--queue-type', 'stream', '--count', 3, '--quiet').status == 0
    consumer = start('perf_consumer.py', '--queue-type', 'stream', '--idle', 2, '--json', '-')
    consumer.wait_for('ready')
    for properties in (
        pika.BasicProperties(content_type='text/plain'),
        *undecodable(UTF8.encode()),
    ):
        channel.basic_publish('', QUEUE, b'bad', properties)
    done = consumer.end()
    summary = json.loads(done.out)
    assert (summary['delivered'], summary['invalid'], summary['connections']) == (6, 3, 1), done.err
    assert (
        done.status == 1
        and summary['stopped'] == 'nothing came for 2 s'
        and 'Traceback' not in done.err
    )


def test_unasked_deliveries_do_not_pile_up(run, url):
    count = 10_000
    assert run('perf_producer.py', '--count', count, '--quiet').status == 0
    args, most = perf_consumer.parse_args(['--url', url, '--auto-ack', '--count', str(count)]), 0
    with delivery.connected(args, perf_consumer.declare) as link:
        for run in link.runs():
            for _ in run:
                hashlib.sha256(bytes(100_000))  # takes longer than reading
            most = max(most, link.inbox.waiting_count())
    assert link.done == count and most < 4000


@pytest.mark.parametrize(
    'flags, complaint',
    [
        (['--prefetch', '0'], 'must be from 1 to 65535, not 0'),
        (['--ack-every', '0'], 'must be at least 1'),
        (['--queue-type', 'stream', '--auto-ack'], 'a stream has no --auto-ack'),
        (['--warm-up', '-1'], 'must be at least 0'),
    ],
)
def test_bad_flags(run, flags, complaint):
    done = run('perf_consumer.py', *flags)
    assert (
        done.status == 2 and complaint in done.err and done.err.count('\n') == 1 and done.out == ''
    )
