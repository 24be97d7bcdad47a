"""Brokers that are not RabbitMQ, over real sockets: what they lack, refuse, and do wrong.

support/small_broker.py carries the messages; stand_in.py says single words.
"""

import json
import re
import signal
import sys

import pika
import pytest
from pika import spec
from support import small_broker, stand_in
from support.processes import Running, let_fault_last, wait_until

import common
import perf_producer
import producer
import validate
from siamese.messaging import capabilities
from siamese.messaging.link import connected

LIMIT_S = 60  # s in which every run here ends by itself
NO_CONFIRMS = {'loses_confirm_every': 1}
NO_CONFIRM_MODE = {'never_answers': ('Confirm.Select',)}
BLOCKS = ['--difficulty', 0, '--quiet']


def end_of(broker, *command):
    """Run a script against a broker to its end, without a traceback or a password."""
    done = Running(*command, '--url', broker.url).end(LIMIT_S)
    assert 'Traceback' not in done.err
    assert 'guest:guest' not in done.err
    return done


def put(broker, queue, *bodies, **properties):
    """Publish into a queue of a broker, over a channel of the test's own."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    for body in bodies:
        channel.basic_publish('', queue, body, pika.BasicProperties(**properties))
    connection.close()


# ---- without a table of capabilities, and without arguments of queues


def test_a_broker_without_a_table_works_with_confirms():
    with small_broker.running(**small_broker.qpid()) as broker:
        sent = end_of(broker, 'producer.py', *BLOCKS, '--count', 5, '--json', '-')
        taken = end_of(broker, 'validate.py', *BLOCKS, '--count', 5)
    assert (sent.status, json.loads(sent.out)['confirmed']) == (0, 5)
    assert taken.status == 0
    assert '5 blocks valid, 0 invalid' in taken.out
    for done in sent, taken:
        (refused, _, offers) = done.err.splitlines()
        assert 'takes no arguments of queues' in refused
        assert 'this broker offers no dead-lettering' in offers
    assert broker.queues['siamese.dead'].arguments == {}


def test_a_default_type_of_queue_is_not_named_to_a_broker_without_a_table():
    manners = small_broker.qpid(arguments='taken')
    with small_broker.running(**manners) as broker:
        assert end_of(broker, 'perf_producer.py', '--count', 1).status == 0
    assert broker.queues['siamese.perf'].arguments == {'x-dead-letter-exchange': 'siamese.dlx'}
    assert broker.queues['siamese.dead'].arguments.get('x-queue-type') is None


def test_what_a_time_to_live_means_is_not_known_without_a_table():
    with small_broker.running(**small_broker.qpid()) as broker:
        done = end_of(broker, 'fanout_producer.py', '--count', 1)
    assert 'no promise of --ttl' in done.err


def test_what_is_nacked_and_then_returned_is_unroutable():
    with small_broker.running(**small_broker.qpid()) as broker:
        done = end_of(broker, 'fanout_producer.py', '--count', 1)
    assert done.status == 3
    assert '1 published, 0 confirmed, 1 unroutable' in done.out
    assert broker.counts['nacked'] == 1


@pytest.mark.parametrize(
    'command',
    [
        ['perf_producer.py', '--queue-arg', 'x-max-length=10'],
        ['perf_consumer.py', '--queue-type', 'quorum'],
        ['ack_producer.py', '--priority', 'random'],
        ['ack_producer.py', '--ttl', '5'],
    ],
)
def test_arguments_that_the_user_asked_for_are_not_left_out(command):
    with small_broker.running(**small_broker.qpid()) as broker:
        done = end_of(broker, *command)
    flag = command[1]
    assert done.status == 3
    assert re.search(f'the broker cannot do {flag}.*Unsupported.*; leave that out', done.err)
    assert len(done.err.splitlines()) == 1
    assert broker.queues.keys() <= {'siamese.dead'}


def test_confirms_that_no_table_promises_are_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(capabilities, 'TRY_S', 0.5)
    with small_broker.running(**small_broker.qpid(**NO_CONFIRM_MODE)) as broker:
        args = producer.parse_args(['--url', broker.url, '--duration', '30'])
        with connected(args, producer.declare) as link:
            link.wait_until(lambda: link.failure)
    assert link.exit_status == 3
    assert 'offers no publisher confirms' in link.stop_reason


# ---- LavinMQ, in its own words


@pytest.fixture
def lavinmq():
    with small_broker.running(**small_broker.lavinmq()) as broker:
        yield broker


@pytest.mark.parametrize(
    'flags, words',
    [
        (
            ['--queue', 'rec.q', '--queue-type', 'quorum'],
            "queue 'rec.q' exists with other properties: ",
        ),
        (['--queue', 'amq.foo'], 'the broker refuses the name: .*; choose another'),
    ],
)
def test_what_lavinmq_refuses_ends_at_once(lavinmq, flags, words):
    put(lavinmq, 'rec.q')
    for script in 'producer.py', 'validate.py':
        done = end_of(lavinmq, script, *flags)
        assert done.status == 3
        assert re.search(words, done.err)
        assert len(done.err.splitlines()) == 1


def test_a_limit_of_queues_is_a_limit():
    with small_broker.running(**small_broker.lavinmq(queue_limit=1)) as broker:
        done = end_of(broker, 'validate.py')
    assert done.status == 3
    assert re.search('the broker refuses the queue: .*limit.*; delete others', done.err)
    assert 'permission' not in done.err


@pytest.mark.parametrize(
    'old, new, words',
    [
        (':guest@', ':wrong@', "refuses user 'guest': wrong name or password"),
        ('%2F', 'none', "no virtual host 'none'"),
    ],
)
def test_whom_lavinmq_does_not_let_in(lavinmq, old, new, words):
    done = Running('validate.py', '--url', lavinmq.url.replace(old, new)).end(LIMIT_S)
    assert done.status == 3
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_a_full_queue_is_not_one_that_is_missing(lavinmq):
    """LavinMQ returns a message with 312, and nacks it: the nack counts."""
    full = ['--queue-arg', 'x-max-length=10', '--queue-arg', 'x-overflow=reject-publish']
    sending = Running('perf_producer.py', '--url', lavinmq.url, *full, '--count', 30)
    sending.wait_for('broker nacks messages')
    consumer = Running('perf_consumer.py', '--url', lavinmq.url, *full, '--count', 30)
    sent = sending.end(LIMIT_S)
    taken = consumer.end(LIMIT_S)
    assert (sent.status, taken.status) == (0, 0)
    assert 'returned' not in sent.err
    assert '30 published, 30 confirmed' in sent.out


# ---- 406 by code and class of method


@pytest.mark.parametrize('words', ["already exists with different properties: 'q'", 'no'])
def test_406_for_a_declaration_is_one_of_other_arguments_whatever_the_words(words):
    refused = spec.Channel.Close(406, f'PRECONDITION_FAILED - {words}', *divide(spec.Queue.Declare))
    with stand_in.serving(answers={spec.Queue.Declare: refused}) as server:
        done = Running('producer.py', '--url', server.url()).end(LIMIT_S)
    assert done.status == 3
    assert f'the queue exists with other properties: PRECONDITION_FAILED - {words}' in done.err


def divide(method):
    """Return class and number of a method."""
    return divmod(method.INDEX, 1 << 16)


def test_406_for_an_acknowledgement_blames_no_message():
    """The channel is opened anew, and no message is published alone to see if it is the one."""
    refusals = [spec.Channel.Close(406, 'PRECONDITION_FAILED - what?', *divide(spec.Basic.Ack))]
    published = []

    def answer(method):
        published.append(method)
        return refusals.pop() if refusals else spec.Basic.Ack(1)

    with stand_in.serving(answers={spec.Basic.Publish: answer}) as server:
        done = Running('producer.py', *BLOCKS, '--count', 1, '--url', server.url()).end(LIMIT_S)
    assert done.status == 0, done.err
    assert len(published) == 2


# ---- brokers that never confirm


@pytest.mark.parametrize('manners', [NO_CONFIRMS, NO_CONFIRM_MODE], ids=['confirm', 'mode'])
@pytest.mark.parametrize(
    'limit',
    [
        ['--give-up-after', 5],
        ['--duration', 5, '--stop-timeout', 0.5],
        ['--stop-timeout', 0.5],
    ],
    ids=['give up', 'duration', 'SIGTERM'],
)
def test_a_broker_that_never_confirms_does_not_hold_a_run(manners, limit):
    with small_broker.running(**manners) as broker:
        command = ['perf_producer.py', '--quiet', '--json', '-', *limit, '--url', broker.url]
        sending = Running(*command)
        if limit[0] == '--stop-timeout':
            wait_until(lambda: broker.counts['Confirm.Select'], 'it asks for confirms')
            sending.send(signal.SIGTERM)
        done = sending.end(LIMIT_S)
    summary = json.loads(done.out)
    assert done.status == 3
    assert summary['confirmed'] == 0
    assert 'quorum' not in done.err
    assert 'Traceback' not in done.err
    if manners == NO_CONFIRMS and limit[0] != '--stop-timeout':
        assert f'{summary["published"]} messages not confirmed' in done.err
    if manners == NO_CONFIRM_MODE and limit[0] != '--stop-timeout':
        assert 'no answer to confirm.select' in done.err


def test_one_lost_confirm_of_a_thousand_ends_a_run_that_may_give_up():
    with small_broker.running(loses_confirm_every=1000) as broker:
        done = end_of(broker, 'perf_producer.py', '--count', 1500, '--give-up-after', 2)
    assert done.status == 3
    assert '1,500 published, 1,499 confirmed' in done.out
    assert re.search('1 message not confirmed: .* has left one unanswered for 2 s', done.err)


def test_a_queue_that_is_full_does_not_count_as_no_answer():
    full = ['--queue-arg', 'x-max-length=1', '--queue-arg', 'x-overflow=reject-publish']
    with small_broker.running() as broker:
        command = ['perf_producer.py', *full, '--count', 2, '--give-up-after', 3]
        sending = Running(*command, '--url', broker.url)
        wait_until(lambda: broker.counts['nacked'], 'a nack')
        let_fault_last(4)  # longer than it would wait for an answer
        consumer = Running('perf_consumer.py', *full, '--count', 2, '--url', broker.url)
        assert sending.end(LIMIT_S).status == 0
        assert consumer.end(LIMIT_S).status == 0


# ---- silence


@pytest.mark.parametrize(
    'method, script, flags',
    [
        (spec.Channel.Open, producer, []),
        (spec.Queue.Declare, perf_producer, ['--confirm', '0']),
        (spec.Confirm.Select, producer, []),
        (spec.Basic.Consume, validate, []),
    ],
    ids=['channel.open', 'queue.declare', 'confirm.select', 'basic.consume'],
)
def test_silence_has_an_end(monkeypatch, capfd, method, script, flags):
    """The connection is dropped, the log names what was not answered, and it tries again."""
    monkeypatch.setattr(capabilities, 'ANSWER_TIMEOUT_S', 0.6)

    def speaks_at_last(asked):
        answer = stand_in.ANSWERS[method]
        if len(server.starts()) == 1:
            return None
        return answer(asked) if callable(answer) else answer

    with stand_in.serving(answers={method: speaks_at_last}) as server:
        args = script.parse_args(['--url', server.url(), '--duration', '30', *flags])
        with connected(args, script.declare, window=getattr(args, 'confirm', 100)) as link:
            link.wait_until(lambda: link.is_ready or not link.in_time())
            assert link.is_ready
            link.withdraw()
    log = capfd.readouterr().err
    name = re.escape(method.NAME.lower())
    assert re.search(rf'\(no answer to {name} for \d+ s\), retrying', log)


# ---- what is rejected, and comes back


@pytest.mark.parametrize('arguments', ['refused', 'ignored'])
@pytest.mark.parametrize('script', ['validate.py', 'perf_consumer.py'])
def test_what_is_rejected_and_comes_back_is_counted_once(script, arguments):
    queue = {'validate.py': 'siamese.blocks', 'perf_consumer.py': 'siamese.perf'}[script]
    with small_broker.running(**small_broker.qpid(arguments=arguments)) as broker:
        put(broker, queue, b'bad', b'bad', b'worse', message_id='m')
        done = end_of(broker, script, '--quiet', '--json', '-', '--idle', 1)
        assert len(broker.queues[queue]) == 0
    assert done.status == 1
    assert json.loads(done.out)['invalid'] == 3
    assert done.err.count(' invalid: ') == 3
    assert done.err.count('puts back what is rejected') == 1
    assert broker.counts['Basic.Reject'] == 3


def test_where_dead_letters_are_promised_every_copy_is_rejected():
    with small_broker.running() as broker:
        put(broker, 'siamese.blocks')
        args = validate.parse_args(['--url', broker.url])
        assert not link_once_ready(args).inbox.rejected.is_kept


def link_once_ready(args):
    with connected(args, validate.declare) as link:
        link.wait_until(lambda: link.is_ready or link.failure)
    return link


# ---- looks that need a permission


def test_a_look_that_is_refused_is_passed_over():
    """As on RabbitMQ 4.3: what may be consumed may be looked at, siamese.dlx may not."""
    refused = stand_in.close_channel(403, "ACCESS_REFUSED - configure access refused for 'alice'")

    def on_queue(method):
        is_own = method.queue == 'siamese.blocks' and method.passive
        return spec.Queue.DeclareOk('siamese.blocks', 0, 0) if is_own else refused

    answers = {spec.Exchange.Declare: refused, spec.Queue.Declare: on_queue}
    with stand_in.serving(answers=answers) as server:
        done = Running('validate.py', '--idle', 0.5, '--url', server.url()).end(LIMIT_S)
    assert done.status == 3
    assert 'nothing came for 0.5 s' in done.out
    assert 'cannot tell whether all is there' in done.err
    looks = [heard for heard in server.heard if isinstance(heard, spec.Queue.Declare)]
    assert [look.queue for look in looks][-1] == 'siamese.blocks'


def test_nothing_may_be_looked_at():
    refused = stand_in.close_channel(403, "ACCESS_REFUSED - access refused for 'alice'")
    answers = {spec.Exchange.Declare: refused, spec.Queue.Declare: refused}
    confirming = {spec.Basic.Publish: lambda _: spec.Basic.Ack(1)}
    with stand_in.serving(answers={**answers, **confirming}) as server:
        done = Running('producer.py', *BLOCKS, '--count', 1, '--url', server.url()).end(LIMIT_S)
    assert done.status == 0, done.err
    assert '1 block mined, 1 confirmed' in done.out


# ---- the small broker as a program


def test_the_small_broker_is_a_program_too():
    path = common.__file__.replace('common.py', 'tests/support/small_broker.py')
    flags = ['--never-answers', 'Exchange.Delete', '--loses-confirm-every', '2', '--no-expires']
    broker = Running(sys.executable, path, *flags)
    url = broker.wait_for('amqp://', broker.out).strip()
    done = Running('perf_producer.py', '--count', 1, '--url', url).end(LIMIT_S)
    assert done.status == 0, done.err
    assert broker.stop(signal.SIGTERM).status == 0
