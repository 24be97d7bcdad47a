"""producer.py on a real broker.

What it publishes, how it ends, what it does when nothing can be found.
"""

import json
import signal
import time

import pytest
from support.block_messages import GENESIS, is_prime, put, sha
from support.processes import wait_until
from support.queues import drain


def test_an_independent_reader_finds_a_chain_of_proven_blocks(run, channel):
    done = run('producer.py', '--name', 'älice', '--count', 23, '--json', '-', '--quiet')
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary['published'] == summary['confirmed'] == 23
    assert summary['republished'] == 0 and summary['stopped'] == 'count reached'
    messages = drain(channel, 'siamese.blocks')
    previous = GENESIS
    for height, (properties, body) in enumerate(messages, 1):
        block = json.loads(body.decode('utf-8'))
        assert (
            block['previous'] == previous
            and block['height'] == height
            and block['producer'] == 'älice'
        )
        assert block['hash'] == sha(previous, block['proof']) and block['hash'].startswith('0000')
        assert is_prime(block['proof']) and 100_000 < block['proof'] < 25_000_000
        assert properties.delivery_mode == 2 and properties.content_type == 'application/json'
        assert (
            properties.message_id == f'älice-{summary["run"]}-{height}'
            and properties.headers is None
        )
        previous = {'hash': block['hash'], 'proof': block['proof']}
    assert len(messages) == 23


def test_it_prints_one_line_per_block_and_a_summary(run):
    done = run('producer.py', '--name', 'alice', '--count', 2, '--difficulty', 2)
    lines = done.out.splitlines()
    assert [line.split('  ')[0] for line in lines[:2]] == ['alice 1 of 2', 'alice 2 of 2']
    assert lines[2].startswith('2 blocks mined, 2 confirmed, 0 republished;') and len(lines) == 3
    assert 'ready: RabbitMQ' in done.err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_it_finish_the_block_in_hand(start, channel, number):
    producer = start('producer.py', '--name', 'alice', '--json', '-', '--quiet')
    producer.wait_for('ready')
    wait_until(
        lambda: channel.queue_declare('siamese.blocks', passive=True).method.message_count >= 2,
        'two blocks',
    )
    done = producer.stop(number)
    summary = json.loads(done.out)
    assert done.status == 0 and summary['stopped'] == number.name, done.err
    assert summary['published'] == summary['confirmed'] == len(drain(channel, 'siamese.blocks'))


def test_a_second_signal_ends_it_at_once(start):
    producer = start('producer.py', '--difficulty', 14, '--max', 10**12)
    producer.wait_for('ready')
    producer.send(signal.SIGINT)
    producer.wait_for('SIGINT: finishing the work in hand')
    done = producer.stop()
    assert done.status == 130
    assert done.out.startswith('0 blocks mined') and 'interrupted twice' in done.out
    assert 'Traceback' not in done.err


def test_mining_never_starves_the_heartbeat(start, url, broker):
    # With a heartbeat of 2 s RabbitMQ drops a client that was silent for 4 to 6 s.
    producer = start(
        'producer.py',
        '--name',
        'miner',
        '--difficulty',
        14,
        '--max',
        10**12,
        '--url',
        f'{url}?heartbeat=2',
    )
    producer.wait_for('ready')
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 12, 'twelve seconds')
    assert 'gone' not in ''.join(producer.err)
    assert 'miner' in broker.ctl('list_connections', 'client_properties')


def test_a_range_without_solution_ends_with_a_remedy(run):
    done = run('producer.py', '--min', 1000, '--max', 3000, '--count', 5)
    assert done.status == 2
    assert 'none of the 262 primes between 1000 and 3000' in done.err and 'use --max' in done.err
    assert 'Traceback' not in done.err and done.out.startswith('0 blocks mined')


def test_blocks_mined_before_the_range_failed_are_confirmed(run, channel):
    put(channel, [])
    done = run(
        'producer.py',
        '--difficulty',
        2,
        '--min',
        100_000,
        '--max',
        110_000,
        '--json',
        '-',
        '--quiet',
    )
    summary = json.loads(done.out)
    assert done.status == 2 and summary['published'] == summary['confirmed'] == len(
        drain(channel, 'siamese.blocks')
    )


def test_a_rate_is_kept(run):
    done = run(
        'producer.py', '--count', 20, '--difficulty', 1, '--rate', 10, '--json', '-', '--quiet'
    )
    assert (
        json.loads(done.out)['duration_s'] >= 1.9
    )  # 20 blocks at 10 a second; how much later depends on the machine


def test_a_duration_ends_the_run(run):
    summary = json.loads(
        run('producer.py', '--duration', 5, '--difficulty', 2, '--json', '-', '--quiet').out
    )
    assert (
        summary['stopped'] == 'duration over' and summary['published'] == summary['confirmed'] > 0
    )


def test_a_duration_ends_a_search_that_finds_nothing(run):
    done = run('producer.py', '--duration', 1, '--difficulty', 14, '--max', 10**12, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == 0 and summary['stopped'] == 'duration over' and summary['published'] == 0


def test_it_gives_up_without_a_broker_when_told_so(run):
    flags = '--url', 'amqp://127.0.0.1:1', '--give-up-after', 5
    done = run('producer.py', '--difficulty', 1, '--count', 3, *flags)
    assert done.status == 3
    assert 'broker unreachable at 127.0.0.1:1/%2F (Connection refused), retrying' in done.err
    assert '3 not confirmed' in done.err and 'Traceback' not in done.err


@pytest.mark.pair
def test_blocks_go_to_a_quorum_queue(run, channel):
    assert (
        run('producer.py', '--count', 3, '--queue', 'q', '--queue-type', 'quorum', '--quiet').status
        == 0
    )
    assert len(drain(channel, 'q')) == 3
    done = run('producer.py', '--count', 3, '--queue', 'q', '--quiet')
    assert done.status == 3 and "queue 'q' exists with other properties" in done.err
