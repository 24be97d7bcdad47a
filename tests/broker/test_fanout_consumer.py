"""fanout_consumer.py on a real broker.

Who gets what, what expires, what is missed, and the verdict of audit.py.
"""

import json
import re
import signal
import socket
from collections import Counter

import pytest
from support.books import lines_in
from support.messages import MALFORMED, declare_dead, hello
from support.processes import wait_until
from support.queues import dead_letters, drain, judge, waiting

DECLARED = {
    'x-dead-letter-exchange': 'siamese.dlx',
    'x-queue-type': 'classic',
    'x-expires': 3_600_000,
}


def put(channel, messages, queue='bert'):
    """Declare a queue as the script does, and publish to it."""
    declare_dead(channel)
    channel.exchange_declare('siamese.fanout', 'fanout', durable=True)
    channel.queue_declare(queue, durable=True, arguments=DECLARED)
    for properties, body in messages:
        channel.basic_publish('', queue, body, properties)


def numbers(lines):
    """Return the numbers of the messages that these lines tell of."""
    return [
        int(found[1])
        for line in list(lines)
        if (found := re.search(r'alice (\d+)  Hello world', line))
    ]


@pytest.mark.pair
def test_different_queues_get_everything_the_same_queue_shares(start, run, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    consumers = [
        start('fanout_consumer.py', queue, '--name', name, '--ledger', ledger)
        for queue, name in (('a', 'carol'), ('b', 'dave'), ('c', 'erin'), ('c', 'frank'))
    ]
    for consumer in consumers:
        consumer.wait_for('ready')
    flags = ('--name', 'alice', '--count', 100, '--rate', 200, '--ledger', ledger)
    assert run('fanout_producer.py', *flags, '--quiet').status == 0
    everything = list(range(1, 101))
    carol, dave, erin, frank = consumers
    wait_until(
        lambda: numbers(carol.out) == numbers(dave.out) == everything,
        'everything in the queues a and b',
    )
    wait_until(
        lambda: sorted(numbers(erin.out) + numbers(frank.out)) == everything,
        'everything in the queue c',
    )
    assert numbers(erin.out) and numbers(frank.out)
    assert [consumer.stop(signal.SIGTERM).status for consumer in consumers] == [0] * 4
    status, found = judge(run, ledger)
    assert status == 0 and found['ok'] == 100
    assert not found['expired'] and not found['redelivered']


def test_the_queue_is_named_after_the_host_and_outlives_the_script(run, channel, broker, url):
    assert run('fanout_consumer.py', '--duration', 0.3).status == 3
    # It would refuse other arguments.
    channel.queue_declare(socket.gethostname(), durable=True, arguments=DECLARED)
    assert run('fanout_producer.py', '--name', 'alice', '--count', 3, '--rate', 100).status == 0
    done = run('fanout_consumer.py', '--count', 3)
    assert done.status == 0 and numbers(done.out.splitlines()) == [1, 2, 3]


def test_a_late_consumer_gets_the_messages_that_come_after_it(start, run):
    start('fanout_consumer.py', 'first')
    producer = start('fanout_producer.py', '--name', 'alice', '--rate', 20)
    producer.wait_for('alice 5 ', producer.out)
    done = run('fanout_consumer.py', 'late', '--count', 5)
    shown = numbers(done.out.splitlines())
    assert shown == list(range(shown[0], shown[0] + 5)) and shown[0] > 5
    missed = shown[0] - 1
    assert f', {missed} before it missed\n' in done.out
    assert f'5 delivered, {missed} missed, ' in done.out
    producer.stop()


@pytest.mark.pair
def test_a_returning_consumer_gets_exactly_the_messages_that_have_not_expired(run, channel):
    brief = [hello(number, expiration='100') for number in (1, 2, 3)]
    lasting = [hello(number, expiration='60000') for number in (4, 5, 6)]
    put(channel, brief + lasting)
    wait_until(lambda: waiting(channel, 'siamese.dead') == 3, 'three dead letters')
    done = run('fanout_consumer.py', 'bert', '--count', 3)
    assert done.status == 0 and numbers(done.out.splitlines()) == [4, 5, 6]
    first = done.out.splitlines()[0]
    assert first.startswith('1 of 3  alice 4  Hello world, ') and ', 3 before it missed' in first
    assert '3 delivered, 3 missed, 0 invalid; ' in done.out and 'overdue' not in done.out


def test_a_consumer_leaves_and_returns_while_the_producer_publishes(start, run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    before = start('fanout_consumer.py', 'bert', '--name', 'before', '--ledger', ledger)
    before.wait_for('ready')
    producer = start(
        'fanout_producer.py', '--name', 'alice', '--rate', 20, '--ttl', 1, '--ledger', ledger
    )
    wait_until(lambda: numbers(before.out), 'a message')
    before.stop()
    wait_until(lambda: waiting(channel, 'siamese.dead') >= 10, 'ten dead letters')
    after = start('fanout_consumer.py', 'bert', '--name', 'after', '--ledger', ledger)
    wait_until(lambda: len(numbers(after.out)) >= 30, 'thirty messages')
    assert producer.stop().status == 0
    confirmed = len(lines_in(ledger, 'confirmed'))
    wait_until(lambda: numbers(after.out)[-1:] == [confirmed], 'the last message')
    assert after.stop().status == 0
    dead = drain(channel, 'siamese.dead')
    assert {
        (death['reason'], death['queue'])
        for properties, _ in dead
        for death in properties.headers['x-death']
    } == {('expired', 'bert')}
    expired = [int(properties.message_id.rpartition('-')[2]) for properties, _ in dead]
    # Each message was delivered once: before, in the dead letters, or after.
    assert sorted(numbers(before.out) + expired + numbers(after.out)) == list(
        range(1, confirmed + 1)
    )
    assert min(expired) > max(numbers(before.out)) and min(expired) < min(numbers(after.out))
    status, found = judge(run, ledger)
    assert status == 0 and len(found['expired']) == len(expired)
    assert found['ok'] == confirmed - len(expired)


def test_without_a_consumer_every_message_expires(run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    assert run('fanout_consumer.py', 'bert', '--duration', 0.3, '--ledger', ledger).status == 3
    flags = ('--count', 23, '--rate', 1000, '--ttl', 0.2, '--ledger', ledger)
    assert run('fanout_producer.py', *flags, '--quiet').status == 0
    dead = dead_letters(channel, 23)
    assert len(dead) == 23 and waiting(channel, 'bert') == 0
    assert {properties.headers['x-death'][0]['reason'] for properties, _ in dead} == {'expired'}
    assert run('fanout_consumer.py', 'bert', '--idle', 0.3, '--ledger', ledger).status == 3
    status, found = judge(run, ledger)
    assert status == 3  # nothing was delivered
    assert len(found['expired']) == 23 and not found['lost']


def test_the_audit_names_the_messages_that_a_queue_lost(run, start, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    consumers = [
        start('fanout_consumer.py', queue, '--name', queue, '--ledger', ledger)
        for queue in ('anna', 'bert')
    ]
    for consumer in consumers:
        consumer.wait_for('ready')
    flags = ('--count', 5, '--rate', 10, '--ttl', 0.3, '--ledger', ledger)
    for name in 'alice', 'later':  # the second one is published when the first has expired
        assert run('fanout_producer.py', '--name', name, *flags).status == 0
    for consumer in consumers:
        wait_until(lambda consumer=consumer: 'later 5 ' in ''.join(consumer.out), 'all messages')
        assert consumer.stop().status == 0
    assert judge(run, ledger)[0] == 0
    lines = ledger.read_text().splitlines(keepends=True)
    stolen = next(line for line in lines if '"by": "bert"' in line and '"acked"' in line)
    lines.remove(stolen)
    ledger.write_text(''.join(lines))
    status, found = judge(run, ledger)
    assert status == 1 and found['ok'] == 10
    assert found['lost'] == [f'{json.loads(stolen)["id"]} in bert']


def test_gaps_and_copies_are_counted(run, channel):
    put(
        channel,
        [hello(1), hello(2), hello(6), hello(4), hello(4, headers={'x-attempt': 2}), hello(7)],
    )
    done = run('fanout_consumer.py', 'bert', '--count', 6)
    assert done.status == 0
    assert '6 delivered, 2 missed, ' in done.out  # 3 and 5
    assert ' 1 republished; ' in done.out
    third = done.out.splitlines()[2]
    assert 'alice 6  Hello world, ' in third and ', 3 before it missed' in third


def test_a_connection_that_breaks_costs_no_message(start, run, broker, url):
    consumer = start('fanout_consumer.py', 'bert')
    consumer.wait_for('ready')
    flags = ('--name', 'alice', '--rate', 20, '--ttl', 600)
    producer = start('fanout_producer.py', *flags, '--json', '-', '--quiet')
    wait_until(lambda: numbers(consumer.out), 'a message')
    broker.ctl('close_all_connections', '-p', url.rpartition('/')[2], 'maintenance')
    producer.wait_for('back after')
    consumer.wait_for('back after')
    summary = json.loads(producer.stop().out)
    assert summary['confirmed'] == summary['published']
    everything = set(range(1, summary['published'] + 1))
    wait_until(lambda: set(numbers(consumer.out)) == everything, 'all messages')
    assert consumer.stop().status == 0


def test_an_exchange_that_is_deleted_comes_back(start, channel):
    """No consumer is told of that; so it looks after it by itself."""
    consumer = start('fanout_consumer.py', 'bert')
    consumer.wait_for('ready')
    producer = start('fanout_producer.py', '--rate', 20, '--quiet')
    consumer.wait_for(' 3  ', consumer.out)
    for exchange in 'siamese.fanout', 'siamese.dlx':
        channel.exchange_delete(exchange)
    producer.wait_for('no queue is bound to siamese.fanout')
    consumer.wait_for('before it missed', consumer.out)
    channel.basic_publish('', 'bert', b'strange')
    wait_until(lambda: waiting(channel, 'siamese.dead'), 'a dead letter')
    assert producer.stop().status == 3 and consumer.stop().status == 1
    assert 'back after' not in ''.join(consumer.err)  # over the same connection


def test_a_quorum_queue_takes_part(run):
    kind = ('--queue-type', 'quorum')
    assert run('fanout_consumer.py', 'bert', '--duration', 0.3, *kind).status == 3
    assert run('fanout_producer.py', '--name', 'alice', '--count', 3, '--rate', 100).status == 0
    assert run('fanout_consumer.py', 'bert', '--count', 3, *kind).status == 0


def test_malformed_messages_are_rejected_into_the_dead_letters_and_counted(run, channel):
    put(channel, [hello(1), *MALFORMED.values(), hello(2)])
    done = run('fanout_consumer.py', 'bert', '--count', len(MALFORMED) + 2, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == 1 and 'Traceback' not in done.err
    assert summary['delivered'] == len(MALFORMED) + 2
    assert summary['invalid'] == len(MALFORMED) == sum(summary['rejections'].values())
    dead = dead_letters(channel, len(MALFORMED))
    assert Counter(body for _, body in dead) == Counter(body for _, body in MALFORMED.values())


@pytest.mark.parametrize('copies, status', [(1, 0), (2, 1)])
def test_a_replay_is_rejected(run, channel, copies, status):
    put(channel, [hello(1)] * copies)
    done = run('fanout_consumer.py', 'bert', '--count', copies, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == status and summary['delivered'] == copies
    assert summary['invalid'] == copies - 1
    assert len(dead_letters(channel, copies - 1)) == copies - 1
