"""monitor.py on a real broker: its figures against known counts, its mails on a real mail server."""

import contextlib
import csv
import email
import email.policy
import io
import json
import signal
import ssl
import struct
import time
import urllib.request
from collections import Counter
from types import SimpleNamespace

import pika
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from conftest import PATIENCE, manage, wait_until, waiting
from greetings import DEAD_LETTERS, MALFORMED, declare_dead
from raw import undecodable, with_header, with_message_id

import broker as broker_module
import history
import letters

FIGURES = ('published', 'delivered', 'acked', 'redelivered', 'expired', 'rejected', 'other')


def reader(path):
    """Return the history that a monitor writes, once it is there."""
    wait_until(path.exists, path)
    wait_until(lambda: path.stat().st_size and (path.parent / f'{path.name}-wal').exists(), 'a history')
    return history.open_for_reading(str(path))


def totals(db, period='day'):
    """Return {queue: figures} of a history, which must all be of one period."""
    return {row['queue']: tuple(row[name] for name in FIGURES) for row in history.report(db, period)}


def watch(start, broker, path, *flags, **env):
    """Start a monitor, and wait until it has collected once."""
    monitor = start('monitor.py', '--history', path, '--interval', 0.5, '--management-url', broker.management_url or
                    'http://127.0.0.1:1', *flags, **env)
    monitor.wait_for('ready')
    db, now = reader(path), time.time()
    if broker.management_url:
        wait_until(lambda: (history.fact(db, 'collected') or 0) > now, 'a collection')
    return monitor, db


def dead_ids(db):
    return sorted(row['message_id'] for row in history.dead_letters(db, limit=-1)[0])


@contextlib.contextmanager
def a_broker(*plugins):
    with broker_module.throwaway(management='rabbitmq_management' in plugins, started=False) as broker:
        broker._write('enabled_plugins', f'[{",".join(plugins)}].')
        broker.start()
        yield broker


# ---- figures against known counts

def published(channel, queue, count, **properties):
    for number in range(count):
        channel.basic_publish('', queue, b'Hello', pika.BasicProperties(
            message_id=f'{queue}-{number}', delivery_mode=2, **properties), mandatory=True)


def test_known_counts_while_node_and_monitor_restart(start, tmp_path):
    path = tmp_path / 'siamese.db'
    with a_broker('rabbitmq_management', 'rabbitmq_event_exchange') as broker:
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        wait_until(lambda: history.fact(db, 'events'), 'the event exchange')

        def load(times):
            """Publish, deliver, acknowledge, reject and let expire in three queues; wait until that is counted."""
            connection = pika.BlockingConnection(pika.URLParameters(broker.url))
            channel = connection.channel()
            declare_dead(channel)
            for queue, arguments in (('work', {}), ('slow', {'x-message-ttl': 300}), ('full', {'x-max-length': 4})):
                channel.queue_declare(queue, durable=True, arguments={**DEAD_LETTERS, **arguments})
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.UnroutableError):
                channel.basic_publish('', 'nowhere', b'', mandatory=True)
            published(channel, 'work', 10)
            published(channel, 'slow', 7)
            published(channel, 'full', 6)
            tags = [channel.basic_get('work')[0].delivery_tag for _ in range(10)]
            for tag in tags[:5]:
                channel.basic_ack(tag)
            for tag in tags[5:8]:
                channel.basic_reject(tag, requeue=False)
            for tag in tags[8:]:
                channel.basic_reject(tag, requeue=True)
            for tag in [channel.basic_get('work')[0].delivery_tag for _ in range(2)]:
                channel.basic_ack(tag)
            wait_until(lambda: not waiting(channel, 'slow'), 'expiry')
            expected = {'work': (10, 12, 7, 2, 0, 3, 0), 'slow': (7, 0, 0, 0, 7, 0, 0),
                        # What is dropped for a queue's length stays published; the next time all six push out others.
                        'full': (6, 0, 0, 0, 0, 0, 2 if times == 1 else 6)}
            wait_until(lambda: {queue: now for queue, now in totals(db).items() if queue in expected} == {
                queue: tuple(map(sum, zip(figures, base.get(queue, (0,) * 7)))) for queue, figures in expected.items()},
                f'the counts of load {times}: {totals(db)}')
            connection.close()

        base = {}
        load(1)
        base = totals(db)
        broker.stop()
        wait_until(lambda: history.broker(db)['state'] == 'away', 'the broker away')
        broker.start()
        wait_until(lambda: history.broker(db)['state'] == 'up', 'the broker back')
        load(2)
        base = totals(db)
        monitor.stop()
        wait_until(lambda: dead_ids(db), 'dead letters')
        before = dead_ids(db)
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        assert totals(db) == base and dead_ids(db) == before  # nothing twice
        load(3)
        base = totals(db)
        monitor.send(signal.SIGKILL)  # ... and one that had no time to say so
        monitor.end()
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        assert totals(db) == base
        load(4)
        done = monitor.stop()
        assert done.status == 0 and 'Traceback' not in done.err
        assert Counter(dead_ids(db)) == Counter(
            [f'slow-{n}' for n in range(7)] * 4 + [f'work-{n}' for n in (5, 6, 7)] * 4
            + [f'full-{n}' for n in (0, 1)] * 4 + [f'full-{n}' for n in (2, 3, 4, 5)] * 3)
        assert history.broker(db)['version'] and history.broker(db)['missing'] == []


