"""The management API as scripts use it: slow, poor, strange, or behind a proxy that lies."""

import contextlib
import json
import signal
import socket
import threading
import time
from urllib.parse import quote

import pika
import pytest
import trustme
from support import api_proxy
from support.messages import declare_dead
from support.monitor import dead_ids, published, reader
from support.processes import let_fault_last, wait_until
from support.queues import manage
from support.stand_in import server_context

import common
from siamese.messaging import answers, bounded_http, management_api
from siamese.monitoring import clients, database, queues
from siamese.testbed import rabbitmq

QUEUE = 'a queue'


@pytest.fixture
def proxy(broker):
    with api_proxy.in_front_of(broker.management_url) as between:
        yield between


@pytest.fixture
def watched(start, proxy, tmp_path):
    """A function that starts monitor.py behind the proxy; it returns that, and its history."""

    def watched(*flags, **env):
        path = tmp_path / 'siamese.db'
        monitor = start(
            'monitor.py',
            '--history',
            path,
            '--interval',
            0.5,
            '--management-url',
            proxy.url,
            *flags,
            **env,
        )
        monitor.wait_for('ready')
        return monitor, reader(path)

    return watched


@pytest.fixture
def once(run, proxy, tmp_path):
    """A function that runs monitor.py --once behind the proxy."""
    flags = ('--once', '--history', tmp_path / 'none.db', '--management-url', proxy.url)
    return lambda *more: run('monitor.py', *flags, *more)


def collected(db, after=0):
    return wait_until(lambda: (database.get_fact(db, 'collected') or 0) > after, 'a collection')


# ---- slow


def test_dead_letters_flow_and_the_connection_stays_while_the_api_is_slow(
    watched, proxy, url, channel
):
    proxy.hold('/')
    declare_dead(channel)
    flags = ('--json', '-', '--management-timeout', 600)
    monitor, db = watched(*flags, AMQP_URL=f'{url}?heartbeat=4')
    wait_until(proxy.is_holding.is_set, 'the first question')
    for number in range(3):
        published(channel, 'siamese.dead', 1, app_id=str(number))
        wait_until(lambda n=number: len(dead_ids(db)) == n + 1, 'the letter')
    let_fault_last(13)  # the broker would drop a connection without heartbeats by now
    assert not database.get_fact(db, 'collected')
    proxy.release()
    collected(db)
    done = monitor.stop()
    assert done.status == 0 and json.loads(done.out)['connections'] == 1, done.err


@pytest.mark.parametrize('how', ['signal', 'duration'])
def test_a_slow_api_does_not_delay_the_end(watched, proxy, how):
    proxy.delay_s = 300
    flags = ['--duration', 2] if how == 'duration' else []
    monitor, _ = watched(*flags, '--management-timeout', 600)
    wait_until(lambda: proxy.asked, 'a question')
    begun = time.monotonic()
    if how == 'signal':
        monitor.send(signal.SIGTERM)
    done = monitor.end()
    assert done.status == 0 and time.monotonic() - begun < 60, done.err


def test_an_api_that_is_too_slow_is_named_with_the_flag(once, proxy):
    proxy.delay_s = 5
    done = once('--management-timeout', 0.5)
    assert done.status == 3
    assert 'is too slow: no whole answer within 0.5 s; see --management-timeout' in done.err


def published_count(db):
    return sum(row['published'] for row in database.by_period(db, 'year', queue=QUEUE))


def test_queues_that_the_api_hides_are_not_counted_anew(watched, proxy, channel):
    monitor, db = watched()
    collected(db)
    channel.queue_declare(QUEUE)
    published(channel, QUEUE, 7)
    wait_until(lambda: published_count(db) == 7, 'seven')
    proxy.lies = {'/queues/': (200, {}, b'[]')}
    monitor.wait_for('lists no siamese.dead, which monitor.py consumes')
    proxy.lies = {}
    collected(db, after=database.get_fact(db, 'collected'))
    assert published_count(db) == 7
    assert monitor.stop().status == 0


