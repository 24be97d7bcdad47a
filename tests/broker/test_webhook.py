"""webhook.py: what monitor.py posts, at a real HTTP server."""

import contextlib
import json
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pika
import pytest
import trustme
from support.clock import Clock
from support.messages import DEAD_LETTERS, declare_dead
from support.monitor import watch
from support.processes import wait_until
from support.serving import serving

from siamese.monitoring import database, dead_letters

SECRET = 'T00-hush'


class Chat:
    """A server of a chat. `answer` is what it answers: status, headers, body."""

    def __init__(self, tls=None):
        self.posts = []
        self.asked = []  # (method, path)
        self.tried = []  # what came, taken or not
        self.answer = (200, {}, b'ok')
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), self.handler())
        self.server.daemon_threads = True
        scheme = 'http'
        if tls:
            scheme = 'https'
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f'{scheme}://127.0.0.1:{self.server.server_port}/services/{SECRET}'

    def handler(self):
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do(self):
                chat.asked.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                status, headers, answer = chat.answer
                if body:
                    chat.tried.append(json.loads(body))
                if status == 200:
                    assert self.headers['Content-Type'] == 'application/json'
                    chat.posts.append(json.loads(body))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do

            def log_message(self, *_):
                """Nobody reads it."""

        return Handler

    def told(self):
        """Return how many dead letters each post tells of."""
        return self.letters_in(self.posts)

    def letters_in(self, posts):
        counts = []
        for post in list(posts):
            dead = [row for row in post['warnings'] if row['key'].startswith('dead')]
            counts.append(sum(name['count'] for row in dead for name in row['named']))
        return counts


@contextlib.contextmanager
def chatting(tls=None):
    chat = Chat(tls)
    with serving(chat.server):
        yield chat


@pytest.fixture
def chat():
    with chatting() as chat:
        yield chat


def kill_letter(channel, number=1):
    """Publish a dead letter."""
    properties = pika.BasicProperties(message_id=f'letter-{number}')
    channel.basic_publish('siamese.dlx', '', b'x', properties)


