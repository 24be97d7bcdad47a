"""validate.py on a real broker, with good, bad and repeated blocks."""

import contextlib
import datetime
import json
import signal
from collections import Counter
from decimal import Decimal

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bad_blocks import BAD, NEXT, ONE, TWO, altered, with_body
from support.block_messages import GENESIS, GOLDEN, chain, message, put
from support.processes import wait_until
from support.queues import dead_letters, drain, waiting
from support.raw_properties import undecodable

import audit as audit_script
from siamese.testbed import rabbitmq as broker_module


def test_the_block_of_the_wiki_is_valid(run, channel):
    put(channel, [ONE, TWO])
    done = run('validate.py', '--count', 2)
    assert done.status == 0, done.err
    assert done.out.splitlines()[:2] == [
        '1 of 2  alice 1  00004913ba4dc384…  valid',
        f'2 of 2  alice 2  {NEXT["hash"][:16]}…  valid',
    ]


@pytest.mark.pair
def test_every_bad_block_is_rejected_into_the_dead_letters_and_counted(run, channel):
    bad = [message for message, _ in BAD.values()]
    put(channel, [ONE, *bad, TWO])
    done = run('validate.py', '--count', len(bad) + 2, '--json', '-', '--quiet')
    assert done.status == 1 and 'Traceback' not in done.err
    summary = json.loads(done.out)
    assert summary['valid'] == 2 and summary['invalid'] == len(bad)
    assert summary['rejections'] == Counter(reason for _, reason in BAD.values())
    assert done.err.count('invalid: ') == len(bad)
    dead = dead_letters(channel, len(bad))
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


def test_ten_thousand_bad_messages_are_all_rejected(run, channel):
    bad = []

    @settings(
        max_examples=2_500, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(bad_messages())
    def generate(one):
        bad.append(one)

    generate()
    bad *= 4  # inventing them takes longer than rejecting them
    assert len(bad) >= 10_000
    put(channel, bad)
    done = run('validate.py', '--count', len(bad), '--json', '-', '--quiet')
    assert done.status == 1 and 'Traceback' not in done.err
    summary = json.loads(done.out)
    assert summary['valid'] == summary['redelivered'] == summary['republished'] == 0
    assert sum(summary['rejections'].values()) == summary['invalid'] == len(bad)
    assert len(summary['rejections']) >= 6
    assert Counter(body for _, body in dead_letters(channel, len(bad))) == Counter(
        body for _, body in bad
    )
    assert channel.queue_declare('siamese.blocks', passive=True).method.message_count == 0


def test_a_replayed_block_is_rejected(run, channel):
    messages = chain('alice', 3)
    put(channel, [*messages, messages[1]])
    done = run('validate.py', '--difficulty', 1, '--count', 4, '--json', '-', '--quiet')
    assert done.status == 1 and json.loads(done.out)['rejections'] == {'replayed': 1}
    assert [body for _, body in dead_letters(channel, 1)] == [messages[1][1]]


def test_a_second_attempt_is_valid_and_counted(run, channel):
    put(channel, [message('alice', 'cafe', 1, GENESIS, GOLDEN, attempt) for attempt in (1, 2)])
    done = run('validate.py', '--count', 2, '--json', '-', '--quiet')
    assert done.status == 0 and (
        json.loads(done.out)['valid'],
        json.loads(done.out)['republished'],
    ) == (1, 1)


def test_the_first_attempt_again_after_the_second_is_a_replay(run, channel):
    put(channel, [message('alice', 'cafe', 1, GENESIS, GOLDEN, attempt) for attempt in (1, 2, 1)])
    done = run('validate.py', '--count', 3, '--json', '-')
    assert done.status == 1 and json.loads(done.out)['rejections'] == {'replayed': 1}


@pytest.mark.parametrize('size', [1, 300_000])  # in one frame and in several
def test_messages_with_undecodable_headers_are_rejected(run, channel, size):
    put(channel, [(properties, b'x' * size) for properties in undecodable(b'application/json')])
    put(channel, chain('alice', 1))
    done = run('validate.py', '--difficulty', 1, '--count', 3, '--json', '-')
    assert done.status == 1 and json.loads(done.out)['rejections'] == {'foreign content type': 2}
    assert json.loads(done.out)['connections'] == json.loads(done.out)['valid'] == 1
    assert done.err.count('undecodable: ') == 2
    wait_until(lambda: waiting(channel, 'siamese.dead') == 2, 'dead letters')


def test_control_characters_in_messages_cannot_forge_the_log(run, channel):
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


def test_an_invalid_message_and_then_no_broker_is_exit_status_1(start):
    with broker_module.throwaway() as broker:
        with contextlib.closing(
            pika.BlockingConnection(pika.URLParameters(broker.url))
        ) as connection:
            put(connection.channel(), [BAD['no fields'][0]])
        validator = start('validate.py', '--give-up-after', 5, AMQP_URL=broker.url)
        validator.wait_for('invalid: field missing')
        broker.kill()
        done = validator.end()
    assert done.status == 1 and 'broker unreachable at' in done.err


def test_a_signal_before_the_first_block_is_exit_status_3(start):
    validator = start('validate.py')
    validator.wait_for('ready')
    assert validator.stop(signal.SIGINT).status == 3


def test_two_signals_leave_a_ledger_that_audit_understands(start, run, channel, tmp_path):
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
    done = run('validate.py', '--difficulty', 0, '--idle', 3, '--quiet', '--ledger', ledger)
    assert done.status == 0
    assert audit_script.main([str(ledger), '--quiet']) == 0


def test_the_difficulty_of_the_validator_is_what_counts(run, channel):
    put(channel, chain('alice', 3))  # one zero each
    done = run('validate.py', '--count', 3, '--json', '-', '--quiet')
    assert done.status == 1 and json.loads(done.out)['rejections']['too few zeros'] > 0


def test_fewer_blocks_than_count_is_exit_status_3(run, channel):
    done = run('validate.py', '--idle', 0.5)
    assert done.status == 3 and 'nothing came for 0.5 s' in done.out
    put(channel, [ONE])
    assert run('validate.py', '--idle', 0.5, '--count', 2).status == 3
    put(channel, [ONE])
    assert run('validate.py', '--idle', 3).status == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_blocks_after_a_signal_stay_in_the_queue(start, channel, number):
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


@pytest.mark.pair
def test_delivered_but_unchecked_blocks_are_requeued(run, channel):
    messages = chain('alice', 50)
    put(channel, messages)
    assert run('validate.py', '--difficulty', 1, '--count', 20, '--quiet').status == 0
    rest = drain(channel, 'siamese.blocks')
    assert [body for _, body in rest] == [body for _, body in messages[20:]]
