"""Malformed messages: each consumer rejects and names them, and lives on."""

import json

import pytest
from support.processes import wait_until
from support.queues import waiting
from support.raw_properties import undecodable, with_message_id

CONSUMERS = {  # script: (its queue, a content type it takes)
    'validate.py': ('siamese.blocks', b'application/json'),
    'perf_consumer.py': ('siamese.perf', b'application/json; charset=utf-8'),
    'ack_consumer.py': ('siamese.ack', b'text/plain'),
    'fanout_consumer.py': ('bert', b'text/plain'),
    'rpc_server.py': ('siamese.rpc', b'application/json'),
}


@pytest.mark.parametrize('name', CONSUMERS)
@pytest.mark.parametrize('size', [10, 300_000])  # in one frame, and in several
def test_properties_that_cannot_be_decoded(start, channel, name, size):
    queue, content_type = CONSUMERS[name]
    place = ['bert'] if queue == 'bert' else []
    consumer = start(name, *place, '--count', 3, '--json', '-')
    consumer.wait_for('ready')
    for properties in (*undecodable(content_type), with_message_id(content_type, b'\xff\xfe')):
        channel.basic_publish('', queue, b'x' * size, properties)
    done = consumer.end()
    summary = json.loads(done.out)
    assert (
        done.status == 1
        and summary['connections'] == 1
        and sum(summary['rejections'].values()) == 3
    )
    assert done.err.count('undecodable: ') == 2 and 'Traceback' not in done.err
    wait_until(lambda: waiting(channel, 'siamese.dead') == 3, 'dead letters')
