"""validate.py: every check by itself, then the script on a real broker with good, bad and repeated blocks."""

import contextlib
import datetime
import json
import signal
from collections import Counter, OrderedDict
from decimal import Decimal

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.block_messages import GENESIS, GOLDEN, chain, follow, message, put
from support.processes import wait_until
from support.queues import drain
from support.raw_properties import undecodable, with_message_id

import validate
from siamese import verdict as audit
from siamese.messaging import framing as wire
from siamese.testbed import rabbitmq as broker_module

ONE = message('alice', 'cafe', 1, GENESIS, GOLDEN)
NEXT = follow(GOLDEN, 4)
TWO = message('alice', 'cafe', 2, GOLDEN, NEXT)


def judge(properties, body, known=None, attempt=1, epoch=1, zeros=4, may_repeat=False):
    """Return what validate.py says of one message."""
    try:
        block = validate.parse_block(properties, body)
        validate.check_alone(block, zeros, 100_000, 25_000_009)
        return validate.check_chain(
            block, OrderedDict() if known is None else known, attempt, epoch, may_repeat
        )
    except validate.Invalid as invalid:
        return invalid.args[0]


def altered(**changes):
    return message('alice', 'cafe', 1, GENESIS, GOLDEN, **changes)


def with_body(body, **properties):
    return pika.BasicProperties(content_type='application/json', **properties), body


EVEN = {'hash': '', 'proof': 100003}
EVEN_BLOCK = next(
    {'hash': validate.common.block_hash(EVEN, n), 'proof': n}
    for n in range(100_004, 10**7, 2)
    if validate.common.block_hash(EVEN, n).startswith('0000')
)
SMALL = {'hash': validate.common.block_hash(GENESIS, 7), 'proof': 7}
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


def test_the_wikis_block_is_valid():
    assert judge(*ONE) == 'valid' and judge(*TWO) == 'valid'
    assert judge(*with_body(ONE[1])) == 'valid'  # a producer that sets no message_id


@pytest.mark.parametrize('case', BAD)
def test_bad_blocks(case):
    (properties, body), reason = BAD[case]
    assert judge(wire.Properties(b''.join(properties.encode())), body) == reason


def test_the_range_is_that_of_the_next_prime():
    last = validate.common.next_prime(25_000_000)
    for proof, verdict in (
        (100_000, 'proof out of range'),
        (100_003, 'valid'),
        (last, 'valid'),
        (last + 2, 'proof out of range'),
    ):
        block = {'hash': validate.common.block_hash(GENESIS, proof), 'proof': proof}
        properties, body = message('a', 'b', 1, GENESIS, block)
        try:
            validate.check_alone(validate.parse_block(properties, body), 0, 100_000, last)
        except validate.Invalid as invalid:
            assert invalid.args[0] == verdict
        else:
            assert verdict == 'valid'


def test_parent_and_child_must_be_those_known():
    other, third = follow(GENESIS, 4, 910_000), follow(NEXT, 4)
    forged = message('alice', 'cafe', 2, other, follow(other, 4))
    assert other != GOLDEN
    known = OrderedDict()
    assert judge(*ONE, known) == 'valid'
    assert judge(*forged, known) == 'wrong parent'
    assert (
        judge(*message('alice', 'beef', 2, other, follow(other, 4)), known) == 'valid'
    )  # another chain
    assert judge(*message('alice', 'cafe', 1, GENESIS, other), known) == 'second block at a height'
    assert (
        judge(*message('alice', 'cafe', 3, NEXT, third), known) == 'valid'
    )  # block 2 went to another validator
    assert judge(*TWO, known) == 'valid'  # ... and came back
    known = OrderedDict()
    assert judge(*message('alice', 'cafe', 3, NEXT, third), known) == 'valid'
    assert judge(*forged, known) == 'second block at a height'  # block 3 told who its parent is


@pytest.mark.parametrize(
    ('attempt', 'epoch', 'verdict'),
    [(1, 1, 'replayed'), (2, 1, 'republished'), (1, 2, 'redelivered'), (2, 2, 'republished')],
)
def test_copies(attempt, epoch, verdict):
    known = OrderedDict()
    assert judge(*ONE, known, attempt=1, epoch=1) == 'valid'
    assert judge(*ONE, known, attempt=attempt, epoch=epoch) == verdict


@pytest.mark.parametrize(
    ('kind', 'redelivered', 'verdict'),
    [('quorum', True, 'redelivered'), ('quorum', False, 'replayed'), ('classic', True, 'replayed')],
)
def test_a_copy_of_what_was_acknowledged(kind, redelivered, verdict):
    known = OrderedDict()
    may_repeat = redelivered and kind == 'quorum'
    assert judge(*ONE, known) == 'valid'
    assert judge(*ONE, known, may_repeat=may_repeat) == verdict


