"""ack_consumer.py on a real broker.

Its decisions against the broker's own counts, and the traps it shows.
"""

import json
import re
import sys
from collections import Counter

import pytest
from support.books import ids_in, lines_in
from support.messages import MALFORMED, hello, put
from support.processes import Running, wait_until
from support.queues import dead_letters, drain, judge, waiting

from siamese.testbed import rabbitmq as broker_module

COLUMNS = ('messages_ready', 'messages_unacknowledged')


def counts(broker, url, queue='siamese.ack'):
    """Return (ready, unacknowledged) of a queue, as the broker counts them."""
    rows = broker.ctl('-q', 'list_queues', '-p', url.rpartition('/')[2], 'name', *COLUMNS)
    return next(
        tuple(map(int, row.split('\t')[1:]))
        for row in rows.splitlines()
        if row.startswith(f'{queue}\t')
    )


def decisions(lines):
    """Return the last word of each line that tells of a message: acked, rejected or unacked."""
    return [line.split()[-1] for line in list(lines) if '  Hello world  ' in line]


def test_ten_thousand_messages_balance_with_the_brokers_own_counts(
    start, channel, broker, url, tmp_path
):
    put(channel, [hello(number) for number in range(1, 10_001)])
    consumer = start(
        'ack_consumer.py', '--seed', 1, '--prefetch', 5000, '--json', tmp_path / 'summary'
    )
    ends = Counter()
    seen = 0

    def all_ended():
        nonlocal seen
        fresh = decisions(consumer.out[seen:])
        seen += len(fresh)
        ends.update(fresh)
        return ends['acked'] + ends['unacked'] == 10_000  # whatever is rejected comes back

    wait_until(all_ended, '10,000 messages acked or unacked')
    wait_until(lambda: counts(broker, url) == (0, ends['unacked']), 'the counts of the broker')
    assert consumer.stop().status == 0
    summary = json.loads((tmp_path / 'summary').read_text())
    assert {name: summary[name] for name in ends} == ends
    assert summary['delivered'] == sum(ends.values())
    assert summary['redelivered'] == ends['rejected']
    for name, percent in (('acked', 60), ('rejected', 30), ('unacked', 10)):
        share = ends[name] / summary['delivered']
        assert abs(share - percent / 100) < 0.02  # five standard deviations
    wait_until(lambda: counts(broker, url) == (ends['unacked'], 0), 'what was unacked to be back')
    ids = [properties.message_id for properties, _ in drain(channel, 'siamese.ack')]
    assert len(set(ids)) == ends['unacked']


@pytest.mark.pair
def test_a_seed_repeats_the_decisions(run, channel):
    shown = []
    for _ in range(2):
        put(channel, [hello(number) for number in range(1, 31)])
        percents = ('--ack', 50, '--reject', 50)
        done = run('ack_consumer.py', *percents, '--seed', 7, '--prefetch', 1, '--idle', 5)
        shown.append([re.sub(r'[\d.]+ s old', '', line) for line in done.out.splitlines()[:-1]])
    assert shown[0] == shown[1] and {'acked', 'rejected'} == set(decisions(shown[0]))


def test_unacked_messages_are_redelivered_to_the_next_consumer(start, run, channel, broker, url):
    put(channel, [hello(number) for number in range(1, 11)])
    loser = start('ack_consumer.py', '--lose', 100, '--name', 'loser')
    wait_until(lambda: counts(broker, url) == (0, 10), 'ten unacknowledged messages')
    wait_until(lambda: decisions(loser.out) == ['unacked'] * 10, 'ten decisions')
    other = run('ack_consumer.py', '--ack', 100, '--idle', 1)
    assert other.status == 3 and other.out.startswith('0 delivered')
    assert loser.stop().status == 0
    other = run('ack_consumer.py', '--ack', 100, '--count', 10)
    assert other.status == 0 and other.out.count(', redelivered  acked') == 10
    assert waiting(channel, 'siamese.ack') == 0