def test_clients_their_states_and_interruptions(start, broker, url, tmp_path):
    _, db = watch(start, broker, tmp_path / 'siamese.db')
    assert 'amq.rabbitmq.event' in history.broker(db)['missing'][0]
    producer = start('ack_producer.py', '--name', 'alice', '--rate', 20, '--quiet')
    consumer = start('ack_consumer.py', '--name', 'carol', '--ack', 100, '--reject', 0, '--lose', 0, '--quiet')

    def client(name):
        return next((row for row in history.clients(db) if row['name'] == name), {'state': '?', 'interruptions': 0})
    for name, state in (('alice', 'sends'), ('carol', 'receives')):
        wait_until(lambda name=name, state=state: client(name)['state'] == state, f'{name} {state}')
    assert client('carol')['does'] == 'receives siamese.ack'
    broker.ctl('close_all_connections', '-p', url.rpartition('/')[2], 'maintenance')
    for name in 'alice', 'carol':
        wait_until(lambda name=name: client(name)['interruptions'] == 1, f'{name} interrupted')
        assert client(name)['last_interruption'] <= client(name)['back']
    assert producer.stop().status == 0
    wait_until(lambda: client('alice')['state'] == 'gone', 'alice gone')
    wait_until(lambda: client('carol')['received'] == client('alice')['sent'] > 0 or client('alice')['sent'], 'counts')
    assert consumer.stop().status == 0


def test_the_event_exchange_tells_of_clients_between_two_collections(start, tmp_path):
    with a_broker('rabbitmq_management', 'rabbitmq_event_exchange') as broker:
        path = tmp_path / 'siamese.db'
        monitor = start('monitor.py', '--history', path, '--interval', 3600, '--management-url', broker.management_url,
                        AMQP_URL=broker.url)
        db = reader(path)
        wait_until(lambda: history.fact(db, 'collected'), 'a collection')

        def queues():
            return [row['name'] for row in json.loads(manage(broker, 'GET', 'queues'))]
        wait_until(lambda: any(name.startswith('siamese.events-') for name in queues()), 'the queue of events')
        for number in (1, 2):
            assert start('producer.py', '--name', 'alice', '--count', 1, '--difficulty', 1, AMQP_URL=broker.url
                         ).end().status == 0

            def alice():
                return next((row for row in history.clients(db) if row['name'] == 'alice'), None)
            wait_until(lambda n=number: alice() and alice()['state'] == 'gone' and alice()['interruptions'] == n - 1,
                       f'what was heard of alice: {alice()}')
        assert monitor.stop().status == 0


# ---- scenario 7: nobody there

def names_not_picked_up(run, path):
    done = run('monitor.py', '--report', 'dead', '--history', path, '--json', '-')
    return sorted((row['queue'], row['message_id'], row['reason']) for row in json.loads(done.out))