def test_what_it_remembers_is_bounded(monkeypatch):
    monkeypatch.setattr(validate, 'REMEMBERED', 10)
    known, messages = OrderedDict(), chain('alice', 30)
    assert [judge(*one, known, zeros=1) for one in messages] == ['valid'] * 30
    assert len(known) == 10
    assert judge(*messages[-1], known, zeros=1) == 'replayed'


# --------------------------------------------------------------------------------------- on a real broker


def test_the_wikis_block_through_the_script(run, channel):
    put(channel, [ONE, TWO])
    done = run('validate.py', '--count', 2)
    assert done.status == 0, done.err
    assert done.out.splitlines()[:2] == [
        '1 of 2  alice 1  00004913ba4dc384…  valid',
        f'2 of 2  alice 2  {NEXT["hash"][:16]}…  valid',
    ]


def test_every_bad_block_is_rejected_into_the_dead_letters_and_counted(run, channel):
    bad = [message for message, _ in BAD.values()]
    put(channel, [ONE, *bad, TWO])
    done = run('validate.py', '--count', len(bad) + 2, '--json', '-', '--quiet')
    assert done.status == 1 and 'Traceback' not in done.err
    summary = json.loads(done.out)
    assert summary['valid'] == 2 and summary['invalid'] == len(bad)
    assert summary['reasons'] == Counter(reason for _, reason in BAD.values())
    assert done.err.count('invalid: ') == len(bad)
    dead = drain(channel, 'siamese.dead')
    assert Counter(body for _, body in dead) == Counter(body for _, body in bad)
    assert {properties.headers['x-death'][0]['reason'] for properties, _ in dead} == {'rejected'}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=70)
    | st.integers(10**20, 10**300)
    | st.sampled_from(['\ud800', '', GOLDEN['hash'], 909451, 1, 2]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(['hash', 'proof', 'height', 'previous', 'x']), inner, max_size=4
        )
    ),
    max_leaves=5,
)
FIELDS = ('hash', 'proof', 'height', 'previous', 'producer', 'run')


@st.composite
def bad_messages(draw):
    """A message that is no valid block, from noise to a block with one field that is wrong."""
    properties, body = ONE
    kind = draw(st.sampled_from(['noise', 'json', 'field', 'missing', 'properties', 'byte']))
    block = json.loads(body)
    if kind == 'noise':
        return with_body(draw(st.binary(max_size=300)))
    if kind == 'json':
        return with_body(json.dumps(draw(JSON)).encode())
    if kind == 'byte':
        place = draw(st.integers(0, len(body) - 1))
        byte = draw(
            st.integers(0, 255).filter(
                lambda byte: (
                    byte != body[place]
                    and (bytes([byte]).strip() or body[place : place + 1].strip())
                )
            )
        )
        return properties, body[:place] + bytes([byte]) + body[place + 1 :]
    if kind == 'properties':
        headers = {
            'x-attempt': 'x',
            'list': [1, None, {'a': b'b'}],
            'when': datetime.datetime(2020, 1, 1),
            'd': Decimal('1.5'),
        }
        return pika.BasicProperties(
            content_type=draw(st.text('abc/', max_size=9)),
            headers=draw(st.none() | st.just(headers)),
        ), body
    field = draw(st.sampled_from(FIELDS))
    if kind == 'missing':
        del block[field]
    else:
        wrong = draw(
            JSON.filter(
                lambda value: value != block[field] or type(value) is not type(block[field])
            )
        )
        block[field] = wrong
    return properties, json.dumps(block).encode()


