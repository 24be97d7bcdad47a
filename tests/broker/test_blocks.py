"""Scenario 1 as a whole: producers, validators, faults in between, and the verdict of audit.py."""

import json
import signal

import pytest
from support.block_messages import GENESIS, message
from support.books import lines_in
from support.processes import wait_until
from support.queues import drain, kill_broker

from siamese.testbed import rabbitmq as broker_module


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / 'run.jsonl'


@pytest.fixture
def producers(start, ledger):
    def producers(names, count, *flags, **env):
        return [
            start(
                'producer.py',
                '--name',
                name,
                '--count',
                count,
                '--ledger',
                ledger,
                '--quiet',
                *flags,
                **env,
            )
            for name in names
        ]

    return producers


@pytest.fixture
def validators(start, ledger):
    def validators(names, *flags, **env):
        running = [
            start(
                'validate.py',
                '--name',
                name,
                '--ledger',
                ledger,
                '--quiet',
                '--json',
                '-',
                *flags,
                **env,
            )
            for name in names
        ]
        for validator in running:
            validator.wait_for('ready')
        return running

    return validators


def judge(run, ledger):
    """Return audit.py's exit status and findings."""
    done = run('audit.py', ledger, '--json', '-')
    return done.status, json.loads(done.out.splitlines()[-1])


def acked_count(ledger):
    return len(lines_in(ledger, 'acked')) if ledger.exists() else 0


def drained(run, ledger, **env):
    """Let one more validator take what is left (3: nothing was)."""
    flags = '--difficulty', 2, '--idle', 3, '--ledger', ledger, '--quiet'
    done = run('validate.py', '--name', 'last', *flags, **env)
    assert done.status in (0, 3), done.err


@pytest.mark.any_broker
@pytest.mark.pair
def test_three_producers_and_validators_lose_nothing(run, producers, validators, ledger, channel):
    checking = validators(['carol', 'dave', 'erin'])
    assert [done.end().status for done in producers(['alice', 'bob', 'bert'], 100)] == [0, 0, 0]
    wait_until(lambda: acked_count(ledger) >= 300, '300 blocks validated')
    ends = [validator.stop() for validator in checking]
    assert [end.status for end in ends] == [0, 0, 0]
    assert sum(json.loads(end.out)['valid'] for end in ends) == 300
    assert all(json.loads(end.out)['valid'] > 0 for end in ends)
    status, found = judge(run, ledger)
    assert (status, found['attempted'], found['confirmed'], found['ok']) == (0, 300, 300, 300)
    assert not any(found[name] for name in ('redelivered', 'republished', 'recovered', 'in_doubt'))
    assert found['producers'] == ['alice', 'bert', 'bob'] and found['consumers'] == [
        'carol',
        'dave',
        'erin',
    ]
    assert drain(channel, 'siamese.blocks') == drain(channel, 'siamese.dead') == []


@pytest.mark.any_broker
def test_nothing_is_lost_when_processes_and_broker_are_killed(
    throwaway, run, producers, validators, ledger
):
    easy = '--difficulty', 2  # mining is not what this is about
    with throwaway() as broker:
        env = {'AMQP_URL': broker.url}
        checking = validators(['carol', 'dave', 'erin'], *easy, **env)
        mining = producers(['alice', 'bob', 'bert'], 100, '--rate', 15, *easy, **env)
        wait_until(lambda: acked_count(ledger) > 50, '50 blocks validated')
        checking[0].process.kill()
        wait_until(lambda: acked_count(ledger) > 100, '100 blocks validated')
        kill_broker(broker)
        mining[0].process.kill()
        broker.start()
        mining[0] = producers(['alice'], 100, '--rate', 50, *easy, **env)[0]
        assert [done.end().status for done in mining] == [0, 0, 0]
        for validator in checking[1:]:
            assert validator.stop(signal.SIGTERM).status == 0
        drained(run, ledger, **env)
    status, found = judge(run, ledger)
    assert status == 0, found
    assert found['confirmed'] >= 300 and found['ok'] >= found['confirmed']
    assert not found['lost'] and not found['corrupt'] and not found['duplicated']


def test_audit_names_a_lost_a_duplicated_and_an_altered_block(run, producers, ledger, channel):
    assert producers(['alice'], 23)[0].end().status == 0
    messages = drain(channel, 'siamese.blocks')
    stolen, doubled, altered = (messages[n][0].message_id for n in (4, 11, 17))
    for properties, body in messages:
        if properties.message_id == altered:
            body = body.replace(b'"proof": ', b'"proof": 1', 1)
        for _ in range({stolen: 0, doubled: 2}.get(properties.message_id, 1)):
            channel.basic_publish('', 'siamese.blocks', body, properties)
    validator = run(
        'validate.py',
        '--count',
        23,
        '--name',
        'carol',
        '--ledger',
        ledger,
        '--json',
        '-',
        '--quiet',
    )
    assert validator.status == 1
    status, found = judge(run, ledger)
    assert status == 1
    assert (found['lost'], found['duplicated'], found['corrupt']) == (
        [stolen],
        [doubled],
        [altered],
    )
    assert found['verdict'] == 'invalid: 1 lost, 1 corrupt, 1 duplicated'
    report = run('audit.py', ledger).out
    for line in f'lost: {stolen}', f'duplicated: {doubled}', f'corrupt: {altered}':
        assert line in report


def test_audit_names_a_block_that_two_validators_acked(run, producers, ledger, channel):
    assert producers(['alice'], 5)[0].end().status == 0
    messages = drain(channel, 'siamese.blocks')
    for properties, body in [*messages, messages[2]]:
        channel.basic_publish('', 'siamese.blocks', body, properties)
    for name, number in (('carol', 5), ('dave', 1)):
        assert (
            run(
                'validate.py', '--count', number, '--name', name, '--ledger', ledger, '--quiet'
            ).status
            == 0
        )
    status, found = judge(run, ledger)
    assert status == 1 and found['duplicated'] == [messages[2][0].message_id]


def test_audit_names_a_block_that_no_producer_recorded(run, producers, ledger, channel):
    assert producers(['alice'], 3, '--difficulty', 1)[0].end().status == 0
    block = {'hash': '00ff', 'proof': 7}
    properties, body = message('mallory', 'beef', 1, GENESIS, block)
    channel.basic_publish('', 'siamese.blocks', body, properties)
    done = run(
        'validate.py',
        '--difficulty',
        1,
        '--count',
        4,
        '--name',
        'carol',
        '--ledger',
        ledger,
        '--quiet',
    )
    assert done.status == 1
    status, found = judge(run, ledger)
    assert status == 1 and found['unexpected'] == ['mallory-beef-1'] and found['ok'] == 3


def test_validators_and_producers_may_start_before_the_broker(run, start, ledger):
    with broker_module.throwaway(started=False) as broker:
        env = {'AMQP_URL': broker.url}
        scripts = [
            start('validate.py', '--name', 'carol', '--count', 46, '--ledger', ledger, **env),
            *(
                start('producer.py', '--name', name, '--count', 23, '--ledger', ledger, **env)
                for name in ('alice', 'bob')
            ),
        ]
        for waiting in scripts:
            waiting.wait_for('broker unreachable')
        broker.start()
        ends = [waiting.end() for waiting in scripts]
    assert [end.status for end in ends] == [0, 0, 0], [end.err for end in ends]
    assert judge(run, ledger)[0] == 0