def test_answers_from_before_and_after_a_restart_are_not_mixed(start, tmp_path):
    with (
        rabbitmq.throwaway(management=True) as broker,
        api_proxy.in_front_of(broker.management_url) as proxy,
    ):
        flags = ('--interval', 0.5, '--management-url', proxy.url, '--url', broker.url)
        path = tmp_path / 'siamese.db'
        monitor = start('monitor.py', '--history', path, *flags)
        db = reader(path)
        collected(db)
        proxy.hold('/queues/')  # the uptime of the node has been told by then
        wait_until(proxy.is_holding.is_set, 'a question that is held')
        broker.kill()
        broker.start()
        wait_until(lambda: database.broker(db)['state'] == 'up', 'the connection')
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(broker.url))) as client:
            channel = client.channel()
            channel.queue_declare(QUEUE)
            published(channel, QUEUE, 7)
            api = management_api.api(common.endpoints(broker.url, 'test')[0], broker.management_url)
            path = f'queues/%2F/{quote(QUEUE)}'
            wait_until(lambda: 'message_stats' in api.get(path), 'figures of the broker')
        proxy.release()
        wait_until(lambda: published_count(db) >= 7, 'seven')
        for _ in range(2):
            collected(db, after=database.get_fact(db, 'collected'))
        assert published_count(db) == 7
        assert monitor.stop().status == 0


# ---- poor


@contextlib.contextmanager
def setting(broker, application, name, value):
    """Let a setting of the broker have another value for a while."""
    before = broker.ctl('eval', f'application:get_env({application}, {name}, false).')
    broker.ctl('eval', f'application:set_env({application}, {name}, {value}).')
    try:
        yield
    finally:
        broker.ctl('eval', f'application:set_env({application}, {name}, {before.strip()}).')


@pytest.mark.pair
@pytest.mark.parametrize('application', ['rabbitmq_management', 'rabbitmq_management_agent'])
def test_without_statistics_figures_are_unknown_and_the_remedy_is_told(
    once, watched, broker, channel, application
):
    name = 'disable_management_stats'
    if application.endswith('agent'):
        name = 'disable_metrics_collector'
    channel.queue_declare(QUEUE, durable=True)
    with setting(broker, application, name, 'true'):
        monitor, db = watched()
        line = monitor.wait_for('the broker gives no statistics')
        assert 'management.disable_stats' in line
        first = database.get_fact(db, 'collected')
        wait_until(lambda: database.get_fact(db, 'collected') > first + 1, 'two more')
        rows = {row['name']: row for row in queues.rows(db)}
        assert (rows[QUEUE]['ready'], rows[QUEUE]['publish_rate']) == (None, None)
        assert {row['state'] for row in clients.rows(db)} <= {'connected'}
        shown = once()
        checked = once('--check')
        done = monitor.stop()
    (row,) = [line for line in shown.out.splitlines() if line.startswith('a queue ')]
    assert shown.status == 0 and row.split()[2:] == ['?'] * 7
    assert 'unknown: the broker gives no statistics' in shown.out
    assert 'no warnings as far as is known: 2 queues, ? messages wait, ' in shown.out
    assert checked.status == 3
    assert checked.out.startswith('SIAMESE UNKNOWN - the broker gives no statistics: ')
    assert 'ready=U unacked=U unread=U oldest=U dead=0 queues=2' in checked.out
    assert done.status == 0 and done.err.count('no statistics') == 1, done.err


@pytest.mark.pair
def test_without_rates_depths_are_known(once, broker, channel):
    channel.queue_declare(QUEUE, durable=True)
    published(channel, QUEUE, 3)

    def row():
        (row,) = [line for line in once().out.splitlines() if line.startswith('a queue ')]
        return row.split()[2:]

    with setting(broker, 'rabbitmq_management_agent', 'rates_mode', 'none'):
        wait_until(lambda: row() == ['3', '0', '0', '?', '?', '?', '?'], 'what is counted')
        shown = once()
        checked = once('--check')
    assert 'unknown: the broker does not count messages: ' in shown.out
    assert f'warning: {QUEUE} waits without a consumer: 3 messages\n' in shown.out
    assert checked.status == 1 and '3 messages; the broker does not count messages' in checked.out


# ---- strange

STRANGE = [
    ('overview', {'error': 'Object Not Found', 'reason': 'Not Found'}),
    ('overview', []),
    ('nodes', {'name': 'n'}),
    ('nodes', [{}]),
    ('vhosts/', None),
    ('queues/', {'items': []}),
    ('queues/', [{'messages_ready': 1}]),
    ('/connections', 'text'),
    ('/channels', [5]),
    ('consumers/', {}),
]