def test_ten_thousand_bad_messages(run, channel):
    bad = []

    @settings(
        max_examples=10_000, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(bad_messages())
    def generate(one):
        bad.append(one)

    generate()
    assert len(bad) >= 10_000
    put(channel, bad)
    done = run('validate.py', '--count', len(bad), '--json', '-', '--quiet')
    assert done.status == 1 and 'Traceback' not in done.err
    summary = json.loads(done.out)
    assert summary['valid'] == summary['redelivered'] == summary['republished'] == 0
    assert sum(summary['reasons'].values()) == summary['invalid'] == len(bad)
    assert len(summary['reasons']) >= 6
    assert Counter(body for _, body in drain(channel, 'siamese.dead')) == Counter(
        body for _, body in bad
    )
    assert channel.queue_declare('siamese.blocks', passive=True).method.message_count == 0


def test_a_replayed_block_is_refused(run, channel):
    messages = chain('alice', 3)
    put(channel, [*messages, messages[1]])
    done = run('validate.py', '--difficulty', 1, '--count', 4, '--json', '-', '--quiet')
    assert done.status == 1 and json.loads(done.out)['reasons'] == {'replayed': 1}
    assert [body for _, body in drain(channel, 'siamese.dead')] == [messages[1][1]]


def test_a_second_attempt_is_accepted_and_counted(run, channel):
    put(channel, [message('alice', 'cafe', 1, GENESIS, GOLDEN, attempt) for attempt in (1, 2)])
    done = run('validate.py', '--count', 2, '--json', '-', '--quiet')
    assert done.status == 0 and (
        json.loads(done.out)['valid'],
        json.loads(done.out)['republished'],
    ) == (1, 1)


def test_the_first_attempt_again_after_the_second_is_a_replay(run, channel):
    put(channel, [message('alice', 'cafe', 1, GENESIS, GOLDEN, attempt) for attempt in (1, 2, 1)])
    done = run('validate.py', '--count', 3, '--json', '-')
    assert done.status == 1 and json.loads(done.out)['reasons'] == {'replayed': 1}


@pytest.mark.parametrize('size', [1, 300_000])  # in one frame and in several
def test_headers_that_pika_cannot_decode(run, channel, size):
    put(channel, [(properties, b'x' * size) for properties in undecodable(b'application/json')])
    put(channel, chain('alice', 1))
    done = run('validate.py', '--difficulty', 1, '--count', 3, '--json', '-')
    assert done.status == 1 and json.loads(done.out)['reasons'] == {'foreign content type': 2}
    assert json.loads(done.out)['connections'] == json.loads(done.out)['valid'] == 1
    assert done.err.count('undecodable: ') == 2
    assert channel.queue_declare('siamese.dead', passive=True).method.message_count == 2


def test_what_strangers_write_cannot_forge_the_log(run, channel):
    put(
        channel,
        [
            (pika.BasicProperties(content_type='a\x1b[2J\n12:00:00 forged'), b''),
            altered(hash='\x1b[31m\nforged'),
        ],
    )
    done = run('validate.py', '--count', 2)
    assert done.status == 1 and '\x1b' not in done.err + done.out and '\nforged' not in done.err
    assert sum('invalid' in line for line in done.err.splitlines()) == 2


def test_something_invalid_outweighs_that_the_broker_is_gone(start):
    with broker_module.throwaway() as broker:
        with contextlib.closing(
            pika.BlockingConnection(pika.URLParameters(broker.url))
        ) as connection:
            put(connection.channel(), [BAD['no fields'][0]])
        validator = start('validate.py', '--give-up-after', 1, AMQP_URL=broker.url)
        validator.wait_for('invalid: field missing')
        broker.kill()
        done = validator.end()
    assert done.status == 1 and 'no broker at' in done.err


def test_a_signal_before_anything_was_checked(start):
    validator = start('validate.py')
    validator.wait_for('ready')
    assert validator.stop(signal.SIGINT).status == 3


def test_two_signals_leave_books_that_audit_understands(start, run, channel, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    assert (
        run('producer.py', '--difficulty', 0, '--count', 3000, '--quiet', '--ledger', ledger).status
        == 0
    )
    validator = start('validate.py', '--difficulty', 0, '--ledger', ledger)
    validator.wait_for(' valid', validator.out)
    validator.send(signal.SIGTERM)
    validator.send(signal.SIGINT)
    assert validator.end().status in (0, 130)  # 0 if the second came too late
    done = run('validate.py', '--difficulty', 0, '--idle', 1, '--quiet', '--ledger', ledger)
    assert done.status == 0
    assert audit.main([str(ledger), '--quiet']) == 0


def test_difficulty_is_the_validators_own(run, channel):
    put(channel, chain('alice', 3))  # one zero each
    done = run('validate.py', '--count', 3, '--json', '-', '--quiet')
    assert done.status == 1 and json.loads(done.out)['reasons']['too few zeros'] > 0


def test_nothing_to_check_and_too_little_to_check(run, channel):
    done = run('validate.py', '--idle', 0.5)
    assert done.status == 3 and 'nothing came for 0.5 s' in done.out
    put(channel, [ONE])
    assert run('validate.py', '--idle', 0.5, '--count', 2).status == 3
    put(channel, [ONE])
    assert run('validate.py', '--idle', 0.5).status == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_it_did_not_check_stays(start, channel, number):
    put(channel, [ONE])
    validator = start('validate.py')
    validator.wait_for('alice 1', validator.out)
    done = validator.stop(number)
    assert done.status == 0 and f'stopped: {number.name}' in done.out
    put(channel, [TWO])
    wait_until(
        lambda: channel.queue_declare('siamese.blocks', passive=True).method.message_count == 1,
        'one block',
    )


def test_what_was_delivered_but_not_checked_goes_back(run, channel):
    messages = chain('alice', 50)
    put(channel, messages)
    assert run('validate.py', '--difficulty', 1, '--count', 20, '--quiet').status == 0
    rest = drain(channel, 'siamese.blocks')
    assert [body for _, body in rest] == [body for _, body in messages[20:]]
