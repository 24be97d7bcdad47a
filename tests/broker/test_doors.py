"""What listens has limits at the door: dashboard.py, token_server.py and monitor.py's /metrics."""

import contextlib
import http.client
import resource
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import trustme
from support import identity
from support.processes import TEST_TIMEOUT_S, Running, wait_until

from siamese.monitoring import database

CONNECTIONS = 2000
ANSWER_S = 2
HALF_A_BODY = b'POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na='
HALVES = (b'', b'GET / HT', b'GET / HTTP/1.1\r\nHost: localhost\r\nX: ', HALF_A_BODY)
# As on most machines; and the log of each refusal, at most once a second.
LIMITED = ('sh', '-c', 'ulimit -Sn 1024; exec "$0" "$@"', sys.executable)


STARTED = []  # by the test that runs now


@pytest.fixture(autouse=True, scope='module')
def many_files():
    """Let this process open as many connections as the tests need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max(soft, min(hard, 2 * CONNECTIONS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def nothing_left():
    """End what a test that failed has left."""
    yield
    while STARTED:
        running = STARTED.pop()
        running.process.kill()
        running.end()


def patched(script, *lines):
    """Return the words that run a script with other constants."""
    code = '; '.join(['from siamese import script', *lines, f'script.run({script}.main)'])
    return (sys.executable, '-c', f'import {script}; {code}')


def dashboard(folder, *flags, start=(*LIMITED, 'dashboard.py')):
    file = folder / 'siamese.db'
    database.open_for_writing(str(file)).close()
    return Listening('shows', *start, '--port', 0, '--history', file, *flags)


def token_server(folder, *flags, start=(*LIMITED, 'token_server.py')):
    identity.make(folder)
    words = (f'{folder}/claims.json', '--keys', f'{folder}/keys', '--port', 0)
    return Listening('takes assertions', *start, *words, *flags)


def stalled_s(pid):
    """Return how long a process had work to do, and others had the processors."""
    _, waited_ns, _ = open(f'/proc/{pid}/schedstat').read().split()
    return int(waited_ns) / 1e9


class Listening(Running):
    """A script that listens at `address`, and where to look there."""

    def __init__(self, line, *words):
        super().__init__(*words)
        STARTED.append(self)
        url = self.wait_for(line, self.out).split()[0]
        self.address = '127.0.0.1', int(url.split(':')[2].split('/')[0])
        self.path = '/jwks' if url.endswith('/token') else '/login'

    def ask(self, path=None, source=None, timeout=TEST_TIMEOUT_S, **headers):
        """Return the status of the answer to a GET, and all of it."""
        connection = http.client.HTTPConnection(
            *self.address, timeout=timeout, source_address=source
        )
        with contextlib.closing(connection):
            connection.request('GET', path or self.path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    @contextlib.contextmanager
    def in_time(self):
        """Fail if something takes longer than ANSWER_S, on a machine that has time for it."""
        began = time.monotonic()
        stalled = stalled_s('self') + stalled_s(self.process.pid)
        yield
        stalled = stalled_s('self') + stalled_s(self.process.pid) - stalled
        assert time.monotonic() - began - stalled < ANSWER_S

    def peak_mb(self):
        status = open(f'/proc/{self.process.pid}/status').read()
        return int(status.split('VmHWM:')[1].split()[0]) / 1024

    def ended(self):
        done = self.stop()
        assert done.status == 0 and 'Traceback' not in done.err, done.err[-5000:]
        return done


def connect(address, count, says=HALVES):
    """Return open connections that say only a part of what they should."""
    waiting = []
    for number in range(count):
        one = socket.create_connection(address, TEST_TIMEOUT_S)
        waiting.append(one)
        with contextlib.suppress(OSError):  # it was closed already
            one.sendall(says[number % len(says)])
    return waiting


def close(connections):
    for one in connections:
        one.close()


@pytest.mark.parametrize('serve', [dashboard, token_server])
def test_2000_connections_keep_nobody_from_being_answered(tmp_path, serve):
    server = serve(tmp_path)
    waiting = connect(server.address, CONNECTIONS)
    for source in None, ('127.0.0.2', 0):
        with server.in_time():
            assert server.ask(source=source)[0] == 200
    assert psutil.Process(server.process.pid).num_fds() < 400
    assert server.peak_mb() < 200
    close(waiting)
    done = server.ended()
    assert 0 < len(done.err) < 1_000_000
    assert done.err.count('\n') < 200, done.err[-5000:]


def test_2000_connections_that_never_end_their_tls_handshake(tmp_path):
    authority = trustme.CA()
    pem = tmp_path / 'server.pem'
    authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(pem)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = token_server(tmp_path, '--certfile', pem)
    waiting = connect(server.address, CONNECTIONS, says=[b'', b'\x16\x03\x01\x02\x00\x01'])
    connection = http.client.HTTPSConnection(
        *server.address, context=context, timeout=TEST_TIMEOUT_S
    )
    with server.in_time(), contextlib.closing(connection):
        connection.request('GET', '/jwks')
        assert connection.getresponse().status == 200
    assert psutil.Process(server.process.pid).num_fds() < 400
    close(waiting)
    assert 'whose TLS handshake was awaited: there are 64' in server.ended().err


FAST = [
    'from siamese.web import door',
    'door.HANDSHAKE = door.HANDSHAKE._replace(seconds=1)',
    'door.HEAD = door.HEAD._replace(seconds=1)',
    'door.BODY = door.BODY._replace(seconds=1)',
]


@pytest.mark.parametrize('says, stage', [(b'', 'head'), (b'GET /', 'head'), (HALF_A_BODY, 'body')])
def test_who_does_not_end_what_it_says_is_late(tmp_path, says, stage):
    server = token_server(tmp_path, start=patched('token_server', *FAST))
    (silent,) = connect(server.address, 1, [says])
    line = server.wait_for(f'closed a connection from 127.0.0.1: its request {stage} took')
    assert 'took more than 1 s' in line
    assert silent.recv(1000) == b''
    close([silent])
    server.ended()


def test_a_tls_handshake_is_late(tmp_path):
    pem = tmp_path / 'server.pem'
    trustme.CA().issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(pem)
    server = token_server(tmp_path, '--certfile', pem, start=patched('token_server', *FAST))
    (silent,) = connect(server.address, 1, [b'\x16'])
    server.wait_for('its TLS handshake took more than 1 s')
    close([silent])
    server.ended()


def flood(server, head, chunk):
    """Send a head, then a chunk again and again; return how many bytes were taken."""
    sent = 0
    with socket.create_connection(server.address, TEST_TIMEOUT_S) as connection:
        connection.sendall(head)
        with contextlib.suppress(OSError):
            while sent < 20_000_000:
                sent += connection.send(chunk)
    return sent


@pytest.mark.parametrize('serve', [dashboard, token_server])
def test_a_line_without_end_has_an_end(tmp_path, serve):
    server = serve(tmp_path)
    before = server.peak_mb()
    assert flood(server, b'GET / HTTP/1.1\r\nX: ', b'x' * 10_000) < 20_000_000
    long = b'POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n'
    assert flood(server, long, b'x' * 10_000) < 20_000_000
    assert server.ask()[0] == 200
    assert server.peak_mb() < before + 20
    server.ended()


def test_pages_without_a_websocket_do_not_pile_up(tmp_path):
    slowly = ('from siamese.web import page_limits', 'page_limits.PER_SECOND = 0.001')
    server = dashboard(tmp_path, start=patched('dashboard', *slowly))
    assert server.ask('/')[0] == 200
    before = server.peak_mb()
    answers = [server.ask('/')[0] for _ in range(100)]
    assert 79 <= answers.count(503) <= 81  # all but the 20 that an address gets at once
    assert server.ask('/', source=('127.0.0.2', 0))[0] != 503  # others are not refused
    assert server.peak_mb() < before + 30
    server.ended()


def test_it_says_how_many_lines_it_left_out(tmp_path):
    server = dashboard(tmp_path)

    def told():
        with socket.create_connection(server.address, TEST_TIMEOUT_S) as connection:
            connection.sendall(b'no http\r\n\r\n')
            connection.recv(1000)
        return [line for line in server.err if 'more like this before' in line]

    assert wait_until(told, 'a line about those left out')
    server.ended()


# ---- the login


class LoginPage(Listening):
    """A dashboard with --login, and logins there."""

    def __init__(self, folder, broker, *flags):
        file = folder / 'siamese.db'
        database.open_for_writing(str(file)).close()
        words = ('dashboard.py', '--port', 0, '--history', file, '--login')
        super().__init__('shows', *words, '--management-url', broker.management_url, *flags)

    def log_in(self, user, password, source='127.0.0.1', **headers):
        """Return the answer to a login."""
        connection = http.client.HTTPConnection(
            *self.address, timeout=TEST_TIMEOUT_S, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            form = f'user={user}&password={password}'
            connection.request('POST', '/login', form, headers)
            answer = connection.getresponse()
            answer.read()
            return answer


def test_who_guesses_passwords_has_to_wait(tmp_path, broker):
    server = LoginPage(tmp_path, broker)
    user, other = f'u{time.monotonic_ns()}', f'v{time.monotonic_ns()}'
    with ThreadPoolExecutor(30) as pool:
        many = list(pool.map(lambda number: server.log_in(user, number).status, range(30)))
    assert many.count(403) <= 5 and many.count(429) >= 25
    # The address has to wait whoever it says it is, and the user wherever he is.
    sources = (f'127.0.1.{number}' for number in range(1, 50))
    for who, source in (other, lambda: '127.0.0.1'), (user, lambda: next(sources)):
        refused = [server.log_in(who, 'x', source()) for _ in range(4)]
        late = [answer.getheader('retry-after') for answer in refused if answer.status == 429]
        assert late and all(int(seconds) > 0 for seconds in late)
    # Others do not, and it passes.
    assert server.log_in('guest', 'guest', source='127.0.0.3').status == 303
    wait_until(lambda: server.log_in('guest', 'guest').status == 303, 'a login')
    done = server.ended()
    assert 'wrong' not in done.err and done.err.count('login of') < 10


def test_a_page_is_refused_whatever_the_host_header_makes_of_its_path(tmp_path, broker):
    server = LoginPage(tmp_path, broker)
    for host in 'x/dashboard.css?', 'x/login#', 'x/login?y=', 'u:p@localhost', '', 'x y':
        assert server.ask('/', Host=host)[0] == 400
    assert server.ask('/dead?queue=a&b=%2F', Host='x', Accept='text/html')[0] == 303
    assert server.ask('/', Host='localhost')[0] == 401
    server.ended()


def test_a_proxy_is_believed_only_where_it_is_named(tmp_path, broker):
    shown = {'X-Forwarded-For': '192.0.2.7', 'X-Forwarded-Proto': 'https'}
    for flags, address in ([], '127.0.0.1'), (['--proxy', '127.0.0.1'], '192.0.2.7'):
        server = LoginPage(tmp_path, broker, *flags)
        server.log_in('nobody', 'x', **shown)
        assert f'from {address} refused' in server.wait_for('login of')
        cookie = server.log_in('guest', 'guest', **shown).getheader('set-cookie')
        assert ('; Secure' in cookie) is bool(flags)
        if flags:  # the others are not the proxy
            server.log_in('nobody2', 'x', source='127.0.0.2', **shown)
            server.wait_for('from 127.0.0.2 refused')
        server.ended()


# ---- /metrics


def test_metrics_are_for_this_machine_only(tmp_path, broker):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    words = ('--history', tmp_path / 'siamese.db', '--url', broker.url)
    monitor = Running(
        'monitor.py', *words, '--prometheus', port, '--management-url', broker.management_url
    )

    def ask(host):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=TEST_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request('GET', '/metrics', headers={'Host': host})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def told():
        with contextlib.suppress(OSError):
            return ask('localhost')
        return None

    status, text = wait_until(told, 'metrics')
    assert status == 200 and b'siamese_broker_up' in text
    monitor.wait_for('ready')
    assert ask(f'127.0.0.1:{port}')[0] == ask('[::1]')[0] == 200
    for host in 'evil.example', f'evil.example:{port}', '192.0.2.1', 'localhost/x', '':
        status, text = ask(host)
        assert status == 403 and b'siamese_' not in text
    done = monitor.stop()
    assert done.status == 0 and 'Traceback' not in done.err
