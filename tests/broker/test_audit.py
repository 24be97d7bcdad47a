"""audit.py as a command, and on brokers that drop what they were told to drop.

What it finds in ledgers is tested in tests/unit/test_verdict.py and test_limits.py.
"""

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import stat
import struct
import termios
import threading
import time
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from support.books import lines_in
from support.monitor import watch
from support.processes import Running, wait_until
from support.pseudo_terminal import OnTerminal
from support.queues import drain, judge, waiting

from siamese.monitoring import dead_letters
from siamese.testbed import proxy

DEAD = 'siamese.dead'
QUIET = '--quiet', '--give-up-after', 30
# basic.deliver up to its flag redelivered.
DELIVER = rb'(\x00\x3c\x00\x3c.ctag[0-9]+\.[^\x00]+\x00{4}.{4})\x01'
FLAGGED = re.compile(DELIVER, re.DOTALL)
FLAGGED_OF_ACK = re.compile(DELIVER + rb'(?=\x00.siamese\.ack)', re.DOTALL)


def test_a_ledger_without_consumer_cannot_be_judged(tmp_path):
    event = {'at': 0, 'by': 'alice', 'run': 'cafe', 'epoch': 1, 'event': 'attempted'}
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(json.dumps({**event, 'id': '1', 'attempt': 1, 'digest': 'd'}) + '\n')
    done = Running('audit.py', ledger).end()
    assert done.status == 3
    assert done.out.endswith('unknown: the ledgers know of no consumer\n')
    assert done.err == ''


def test_a_missing_file_and_bad_flags():
    done = Running('audit.py', '/none').end()
    assert done.status == 3
    assert 'No such file' in done.err
    assert 'Traceback' not in done.err
    assert Running('audit.py').end().status == 2


def acked(first, count):
    """Return the text of a ledger: lines of a consumer, each of one message."""
    event = {'at': 0, 'by': 'carol', 'run': 'cafe', 'epoch': 1, 'event': 'acked'}
    event.update(attempt=1, redelivered=False, digest='d')
    lines = (json.dumps({**event, 'id': f'carol-{number}'}) for number in range(count))
    return ''.join(line + '\n' for line in lines)


@pytest.fixture
def slow_ledger(tmp_path):
    """A ledger that is read as fast as feed(is_done) writes it."""
    path = tmp_path / 'run.jsonl'
    os.mkfifo(path)

    def feed(is_done):
        with open(path, 'w') as file:
            for number in range(10_000):
                if is_done():
                    return
                file.write(acked(number, 500))
                file.flush()
                threading.Event().wait(0.1)
        pytest.fail('what was waited for did not come about')

    return SimpleNamespace(path=path, feed=feed)


def test_ctrl_c_ends_the_reading_with_what_is_known(start, slow_ledger):
    audit = start('audit.py', slow_ledger.path)
    fed = []

    def interrupted():
        fed.append(1)
        if len(fed) == 3:
            audit.send(signal.SIGINT)
        return audit.process.poll() is not None

    with contextlib.suppress(BrokenPipeError):
        slow_ledger.feed(interrupted)
    done = audit.end()
    assert done.status == 3
    assert re.search(r'\nunknown: interrupted after [0-9,]+ lines\n$', done.out)
    assert done.err == ''


@pytest.mark.parametrize('path', ['-', 'the pipe'])
def test_ctrl_c_ends_the_waiting_for_a_silent_pipe(slow_ledger, path):
    """As in `audit.py <(zcat ledger.gz)`, or behind a script that writes to /dev/stdout."""
    command = ['./audit.py', slow_ledger.path]
    if path == '-':
        command = ['sh', '-c', 'exec ./audit.py - <"$1"', 'sh', slow_ledger.path]
    audit = Running(*command)
    with open(slow_ledger.path, 'w') as file:
        file.write(acked(0, 3))
        file.flush()
        wait_until(lambda: not waiting_in(file), 'that all is read')
        done = audit.stop()
    assert (done.status, done.err) == (3, '')
    assert done.out.endswith('\nunknown: interrupted after 3 lines\n')