def test_a_monitor_goes_on_whatever_the_api_answers(watched, proxy, channel):
    declare_dead(channel)
    monitor, db = watched()
    collected(db)
    for number, (path, answer) in enumerate(STRANGE):
        before = len(monitor.err)
        proxy.lies = {path: (200, {}, json.dumps(answer).encode())}
        line = wait_until(
            lambda n=before: next((each for each in monitor.err[n:] if ', but ' in each), None),
            f'a line about {path}',
        )
        assert 'no metrics of queues and clients: ' in line
        published(channel, 'siamese.dead', 1, app_id=str(number))
        wait_until(lambda n=number: len(dead_ids(db)) == n + 1, 'the letter')
    proxy.lies = {}
    collected(db, time.time())
    assert database.get_fact(db, 'missing')[0].startswith('no exchange amq.rabbitmq.event')
    done = monitor.stop()
    assert done.status == 0 and 'Traceback' not in done.err
    # One is of a question that was asked in between, and met the next answer.
    told = [line for line in done.err.splitlines() if ', but ' in line]
    assert len(STRANGE) <= len(told) <= len(STRANGE) + 1


def test_a_check_of_a_strange_api_is_unknown(once, proxy):
    proxy.lies = {'queues/': (200, {}, b'{"error": "\\u001b[2J\\u202e"}')}
    done = once('--check')
    assert done.status == 3 and done.out.startswith('SIAMESE UNKNOWN - the management API at ')
    assert 'answers no list at queues/' in done.out and done.out.rstrip('\n').isprintable()


# ---- the door itself


def api_of(broker, url, timeout_s=management_api.TIMEOUT_S):
    return management_api.api(common.endpoints(broker.url, 'test')[0], url, timeout_s)


def test_a_redirect_to_another_place_is_refused_and_gets_no_login(broker, proxy):
    with api_proxy.in_front_of(broker.management_url) as other:
        target = other.url.replace('guest:guest@', '')
        for where in f'{target}/api/overview', 'https://127.0.0.1:1/api/overview':
            proxy.lies = {'overview': (302, {'Location': where}, b'')}
            with pytest.raises(management_api.Refused, match=f'it redirects to {where}; the login'):
                api_of(broker, proxy.url).get('overview')
        assert other.logins == []


@pytest.fixture
def behind_tls(broker, tmp_path):
    """A proxy with a certificate for api.example.org; names: those it was asked for."""
    authority = trustme.CA()
    context = server_context(authority.issue_cert('api.example.org'))
    names = []
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    with api_proxy.in_front_of(broker.management_url, context) as between:
        between.authority = tmp_path / 'authority.pem'
        authority.cert_pem.write_to_path(between.authority)
        between.names = names
        yield between


def test_the_url_names_the_authority_and_the_name(broker, behind_tls):
    url = f'{behind_tls.url}?cacertfile={behind_tls.authority}'
    with pytest.raises(management_api.Refused, match='certificate is not valid for'):
        api_of(broker, url).get('whoami')
    named = f'{url}&server_name_indication=api.example.org'
    assert api_of(broker, named).get('whoami')['name'] == 'guest'
    assert behind_tls.names[-1] == 'api.example.org'
    with pytest.raises(management_api.Refused, match='certificate verify failed.*see .cacertfile='):
        api_of(broker, behind_tls.url).get('whoami')
    assert api_of(broker, f'{behind_tls.url}?verify=verify_none').get('whoami')


def test_the_settings_of_the_amqp_url_hold_for_the_api_at_the_same_host(behind_tls):
    keys = f'cacertfile={behind_tls.authority}&server_name_indication=api.example.org'
    for host, is_named in ('127.0.0.1', True), ('localhost', False):
        (endpoint,) = common.endpoints(f'amqps://guest:guest@{host}:1?{keys}', 'test')
        api = management_api.api(endpoint, behind_tls.url)
        if is_named:
            assert api.get('whoami')['name'] == 'guest'
        else:
            with pytest.raises(management_api.Refused, match='certificate is not valid for'):
                api.get('whoami')


def test_a_redirect_from_https_to_http_is_refused(broker, behind_tls, proxy):
    target = proxy.url.replace('guest:guest@', '')
    behind_tls.lies = {'whoami': (307, {'Location': f'{target}/api/whoami'}, b'')}
    url = f'{behind_tls.url}?verify=verify_none'
    with pytest.raises(management_api.Refused, match=f'it redirects to {target}/api/whoami; '):
        api_of(broker, url).get('whoami')
    assert proxy.logins == []


