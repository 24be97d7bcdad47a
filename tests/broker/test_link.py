"""The link through its scripts: what a fault looks like, and that no confirmed message is lost."""

import contextlib
import json
import re
import signal
import socket
import ssl
import struct
import threading
import time

import pika
import pytest
import trustme
from support.block_messages import chain, put
from support.processes import Running, wait_until
from support.queues import drain, flush_broker_metadata

import producer
import validate
from siamese import ledger, verdict
from siamese.messaging import errors, patience, session
from siamese.messaging.link import Link, connected
from siamese.testbed import proxy

CANCEL = struct.pack('>HH', *divmod(pika.spec.Basic.Cancel.INDEX, 1 << 16))


def waiting(channel, queue='siamese.blocks'):
    return channel.queue_declare(queue, passive=True).method.message_count


def vhost(url):
    return url.rpartition('/')[2]


@pytest.mark.parametrize('script, body', [('rpc_server.py', b'7'), ('validate.py', b'no block')])
def test_what_came_before_the_queue_was_deleted_is_dropped(start, channel, url, script, body):
    """It can be answered, or rejected, no more: the channel is being closed."""
    queue = {'rpc_server.py': 'siamese.rpc', 'validate.py': 'siamese.blocks'}[script]
    properties = pika.BasicProperties(reply_to='answers')
    told = bytearray()

    def listen(data):
        told.extend(data)
        return data

    with proxy.in_front_of(url, alter=listen) as between:
        consumer = start(script, AMQP_URL=between.url)
        consumer.wait_for('ready')
        consumer.send(signal.SIGSTOP)
        for _ in range(20):
            channel.basic_publish('', queue, body, properties)
        wait_until(lambda: waiting(channel, queue) == 0, 'all are delivered')
        channel.queue_delete(queue)
        wait_until(lambda: CANCEL in told, 'the consumer is cancelled')
        consumer.send(signal.SIGCONT)
        consumer.wait_for('consumer cancelled')
        consumer.wait_for('back after')
        done = consumer.stop()
    assert 'invalid' not in done.err
    assert 'Traceback' not in done.err
    assert done.status == 3


def test_a_wrong_password_and_a_missing_virtual_host_end_at_once(run, url):
    for bad, complaint in (
        (url.replace('guest:guest', 'guest:wrong'), "refuses user 'guest'"),
        (f'{url}-none', 'no virtual host'),
    ):
        done = run('validate.py', '--url', bad)
        assert (
            done.status == 3
            and complaint in done.err
            and 'wrong@' not in done.err
            and done.err.count('\n') == 1
        )


@pytest.mark.parametrize(
    'command',
    [
        ['producer.py', '--difficulty', 0],
        ['perf_producer.py'],
        ['fanout_producer.py'],
        ['ack_producer.py'],
    ],
)
@pytest.mark.parametrize('limit', [('--count', 1), ('--duration', 5)])
def test_what_limits_a_run_need_not_wait_for_the_next_message(run, command, limit):
    done = run(*command, '--rate', 0.001, '--json', '-', *limit)  # one message in 17 minutes
    assert json.loads(done.out)['published'] == 1, done.err


def test_to_give_up_at_once(run, url):
    done = run('validate.py', '--give-up-after', 0, '--url', re.sub(':[0-9]+/', ':1/', url))
    assert (
        done.status == 3
        and 'broker unreachable at 127.0.0.1:1/' in done.err
        and 'Traceback' not in done.err
    )


@pytest.mark.pair
def test_a_refused_permission_ends_it_at_once(run, url, broker):
    broker.ctl('add_user', 'reader', 'secret')
    broker.ctl('set_permissions', '-p', vhost(url), 'reader', '^$', '^$', '.*')
    try:
        done = run(
            'producer.py', '--count', 1, '--url', url.replace('guest:guest', 'reader:secret')
        )
    finally:
        broker.ctl('delete_user', 'reader')
    assert (
        done.status == 3
        and "user 'reader' lacks permission" in done.err
        and 'set_permissions' in done.err
    )