def waiting_in(pipe):
    """Return how many bytes of a pipe nobody has read."""
    return struct.unpack('i', fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def test_a_reading_that_takes_long_shows_how_far_it_is(slow_ledger):
    audit = OnTerminal('./audit.py', slow_ledger.path)
    slow_ledger.feed(lambda: '/s' in audit.text)
    assert re.search('[0-9,]+ lines, [0-9,]+/s', audit.text)
    assert audit.end().status == 3


# ---- what a queue was told to drop


@pytest.fixture
def pair(run, start, tmp_path):
    """The perf pair on the queue q, with a ledger.

    produce(), drain() and pass_through() give the queue the arguments in pair.flags.
    """

    class Pair:
        ledger = tmp_path / 'run.jsonl'
        flags = ()

        def produce(self, count):
            flags = '--queue', 'q', '--ledger', self.ledger, *QUIET, *self.flags
            done = run('perf_producer.py', '--count', count, '--persistent', *flags)
            assert done.status == 0, done.err

        def drain(self, *more):
            flags = '--queue', 'q', '--ledger', self.ledger, *QUIET, *self.flags
            return run('perf_consumer.py', *(more or ('--idle', 3)), *flags)

        def pass_through(self, count):
            """Let a consumer that waits already take what is produced."""
            flags = '--queue', 'q', '--ledger', self.ledger, *QUIET, *self.flags
            consumer = start('perf_consumer.py', '--count', count, *flags)
            consumer.wait_for('ready')
            self.produce(count)
            assert consumer.end().status == 0

        def found(self, *flags):
            """Return what the audit finds: its status, and how many messages of each kind."""
            done = run('audit.py', self.ledger, '--json', '-', *flags)
            found = json.loads(done.out)
            kinds = {kind: len(ids) for kind, ids in found.items() if isinstance(ids, list) and ids}
            for name in ('producers', 'consumers', 'notes'):
                kinds.pop(name, None)
            return done.status, kinds, found

    return Pair()


def queue_flags(*arguments, queue_type='classic'):
    flags = ['--queue-type', queue_type]
    for argument in arguments:
        flags += ['--queue-arg', argument]
    return flags


def assert_dead(pair, channel, url, count, reason):
    """The same messages are found in siamese.dead, with their reason, and stay there."""
    wait_until(lambda: waiting(channel, DEAD) == count, f'{count} dead letters')
    status, kinds, found = pair.found('--dead', url)
    assert (status, kinds) == (0, {'dead_lettered': count})
    assert all(name.endswith(f' ({reason})') for name in found['dead_lettered'])
    wait_until(lambda: waiting(channel, DEAD) == count, 'them to be back')


@pytest.mark.pair
@pytest.mark.parametrize('queue_type', ['classic', 'quorum'])
def test_what_a_full_queue_dropped_is_not_lost(pair, channel, url, queue_type):
    pair.flags = queue_flags('x-max-length=10', queue_type=queue_type)
    pair.produce(50)
    pair.drain()
    status, kinds, found = pair.found()
    assert (status, kinds, found['ok']) == (0, {'dropped': 40}, 10)
    assert found['dropped'][0].endswith(' (x-max-length=10 of q)')
    assert_dead(pair, channel, url, 40, 'maxlen')


@pytest.mark.pair
@pytest.mark.parametrize('queue_type', ['classic', 'quorum'])
def test_what_had_no_room_in_bytes_is_not_lost(pair, channel, url, queue_type):
    pair.flags = queue_flags('x-max-length-bytes=8000', queue_type=queue_type)
    pair.produce(50)
    pair.drain()
    status, kinds, found = pair.found()
    assert status == 0
    assert kinds == {'dropped': 50 - found['ok']}
    assert_dead(pair, channel, url, kinds['dropped'], 'maxlen')


@pytest.mark.pair
@pytest.mark.parametrize('queue_type', ['classic', 'quorum'])
def test_what_expired_in_a_queue_is_not_lost(pair, channel, url, queue_type):
    pair.flags = queue_flags('x-message-ttl=700', queue_type=queue_type)
    pair.produce(20)
    over = time.monotonic() + 0.7
    wait_until(lambda: time.monotonic() > over, 'the end of their time')
    # A quorum queue of 3.10 expires messages only when something happens to it.
    wait_until(lambda: pair.drain('--idle', 1).status == 3, 'an empty queue')
    pair.pass_through(3)
    status, kinds, found = pair.found()
    assert (status, found['ok']) == (0, 3)
    assert kinds == {'dropped': 20}
    assert_dead(pair, channel, url, 20, 'expired')


@pytest.mark.pair
def test_what_was_in_an_expired_queue_is_not_lost(pair, api, url):
    pair.flags = queue_flags('x-expires=1000')
    pair.produce(5)

    vhost = url.rpartition('/')[2]

    def is_gone():  # to ask for it over AMQP would be to use it
        return all(queue['name'] != 'q' for queue in api.get(f'queues/{vhost}'))

    wait_until(is_gone, 'the end of the queue')
    pair.pass_through(3)
    status, kinds, found = pair.found()
    assert (status, kinds, found['ok']) == (0, {'dropped': 5}, 3)


@pytest.mark.pair
def test_what_reached_its_delivery_limit_is_not_lost(pair, channel, url):
    pair.flags = queue_flags('x-delivery-limit=1', queue_type='quorum')
    pair.produce(20)
    for _ in range(2):  # each takes five, acknowledges one, and gives four back
        assert pair.drain('--count', 1, '--prefetch', 5).status == 0
    pair.drain()
    wait_until(lambda: waiting(channel, DEAD), 'dead letters')
    count = waiting(channel, DEAD)
    status, kinds, found = pair.found()
    assert (status, found['ok']) == (0, 20 - count)
    assert kinds['dropped'] == count
    assert found['dropped'][0].endswith(' (x-delivery-limit=1 of q)')
    status, kinds, found = pair.found('--dead', url)
    assert (status, kinds['dead_lettered']) == (0, count)


def test_a_queue_that_refuses_messages_drops_none(pair):
    pair.flags = queue_flags('x-max-length=10', 'x-overflow=reject-publish')
    pair.pass_through(60)
    status, kinds, found = pair.found()
    assert (status, found['ok']) == (0, 60)
    assert 'dropped' not in kinds


def test_more_is_missing_than_the_limit_dropped(pair, channel):
    pair.flags = queue_flags('x-max-length=10')
    pair.produce(50)
    channel.basic_get('q', auto_ack=True)  # a consumer without a ledger
    pair.drain()
    assert pair.found()[:2] == (1, {'dropped': 40, 'lost': 1})
    done = Running('audit.py', pair.ledger).end()
    assert '\nlost: is the queue drained, or ' in done.out


@pytest.mark.pair
def test_a_policy_is_known_to_the_management_api(pair, api, broker, url):
    vhost = url.rpartition('/')[2]
    policy = {'pattern': '^q$', 'definition': {'max-length': 10}, 'apply-to': 'queues'}
    api.put(f'policies/{vhost}/short', policy)
    pair.produce(1)
    queue = f'queues/{vhost}/q'
    wait_until(lambda: api.get(queue).get('effective_policy_definition'), 'the policy to hold')
    pair.produce(49)
    pair.drain()
    assert pair.found()[:2] == (1, {'lost': 40})
    status, kinds, found = pair.found('--management-url', broker.management_url)
    assert (status, kinds) == (0, {'dropped': 40})
    assert found['dropped'][0].endswith(' (policy max-length=10 of q)')
    connected = json.loads(pair.ledger.read_text().splitlines()[0])
    assert connected['vhost'] == unquote(vhost)


def test_the_management_api_tells_how_many_messages_still_wait(pair, api, broker, url):
    pair.produce(5)
    assert pair.drain('--count', 3, '--prefetch', 1).status == 0
    queue = f'queues/{url.rpartition("/")[2]}/q'
    wait_until(lambda: api.get(queue).get('messages') == 2, 'the figure of the queue')
    asked = '--management-url', broker.management_url
    status, kinds, found = pair.found(*asked)
    assert (status, kinds['lost']) == (1, 2)
    assert [note[:37] for note in found['notes']] == ['not drained: 2 messages still in q (a']
    pair.drain()
    assert pair.found(*asked)[2]['notes'] == []  # also if the figure is that of before


def test_the_dead_letters_of_a_history(pair, start, broker, tmp_path):
    pair.flags = queue_flags('x-max-length=10')
    pair.produce(50)
    pair.drain()
    history = tmp_path / 'history.db'
    monitor, db = watch(start, broker, history)
    wait_until(lambda: dead_letters.find(db)[1] == 40, '40 dead letters')
    assert monitor.stop().status == 0
    status, kinds, _ = pair.found('--dead', history)
    assert (status, kinds) == (0, {'dead_lettered': 40})


def test_dead_letters_that_cannot_be_read(pair, url, tmp_path):
    pair.produce(1)
    pair.drain()
    (tmp_path / 'text').write_text('no history')
    for source, status, complaint in (
        (tmp_path / 'none', 3, 'cannot open the history'),
        (tmp_path / 'text', 2, 'is not a history'),
        ('amqp://guest:secret@127.0.0.1:1', 3, 'broker unreachable'),
        ('http://guest:secret@127.0.0.1:1', 2, '--dead: bad AMQP URL'),
    ):
        done = Running('audit.py', pair.ledger, '--dead', source).end()
        assert done.status == status, done.err
        assert complaint in done.err
        assert 'Traceback' not in done.err and 'secret' not in done.err


def test_a_look_at_dead_letters_is_refused_before_it_drops_them(pair, channel, url):
    pair.flags = queue_flags('x-max-length=1')
    pair.produce(2)
    pair.drain()
    for _ in range(15):
        other = channel.connection.channel()
        wait_until(lambda found=other: found.basic_get(DEAD)[0], 'a dead letter')
        other.close()
    done = Running('audit.py', pair.ledger, '--dead', url).end()
    assert done.status == 3
    assert 'was delivered 15 times' in done.err
    assert '--dead FILE' in done.err


# ---- the flag redelivered


def without_flag(found):
    return found[1] + b'\0'


def unflagged(data):
    """Return what a broker that flags no redelivery would send."""
    return FLAGGED.sub(without_flag, data)


@pytest.mark.parametrize('alter', [bytes, unflagged], ids=['flags', 'flags nothing'])
def test_a_broker_that_flags_no_redeliveries_is_not_accused(run, url, tmp_path, alter):
    ledger = tmp_path / 'run.jsonl'
    flags = '--ledger', ledger, *QUIET
    assert run('ack_producer.py', '--count', 30, '--rate', 1000, *flags).status == 0
    with proxy.in_front_of(url, alter=alter) as between:
        decide = '--ack', 70, '--reject', 30, '--seed', 7, '--url', between.url
        done = run('ack_consumer.py', '--idle', 5, *decide, *flags)
    assert done.status == 0, done.err
    rejected = lines_in(ledger, 'rejected')
    assert rejected
    has_flags = alter is bytes
    connected = lines_in(ledger, 'connected')[-1]
    assert connected['flags_redelivered'] is has_flags
    assert any(event['redelivered'] for event in lines_in(ledger, 'acked')) is has_flags
    status, found = judge(run, ledger)
    assert (status, found['ok']) == (0, 30)
    note = 'this broker does not flag redeliveries'
    assert found['notes'] == ([] if has_flags else [note])


def test_one_flag_that_is_missing_on_an_open_connection_is_a_fault(run, url, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    flags = '--ledger', ledger, *QUIET
    assert run('ack_producer.py', '--count', 30, '--rate', 1000, *flags).status == 0
    changed = []

    def alter(data):
        if not changed and FLAGGED_OF_ACK.search(data):
            changed.append(True)
            return FLAGGED_OF_ACK.sub(without_flag, data, count=1)
        return data

    with proxy.in_front_of(url, alter=alter) as between:
        decide = '--ack', 70, '--reject', 30, '--seed', 7, '--url', between.url
        assert run('ack_consumer.py', '--idle', 1, *decide, *flags).status == 1
    assert changed
    status, found = judge(run, ledger)
    assert status == 1
    assert len(found['duplicated']) == 1


# ---- the file


def test_a_new_ledger_can_be_read_by_its_owner_only(run, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    assert run('ack_producer.py', '--count', 1, '--ledger', ledger, *QUIET).status == 0
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600


# ---- lines of many messages


def size_of(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.pair
def test_kill_9_at_full_speed_leaves_right_books(start, run, tmp_path, channel):
    """What the books say of each message is what the other side says of it."""
    chance = random.Random(9)
    ledgers = [tmp_path / f'{name}.jsonl' for name in ('producers', 'consumers')]
    flags = [('--queue', 'q', '--ledger', path, *QUIET) for path in ledgers]
    for _ in range(4):
        pair = [start('perf_producer.py', *flags[0]), start('perf_consumer.py', *flags[1])]
        # The producer is killed first; what it published by then is enough for the consumer.
        most = 60_000, 6_000
        wanted = [size_of(path) + chance.randrange(2_000, top) for path, top in zip(ledgers, most)]
        for running, path, size in zip(pair, ledgers, wanted):
            wait_until(lambda path=path, size=size: size_of(path) > size, 'more lines')
            running.send(signal.SIGKILL)
            running.end()
    # So there is something left to take.
    assert run('perf_producer.py', '--count', 100, *flags[0]).status == 0
    done = run('perf_consumer.py', '--exit-when-empty', *flags[1])
    assert done.status == 0, done.err
    assert waiting(channel, 'q') == 0
    status, found = judge(run, *ledgers)
    assert (status, found['lost']) == (0, [])
    assert found['ok'] >= found['confirmed'] > 0
    assert any('"of"' in line for line in ledgers[1].read_text().splitlines())


# ---- while it runs


@pytest.mark.parametrize('flags', [['--until-closed'], []], ids=['until closed', 'Ctrl-C'])
def test_a_run_is_followed_to_its_verdict(start, run, tmp_path, flags):
    audit = start('audit.py', tmp_path, '--follow', *flags)
    books = tmp_path / 'alice.jsonl', tmp_path / 'carol.jsonl'
    consumer = start('perf_consumer.py', '--count', 50, '--ledger', books[1], *QUIET)
    consumer.wait_for('ready')
    done = run('perf_producer.py', '--count', 50, '--rate', 100, '--ledger', books[0], *QUIET)
    assert (done.status, consumer.end().status) == (0, 0)
    done = audit.end() if flags else audit.stop()
    assert (done.status, done.err) == (0, '')
    assert '    50  ok ' in done.out


def test_a_fault_is_told_while_the_run_goes_on(start, tmp_path):
    books = tmp_path / 'carol.jsonl'
    audit = start('audit.py', tmp_path, '--follow')
    books.write_text(acked(1, 2) + acked(1, 1))
    audit.wait_for('duplicated: carol-0')
    assert audit.stop().status == 3  # no producer


# ---- a relay that does what no broker may


def swapped(messages, at):
    messages[at], messages[at + 1] = messages[at + 1], messages[at]
    return 'out_of_order', f'{name_of(messages[at + 1])} (after {name_of(messages[at])})'


def dropped(messages, at):
    return 'lost', name_of(messages.pop(at))


def repeated_at_once(messages, at):
    messages.insert(at, messages[at])
    return 'duplicated', name_of(messages[at])


def repeated_later(messages, at):
    messages.append(messages[at])
    return 'duplicated', name_of(messages[at])


def altered(messages, at):
    properties, body = messages[at]
    messages[at] = properties, body[:-1] + b'!'
    return 'corrupt', name_of(messages[at])


def name_of(message):
    return message[0].message_id


RELAYED = int(os.environ.get('SIAMESE_RELAYED', '300'))  # messages; tried with 100,000, too
FAULTS = [swapped, dropped, repeated_at_once, repeated_later, altered]


@pytest.mark.parametrize('spoil', [None, *FAULTS], ids=lambda spoil: getattr(spoil, '__name__', ''))
def test_one_fault_of_a_relay_is_told_by_name(run, start, channel, tmp_path, spoil):
    ledgers = tmp_path / 'alice.jsonl', tmp_path / 'carol.jsonl'
    done = run(
        'perf_producer.py', '--queue', 'in', '--count', RELAYED, '--ledger', ledgers[0], *QUIET
    )
    assert done.status == 0, done.err
    messages = drain(channel, 'in')
    expected = spoil(messages, RELAYED // 2) if spoil else None
    consumer = start(
        'perf_consumer.py', '--queue', 'q', '--count', len(messages), '--ledger', ledgers[1], *QUIET
    )
    consumer.wait_for('ready')
    for properties, body in messages:
        channel.basic_publish('', 'q', body, properties)
    consumer.end()
    status, found = judge(run, *ledgers)
    kinds = 'lost', 'duplicated', 'corrupt', 'out_of_order', 'unexpected'
    told = [(kind, name) for kind in kinds for name in found[kind]]
    assert told == ([expected] if expected else [])
    assert status == bool(expected)