def test_a_redirect_within_is_followed(broker, proxy):
    proxy.lies = {'/old/': (301, {'Location': '/api/whoami'}, b'')}
    assert api_of(broker, f'{proxy.url}/old').get('overview')['name'] == 'guest'
    proxy.lies = {'whoami': (301, {'Location': '/api/whoami'}, b'')}
    with pytest.raises(management_api.Refused, match='more than 3 redirects'):
        api_of(broker, proxy.url).get('whoami')


@pytest.mark.pair
def test_the_reason_of_the_api_is_shown(broker):
    with pytest.raises(management_api.Refused) as refused:
        api_of(broker, broker.management_url).put('queues/%2F/q', {'durable': 5})
    assert ' answers 400 Bad Request to user ' in str(refused.value)
    assert str(refused.value).endswith(': ["not_boolean", 5]')
    with pytest.raises(management_api.Refused, match=': tags_not_present$'):
        api_of(broker, broker.management_url).put('users/nobody', {})


def test_a_proxy_that_decodes_slashes_is_explained(start, run, broker, proxy, tmp_path):
    proxy.decodes = True
    words = 'lists virtual host / but does not find it: a proxy in between turns the %2F'
    env = {'AMQP_URL': broker.url, 'MANAGEMENT_URL': proxy.url}
    done = run('monitor.py', '--once', '--history', tmp_path / 'none.db', **env)
    assert done.status == 3 and words in done.err
    done = run('roles.py', '--create', '--prefix', 'decoded', **env)
    assert done.status == 3 and words in done.err and 'no virtual host' not in done.err


@contextlib.contextmanager
def a_server(speak):
    """Yield the URL of a server that reads a request, and then speaks over the socket."""
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        peer.recv(65536)
                        speak(peer)

        threading.Thread(target=serve, daemon=True).start()
        yield f'http://guest:guest@127.0.0.1:{listener.getsockname()[1]}'
        listener.shutdown(socket.SHUT_RDWR)


def dribble(begin):
    """Return a function that sends one byte after the other, for ever."""

    def speak(peer):
        peer.sendall(begin)
        while True:
            peer.sendall(b' ')
            time.sleep(0.05)

    return speak


@pytest.mark.parametrize('begin', [b'HTTP/1.1 200', b'HTTP/1.1 200 OK\r\n\r\n'])
def test_an_answer_that_dribbles_has_an_end(broker, begin):
    with a_server(dribble(begin)) as url:
        begun = time.monotonic()
        with pytest.raises(management_api.Refused, match='no whole answer within 0.5 s'):
            api_of(broker, url, timeout_s=0.5).get('overview')
        assert time.monotonic() - begun < 60


def test_an_answer_without_end_is_not_read(broker, monkeypatch):
    monkeypatch.setattr(bounded_http, 'MOST_BYTES', 1024**2)

    def flood(peer):
        peer.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
        while True:
            peer.sendall(b' ' * 65536)

    with a_server(flood) as url, pytest.raises(management_api.Refused, match='more than 1 MiB'):
        api_of(broker, url).get('overview')


@pytest.mark.parametrize(
    'answer',
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}',
        b'HTTP/1.1 200 OK\r\n\r\n' + b'[' * 100_000,
        b'HTTP/1.1 200 OK\r\n\r\n\xff',
        b'SSH-2.0-OpenSSH\r\n',
        b'',
        b'HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n',
        b'HTTP/1.1 302 Found\r\nLocation: http://h:x/\r\n\r\n',
    ],
)
def test_what_is_no_answer_is_one_line(broker, answer):
    with a_server(lambda peer: peer.sendall(answer)) as url:
        with pytest.raises(management_api.Refused) as refused:
            answers.get_object(api_of(broker, url), 'overview')
    assert '\n' not in str(refused.value) and len(str(refused.value)) < 400


def test_a_queue_is_counted_once_though_the_api_fails_in_between(watched, proxy, channel, broker):
    _, db = watched()
    collected(db)
    channel.queue_declare(QUEUE, durable=True)
    published(channel, QUEUE, 5)
    wait_until(lambda: published_count(db) == 5, 'five')
    real = json.loads(manage(broker, 'GET', 'queues'))
    (ours,) = [one for one in real if one['name'] == QUEUE]
    for key in 'publish', 'ack':
        ours['message_stats'][key] = None
    listed = [one for one in real if one['vhost'] == ours['vhost']]
    proxy.lies = {'queues/': (200, {}, json.dumps(listed).encode())}
    collected(db, time.time() + 0.5)
    proxy.lies = {}
    collected(db, time.time() + 0.5)
    assert published_count(db) == 5
