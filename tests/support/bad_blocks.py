"""Two valid blocks, and blocks that validate.py must find invalid."""

import pika
from support.block_messages import GENESIS, GOLDEN, follow, message
from support.raw_properties import with_message_id

import common

ONE = message('alice', 'cafe', 1, GENESIS, GOLDEN)
NEXT = follow(GOLDEN, 4)
TWO = message('alice', 'cafe', 2, GOLDEN, NEXT)


def altered(**changes):
    return message('alice', 'cafe', 1, GENESIS, GOLDEN, **changes)


def with_body(body, **properties):
    return pika.BasicProperties(content_type='application/json', **properties), body


EVEN = {'hash': '', 'proof': 100003}
EVEN_BLOCK = next(
    {'hash': common.block_hash(EVEN, n), 'proof': n}
    for n in range(100_004, 10**7, 2)
    if common.block_hash(EVEN, n).startswith('0000')
)
SMALL = {'hash': common.block_hash(GENESIS, 7), 'proof': 7}
WEAK = follow(GENESIS, 3)
EMPTY = {'hash': '', 'proof': 7}
BAD = {
    'malformed JSON': (with_body(b'{"hash":'), 'not JSON in UTF-8'),
    'empty body': (with_body(b''), 'not JSON in UTF-8'),
    'not UTF-8': (with_body(ONE[1].replace(b'alice', b'al\xffce')), 'not JSON in UTF-8'),
    'UTF-16': (with_body(ONE[1].decode().encode('utf-16')), 'not JSON in UTF-8'),
    'nested too deep': (with_body(b'[' * 4000), 'not JSON in UTF-8'),
    'ten megabytes': (with_body(b' ' * 10_000_000 + ONE[1]), 'too large'),
    'no object': (with_body(b'[1, 2]'), 'field missing'),
    'a number': (with_body(b'1'), 'field missing'),
    'null': (with_body(b'null'), 'field missing'),
    'no fields': (with_body(b'{}'), 'field missing'),
    'no proof': (
        with_body(
            b'{"hash": "0", "height": 1, "previous": {"hash": "", "proof": 1}, "run": "a", '
            b'"producer": "b"}'
        ),
        'field missing',
    ),
    'previous is text': (altered(previous='x'), 'field missing'),
    'proof is text': (altered(proof='909451'), 'field of a wrong type'),
    'proof is NaN': (altered(proof=float('nan')), 'field of a wrong type'),
    'proof is a float': (altered(proof=909451.0), 'field of a wrong type'),
    'proof is true': (altered(proof=True), 'field of a wrong type'),
    'height is text': (altered(height='1'), 'field of a wrong type'),
    'producer is no text': (altered(producer=None), 'field of a wrong type'),
    'producer with a control character': (
        altered(producer='al\x1b[2Jice'),
        'field of a wrong type',
    ),
    'producer is half a character': (altered(producer='\ud800'), 'field of a wrong type'),
    'proof negative': (altered(proof=-909451), 'wrong hash'),
    'proof huge': (altered(proof=10**3000), 'wrong hash'),
    'proof is another': (altered(proof=909463), 'wrong hash'),
    'hash is another': (altered(hash='0' * 64), 'wrong hash'),
    'hash in capitals': (altered(hash=GOLDEN['hash'].upper()), 'wrong hash'),
    'hash is half a character': (altered(hash='\ud800'), 'wrong hash'),
    'proof not prime': (message('a', 'b', 1, GENESIS, EVEN_BLOCK), 'proof not prime'),
    'proof below the range': (message('a', 'b', 1, GENESIS, SMALL), 'too few zeros'),
    'too few zeros': (message('a', 'b', 1, GENESIS, WEAK), 'too few zeros'),
    'genesis again': (altered(height=2), 'message_id of another block'),
    'genesis again, no id': (with_body(altered(height=2)[1]), 'wrong parent'),
    'height zero': (with_body(altered(height=0)[1]), 'wrong parent'),
    'height below zero': (with_body(message('a', 'b', -3, GOLDEN, NEXT)[1]), 'wrong parent'),
    'parent without a hash': (message('a', 'b', 2, EMPTY, follow(EMPTY, 4)), 'wrong parent'),
    'parent without zeros': (message('a', 'b', 2, WEAK, follow(WEAK, 4)), 'wrong parent'),
    'parent is no hash': (altered(previous={'hash': '\ud800', 'proof': 100003}), 'wrong parent'),
    'first block with a parent': (message('a', 'b', 1, GOLDEN, NEXT), 'wrong parent'),
    'foreign content type': (
        (pika.BasicProperties(content_type='text/plain'), ONE[1]),
        'foreign content type',
    ),
    'no content type': ((pika.BasicProperties(), ONE[1]), 'foreign content type'),
    'message_id not UTF-8': (
        (with_message_id(b'application/json', b'\xff\xfe'), ONE[1]),
        'message_id of another block',
    ),
    "another's message_id": (
        with_body(ONE[1], message_id='bob-cafe-1'),
        'message_id of another block',
    ),
}
