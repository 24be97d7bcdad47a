"""rpc_server.py on a real broker.

What it answers to whom, and that nothing it is asked can end it.
"""

import json
import random
import re
from collections import Counter

import amqp
import pika
import pytest
from support.block_messages import is_prime
from support.messages import MALFORMED, RPC_QUEUE, declare_dead
from support.processes import Running, wait_until
from support.queues import dead_letters, drain, waiting
from support.raw_properties import with_addresses

BIG_PRIME, BIG_OTHER = 2**521 - 1, 2**523 - 1  # 157 and 158 digits

NEVER_MADE = 'amq.rabbitmq.reply-to.garbage.key'


@pytest.fixture
def ask(channel):
    """A function that asks, and one that waits for so many answers in the queue `answers`."""
    declare_dead(channel)
    channel.queue_declare('siamese.rpc', durable=True, arguments=RPC_QUEUE)
    channel.queue_declare('answers', durable=True)

    def ask(body, id=None, reply_to='answers', **properties):
        channel.basic_publish(
            '',
            'siamese.rpc',
            body,
            pika.BasicProperties(correlation_id=id, reply_to=reply_to, **properties),
        )

    def answers(number):
        wait_until(lambda: waiting(channel, 'answers') >= number, f'{number} answers')
        return [(properties, json.loads(body)) for properties, body in drain(channel, 'answers')]

    ask.answers = answers
    return ask


def test_true_and_false_with_the_id_of_the_question(start, ask):
    server = start('rpc_server.py', '--name', 'carol', '--count', 34)
    numbers = [*range(32), BIG_PRIME, BIG_OTHER]
    for number in numbers:
        ask(str(number).encode(), f'id {number}')
    answers = ask.answers(34)
    expected = {
        f'id {number}': is_prime(number) if number < 32 else number == BIG_PRIME
        for number in numbers
    }
    assert {properties.correlation_id: answer for properties, answer in answers} == expected
    assert {properties.content_type for properties, _ in answers} == {'application/json'}
    done = server.end()
    assert (
        done.status == 0
        and '34 answered, 12 prime; 0 errors, 0 invalid, 0 unroutable; ' in done.out
    )
    assert '3 of 34  2 is prime\n' in done.out and '2 of 34  1 is not prime\n' in done.out


ERRORS = {
    'negative': b'-7',
    'huge': b'9' * 10_000,
    '301 digits': b'1' * 301,
    'a word': b'seven',
    'a float': b'7.0',
    'exponent': b'1e3',
    'true': b'true',
    'text': b'"7"',
    'a list': b'[7]',
    'leading zero': b'07',
    'blank': b' 7',
    'plus': b'+7',
    'line end': b'7\n',
    'underscore': b'1_000',
    'other digits': '٧'.encode(),
    'NaN': b'NaN',
}


def test_a_message_that_is_no_question_is_answered_with_an_error(start, run, ask):
    server = start('rpc_server.py', '--json', '-')
    bodies = {**ERRORS, **{name: body for name, (_, body) in MALFORMED.items()}}
    for name, body in bodies.items():
        ask(body, name)
    ask(b'7', 'the last')
    answers = {
        properties.correlation_id: answer for properties, answer in ask.answers(len(bodies) + 1)
    }
    assert answers.pop('the last') is True and answers.keys() == bodies.keys()
    assert {json.dumps(answer) for answer in answers.values()} == {
        '{"error": "this is no whole number of 1 to 300 digits"}'
    }
    done = server.stop()
    summary = json.loads(done.out)
    assert done.status == 1 and (summary['answered'], summary['errors'], summary['invalid']) == (
        1,
        len(bodies),
        0,
    )
    assert done.err.count('answered with an error') == len(bodies) and 'Traceback' not in done.err


@pytest.mark.pair
def test_a_question_without_reply_to_is_dead_lettered(start, channel, ask):
    server = start('rpc_server.py', '--count', len(MALFORMED) + 2, '--json', '-')
    for properties, body in [*MALFORMED.values(), (pika.BasicProperties(), b'7')]:
        properties.reply_to = None
        channel.basic_publish('', 'siamese.rpc', body, properties)
    ask(b'9', 'the last')
    assert [answer for _, answer in ask.answers(1)] == [False]
    done = server.end()
    summary = json.loads(done.out)
    assert (
        done.status == 1
        and summary['rejections'] == {'no reply_to': len(MALFORMED) + 1}
        and summary['answered'] == 1
    )
    dead = dead_letters(channel, len(MALFORMED) + 1)
    assert Counter(body for _, body in dead) == Counter(
        [b'7', *(body for _, body in MALFORMED.values())]
    )


def test_questions_whose_addresses_are_not_utf_8(start, channel, ask):
    server = start('rpc_server.py', '--count', 2, '--json', '-')
    channel.basic_publish('', 'siamese.rpc', b'7', with_addresses(b'x', b'\xff\xfe'))
    channel.basic_publish('', 'siamese.rpc', b'7', with_addresses(b'\xff\xfe', b'answers'))
    ((properties, answer),) = ask.answers(1)
    assert properties.correlation_id == b'\xff\xfe' and answer is True
    done = server.end()
    assert (
        done.status == 1
        and json.loads(done.out)['rejections'] == {'no reply_to': 1}
        and 'Traceback' not in done.err
    )