@pytest.mark.any_broker
def test_after_kill_9_every_unacknowledged_message_comes_back(start, run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    done = run('ack_producer.py', '--count', 200, '--rate', 1000, '--ledger', ledger, '--quiet')
    assert done.status == 0
    consumer = start(
        'ack_consumer.py', '--seed', 3, '--name', 'carol', '--prefetch', 150, '--ledger', ledger
    )
    wait_until(lambda: len(decisions(consumer.out)) >= 150, '150 decisions')
    consumer.process.kill()
    consumer.end()
    rest = ('--ack', 100, '--idle', 2, '--name', 'dave', '--ledger', ledger)
    assert run('ack_consumer.py', *rest).status == 0
    status, found = judge(run, ledger)
    assert status == 0 and found['confirmed'] == found['ok'] == 200, found
    acked = lines_in(ledger, 'acked')
    unacked = ids_in(ledger, 'unacked')
    came_back = {line['id'] for line in acked if line['by'] == 'dave' and line['redelivered']}
    assert unacked and unacked <= came_back and unacked <= set(found['redelivered'])
    assert waiting(channel, 'siamese.ack') == 0


def test_what_a_full_disk_kept_out_of_the_ledger_is_not_acknowledged(run, channel, tmp_path):
    messages = [hello(number) for number in range(1, 401)]
    put(channel, messages)
    ledger = tmp_path / 'run.jsonl'
    script = f'{sys.executable} ack_consumer.py --ack 100 --idle 2 --ledger {ledger}'
    done = run('sh', '-c', f'ulimit -f 4; exec {script}')  # blocks of 512 bytes
    assert done.status == 3 and f'cannot write the ledger {ledger}: File too large' in done.err
    noted = ids_in(ledger, 'acked')
    waiting = {properties.message_id for properties, _ in drain(channel, 'siamese.ack')}
    assert noted and waiting
    assert noted | waiting == {properties.message_id for properties, _ in messages}


def test_unacknowledged_messages_are_lost_to_the_audit(run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    assert run('ack_producer.py', '--count', 5, '--rate', 1000, '--ledger', ledger).status == 0
    assert run('ack_consumer.py', '--lose', 100, '--count', 5, '--ledger', ledger).status == 0
    drain(channel, 'siamese.ack')
    status, found = judge(run, ledger)
    assert status == 1 and len(found['lost']) == 5 and found['ok'] == 0


def test_a_consumer_with_all_its_prefetch_unacked_starves_and_says_so(start, channel, broker, url):
    put(channel, [hello(number) for number in range(1, 11)])
    consumer = start('ack_consumer.py', '--lose', 100, '--prefetch', 4)
    assert 'delivers no more until this process ends' in consumer.wait_for(
        'all deliveries that --prefetch allows are unacked'
    )
    assert counts(broker, url) == (6, 4)
    assert consumer.stop().status == 0
    wait_until(lambda: waiting(channel, 'siamese.ack') == 10, 'ten messages')


def test_a_classic_queue_has_no_delivery_limit(start, channel):
    put(channel, [hello(1)])
    consumer = start('ack_consumer.py', '--reject', 100, '--count', 100)
    assert 'alice 1: rejected 20 times; a classic queue has no delivery limit' in consumer.wait_for(
        'rejected 20 times'
    )
    assert consumer.end().status == 0
    assert waiting(channel, 'siamese.ack') == 1 and waiting(channel, 'siamese.dead') == 0


@pytest.mark.pair
@pytest.mark.parametrize('flag', ['--reject', '--lose'])
def test_a_quorum_queue_has_a_limit_of_21_deliveries(start, run, channel, tmp_path, flag):
    ledger = tmp_path / 'run.jsonl'
    kind = ('--queue-type', 'quorum', '--ledger', ledger)
    assert run('ack_producer.py', '--name', 'alice', '--count', 2, '--rate', 100, *kind).status == 0
    if flag == '--reject':
        done = run('ack_consumer.py', '--reject', 100, '--count', 42, *kind)
        warning = 'delivered 21 times, delivery limit reached; the broker moves it to siamese.dead'
        assert done.err.count(warning) == 2
        assert 'a classic queue' not in done.err
    else:
        for _ in range(21):
            done = run('ack_consumer.py', '--lose', 100, '--count', 2, *kind)
            assert done.status == 0
    dead = dead_letters(channel, 2)
    assert len(dead) == 2 and waiting(channel, 'siamese.ack') == 0
    assert {properties.headers['x-death'][0]['reason'] for properties, _ in dead} == {
        'delivery_limit'
    }
    status, found = judge(run, ledger)
    assert status == 0 and sorted(found['delivery_limit']) == sorted(
        properties.message_id for properties, _ in dead
    )


@pytest.mark.pair
def test_the_consumer_timeout_requeues_unacked_messages(start):
    """Those of a quorum queue: from RabbitMQ 4.3 on a classic one has no such timeout."""
    quorum = ('--queue-type', 'quorum')
    with broker_module.throwaway() as broker:
        broker.ctl(
            'eval',
            'application:set_env(rabbit, consumer_timeout, 2000), '
            'application:set_env(rabbit, channel_tick_interval, 500).',
        )
        env = {'AMQP_URL': broker.url}
        done = start('ack_producer.py', '--count', 3, '--rate', 100, *quorum, **env).end()
        assert done.status == 0
        consumer = start('ack_consumer.py', '--lose', 100, *quorum, **env)
        consumer.wait_for('timed out')
        consumer.wait_for('back after')
        wait_until(
            lambda: sum(', redelivered  unacked' in line for line in list(consumer.out)) >= 3,
            'redelivery',
        )
        done = consumer.stop()
        assert done.status == 0 and 'Traceback' not in done.err


# ---- priority and time to live


@pytest.mark.pair
def test_a_higher_priority_overtakes_waiting_messages(run, channel):
    levels = [0, 9, 3, 3, None, 5, 9, 0, 7]
    put(channel, [hello(number, priority=level) for number, level in enumerate(levels, 1)])
    done = run('ack_consumer.py', '--ack', 100, '--count', len(levels))
    shown = [
        (int(level), int(number))
        for number, level in re.findall(r'alice (\d+) .*priority (\d)', done.out)
    ]
    assert shown == sorted(
        ((level or 0, number) for number, level in enumerate(levels, 1)),
        key=lambda one: (-one[0], one[1]),
    )


def test_a_priority_does_not_overtake_delivered_messages(start, channel, broker, url):
    put(channel, [hello(number) for number in range(1, 4)])
    consumer = start('ack_consumer.py', '--lose', 100, '--prefetch', 4)
    wait_until(lambda: counts(broker, url) == (0, 3), 'three unacknowledged messages')
    put(channel, [hello(4, priority=0), hello(5, priority=9)])
    consumer.wait_for('all deliveries that --prefetch allows are unacked')
    consumer.wait_for('alice 4 ', consumer.out)
    assert counts(broker, url) == (1, 4)  # 5 waits, whatever its priority
    consumer.stop()


@pytest.mark.parametrize('kind', ['classic', 'quorum'])
def test_expiry_takes_effect_at_the_head_of_the_queue_only(run, channel, kind):
    flags = ('--rate', 100, '--queue-type', kind, '--quiet')
    assert run('ack_producer.py', '--name', 'head', '--count', 1, *flags).status == 0
    assert run('ack_producer.py', '--name', 'brief', '--count', 3, '--ttl', 0.2, *flags).status == 0
    alone = ('--name', 'alone', '--count', 1, '--ttl', 0.2, '--queue', 'alone')
    assert run('ack_producer.py', *alone, *flags).status == 0
    wait_until(
        lambda: waiting(channel, 'siamese.dead') == 1, 'the one that is the head of its queue'
    )
    assert waiting(channel, 'siamese.ack') == 4  # those behind the head are as old, and still there
    done = run('ack_consumer.py', '--ack', 100, '--idle', 5, '--queue-type', kind)
    assert done.out.count('acked\n') == 1 and 'head 1 ' in done.out
    wait_until(lambda: waiting(channel, 'siamese.dead') == 4, 'the others')
    assert waiting(channel, 'siamese.ack') == 0


def test_an_expired_message_of_high_priority_is_recognised_if_it_is_delivered(run, channel):
    # RabbitMQ looks for expired messages in the order in which they came (rabbitmq-server#1449).
    flags = ('--count', 1, '--rate', 100, '--quiet')
    assert run('ack_producer.py', '--name', 'head', *flags).status == 0
    brief = ('--name', 'brief', '--ttl', 0.1, '--priority', 9)
    assert run('ack_producer.py', *brief, *flags).status == 0
    alone = ('--name', 'alone', '--ttl', 0.1, '--queue', 'alone')
    assert run('ack_producer.py', *alone, *flags).status == 0
    wait_until(
        lambda: waiting(channel, 'siamese.dead') >= 1, 'a dead letter that was published last'
    )
    done = run('ack_consumer.py', '--ack', 100, '--idle', 5, '--json', '-')
    summary = json.loads(done.out)
    assert summary['overdue'] + waiting(channel, 'siamese.dead') == 2
    assert summary['acked'] == 1 + summary['overdue']


def test_the_audit_knows_the_expired_messages(run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    flags = ('--count', 3, '--ledger', ledger)
    for name, ttl_s in (('alice', 60), ('brief', 0.1)):
        own = ('--name', name, '--queue', name, '--rate', 100, '--ttl', ttl_s)
        assert run('ack_producer.py', *own, *flags).status == 0
    wait_until(lambda: waiting(channel, 'siamese.dead') == 3, 'dead letters')
    assert run('ack_consumer.py', '--ack', 100, '--queue', 'alice', *flags).status == 0
    status, found = judge(run, ledger)
    assert status == 0 and found['ok'] == 3
    assert [id.split('-')[0] for id in found['expired']] == ['brief'] * 3


# ---- bad input


def test_malformed_messages_are_rejected_into_the_dead_letters_and_counted(run, channel):
    put(channel, [hello(1), *MALFORMED.values(), hello(2)])
    done = run('ack_consumer.py', '--ack', 100, '--count', len(MALFORMED) + 2, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == 1 and 'Traceback' not in done.err
    assert summary['acked'] == 2 and summary['invalid'] == len(MALFORMED)
    assert summary['invalid'] == sum(summary['rejections'].values())
    assert done.err.count('invalid: ') == len(MALFORMED) and '\x1b' not in done.err
    dead = dead_letters(channel, len(MALFORMED))
    assert Counter(body for _, body in dead) == Counter(body for _, body in MALFORMED.values())
    assert {properties.headers['x-death'][0]['reason'] for properties, _ in dead} == {'rejected'}


def test_a_replay_is_rejected(run, channel):
    put(channel, [hello(1), hello(2), hello(1), hello(2, headers={'x-attempt': 2})])
    done = run('ack_consumer.py', '--ack', 100, '--count', 4, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == 1 and summary['rejections'] == {'replayed': 1} and summary['acked'] == 3
    assert [properties.message_id for properties, _ in dead_letters(channel, 1)] == [
        'alice-cafecafe-1'
    ]


def test_an_empty_queue_ends_with_status_3(run):
    done = run('ack_consumer.py', '--idle', 0.3)
    assert done.status == 3 and done.out.startswith(
        '0 delivered = 0 acked + 0 rejected + 0 unacked + 0 invalid; '
    )


@pytest.mark.parametrize(
    'flags',
    [
        ('--ack', 60),
        ('--ack', 60, '--reject', 50),
        ('--reject', 60, '--lose', 50),
        ('--ack', 101),
        ('--lose', -1),
    ],
)
def test_percentages_that_do_not_make_100_are_refused(flags):
    done = Running('ack_consumer.py', *flags).end()
    assert done.status == 2 and done.err.count('\n') == 1 and flags[0] in done.err
