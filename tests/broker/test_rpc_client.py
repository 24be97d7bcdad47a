"""rpc_client.py on a real broker.

With rpc_server.py, with faults, and with a server of the test's own that errs.
"""

import json
import re
import signal
from collections import Counter

import pika
import pytest
from support.block_messages import is_prime
from support.messages import MALFORMED, RPC_QUEUE, declare_dead
from support.processes import Running, wait_until
from support.queues import waiting
from support.raw_properties import undecodable, with_addresses

LINE = re.compile(r'(\d+) is (prime|not prime|unknown), [\d.]+ ms(?:, retried (\d+) times?)?$')


def told(lines):
    """Return [(number, verdict)] of the lines that tell of an answer."""
    return [
        (int(found[1]), found[2]) for line in list(lines) if (found := LINE.match(line.strip()))
    ]


def all_right(lines, count):
    """Check that each odd number was told of once, and rightly by a primality test of our own."""
    assert Counter(told(lines)) == Counter(
        (number, 'prime' if is_prime(number) else 'not prime') for number in range(1, 2 * count, 2)
    )


@pytest.fixture
def server(channel):
    """A server of the test: it returns (correlation_id, reply function, number)."""
    declare_dead(channel)
    channel.queue_declare('siamese.rpc', durable=True, arguments=RPC_QUEUE)

    def next_question():
        wait_until(lambda: waiting(channel, 'siamese.rpc'), 'a question')
        _, properties, body = channel.basic_get('siamese.rpc', auto_ack=True)

        def reply(answer, id=properties.correlation_id, **more):
            channel.basic_publish(
                '', properties.reply_to, answer, pika.BasicProperties(correlation_id=id, **more)
            )

        reply.queue = properties.reply_to
        return properties.correlation_id, reply, int(body)

    return next_question


@pytest.mark.parametrize('window', [1, 64])
def test_two_thousand_answers_are_right(start, run, window):
    server = start('rpc_server.py', '--quiet')
    server.wait_for('ready')
    done = run('rpc_client.py', '--count', 2000, '--window', window, '--verify')
    assert done.status == 0, done.err
    all_right(done.out.splitlines(), 2000)
    assert (
        '2000 answered, 549 prime, 0 wrong, 0 errors; 0 retried, 0 unanswered; answers: 0 late, 0 d'
        in done.out
    )
    assert re.search(
        r'\n[\d,]+/s; latency min/median/p75/p95/p99/max [\d./]+ ms; stopped: count reached$',
        done.out,
    )
    if window == 1:
        assert [number for number, _ in told(done.out.splitlines())] == list(range(1, 4000, 2))
    assert server.stop().status == 0


def test_every_question_is_answered_when_servers_are_killed(start, channel):
    server = start('rpc_server.py', '--quiet')
    client = start('rpc_client.py', '--count', 12_000, '--window', 16, '--verify', '--timeout', 1)
    for stop in 200, 2000:
        wait_until(lambda stop=stop: len(told(client.out)) > stop, f'{stop} answers')
        server.process.kill()
        server.end()
        server = start('rpc_server.py', '--quiet')
    done = client.end()
    assert done.status == 0, done.err
    all_right(done.out.splitlines(), 12_000)


@pytest.mark.any_broker
@pytest.mark.pair
def test_two_clients_share_two_servers(start):
    servers = [start('rpc_server.py', '--quiet', '--prefetch', 5, '--json', '-') for _ in range(2)]
    for server in servers:
        server.wait_for('ready')
    clients = [
        start('rpc_client.py', '--count', 500, '--window', 8, '--verify', '--name', name)
        for name in ('a', 'b')
    ]
    for client in clients:
        done = client.end()
        assert done.status == 0, done.err
        all_right(done.out.splitlines(), 500)
    answered = [json.loads(server.stop().out)['answered'] for server in servers]
    assert sum(answered) >= 1000 and min(answered) > 0


@pytest.mark.pair
def test_questions_are_returned_until_a_server_comes(start):
    client = start('rpc_client.py', '--count', 3, '--window', 2)
    client.wait_for('no queue is bound to siamese.rpc')
    start('rpc_server.py').wait_for('ready')
    done = client.end()
    assert done.status == 0 and done.err.count('no queue is bound') == 1
    all_right(done.out.splitlines(), 3)
    assert ' retried, 0 unanswered; ' in done.out and ' 0 retried' not in done.out


def test_no_answer_is_exit_status_3(run, server):
    done = run('rpc_client.py', '--duration', 3, '--timeout', 0.3, '--stop-timeout', 0.5)
    assert (
        done.status == 3
        and done.out.startswith('0 answered, ')
        and 'no answer; stopped: 1 question without an answer 0.5 s after --duration' in done.out
    )
    assert 'no answer to 1 yet, retrying' in done.err and ', 1 unanswered; ' in done.out


def test_a_timeout_shorter_than_asking_takes_does_not_end_the_run(start, server, channel):
    client = start('rpc_client.py', '--window', 1000, '--timeout', 0.001, '--stop-timeout', 0.5)
    wait_until(lambda: waiting(channel, 'siamese.rpc') > 5000, 'questions retried')
    done = client.stop()
    assert done.status == 3 and ', 1000 unanswered; ' in done.out


def test_on_a_signal_it_waits_for_the_answers_to_what_it_asked(start, server):
    client = start('rpc_client.py', '--window', 3, '--timeout', 60)
    questions = [server() for _ in range(3)]
    client.send(signal.SIGINT)
    client.wait_for('SIGINT: finishing the work in hand')
    for _, reply, _ in questions:
        reply(b'true')
    done = client.end()
    assert done.status == 0
    assert done.out.count(' is prime, ') == 3
    assert ', 0 unanswered; ' in done.out and done.out.endswith('stopped: SIGINT\n')