@pytest.mark.pair
def test_answers_to_queues_that_do_not_exist_are_counted(start, ask):
    server = start('rpc_server.py', '--json', '-')
    nowhere = ['gone', 'ü' * 100, 'amq.rabbitmq.reply-to.g2dkABByZXBseUA', ' ', 'a' * 255]
    for reply_to in nowhere:
        ask(b'7', 'x', reply_to)
    ask(b'7', 'the last')
    assert [properties.correlation_id for properties, _ in ask.answers(1)] == ['the last']
    done = server.stop()
    summary = json.loads(done.out)
    assert (
        done.status == 0 and summary['answered'] == len(nowhere) + 1 and summary['connections'] == 1
    )
    assert 'gone' in done.err and done.err.count('no queue is bound to') == 1


def closes_connections(url):
    """Return whether the broker closes over an answer to an address that it did not make."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.basic_publish('', NEVER_MADE, b'')
        channel.queue_declare('', exclusive=True)  # answered after that
    except pika.exceptions.ConnectionClosedByBroker:
        return True
    connection.close()
    return False


@pytest.mark.pair
def test_an_answer_to_an_address_that_the_broker_never_made(start, url, channel, ask):
    """The question is dead-lettered where the broker closes over it, else it is unroutable."""
    dead = ['7', '9'] if closes_connections(url) else []
    server = start('rpc_server.py', '--json', '-')
    for number in b'5', b'7', b'9', b'11':
        ask(
            number,
            number.decode(),
            NEVER_MADE if number in (b'7', b'9') else 'answers',
        )
    wait_until(lambda: waiting(channel, 'siamese.dead') == len(dead), 'the dead letters')
    ask(b'13', '13')
    found = {}

    def has_answered_last():
        # A question may be answered twice: its acknowledgement is lost with the connection.
        for properties, body in drain(channel, 'answers'):
            found[properties.correlation_id] = json.loads(body)
        return '13' in found

    wait_until(has_answered_last, 'the answer to 13')
    assert found == {'5': True, '11': True, '13': True}
    done = server.stop()
    summary = json.loads(done.out)
    letters = dead_letters(channel, len(dead))
    assert sorted(properties.correlation_id for properties, _ in letters) == dead
    if dead:
        assert summary['rejections'] == {'the broker takes no answer to it': 2}
        assert done.status == 1
    else:
        assert summary['unroutable'] == 2
        assert done.status == 0


@pytest.mark.pair
def test_no_question_is_lost_when_a_server_is_killed(start, channel, ask):
    numbers = random.Random(1).sample(range(10**11, 10**12), 500)
    for number in numbers:
        ask(str(number).encode(), str(number))
    server = start('rpc_server.py', '--prefetch', 200)
    wait_until(lambda: waiting(channel, 'answers') > 50, 'fifty answers')
    server.process.kill()
    other = start('rpc_server.py')
    other.wait_for('ready')
    wait_until(
        lambda: waiting(channel, 'answers') >= 500 and waiting(channel, 'siamese.rpc') == 0,
        'the answers',
    )
    other.stop()
    found = {int(properties.correlation_id): answer for properties, answer in ask.answers(500)}
    assert found.keys() == set(numbers)
    assert all(answer == is_prime(number) for number, answer in found.items())


def test_a_queue_of_answers_cannot_forge_a_line_of_the_log(start, ask):
    server = start('rpc_server.py', '--quiet')
    server.wait_for('ready')
    ask(b'7', 'x', 'gone\n\x1b[2J12:00:00 forged \u202e')
    line = server.wait_for('forged')
    assert 'gone\\n\\x1b[2J12:00:00 forged \\u202e' in line
    done = server.stop()
    assert all(line.isprintable() for line in done.err.splitlines())


def test_a_py_amqp_client_gets_answers_by_direct_reply_to(start, url):
    start('rpc_server.py').wait_for('ready')
    host, port, vhost = re.search(r'@([\d.]+):(\d+)/(.*)', url).groups()
    answers = {}
    with amqp.Connection(f'{host}:{port}', virtual_host=vhost) as connection:
        channel = connection.channel()
        channel.basic_consume(
            'amq.rabbitmq.reply-to',
            no_ack=True,
            callback=lambda message: answers.update(
                {message.properties['correlation_id']: message.body}
            ),
        )
        for number in 7, 9:
            channel.basic_publish(
                amqp.Message(
                    str(number), correlation_id=str(number), reply_to='amq.rabbitmq.reply-to'
                ),
                '',
                'siamese.rpc',
            )
        while len(answers) < 2:
            connection.drain_events(timeout=60)
    assert answers == {'7': b'true', '9': b'false'}


def test_amqp_publish_gets_an_answer(start, url, ask):
    start('rpc_server.py').wait_for('ready')
    command = [
        'amqp-publish',
        '--url',
        url,
        '--routing-key',
        'siamese.rpc',
        '--reply-to',
        'answers',
        '--body',
        '97',
    ]
    done = Running(*command).end()
    assert done.status == 0, done.err
    assert [(properties.correlation_id, answer) for properties, answer in ask.answers(1)] == [
        (None, True)
    ]


def test_the_client_of_the_rabbitmq_tutorial_gets_an_answer(start, url):
    start('rpc_server.py').wait_for('ready')
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare('', exclusive=True).method.queue
        channel.basic_publish(
            '', 'siamese.rpc', b'97', pika.BasicProperties(reply_to=queue, correlation_id='a')
        )
        _, properties, body = next(channel.consume(queue, auto_ack=True, inactivity_timeout=60))
        assert (properties.correlation_id, body) == ('a', b'true')


def test_the_queue_is_deleted_when_no_server_comes_back(run, channel, ask):
    assert run('rpc_server.py', '--idle', 0.3).status == 3
    channel.queue_declare(
        'siamese.rpc', durable=True, arguments=RPC_QUEUE
    )  # it would refuse another x-expires
