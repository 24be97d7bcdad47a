"""raw_properties.py: a dead letter is requeued exactly as it was."""

import time
from types import SimpleNamespace

import pika
from support.raw_properties import undecodable

from siamese.messaging import raw_fields
from siamese.monitoring import raw_properties


def delivery(encoded):
    """Return a delivery whose properties are these bytes."""
    return SimpleNamespace(
        method=SimpleNamespace(exchange='x', routing_key='k', redelivered=False, delivery_tag=1),
        properties=raw_fields.RawProperties(encoded),
        body=b'',
    )


def test_a_dead_letter_is_requeued_byte_for_byte_without_what_dead_lettering_added():
    headers = {'a': 1, 'text': 'ü'}
    death = {
        'x-death': [
            {'queue': 'q', 'reason': 'expired', 'count': 1, 'exchange': '', 'routing-keys': ['r']}
        ],
        'x-first-death-queue': 'q',
        'CC': ['c'],
    }
    plain = pika.BasicProperties(
        content_type='t', headers=headers, priority=3, message_id='m', user_id='me', app_id='a'
    )
    dead = pika.BasicProperties(**{**vars(plain), 'headers': {**headers, **death}})
    letter = raw_properties.parse(delivery(b''.join(dead.encode())), time.time())
    assert (letter['queue'], letter['reason'], letter['routing_key'], letter['sender']) == (
        'q',
        'expired',
        'r',
        'a',
    )
    assert raw_properties.original_properties(letter['encoded'], 'me').encode() == [
        b''.join(plain.encode())
    ]
    plain.user_id = None
    assert raw_properties.original_properties(letter['encoded'], 'another').encode() == [
        b''.join(plain.encode())
    ]
    for properties in undecodable(b'text/plain'):
        letter = raw_properties.parse(delivery(properties.encoded), time.time())
        assert letter['properties']['content_type'].startswith('undecodable')
        assert letter['reason'] == 'unknown'
        assert raw_properties.original_properties(letter['encoded'], 'me').encode() == [
            properties.encoded
        ]
