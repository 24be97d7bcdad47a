"""fanout_producer.py on a real broker: what it publishes, and that it counts what is unroutable."""

import json

import pytest
from support.processes import Running, wait_until
from support.queues import drain, judge


@pytest.fixture
def bind(channel):
    """A function that binds a queue of the test's own to the exchange."""

    def bind(queue='mine'):
        channel.exchange_declare('siamese.fanout', 'fanout', durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, 'siamese.fanout')

    return bind


def test_every_queue_gets_every_message(run, channel, bind):
    bind('one')
    bind('other')
    flags = ('--name', 'alice', '--count', 23, '--rate', 1000)
    done = run('fanout_producer.py', *flags, '--json', '-', '--quiet')
    summary = json.loads(done.out)
    assert done.status == 0 and summary['unroutable'] == 0
    assert summary['published'] == summary['confirmed'] == 23
    for queue in 'one', 'other':
        messages = drain(channel, queue)
        assert [properties.message_id for properties, _ in messages] == [
            f'alice-{summary["run"]}-{number}' for number in range(1, 24)
        ]
        assert {
            (body, properties.expiration, properties.delivery_mode, properties.content_type)
            for properties, body in messages
        } == {(b'Hello world', '10000', 2, 'text/plain')}


def test_unroutable_messages_are_counted_and_not_republished(run, channel):
    done = run('fanout_producer.py', '--name', 'alice', '--count', 23, '--rate', 1000)
    assert done.status == 3 and done.err.count('no queue is bound to siamese.fanout') == 1
    assert done.out.splitlines()[-1].startswith(
        '23 published, 0 confirmed, 23 unroutable, 0 republished; '
    )
    assert done.out.startswith('alice 1 of 23  Hello world\n')


def test_it_warns_when_no_queue_is_bound_any_more(start, channel, bind):
    producer = start('fanout_producer.py', '--rate', 20, '--json', '-', '--quiet')
    producer.wait_for('no queue is bound')
    bind()
    wait_until(
        lambda: channel.queue_declare('mine', passive=True).method.message_count, 'a message'
    )
    channel.queue_delete('mine')
    wait_until(
        lambda: ''.join(producer.err).count('no queue is bound to siamese.fanout') == 2,
        'the second warning',
    )
    summary = json.loads(producer.stop().out)
    assert summary['exit_status'] == 3 and summary['unroutable'] >= 2
    assert summary['confirmed'] + summary['unroutable'] == summary['published']
    assert summary['confirmed'] >= 1


def test_the_ledger_and_the_audit_know_the_returned_messages(run, tmp_path, bind, channel):
    ledger = tmp_path / 'run.jsonl'
    assert run('fanout_producer.py', '--count', 3, '--rate', 100, '--ledger', ledger).status == 3
    assert run('fanout_consumer.py', 'mine', '--duration', 0.3, '--ledger', ledger).status == 3
    assert run('fanout_producer.py', '--count', 2, '--rate', 100, '--ledger', ledger).status == 0
    assert run('fanout_consumer.py', 'mine', '--count', 2, '--ledger', ledger).status == 0
    status, found = judge(run, ledger)
    assert status == 0 and len(found['returned']) == 3 and found['ok'] == found['confirmed'] == 2


@pytest.mark.parametrize(
    'flags', [('--ttl', 0), ('--ttl', 'x'), ('--queue', 'x'), ('--exchange', '')]
)
def test_bad_flags_are_reported_in_one_line(flags):
    done = Running('fanout_producer.py', *flags).end()
    assert done.status == 2 and done.err.count('\n') == 1 and flags[0] in done.err
