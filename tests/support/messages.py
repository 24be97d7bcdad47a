"""'Hello world' as tests publish it, without the code of the scripts, and malformed messages.

No consumer may stumble over the malformed ones.
"""

import datetime
import time
from decimal import Decimal

import pika
from support.raw_properties import with_message_id

DEAD_LETTERS = {'x-dead-letter-exchange': 'siamese.dlx'}
TYPES = {'classic': {'x-max-priority': 9}, 'quorum': {'x-delivery-limit': 20}}
NESTED = b'[' * 100_000
ODD_HEADERS = {
    'x-sent-ms': 'then',
    'x-attempt': [1, None, {'a': b'\xff'}],
    'when': datetime.datetime(2020, 1, 1),
    'price': Decimal('1.5'),
    'yes': True,
    'nothing': None,
}
MALFORMED = {  # name: (properties, body); what a stranger may send to any queue
    'empty': (pika.BasicProperties(), b''),
    'empty, with a type': (pika.BasicProperties(content_type='text/plain'), b''),
    'not UTF-8': (pika.BasicProperties(content_type='text/plain'), b'Hello \xff\xfe world'),
    'UTF-16': (pika.BasicProperties(content_type='text/plain'), 'Hello world'.encode('utf-16')),
    'ten megabytes': (pika.BasicProperties(content_type='text/plain'), b'Hello world' * 900_000),
    'nested too deep': (pika.BasicProperties(content_type='application/json'), NESTED),
    'null': (pika.BasicProperties(content_type='application/json'), b'null'),
    'an object': (pika.BasicProperties(content_type='application/json'), b'{"hash": 1}'),
    'foreign content type': (
        pika.BasicProperties(content_type='image/png', message_id='mallory-cafecafe-1'),
        b'\x89PNG',
    ),
    'odd headers': (
        pika.BasicProperties(
            content_type='text/plain', message_id='mallory-cafecafe-2', headers=ODD_HEADERS
        ),
        b'Hello world',
    ),
    'no headers': (
        pika.BasicProperties(content_type='text/plain', message_id='mallory-cafecafe-3'),
        b'Hello world',
    ),
    'control characters': (
        pika.BasicProperties(
            content_type='text/plain', message_id='\x1b[2J-cafecafe-4', headers={'x-sent-ms': 1}
        ),
        b'Hello world',
    ),
    'message_id not UTF-8': (
        with_message_id(b'text/plain', b'mallory-cafecafe-\xff'),
        b'Hello world',
    ),
    'every property': (
        pika.BasicProperties(
            '\x00',
            '\x1b',
            {'x': 'y' * 10_000},
            1,
            255,
            'ü' * 100,
            'none',
            '60000',
            '€' * 80,
            2**40,
            'type',
            'guest',
            'app',
            'cluster',
        ),
        b'\x00' * 1000,
    ),
}

RPC_QUEUE = {  # the arguments with which rpc_server.py declares its queue
    'x-dead-letter-exchange': 'siamese.dlx',
    'x-queue-type': 'classic',
    'x-expires': 60_000,
}


def hello(number, headers=(), **properties):
    """Return (properties, body) of a message as the producers of scenarios 3 and 4 send it."""
    return pika.BasicProperties(
        message_id=f'alice-cafecafe-{number}',
        content_type='text/plain',
        delivery_mode=2,
        headers={'x-sent-ms': int(time.time() * 1000), **dict(headers)},
        **properties,
    ), b'Hello world'


def declare_dead(channel):
    channel.exchange_declare('siamese.dlx', 'fanout', durable=True)
    arguments = {'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000_000}
    channel.queue_declare('siamese.dead', durable=True, arguments=arguments)
    channel.queue_bind('siamese.dead', 'siamese.dlx')


def put(channel, messages, kind='classic'):
    """Declare the queue siamese.ack as the scripts do, and publish to it."""
    declare_dead(channel)
    channel.queue_declare(
        'siamese.ack', durable=True, arguments={**DEAD_LETTERS, 'x-queue-type': kind, **TYPES[kind]}
    )
    for properties, body in messages:
        channel.basic_publish('', 'siamese.ack', body, properties)