def test_connections_closed_by_the_administrator_come_back(start, url, broker):
    producer = start('producer.py', '--rate', 10, '--json', '-', '--quiet')
    producer.wait_for('ready')
    broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')
    producer.wait_for('maintenance')
    producer.wait_for('back after')
    done = producer.stop()
    summary = json.loads(done.out)
    assert (
        done.status == 0
        and summary['confirmed'] == summary['published']
        and summary['connections'] == 2
    )
    assert 'Traceback' not in done.err


def test_a_deleted_queue_is_declared_again_for_the_producer(start, channel):
    producer = start(
        'producer.py', '--count', 30, '--rate', 10, '--name', 'alice', '--json', '-', '--quiet'
    )
    producer.wait_for('ready')
    wait_until(lambda: waiting(channel) > 3, 'four blocks')
    before = channel.queue_delete('siamese.blocks').method.message_count
    producer.wait_for('returned')
    done = producer.end()
    summary = json.loads(done.out)
    assert done.status == 0 and summary['confirmed'] == 30 and summary['republished'] >= 1
    assert waiting(channel) + before == 30  # a returned message is in no queue, so there is no copy


def test_a_deleted_queue_is_declared_again_for_the_consumer(start, channel, run):
    validator = start('validate.py', '--count', 5)
    validator.wait_for('ready')
    channel.queue_delete('siamese.blocks')
    validator.wait_for('consumer cancelled')
    validator.wait_for('back after')
    assert run('producer.py', '--count', 5).status == 0
    assert validator.end().status == 0


@pytest.mark.any_broker
@pytest.mark.pair
def test_what_was_not_confirmed_when_the_broker_died_is_republished(throwaway, start, tmp_path):
    with throwaway() as broker:
        env, path = {'AMQP_URL': broker.url}, tmp_path / 'run.jsonl'
        producer = start(
            'producer.py',
            '--difficulty',
            2,
            '--rate',
            10,
            '--ledger',
            path,
            '--json',
            tmp_path / 'summary',
            **env,
        )
        producer.wait_for('ready')
        wait_until(lambda: producer.out, 'a block')
        flush_broker_metadata(broker)
        broker.pause()
        mined = len(producer.out)
        wait_until(lambda: len(producer.out) >= mined + 10, '10 more blocks')
        broker.kill()
        broker.start()
        producer.wait_for('back after')
        done = producer.stop()
        summary = json.loads((tmp_path / 'summary').read_text())
        count = summary['confirmed']
        assert done.status == 0 and count > 10 and summary['republished'] >= 5
        validator = start(
            'validate.py', '--difficulty', 2, '--idle', 2, '--ledger', path, '--quiet', **env
        ).end()
        assert validator.status == 0, validator.err
    found = json.loads(start('audit.py', path, '--json', '-', '--quiet').end().out)
    assert found['exit_status'] == 0 and found['ok'] == count


def test_what_was_delivered_over_a_lost_connection_is_not_handed_out(channel, url, broker):
    messages = chain('alice', 20)
    put(channel, messages)
    args = validate.parse_args(['--url', url, '--count', '30', '--prefetch', '20'])
    seen = []
    with connected(args, validate.declare) as link:
        for delivered in link.deliveries(idle=2):
            seen.append((delivered.properties.message_id, link.epoch, delivered.redelivered))
            delivered.ack()
            if len(seen) == 5:
                link.wait_until(lambda: len(link.inbox) == 15)
                broker.ctl('close_all_connections', '-p', vhost(url), 'cut')
                link.wait_until(lambda: not link.is_ready)
    assert (
        link.exit_status == 0 and link.counts['connections'] == 2
    )  # a tag of the old channel would close the new one
    assert [epoch for _, epoch, _ in seen] == [1] * 5 + [2] * (len(seen) - 5)
    assert [again for *_, again in seen] == [False] * 5 + [True] * (len(seen) - 5)
    assert {id for id, *_ in seen} == {properties.message_id for properties, _ in messages}
    assert 'siamese.blocks\t0' in broker.ctl('list_queues', '-p', vhost(url), 'name', 'messages')