def test_simple_one_producer_and_no_consumer(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path)
    sent = json.loads(run('ack_producer.py', '--name', 'alice', '--count', 5, '--rate', 50, '--ttl', 0.2, '--quiet',
                          '--json', '-').out)
    wait_until(lambda: history.dead_letters(db)[1] == 5, 'five dead letters')
    assert names_not_picked_up(run, path) == [
        ('siamese.ack', f'alice-{sent["run"]}-{number}', 'expired') for number in range(1, 6)]
    assert run('ack_producer.py', '--name', 'alice', '--count', 3, '--rate', 50, '--quiet').status == 0
    wait_until(lambda: history.queues(db)[0]['ready'] == 3, 'three messages in the history')
    checked = run('monitor.py', '--once', '--check', '--history', path, '--management-url', broker.management_url)
    assert checked.status == 1
    assert checked.out.startswith('SIAMESE WARNING - siamese.ack: 3 messages and no consumer, the oldest waits ')
    assert 'siamese.ack: 5 dead letters, expired' in checked.out and '| ready=3 ' in checked.out
    done = monitor.stop()
    assert done.status == 0 and done.out.count('expired  siamese.ack  alice-') == 5
    assert done.out.splitlines()[-1].startswith('5 dead letters stored, ')


def test_complex_one_producer_and_some_consumers(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    for queue in 'anna', 'bert', 'carl':
        run('fanout_consumer.py', queue, '--duration', 0)
    consumers = [start('fanout_consumer.py', queue, '--count', 6) for queue in ('anna', 'carl')]
    for consumer in consumers:
        consumer.wait_for('ready')
    sent = json.loads(run('fanout_producer.py', '--name', 'alice', '--count', 6, '--rate', 50, '--ttl', 2, '--quiet',
                          '--json', '-').out)
    assert [consumer.end().status for consumer in consumers] == [0, 0]
    wait_until(lambda: history.dead_letters(db)[1] == 6, 'six dead letters')
    assert names_not_picked_up(run, path) == [
        ('bert', f'alice-{sent["run"]}-{number}', 'expired') for number in range(1, 7)]
    wait_until(lambda: [totals(db).get(name, (0,))[0] for name in ('anna', 'bert', 'carl')] == [6, 6, 6], 'counts')
    wait_until(lambda: [totals(db)[name][1:5] for name in ('anna', 'bert', 'carl')] == [
        (6, 6, 0, 0), (0, 0, 0, 6), (6, 6, 0, 0)], 'deliveries')


def test_more_complex_several_producers_and_some_consumers(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    producers = [start('ack_producer.py', '--name', name, '--queue', f'siamese.{queue}', '--count', 8, '--rate', 50,
                       '--ttl', 3, '--quiet', '--json', '-')
                 for name, queue in (('alice', 'work'), ('bob', 'work'), ('carol', 'rest'), ('dave', 'rest'))]
    runs = {json.loads(done.out)['name']: json.loads(done.out)['run'] for done in (one.end() for one in producers)}
    taken = run('ack_consumer.py', '--queue', 'siamese.work', '--ack', 100, '--reject', 0, '--lose', 0, '--count', 16)
    assert taken.status == 0
    wait_until(lambda: history.dead_letters(db)[1] == 16, '16 dead letters')
    assert names_not_picked_up(run, path) == sorted(
        ('siamese.rest', f'{name}-{runs[name]}-{number}', 'expired') for name in ('carol', 'dave')
        for number in range(1, 9))


# ---- dead letters of strangers, many of them, and back again

def test_malformed_dead_letters_are_kept_as_they_are_and_go_back(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    odd = [*MALFORMED.values(), *((properties, b'Hello') for properties in undecodable(b'text/plain')),
           (with_message_id(b'\x00\xff', b'\xff\xfe'), b'<script>alert(1)</script>'),
           (pika.BasicProperties(headers={'x-death': 'nobody', 'CC': ['copy']}), b'a'),
           (with_header(b'text/plain', b'price', b'd' + struct.pack('>d', 1.5)), b'1.5'),
           (pika.BasicProperties(headers={'x-death': [{'queue': 7, 'reason': [], 'time': None, 'count': 'x'}]}), b'b')]
    declare_dead(channel)
    channel.queue_declare('copy')
    channel.queue_declare('strange', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    for properties, body in odd:
        channel.basic_publish('', 'strange', body, properties)
    channel.basic_publish('siamese.dlx', '', b'nobody knows from where')
    monitor, db = watch(start, broker, path)
    wait_until(lambda: history.dead_letters(db)[1] == len(odd) + 1, 'all dead letters')
    kept = [history.dead_letter(db, row['id']) for row in history.dead_letters(db, limit=-1)[0]]
    assert Counter(row['body'] for row in kept if row['queue']) == Counter(body for _, body in odd)
    assert {(row['queue'], row['reason']) for row in kept} == {('strange', 'expired'), ('', 'unknown')}
    channel.queue_purge('copy')
    channel.queue_delete('strange')
    channel.queue_declare('strange', durable=True)
    done = run('monitor.py', '--requeue-dead', 'all', '--history', path)
    assert done.status == 1
    assert f'{len(odd)} of {len(odd) + 1} dead letters sent back, 0 returned, 1 from no' in done.out
    assert waiting(channel, 'strange') == len(odd) and waiting(channel, 'copy') == 0
    back = [channel.basic_get('strange', auto_ack=True)[2] for _ in range(len(MALFORMED))]
    assert Counter(back) == Counter(body for _, body in MALFORMED.values())
    stopped = monitor.stop()
    assert stopped.status == 0 and 'Traceback' not in stopped.err and '\x1b' not in stopped.out
    assert run('monitor.py', '--report', 'dead', '--history', path).out.isprintable() is False  # but line by line:
    assert all(line.isprintable() for line in run('monitor.py', '--report', 'dead', '--history', path).out.split('\n'))


def test_what_goes_back_is_byte_for_byte_what_it_was_but_for_its_death():
    class Method:
        exchange, routing_key, redelivered = 'x', 'k', False

    headers = {'a': 1, 'text': 'ü'}
    death = {'x-death': [{'queue': 'q', 'reason': 'expired', 'count': 1, 'exchange': '', 'routing-keys': ['r']}],
             'x-first-death-queue': 'q', 'CC': ['c']}
    plain = pika.BasicProperties(content_type='t', headers=headers, priority=3, message_id='m', user_id='me',
                                 app_id='a')
    dead = pika.BasicProperties(**{**vars(plain), 'headers': {**headers, **death}})
    letter = letters.read(Method, letters.AsItWas(b''.join(dead.encode())), b'', time.time())
    assert (letter['queue'], letter['reason'], letter['routing_key'], letter['sender']) == ('q', 'expired', 'r', 'a')
    assert letters.back(letter, 'me').encode() == [b''.join(plain.encode())]
    plain.user_id = None
    assert letters.back(letter, 'another').encode() == [b''.join(plain.encode())]
    for properties in undecodable(b'text/plain'):
        letter = letters.read(Method, letters.AsItWas(properties.encoded), b'', time.time())
        assert letter['properties']['content_type'].startswith('undecodable') and letter['reason'] == 'unknown'
        assert letters.back(letter, 'me').encode() == [properties.encoded]


def test_more_dead_letters_than_a_quorum_queue_delivers_unacknowledged(start, broker, channel, tmp_path):
    declare_dead(channel)
    for number in range(2500):
        channel.basic_publish('siamese.dlx', '', str(number).encode())
    wait_until(lambda: waiting(channel, 'siamese.dead') == 2500, 'all to be there')
    _, db = watch(start, broker, tmp_path / 'siamese.db', '--quiet')
    wait_until(lambda: history.dead_letters(db)[1] == 2500, 'all stored')
    wait_until(lambda: not waiting(channel, 'siamese.dead'), 'all acknowledged')


def test_requeue_of_one_of_a_queue_and_of_one_that_is_no_more(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    declare_dead(channel)
    for queue in 'gone', 'there':
        channel.queue_declare(queue, durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
        published(channel, queue, 3)
    _, db = watch(start, broker, path)
    wait_until(lambda: history.dead_letters(db)[1] == 6, 'six dead letters')
    for queue in 'gone', 'there':
        channel.queue_delete(queue)
    channel.queue_declare('there', durable=True)
    first = history.dead_ids(db, 'there')[0]
    one = run('monitor.py', '--requeue-dead', f'#{first}', '--history', path)
    assert one.status == 0 and one.out.startswith(f'1 dead letters of #{first} go back where they came from\n1 of 1 ')
    assert channel.basic_get('there', auto_ack=True)[1].message_id == history.dead_letter(db, first)['message_id']
    assert run('monitor.py', '--requeue-dead', 'there', '--history', path).status == 0
    assert waiting(channel, 'there') == 2
    lost = run('monitor.py', '--requeue-dead', 'all', '--history', path)
    assert lost.status == 1 and '0 of 3 dead letters sent back, 3 returned' in lost.out
    assert history.dead_ids(db, 'all') == history.dead_ids(db, 'gone') and len(history.dead_ids(db, 'gone')) == 3
    assert run('monitor.py', '--requeue-dead', 'there', '--history', path).status == 3


# ---- the mail

class Mailbox:
    """A mail server that wants TLS and a password."""

    def __init__(self, authority):
        self.mails, self.logins = [], []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert('127.0.0.1').configure_cert(context)
        self.controller = Controller(self, hostname='127.0.0.1', port=broker_module.free_ports(1)[0],
                                     auth_required=True, authenticator=self.log_in, tls_context=context,
                                     require_starttls=True)

    def log_in(self, server, session, envelope, mechanism, data):
        self.logins.append((bool(session.ssl), data.login, data.password))
        return AuthResult(success=data.password == b'open sesame', handled=False)

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(SimpleNamespace(to=envelope.rcpt_tos, mail=email.message_from_bytes(
            envelope.content, policy=email.policy.default)))
        return '250 OK'


def test_the_mail_is_kept_while_the_mail_server_is_away_and_tells_all(start, broker, channel, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    mailbox, port = Mailbox(authority), None
    port = mailbox.controller.port
    declare_dead(channel)
    channel.queue_declare('strange', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    channel.queue_declare('unread', durable=True)
    monitor, db = watch(start, broker, tmp_path / 'siamese.db', '--mail-to', 'ops@example.org,dev@example.org',
                        '--mail-every', 3600, '--unread-after', 1,
                        SMTP_URL=f'smtp://monitor:open%20sesame@127.0.0.1:{port}?cacertfile={tmp_path}/ca.pem')
    channel.basic_publish('', 'strange', b'x', pika.BasicProperties(message_id='<script>alert(1)</script>\r\nBcc: me'))
    line = monitor.wait_for('mail not sent, trying again')
    assert 'refused' in line
    channel.basic_publish('', 'unread', b'y')
    wait_until(lambda: history.warnings(db, 1, 0) and any(
        row['kind'] == 'unread' for row in history.warnings(db, 1, 0)), 'an unread message')
    mailbox.controller.start()
    try:
        wait_until(lambda: mailbox.mails, 'a mail')
        (secure, login, _), = mailbox.logins
        assert secure and login == b'monitor'
        mail, = mailbox.mails
        assert mail.to == ['ops@example.org', 'dev@example.org']
        subject = ' '.join(mail.mail['Subject'].split())
        assert subject.startswith('siamese: 1 messages not picked up, 1 queues without a consumer at 127.0.0.1:')
        text = mail.mail.get_body(('plain',)).get_content()
        page = mail.mail.get_body(('html',)).get_content()
        assert 'strange: 1 dead letters, expired' in text and 'unread: 1 messages and no consumer' in text
        assert '--requeue-dead QUEUE sends them back' in text and 'Start a consumer' in text
        assert '<td>&lt;script&gt;alert(1)&lt;/script&gt;\\r\\nBcc: me</td>' in page and '<script>' not in page
        assert mail.mail['Bcc'] is None
        channel.basic_publish('', 'strange', b'x', pika.BasicProperties(message_id='second'))
        wait_until(lambda: history.dead_letters(db)[1] == 2, 'the second')
        now = time.time()
        wait_until(lambda: history.fact(db, 'collected') > now + 1, 'two more collections')
        assert len(mailbox.mails) == 1  # the period is not over
    finally:
        mailbox.controller.stop()
    done = monitor.stop()
    assert done.status == 0 and 'open sesame' not in done.err + done.out and ', 1 mails sent; ' in done.out


@pytest.mark.parametrize('kind', ['no TLS', 'wrong password'])
def test_a_mail_server_that_gets_no_password_or_the_wrong_one(kind, start, broker, channel, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    mailbox = Mailbox(authority)
    if kind == 'no TLS':
        mailbox.controller = Controller(mailbox, hostname='127.0.0.1', port=mailbox.controller.port,
                                        authenticator=mailbox.log_in, auth_require_tls=False)
    mailbox.controller.start()
    try:
        monitor, _ = watch(start, broker, tmp_path / 'siamese.db', '--mail-to', 'ops@example.org', '--smtp',
                           f'smtp://me:hush@127.0.0.1:{mailbox.controller.port}?cacertfile={tmp_path}/ca.pem')
        declare_dead(channel)
        channel.basic_publish('siamese.dlx', '', b'x')
        line = monitor.wait_for('mail not sent, trying again')
        assert ('it offers no TLS' if kind == 'no TLS' else '535') in line and 'hush' not in line
        assert mailbox.mails == [] and bool(mailbox.logins) == (kind == 'wrong password')
    finally:
        mailbox.controller.stop()


# ---- without plugins, without a broker, wrong flags

def test_without_the_management_plugin_it_says_so_and_keeps_dead_letters(start, tmp_path):
    path = tmp_path / 'siamese.db'
    with a_broker() as broker:
        monitor, db = watch(start, broker, path, AMQP_URL=broker.url)
        line = monitor.wait_for('no figures of queues and clients')
        assert 'rabbitmq-plugins enable rabbitmq_management' in line
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            connection.channel().basic_publish('siamese.dlx', '', b'x', pika.BasicProperties(message_id='m'))
            wait_until(lambda: dead_ids(db) == ['m'], 'a dead letter')
        wait_until(lambda: history.broker(db)['state'] == 'up' and history.broker(db)['missing'], 'the state')
        once = start('monitor.py', '--once', '--check', '--history', path, '--management-url', 'http://127.0.0.1:1',
                     AMQP_URL=broker.url).end()
        assert once.status == 3 and once.out.startswith('SIAMESE UNKNOWN - no management API at http://127.0.0.1:1 ')
        done = monitor.stop()
        assert done.status == 0 and done.err.count('no figures') == 1 and 'Traceback' not in done.err


def test_a_broker_that_is_away_is_waited_for_or_given_up(run, tmp_path):
    port = broker_module.free_ports(1)[0]
    done = run('monitor.py', '--history', tmp_path / 'm.db', '--give-up-after', 0.5, AMQP_URL=f'amqp://127.0.0.1:{port}')
    assert done.status == 3 and 'no broker at' in done.err and done.out.startswith('0 dead letters stored')
    assert history.broker(history.open_for_reading(str(tmp_path / 'm.db')))['state'] == 'away'


def test_once_says_all_that_matters_and_leaves_nothing_behind(run, broker, channel, tmp_path):
    path = tmp_path / 'none.db'
    flags = ('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    assert run(*flags, '--check').out.startswith('SIAMESE OK - 0 queues | ready=0 ')
    declare_dead(channel)
    channel.queue_declare('\x1b[2Jevil', durable=True)
    channel.basic_publish('', '\x1b[2Jevil', b'x')
    channel.basic_publish('siamese.dlx', '', b'x')
    wait_until(lambda: '2 messages wait' in run(*flags).out, 'the messages')
    done = run(*flags, '--json', tmp_path / 'now.json')
    assert done.status == 0 and '\x1b' not in done.out and '2 warnings: 2 queues, 2 messages wait' in done.out
    assert 'warning: siamese.dead: 1 messages and no consumer' in done.out
    found = json.loads((tmp_path / 'now.json').read_text())
    assert {row['name']: row['ready'] for row in found['queues']} == {'\x1b[2Jevil': 1, 'siamese.dead': 1}
    assert not path.exists() and waiting(channel, 'siamese.dead') == 1


def test_a_history_has_one_writer_and_one_broker(start, run, broker, tmp_path):
    path = tmp_path / 'siamese.db'
    monitor, db = watch(start, broker, path)
    second = run('monitor.py', '--history', path)
    assert second.status == 2 and 'another monitor.py writes' in second.err
    flags = ('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    before = history.fact(db, 'place')
    assert run(*flags).status == 0
    monitor.stop()
    assert run(*flags).status == 0
    other = run(*flags, AMQP_URL=broker.url)
    assert other.status == 2 and f'is the history of {before}, not of' in other.err


def test_reports_as_csv_and_json_agree_with_the_table(start, run, broker, channel, tmp_path):
    path = tmp_path / 'siamese.db'
    _, db = watch(start, broker, path)
    for queue in 'one', 'two':
        channel.queue_declare(queue, durable=True)
        published(channel, queue, 3)
    wait_until(lambda: [totals(db).get(queue, (0,))[0] for queue in ('one', 'two')] == [3, 3], 'counts')
    flags = ('monitor.py', '--report', 'day', '--history', path)
    assert run(*flags).out.splitlines()[-1] == '2 lines, 0 messages not picked up or refused'
    rows = list(csv.DictReader(io.StringIO(run(*flags, '--csv', '-').out)))
    assert [(row['queue'], row['published']) for row in rows] == [('one', '3'), ('two', '3')]
    found = json.loads(run(*flags, '--queue', 'two', '--json', '-').out)
    assert [(row['queue'], row['published'], row['day']) for row in found] == [('two', 3, rows[0]['day'])]
    assert run(*flags, '--since', '2099-01-01').status == 3
    for period, length in (('month', 7), ('year', 4)):
        assert run('monitor.py', '--report', period, '--history', path).out.splitlines()[1][:length] == (
            rows[0]['day'][:length])


def test_prometheus(start, broker, channel, tmp_path):
    port = broker_module.free_ports(1)[0]
    name = 'a "queue" \\'
    _, db = watch(start, broker, tmp_path / 'siamese.db', '--prometheus', port)
    channel.queue_declare(name, durable=True)
    published(channel, name, 3)
    wait_until(lambda: totals(db).get(name, (0,))[0] == 3, 'counts')
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=PATIENCE) as response:
        text = response.read().decode()
    assert 'siamese_queue_published_total{queue="a \\"queue\\" \\\\"} 3.0' in text
    assert 'siamese_broker_up 1.0' in text and 'siamese_client_connected{client="monitor.py@' in text


@pytest.mark.parametrize('flags, said', [
    (['--smtp', 'http://me:secret@host'], 'bad SMTP URL'),
    (['--management-url', 'ftp://me:secret@host'], 'bad management URL'),
    (['--management-url', 'http://me:se/cret@host'], 'bad management URL'),
    (['--check'], '--check goes with --once'),
    (['--report', 'week'], 'invalid choice'),
    (['--report', 'day', '--since', 'yesterday'], '--since'),
    (['--once', '--report', 'day'], 'not allowed with'),
])
def test_wrong_flags_take_one_line(run, flags, said):
    done = run('monitor.py', *flags)
    assert done.status == 2 and said in done.err and done.err.count('\n') == 1
    assert 'secret' not in done.err and 'se/cret' not in done.err


@pytest.mark.parametrize('flags', [['--report', 'day'], ['--requeue-dead', 'all']])
def test_a_history_that_is_not_there_or_holds_nothing(run, tmp_path, flags):
    done = run('monitor.py', *flags, '--history', tmp_path / 'none.db')
    assert done.status == 3 and done.err.count('\n') == 1 and 'Traceback' not in done.err


def test_the_management_api_with_a_wrong_password(run, broker):
    wrong = broker.management_url.replace('guest:guest', 'guest:wrong')
    done = run('monitor.py', '--once', '--management-url', wrong)
    assert done.status == 3 and "answers 401 Unauthorized to user 'guest'" in done.err and 'wrong' not in done.err