def test_alerts_are_posted_worst_first_with_remedy_and_link(start, broker, channel, tmp_path, chat):
    declare_dead(channel)
    channel.queue_declare('brief', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    channel.queue_declare('<!channel>', durable=True)
    channel.basic_publish('', '<!channel>', b'y')
    flags = '--webhook-every', 1, '--unread-after', 1, '--dashboard-url', 'https://example.org/s'
    monitor, _ = watch(start, broker, tmp_path / 'm.db', *flags, WEBHOOK_URL=chat.url)
    channel.basic_publish('', 'brief', b'x')

    def both():
        keys = [row['key'] for post in list(chat.posts) for row in post['warnings']]
        return {'unread', 'dead-expired'} <= set(keys)

    wait_until(both, 'both warnings')
    rows = {row['key']: row for post in chat.posts for row in post['warnings']}
    assert rows['unread']['text'].startswith('<!channel> waits without a consumer: 1 message')
    assert rows['unread']['link'] == 'https://example.org/s/queue?name=%3C%21channel%3E'
    assert rows['dead-expired']['text'] == 'brief: 1 dead letter, expired'
    assert 'requeues them' in rows['dead-expired']['remedy']
    assert all('<!channel>' not in post['text'] for post in chat.posts)
    assert {path for _, path in chat.asked} == {f'/services/{SECRET}'}
    done = monitor.stop()
    assert done.status == 0 and ' webhook calls; ' in done.out.replace('call;', 'calls;')
    assert SECRET not in done.err + done.out


@pytest.mark.parametrize(
    'answer, words',
    [
        ((404, {}, b'no_service'), 'it answers 404 Not Found, no_service'),
        ((500, {}, f'/services/{SECRET}'.encode()), 'it answers 500 Internal Server Error'),
        ((307, {'Location': '/elsewhere'}, b''), 'it answers 307, a redirect'),
    ],
)
def test_what_is_not_taken_is_told_everywhere_kept_and_told_later(
    answer, words, start, run, broker, channel, tmp_path, chat
):
    chat.answer = answer
    history = tmp_path / 'm.db'
    flags = '--webhook', chat.url, '--webhook-every', 0
    monitor, db = watch(start, broker, history, *flags)
    kill_letter(channel, 1)
    line = monitor.wait_for('webhook not sent, retrying')
    assert words in line and 'http://127.0.0.1:' in line
    wait_until(lambda: (database.get_fact(db, 'webhook') or {}).get('failure'), 'the failure')
    once = '--once', '--history', history, '--management-url', broker.management_url
    shown = run('monitor.py', *once)
    assert 'warning: the webhook has failed for ' in shown.out and words in shown.out
    checked = run('monitor.py', *once, '--check')
    assert checked.status == 1 and 'the webhook has failed for ' in checked.out
    kill_letter(channel, 2)
    wait_until(lambda: dead_letters.find(db)[1] == 2, 'the second dead letter')
    wait_until(lambda: chat.letters_in(chat.tried)[-1:] == [2], 'a call with both')
    chat.answer = (200, {}, b'ok')
    wait_until(lambda: chat.told() == [2], 'all that was kept, in one post')
    wait_until(lambda: not database.get_fact(db, 'webhook')['failure'], 'nothing to say')
    assert ('GET', '/elsewhere') not in chat.asked and ('POST', '/elsewhere') not in chat.asked
    done = monitor.stop()
    assert done.err.count('webhook not sent') == 1  # each reason once
    assert SECRET not in done.err + done.out + shown.out + checked.out


def test_a_server_that_says_nothing_keeps_nothing_up(start, broker, channel, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = f'http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}'
        monitor, db = watch(start, broker, tmp_path / 'm.db', '--webhook', url)
        kill_letter(channel, 1)
        silent.settimeout(60)
        with silent.accept()[0]:
            kill_letter(channel, 2)
            wait_until(lambda: dead_letters.find(db)[1] == 2, 'two dead letters')
            now = time.time()
            wait_until(lambda: database.get_fact(db, 'collected') > now, 'a collection')
            line = monitor.wait_for('webhook not sent')
            assert 'no whole answer within 30 s' in line
            done = monitor.stop()
    assert done.status == 0 and ', 0 webhook calls; ' in done.out
    assert SECRET not in done.err


def test_a_server_has_to_prove_who_it_is(start, broker, channel, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert('127.0.0.1').configure_cert(context)
    with chatting(context) as chat:
        flags = '--webhook', chat.url, '--webhook-every', 0
        monitor, _ = watch(start, broker, tmp_path / 'm.db', *flags)
        kill_letter(channel)
        assert 'its certificate does not hold' in monitor.wait_for('webhook not sent')
        assert monitor.stop().status == 0 and chat.asked == []
        watch(start, broker, tmp_path / 'm.db', *flags, SSL_CERT_FILE=str(tmp_path / 'ca.pem'))
        wait_until(lambda: chat.told() == [1], 'the post')


def test_each_dead_letter_is_in_one_post_whatever_the_clock_does(
    start, broker, channel, tmp_path, chat
):
    """It is an hour ahead and then right, and hours behind and then right."""
    clock = Clock(tmp_path)
    flags = '--webhook', chat.url, '--webhook-every', 1
    for number, seconds in enumerate((3600, 0, -7200, 0), 1):
        clock.set(seconds)
        if number == 1:
            watch(start, broker, tmp_path / 'm.db', *flags, **clock.env)
        kill_letter(channel, number)
        wait_until(lambda n=number: sum(chat.told()) == n, f'{number} dead letters in posts')
    assert chat.told() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    'url', [f'ftp://h/{SECRET}', f'https://h/{SECRET} x', f'http://me:{SECRET}@example.org']
)
def test_a_bad_url_is_a_usage_error_that_tells_no_secret(run, tmp_path, url):
    for flags, env in (['--webhook', url], {}), ([], {'WEBHOOK_URL': url}):
        done = run('monitor.py', '--history', tmp_path / 'm.db', *flags, **env)
        assert done.status == 2 and 'bad webhook URL' in done.err
        assert SECRET not in done.err