def test_slow_work_does_not_keep_the_connection_waiting(channel, url, monkeypatch):
    put(channel, chain('alice', 60))
    args = validate.parse_args(['--url', url, '--count', '60'])
    turns, turn = [], Link._pump
    monkeypatch.setattr(
        Link, '_pump', lambda link, **until: (turns.append(link.done), turn(link, **until))
    )
    with connected(args, validate.declare) as link:
        for _ in link.deliveries():
            slow = time.monotonic() + session.TICK_S / 4
            while time.monotonic() < slow:
                pass
    assert max(after - before for before, after in zip(turns, turns[1:])) <= 5


def test_a_full_queue_that_rejects_is_tried_until_there_is_room(
    start, channel, broker, url, tmp_path
):
    broker.ctl(
        'set_policy',
        '-p',
        vhost(url),
        'small',
        'blocks',
        '{"max-length": 5, "overflow": "reject-publish"}',
    )
    put(channel, [])
    producer = start('producer.py', '--count', 12, '--json', tmp_path / 'summary')
    producer.wait_for(' 12 of 12 ', producer.out)
    producer.wait_for('broker nacks messages')
    received = []
    while len(received) < 12:
        wait_until(lambda: waiting(channel), 'a block')
        received += drain(channel, 'siamese.blocks')
    done = producer.end()
    assert done.status == 0 and json.loads((tmp_path / 'summary').read_text())['confirmed'] == 12
    assert len({properties.message_id for properties, _ in received}) == 12


def test_a_memory_alarm_is_shown_and_waited_for(start, broker, channel):
    producer = start('producer.py', '--rate', 10, '--json', '-', '--quiet')
    producer.wait_for('ready')
    broker.ctl('set_vm_memory_high_watermark', 0)
    try:
        producer.wait_for('broker blocks publishers: low on memory')
    finally:
        broker.ctl('set_vm_memory_high_watermark', 0.4)
    producer.wait_for('no longer blocks publishers, after')
    done = producer.stop()
    summary = json.loads(done.out)
    assert (
        done.status == 0
        and summary['confirmed'] == summary['published']
        and summary['connections'] == 1
    )


def test_the_next_url_is_tried_when_one_is_dead(run, url, channel):
    done = run(
        'producer.py',
        '--count',
        3,
        '--quiet',
        '--url',
        f'amqp://127.0.0.1:1,amqp://nohost.invalid {url}',
    )
    assert done.status == 0 and len(drain(channel, 'siamese.blocks')) == 3


def test_a_url_that_refuses_is_passed_over_and_all_of_them_end_the_run(run, url, channel):
    wrong = url.replace('guest:guest', 'guest:wrong')
    done = run('producer.py', '--count', 2, '--quiet', '--url', f'{wrong},{url}')
    assert (
        done.status == 0
        and "refuses user 'guest'" in done.err
        and 'trying the next URL' in done.err
    )
    assert len(drain(channel, 'siamese.blocks')) == 2
    done = run('producer.py', '--count', 2, '--quiet', '--url', f'{wrong},{url}-none')
    assert (
        done.status == 3
        and 'no virtual host' in done.err
        and done.err.count('trying the next URL') == 1
    )


@pytest.mark.parametrize(
    'greeting, words',
    [
        (b'220 mail.example ESMTP\r\n', 'speaks "220 mail.example ES'),
        (b'\x15\x03\x03\x00\x02\x02\x46', 'is it amqps://'),  # an alert of TLS
    ],
)
def test_what_is_no_broker_is_told_from_an_unavailable_one(greeting, words):
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        done = Running(
            'validate.py', '--url', f'amqp://127.0.0.1:{listener.getsockname()[1]}'
        ).end()
        listener.shutdown(socket.SHUT_RDWR)
    assert done.status == 3 and ', not AMQP 0-9-1; ' in done.err and words in done.err
    assert done.err.count('\n') == 1 and 'Traceback' not in done.err


