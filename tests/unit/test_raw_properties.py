"""letters.py: what goes back is what came."""

import time

import pika
from support.raw_properties import undecodable

from siamese.monitoring import raw_properties as letters


def test_what_goes_back_is_byte_for_byte_what_it_was_but_for_its_death():
    class Method:
        exchange, routing_key, redelivered = 'x', 'k', False

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
    letter = letters.read(Method, letters.AsItWas(b''.join(dead.encode())), b'', time.time())
    assert (letter['queue'], letter['reason'], letter['routing_key'], letter['sender']) == (
        'q',
        'expired',
        'r',
        'a',
    )
    assert letters.back(letter, 'me').encode() == [b''.join(plain.encode())]
    plain.user_id = None
    assert letters.back(letter, 'another').encode() == [b''.join(plain.encode())]
    for properties in undecodable(b'text/plain'):
        letter = letters.read(Method, letters.AsItWas(properties.encoded), b'', time.time())
        assert (
            letter['properties']['content_type'].startswith('undecodable')
            and letter['reason'] == 'unknown'
        )
        assert letters.back(letter, 'me').encode() == [properties.encoded]
