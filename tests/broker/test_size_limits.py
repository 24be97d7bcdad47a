"""Frames and messages that are too large end the connection, with one line."""

import json

import pika
import pytest
from support.processes import replace_once
from support.queues import dead_letters

import common
from siamese.messaging import blocking, frames
from siamese.testbed import proxy

BODY = b'x' * 12345
HEADER = frames.CONTENT_PREFIX.pack(60, 0, len(BODY))
FRAME = frames.FRAME_PREFIX.pack(frames.FRAME_BODY, 1, len(BODY)) + b'x'
LIES = {
    'a message of 1,099,511,627,776 bytes': (
        HEADER,
        frames.CONTENT_PREFIX.pack(60, 0, 1 << 40),
    ),
    'a frame of 268,435,464 bytes; agreed were 131,072': (
        FRAME,
        frames.FRAME_PREFIX.pack(frames.FRAME_BODY, 1, 1 << 28) + b'x',
    ),
}


@pytest.mark.parametrize('words', LIES)
def test_what_is_too_large_ends_the_connection(start, url, channel, words):
    lie, told = replace_once(*LIES[words])
    with proxy.in_front_of(url, alter=lie) as between:
        script = ('ack_consumer.py', '--count', 1, '--json', '-', '--url', between.url)
        consumer = start(*script)
        consumer.wait_for('ready')
        channel.basic_publish('', 'siamese.ack', BODY, pika.BasicProperties())
        line = consumer.wait_for(f'the broker sends {words}')
        done = consumer.end()
    assert told and done.err.count(words) == 1 and line.count('\n') == 1
    assert 'Traceback' not in done.err
    assert json.loads(done.out)['connections'] == 2  # it came back, and was sent the truth
    assert [body for _, body in dead_letters(channel, 1)] == [BODY]


@pytest.mark.parametrize('words', LIES)
def test_what_is_too_large_ends_a_script_that_does_not_come_back(url, channel, words):
    queue = channel.queue_declare('', exclusive=False, auto_delete=True).method.queue
    channel.basic_publish('', queue, BODY)
    lie, told = replace_once(*LIES[words])
    with proxy.in_front_of(url, alter=lie) as between:
        endpoint = common.endpoints(between.url, 'test')[0]
        with pytest.raises(common.Failure, match=words), blocking.connected(endpoint) as connection:
            connection.channel().basic_get(queue)
    assert told


def test_headers_that_filled_a_frame_may_be_dead_lettered(start, url, channel):
    """The broker adds x-death to them, and sends a frame above its own frame_max."""
    filling = {'h': 'h' * (131_072 - 120)}
    consumer = start('ack_consumer.py', '--count', 1, '--json', '-')
    consumer.wait_for('ready')
    channel.basic_publish('', 'siamese.ack', b'x', pika.BasicProperties(headers=filling))
    done = consumer.end()
    assert json.loads(done.out)['connections'] == 1, done.err
    endpoint = common.endpoints(url, 'test')[0]
    with blocking.connected(endpoint) as connection:
        _, properties, body = connection.channel().basic_get('siamese.dead', auto_ack=True)
    assert body == b'x' and 'x-death' in properties.headers
    assert len(b''.join(properties.encode())) > 131_072