# A frame of channel 1, as in the AMQP 0-9-1 grammar.
ACK = b'\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50.{9}\xce'
CLOSE_OK = re.escape(b'\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x29\xce')
POISON = {
    'header larger than a frame': {'headers': {'a': 'z' * 200_000}},
    'bad expiration': {'expiration': 'abc'},
    'user_id of another': {'user_id': 'somebody'},
}


@pytest.mark.parametrize('properties', POISON.values(), ids=POISON)
def test_a_poison_message_is_named_and_the_others_arrive(url, channel, capfd, tmp_path, properties):
    args = producer.parse_args(['--url', url, '--ledger', str(tmp_path / 'run.jsonl')])
    with connected(args, producer.declare) as link:
        for number in range(30):
            more = properties if number == 17 else {}
            link.publish(
                '', args.queue, b'x', pika.BasicProperties(message_id=f'm{number}', **more)
            )
    assert link.exit_status == 1 and link.stop_reason == 'the broker refuses 1 message, see above'
    assert (
        'the broker refuses message m17: ' in capfd.readouterr().err
        and link.counts['confirmed'] == 29
    )
    received = {properties.message_id for properties, _ in drain(channel, 'siamese.blocks')}
    assert received == {f'm{number}' for number in range(30)} - {'m17'}
    assert verdict.audit(ledger.read([args.ledger]))['in_doubt'] == ['m17']


@pytest.mark.parametrize('closes, connections', [(True, 1), (False, 2)], ids=['closes', 'mute'])
def test_a_broker_that_neither_confirms_nor_closes_the_channel(
    url, channel, monkeypatch, capfd, closes, connections
):
    """A new channel is opened after the deadline; a new connection if that is not answered."""
    monkeypatch.setattr(patience, 'CONFIRM_TIMEOUT_S', 3)
    swallowed = []

    def swallow(data):
        for frame in (ACK, CLOSE_OK)[: 1 if closes else 2]:
            if re.search(frame, data, re.DOTALL) and frame not in swallowed:
                swallowed.append(frame)
                data = re.sub(frame, b'', data, flags=re.DOTALL)
        return data

    with proxy.in_front_of(url, alter=swallow) as between:
        args = producer.parse_args(['--url', between.url])
        with connected(args, producer.declare) as link:
            link.publish('', args.queue, b'x', pika.BasicProperties(message_id='m1'))
        assert (
            link.exit_status == 0
            and link.counts['confirmed'] == 1
            and between.accepted == connections
        )
    log = capfd.readouterr().err
    assert re.search(r'no confirm for \d+ s', log)
    assert ('a channel cannot be closed' in log) is not closes
    assert [properties.message_id for properties, _ in drain(channel, 'siamese.blocks')] == [
        'm1',
        'm1',
    ]


def test_tls_is_verified(run, url, tmp_path, channel):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert('localhost').configure_cert(tls)
    with proxy.in_front_of(url, tls) as between:
        secure = between.url.replace('amqp://', 'amqps://').replace('127.0.0.1', 'localhost')
        done = run(
            'producer.py', '--count', 1, '--url', f'{secure}?cacertfile={tmp_path / "ca.pem"}'
        )
        assert done.status == 0, done.err
        done = run('producer.py', '--count', 1, '--url', secure)
        assert done.status == 3 and 'certificate of localhost cannot be verified' in done.err
        assert 'cacertfile' in done.err and 'Traceback' not in done.err
        done = run('producer.py', '--count', 1, '--url', f'{secure}?verify=verify_none')
        assert done.status == 0
    assert len(drain(channel, 'siamese.blocks')) == 2


