"""Blocks as tests make and read them.

They have their own hash and primality test, not those of common.py.
"""

import hashlib
import json
from math import gcd

import pika
from support.messages import declare_dead

GENESIS = {'hash': '', 'proof': 100003}
GOLDEN = {
    'hash': '00004913ba4dc384985524eda948b9b66d9b43fb9be10c9be55c60a9809fe887',
    'proof': 909451,
}  # the wiki's
SMALL_PRIMES = 2 * 3 * 5 * 7  # no proof in the tests is as small


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def sha(previous, proof):
    return hashlib.sha256(
        (previous['hash'] + str(previous['proof']) + str(proof)).encode()
    ).hexdigest()


def is_next(previous, proof, zeros):
    if gcd(proof, SMALL_PRIMES) > 1:  # this spares three of four hashes
        return False
    return sha(previous, proof).startswith('0' * zeros) and is_prime(proof)


def follow(previous, zeros=1, start=100_001):
    """Return {'hash', 'proof'} of a block after `previous`, by trying one prime after the other."""
    proof = start
    while not is_next(previous, proof, zeros):
        proof += 1
    return {'hash': sha(previous, proof), 'proof': proof}


def message(producer, run, height, previous, block, attempt=None, /, **changes):
    """Return (properties, body) of a block as producer.py publishes it.

    `changes` are made in the body.
    """
    body = {
        'producer': producer,
        'run': run,
        'height': height,
        'previous': previous,
        **block,
        **changes,
    }
    return pika.BasicProperties(
        message_id=f'{producer}-{run}-{height}',
        content_type='application/json',
        headers={'x-attempt': attempt} if attempt else None,
    ), json.dumps(body).encode()


def put(channel, messages):
    """Declare the queues as the scripts do, and publish to siamese.blocks."""
    declare_dead(channel)
    channel.queue_declare(
        'siamese.blocks',
        durable=True,
        arguments={'x-dead-letter-exchange': 'siamese.dlx', 'x-queue-type': 'classic'},
    )
    for properties, body in messages:
        channel.basic_publish('', 'siamese.blocks', body, properties)


def chain(producer, length, run='cafe', zeros=1):
    """Return the messages of a chain of `length` blocks."""
    messages, previous = [], GENESIS
    for height in range(1, length + 1):
        block = follow(previous, zeros)
        messages.append(message(producer, run, height, previous, block))
        previous = block
    return messages