@pytest.mark.parametrize(('flags', 'status'), [((), 0), (('--verify',), 1)])
def test_a_wrong_answer_is_found_with_verify(start, server, flags, status):
    client = start('rpc_client.py', '--count', 3, *flags)
    for answer in b'false', b'false', b'true':
        _, reply, _ = server()
        reply(answer)
    done = client.end()
    assert done.status == status and told(done.out.splitlines()) == [
        (1, 'not prime'),
        (3, 'not prime'),
        (5, 'prime'),
    ]
    assert ('3: the answer is False' in done.err) == ('1 wrong' in done.out) == bool(flags)


def test_an_error_as_the_answer_is_exit_status_1(start, server):
    client = start('rpc_client.py', '--count', 2)
    server()[1](b'{"error": "tired \\u001b[2J"}')
    server()[1](b'true')
    done = client.end()
    assert done.status == 1 and '1 answered' not in done.out and ', 1 error; ' in done.out
    assert told(done.out.splitlines()) == [(1, 'unknown'), (3, 'prime')]
    assert '1: the answer is' in done.err and '\x1b' not in done.err + done.out


def test_late_and_duplicate_answers_are_counted(start, server):
    client = start('rpc_client.py', '--count', 3, '--timeout', 0.5, '--json', '-')
    first, late, _ = server()
    second, duplicate, _ = server()
    assert (first, second) == ('1-1', '1-2')
    late(b'false')
    duplicate(b'false')
    answered = {1}
    for _ in range(2):
        id, reply, number = server()
        while number in answered:  # it was asked once more before the answer was there
            id, reply, number = server()
        answered.add(number)
        assert id == f'{number}-1'
        reply(b'true')
    done = client.end()
    summary = json.loads(done.out)
    assert done.status == 0 and summary['published'] == summary['answered'] == 3
    assert summary['late'] >= 1 and summary['duplicate'] == 1 and summary['retried'] >= 1


BAD_ANSWERS = {
    **{f'body: {name}': ('1-1', body) for name, (_, body) in MALFORMED.items()},
    'no number': ('x', b'true'),
    'not asked': ('99-1', b'true'),
    'even': ('2-1', b'true'),
    'no id': (None, b'true'),
    'a number': ('1-1', b'1'),
    'a list': ('1-1', b'[true]'),
    'Python': ('1-1', b'True'),
    'long': ('9' * 200, b'true'),
    'no error': ('1-1', b'{"error": 1}'),
    'true as an error': ('1-1', b'{"error": true}'),
    'text': ('1-1', b'"true"'),
}


@pytest.mark.pair
def test_messages_that_are_no_answer_are_dead_lettered(start, server, channel):
    client = start('rpc_client.py', '--count', 1, '--json', '-')
    _, reply, _ = server()
    for id, body in BAD_ANSWERS.values():
        reply(body, id)
    for properties, body in MALFORMED.values():
        properties.reply_to = properties.correlation_id = None
        reply(body, None, headers=properties.headers, content_type=properties.content_type)
    for properties in (*undecodable(b'application/json'), with_addresses(b'\xff', b'')):
        channel.basic_publish('', reply.queue, b'true', properties)
    reply(b'false')
    done = client.end()
    summary = json.loads(done.out)
    assert done.status == 1 and summary['answered'] == 1 and 'Traceback' not in done.err
    assert (
        summary['invalid'] == len(BAD_ANSWERS) + len(MALFORMED) + 3 and summary['connections'] == 1
    )
    wait_until(lambda: waiting(channel, 'siamese.dead') == summary['invalid'], 'the dead letters')


def test_no_number_is_skipped_or_repeated_when_connections_break(start, broker, url):
    start('rpc_server.py', '--quiet').wait_for('ready')
    client = start('rpc_client.py', '--window', 8, '--verify', '--timeout', 600)
    for times in 1, 2:
        wait_until(lambda: told(client.out), 'an answer')
        broker.ctl('close_all_connections', '-p', url.rpartition('/')[2], 'maintenance')
        wait_until(
            lambda times=times: ''.join(client.err).count('back after') == times,
            'the client to be back',
        )
        before = len(told(client.out))
        wait_until(lambda before=before: len(told(client.out)) > before + 50, 'more answers')
    assert client.stop().status == 0
    numbers = [number for number, _ in told(client.out)]
    assert len(numbers) == len(set(numbers)) >= (max(numbers) + 1) / 2 - 8  # once, and none skipped
    assert all((verdict == 'prime') == is_prime(number) for number, verdict in told(client.out))


def test_its_queue_is_exclusive_and_ends_with_it(start, channel, server, broker, url):
    client = start('rpc_client.py', '--name', 'alice', '--timeout', 60, '--stop-timeout', 0.1)
    server()
    vhost = url.rpartition('/')[2]
    names = re.findall(
        r'^(siamese\.rpc\.alice\.[0-9a-f]{8}\.1)\ttrue$',
        broker.ctl('-q', 'list_queues', '-p', vhost, 'name', 'exclusive'),
        re.M,
    )
    assert len(names) == 1
    assert client.stop().status == 3
    wait_until(
        lambda: names[0] not in broker.ctl('-q', 'list_queues', '-p', vhost, 'name'),
        'the queue to be gone',
    )
    assert waiting(channel, 'siamese.rpc') == 0


@pytest.mark.parametrize(
    'flags', [('--window', 0), ('--window', 1001), ('--timeout', 0), ('--rate', 5)]
)
def test_bad_flags_are_refused_in_one_line(flags):
    done = Running('rpc_client.py', *flags).end()
    assert done.status == 2 and done.err.count('\n') == 1 and flags[0] in done.err