def test_tls_is_verified_at_each_url(run, url, tmp_path, channel):
    """Two brokers with certificates of their own; the first is away, or not trusted."""
    with contextlib.ExitStack() as stack:
        betweens, urls = [], []
        for name in 'one', 'two':
            authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.cert_pem.write_to_path(str(tmp_path / name))
            authority.issue_cert('localhost').configure_cert(tls)
            betweens.append(stack.enter_context(proxy.in_front_of(url, tls)))
            urls.append(
                betweens[-1].url.replace('amqp://', 'amqps://').replace('127.0.0.1', 'localhost')
            )
        distrusted = f'{urls[0]}?cacertfile={tmp_path}/two,{urls[1]}?cacertfile={tmp_path}/two'
        done = run('producer.py', '--count', 1, '--quiet', '--url', distrusted)
        assert (
            done.status == 0
            and 'cannot be verified' in done.err
            and 'trying the next URL' in done.err
        )
        betweens[0].refuse()
        trusted = f'{urls[0]}?cacertfile={tmp_path}/one,{urls[1]}?cacertfile={tmp_path}/two'
        done = run('producer.py', '--count', 1, '--quiet', '--url', trusted)
        assert done.status == 0 and 'broker unreachable at localhost' in done.err
    assert len(drain(channel, 'siamese.blocks')) == 2


def test_tls_where_there_is_none_or_for_another_name(run, url, tmp_path):
    done = run('producer.py', '--count', 1, '--url', url.replace('amqp:', 'amqps:'))
    assert done.status == 3 and 'speaks no TLS; is the port right' in done.err.splitlines()[-1]
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    authority.issue_cert('elsewhere.example').configure_cert(tls)
    with proxy.in_front_of(url, tls) as between:
        secure = between.url.replace('amqp://', 'amqps://').replace('127.0.0.1', 'localhost')
        done = run(
            'producer.py', '--count', 1, '--url', f'{secure}?cacertfile={tmp_path / "ca.pem"}'
        )
    assert (
        done.status == 3
        and 'see ?server_name_indication=NAME' in done.err
        and 'cacertfile' not in done.err
    )


def test_a_duration_ends_it_while_the_broker_is_silent(run, url):
    with proxy.in_front_of(url) as between:
        between.hold()
        done = run('validate.py', '--duration', 0.5, '--json', '-', '--url', between.url)
    assert json.loads(done.out)['duration_s'] < 10, done.err  # pika waits for 15 s


def test_the_ledger_tells_the_whole_story(run, tmp_path):
    path = tmp_path / 'run.jsonl'
    assert (
        run(
            'producer.py', '--count', 2, '--name', 'alice', '--ledger', path, '--difficulty', 1
        ).status
        == 0
    )
    events = [one for line in ledger.read([str(path)]) for one in ledger.singly(line)]
    assert [
        event['event']
        for event in events
        if event['id' if 'id' in event else 'by'].endswith(('-1', 'alice'))
    ] == ['connected', 'attempted', 'confirmed', 'closed']
    assert {event['by'] for event in events} == {'alice'} and len(
        {event['run'] for event in events}
    ) == 1


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (ConnectionRefusedError(111, 'Connection refused'), 'Connection refused'),
        (
            Exception("Stream lost: ConnectionResetError(104, 'Connection reset by peer')"),
            'Connection reset by peer',
        ),
        (Exception(Exception('inner')), 'inner'),
        (TimeoutError(), 'TimeoutError'),
        (Exception('closed (320): "Timeout while setting up AMQP"'), 'no answer'),
        (
            pika.exceptions.ChannelClosedByBroker(406, 'late. Timeout value used: 2 ms'),
            'late. Timeout value used: 2 ms',
        ),
    ],
)
def test_causes_in_a_few_words(error, text):
    assert errors.cause(error) == text
