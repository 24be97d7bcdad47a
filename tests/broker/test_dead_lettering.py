"""What RabbitMQ 3.10 cannot dead-letter arrives all the same, and its queue lives on."""

import json
import struct

import pika
import pytest
from support.processes import wait_until

from siamese.messaging import raw_fields
from siamese.messaging.dead_lettering import crashes_broker, harmless
from siamese.messaging.properties import Properties

COUNT = 12  # so many rejected ones kill a classic queue


def text(value):
    return b'S' + struct.pack('>L', len(value)) + value


def array(*values):
    block = b''.join(values)
    return b'A' + struct.pack('>L', len(block)) + block


def table(**values):
    block = b''.join(bytes([len(name)]) + name.encode() + value for name, value in values.items())
    return b'F' + struct.pack('>L', len(block)) + block


NUMBER = b'I' + struct.pack('>i', 5)
LONG = b'l' + struct.pack('>q', 3)
DEATH = table(queue=text(b'siamese.ack'), reason=text(b'rejected'), count=LONG)
WRONG_COUNT = table(queue=text(b'siamese.ack'), reason=text(b'rejected'), count=text(b'x'))
FATAL = {
    'numbers': array(NUMBER),
    'texts': array(text(b'a')),
    'arrays': array(array()),
    'a count that is text': array(WRONG_COUNT),
    'a number after a table': array(DEATH, NUMBER),
}
HARMLESS = {
    'none': None,
    'text': text(b'a'),
    'a number': NUMBER,
    'a table': table(a=NUMBER),
    'an empty array': array(),
    'tables': array(DEATH, table(), table(count=NUMBER)),
}


class Raw(pika.BasicProperties):
    """Properties with the header x-death and others, sent as these bytes."""

    def __init__(self, x_death, **more):
        super().__init__(**more)
        fields = raw_fields.fields(b''.join(super().encode()))
        block = b'\x01aS\0\0\0\x01b'
        if x_death is not None:
            block += b'\x07x-death' + x_death
        fields[raw_fields.HEADERS] = struct.pack('>L', len(block)) + block
        self.encoded = raw_fields.packed(fields)

    def encode(self):
        return [self.encoded]


@pytest.mark.parametrize('kind', FATAL)
def test_what_crashes_the_broker_is_known_by_its_bytes(kind):
    properties = Raw(FATAL[kind], app_id='app', user_id='somebody', expiration='5', priority=3)
    assert crashes_broker(properties)
    changed = Properties(harmless(properties.encoded))
    assert not crashes_broker(changed)
    assert changed.headers['a'] == 'b' and 'x-death' not in changed.headers
    assert 'x-death-as-published' in changed.headers
    assert (changed.app_id, changed.priority) == ('app', 3)
    assert changed.user_id is changed.expiration is None


@pytest.mark.parametrize('kind', HARMLESS)
def test_all_else_is_left_to_the_broker(kind):
    assert not crashes_broker(Raw(HARMLESS[kind]))


def test_any_bytes_can_be_looked_at():
    for encoded in b'', b'x-death', b'\x20\0\0\0\0\x09\x07x-death', b'\xff\xffx-deathA\0\0\0\xff':
        assert not crashes_broker(Properties(encoded))


@pytest.mark.pair
@pytest.mark.parametrize('queue_type', ['classic', 'quorum'])
def test_rejecting_it_loses_nothing_and_leaves_the_queue_alive(start, channel, queue_type):
    words = ('--queue-type', queue_type, '--prefetch', 5, '--json', '-')
    consumer = start('ack_consumer.py', *words, '--count', COUNT + 1)
    consumer.wait_for('ready')
    channel.confirm_delivery()
    for number in range(COUNT):
        x_death = list(FATAL.values())[number % len(FATAL)]
        channel.basic_publish('', 'siamese.ack', b'%d' % number, Raw(x_death, delivery_mode=2))
    channel.basic_publish('', 'siamese.ack', b'last', Raw(None))
    done = consumer.end()
    summary = json.loads(done.out)
    assert done.status == 1 and 'Traceback' not in done.err, done.err
    assert summary['connections'] == 1 and sum(summary['rejections'].values()) == COUNT + 1
    letters = [wait_until(lambda: dead_letter(channel), 'a dead letter') for _ in range(COUNT + 1)]
    assert sorted(body for body, _ in letters) == sorted(
        [*(b'%d' % number for number in range(COUNT)), b'last']
    )
    renamed = [headers for _, headers in letters if 'x-death-as-published' in headers]
    assert len(renamed) == COUNT and not any('x-death' in headers for headers in renamed)
    # Nothing is left in the queue, and it lives.
    assert channel.queue_declare('siamese.ack', passive=True).method.message_count == 0


def dead_letter(channel):
    method, properties, body = channel.basic_get('siamese.dead', auto_ack=True)
    return method and (body, properties.headers)


@pytest.mark.pair
def test_what_no_dead_letter_queue_takes_stays_where_it_is(start, channel):
    consumer = start('ack_consumer.py', '--count', 1)
    consumer.wait_for('ready')
    channel.queue_unbind('siamese.dead', 'siamese.dlx')
    channel.basic_publish('', 'siamese.ack', b'x', Raw(FATAL['numbers'], delivery_mode=2))
    done = consumer.end()
    assert done.status == 1  # an invalid message is a failed check, whatever ends the run
    assert 'no queue takes it; the message is still in its queue' in done.err
    assert 'Traceback' not in done.err

    def waits():
        return channel.queue_declare('siamese.ack', passive=True).method.message_count == 1

    wait_until(waits, 'the message in its queue')
