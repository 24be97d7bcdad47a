"""ack_producer.py on a real broker: what it publishes, with priorities and times to live."""

import json
import re
import time

import pytest
from support.processes import Running
from support.queues import dead_letters, drain

from siamese import flags


def test_an_independent_reader_finds_every_message(run, channel):
    before = time.time()
    flags = ('--name', 'älice-2', '--count', 23, '--rate', 1000)
    done = run('ack_producer.py', *flags, '--json', '-', '--quiet')
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary['published'] == summary['confirmed'] == 23 and summary['republished'] == 0
    messages = drain(channel, 'siamese.ack')
    for number, (properties, body) in enumerate(messages, 1):
        assert body == b'Hello world' and properties.content_type == 'text/plain'
        assert properties.message_id == f'älice-2-{summary["run"]}-{number}'
        assert properties.app_id == 'älice-2'
        assert properties.delivery_mode == 2
        assert properties.expiration is None
        assert properties.priority == 0
        assert before - 1 < properties.headers['x-sent-ms'] / 1000 < time.time() + 1
    assert len(messages) == 23


def test_one_line_per_message_and_a_summary(run):
    done = run('ack_producer.py', '--name', 'alice', '--count', 2, '--rate', 100, '--priority', 7)
    assert done.out.startswith(
        'alice 1 of 2  Hello world  priority 7\nalice 2 of 2  Hello world  priority 7\n'
        '2 published, 2 confirmed, 0 republished; '
    )


def test_it_publishes_one_every_second(run):
    summary = json.loads(run('ack_producer.py', '--count', 3, '--json', '-', '--quiet').out)
    assert summary['duration_s'] >= 2


def test_random_priorities_are_those_shown(run, channel):
    done = run('ack_producer.py', '--count', 60, '--rate', 1000, '--priority', 'random')
    shown = re.findall(r'(\d+) of 60 .* priority (\d+)', done.out)
    levels = {
        int(properties.message_id.rpartition('-')[2]): properties.priority
        for properties, _ in drain(channel, 'siamese.ack')
    }
    assert {int(number): int(level) for number, level in shown} == levels
    assert len(set(levels.values())) > 3 and set(levels.values()) <= set(range(10))


def test_a_time_to_live_ends_in_the_dead_letters(run, channel):
    assert run('ack_producer.py', '--count', 3, '--rate', 100, '--ttl', 0.2, '--quiet').status == 0
    deaths = [properties.headers['x-death'][0] for properties, _ in dead_letters(channel, 3)]
    assert {
        (death['reason'], death['queue'], death['original-expiration']) for death in deaths
    } == {('expired', 'siamese.ack', '200')}


def test_the_longest_time_to_live_is_taken(run, channel):
    assert run('ack_producer.py', '--count', 1, '--ttl', flags.LONGEST_TTL_S).status == 0
    assert [properties.expiration for properties, _ in drain(channel, 'siamese.ack')] == [
        '315360000000'
    ]


@pytest.mark.parametrize(
    'flags',
    [
        ('--priority', 10),
        ('--priority', 'high'),
        ('--priority', -1),
        ('--ttl', 0),
        ('--ttl', 'x'),
        ('--ttl', 'inf'),
        ('--ttl', flags.LONGEST_TTL_S + 1),
        ('--rate', 0),
    ],
)
def test_bad_flags_are_reported_in_one_line(flags):
    done = Running('ack_producer.py', *flags).end()
    assert done.status == 2 and done.err.count('\n') == 1 and flags[0] in done.err


def test_a_quorum_queue_takes_the_messages(run, channel):
    flags = ('--count', 3, '--rate', 100, '--queue-type', 'quorum')
    assert run('ack_producer.py', *flags, '--quiet').status == 0
    assert len(drain(channel, 'siamese.ack')) == 3
