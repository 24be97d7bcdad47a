"""broker.py against real processes: what it starts works, and nothing of it is left behind."""

import contextlib
import glob
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid

import pika
import psutil
import pytest
from support.processes import TEST_TIMEOUT_S, wait_until
from support.queues import flush_broker_metadata

from siamese import ROOT
from siamese.messaging import blocking
from siamese.testbed import product, rabbitmq

SCRIPT = str(ROOT / 'broker.py')
COPIED = (
    'broker.py',
    'siamese/__init__.py',
    'siamese/testbed/__init__.py',
    'siamese/absent.py',
    'siamese/start.py',
    'siamese/redacted.py',
    'siamese/testbed/guard.py',
    'siamese/testbed/product.py',
    'siamese/testbed/qpid.py',
    'siamese/testbed/rabbitmq.py',
)
PERSISTENT = pika.BasicProperties(delivery_mode=2)
# Says on stdout where the broker is and what its own arguments are, and stays until its stdin ends.
COMMAND = ['sh', '-c', 'echo "$AMQP_URL" "$@"; read -r line; exit 7', 'command']


class Place:
    """Where a test's brokers live: their folder, and a mark in the environment
    of all their processes.
    """

    def __init__(self, folder):
        self.folder = folder
        self.mark = f'TEST_BROKER_MARK={uuid.uuid4()}'

    def processes(self):
        """Return {pid: environment} of all living processes with the mark."""
        found = {}
        for path in glob.glob('/proc/[0-9]*'):
            with contextlib.suppress(OSError), open(f'{path}/environ') as file:
                environment = file.read().split('\0')
                if self.mark in environment:
                    found[int(path[6:])] = dict(entry.partition('=')[::2] for entry in environment)
        return found

    def is_empty(self):
        """Tell whether no process and no folder of a broker is left."""
        return not self.processes() and not os.listdir(self.folder)

    def listeners(self):
        """Return (address, port) of each TCP socket on which a process with the mark listens."""
        connections = [
            one for pid in self.processes() for one in psutil.Process(pid).net_connections('tcp')
        ]
        return [tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN]


@pytest.fixture
def place(monkeypatch):
    """A Place for the brokers this test starts, here or as processes; at the
    end it must be empty.
    """
    folder = tempfile.mkdtemp(prefix='test-broker-')
    os.chmod(folder, 0o777)
    place = Place(folder)
    monkeypatch.setenv(*place.mark.split('='))
    monkeypatch.setenv('TMPDIR', folder)
    monkeypatch.setattr(tempfile, 'tempdir', None)  # look at TMPDIR again
    yield place
    try:
        wait_until(place.is_empty)
    finally:  # not even a test that failed leaves something behind
        for pid in place.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture(scope='module')
def one(throwaway):
    """One node, shared by the tests that leave it running."""
    with throwaway() as b:
        yield b


def start(*args, prefix=(sys.executable, SCRIPT)):
    return subprocess.Popen(
        [*prefix, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding='utf-8',
        start_new_session=True,
    )


def hammer(kill, process, number):
    """Send a signal again and again, also while it cleans up, and return the
    exit status and the log.
    """
    deadline = time.monotonic() + TEST_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        kill(process.pid, number)
    return process.wait(0), process.communicate()[1]


def run(*args):
    return subprocess.run(
        [sys.executable, SCRIPT, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
    )


@contextlib.contextmanager
def channel(url):
    """Yield a channel in confirm mode."""
    with blocking.connected(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def put(url, queue, body, arguments=None):
    with channel(url) as ch:
        ch.queue_declare(queue, durable=True, arguments=arguments)
        ch.basic_publish('', queue, body, PERSISTENT, mandatory=True)


def get(url, queue):
    with channel(url) as ch:
        return ch.basic_get(queue, auto_ack=True)[2]


def assert_works(url):
    """A message that is published at `url` is delivered there."""
    queue = str(uuid.uuid4())
    body = os.urandom(8)
    put(url, queue, body)
    assert get(url, queue) == body


def port(url):
    return pika.URLParameters(url).port


def is_open(url):
    """Tell whether somebody accepts TCP connections at `url`."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(('127.0.0.1', port(url)), timeout=1),
    ):
        return True


# As a command


def test_a_command_finds_the_broker_and_its_exit_status_is_passed_on(place):
    process = start(*COMMAND, '--count', '3', '--nodes', '9', '--help')
    url, *flags = process.stdout.readline().split()
    assert flags == ['--count', '3', '--nodes', '9', '--help']
    assert_works(url)
    _, log = process.communicate('\n')
    assert process.returncode == 7
    wait_until(place.is_empty)
    lines = log.splitlines()
    prefix = rf'\d\d:\d\d:\d\d broker\.py@{re.escape(socket.gethostname())}:{process.pid} '
    assert re.fullmatch(prefix + 'starting RabbitMQ', lines[0])
    assert re.fullmatch(prefix + r'RabbitMQ is up after \d+\.\d s', lines[1])
    assert len(lines) == 2


def test_sigterm_is_passed_on_and_death_by_signal_is_128_plus_its_number(place):
    process = start(*COMMAND)
    url = process.stdout.readline().strip()
    status, log = hammer(os.kill, process, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM and 'Traceback' not in log
    assert not is_open(url)


def test_ctrl_c_on_a_terminal_leaves_the_command_time_to_end_by_itself(place):
    code = """if True:
        import os, socket, sys, time
        assert all(os.isatty(fd) for fd in (0, 1, 2))
        try:
            print('ready', flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            port = int(os.environ['AMQP_URL'].rsplit(':', 1)[1].split('/')[0])
            socket.create_connection(('127.0.0.1', port)).close()
            print('the broker is still there', flush=True)
            sys.exit(5)"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, SCRIPT, sys.executable, '-c', code])
    output = b''
    with contextlib.suppress(OSError):  # the end of a terminal
        while True:
            output += os.read(terminal, 1000)
            if output.endswith(b'ready\r\n'):
                os.write(terminal, b'\x03')
    assert b'the broker is still there' in output
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)


def test_a_command_that_does_not_exist_exits_with_127():
    done = run('./no-such-command', '--count', '3')
    assert done.returncode == 127
    assert len(done.stderr.splitlines()) == 1 and './no-such-command' in done.stderr


def test_a_command_that_is_not_a_program_exits_with_126(place):
    text = os.path.join(place.folder, 'text')
    with open(text, 'w') as file:
        file.write('this is no program')
    os.chmod(text, 0o755)
    done = run(text)
    os.remove(text)
    assert done.returncode == 126
    assert 'Traceback' not in done.stderr and text in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    'args',
    [
        ['--nodes', '2'],
        ['--nodes', 'x'],
        ['--count', '3'],
        ['--man', 'true'],
        ['--oauth2', '/none'],
        ['--oauth2', 'README.md'],
        ['--oauth2', sys.executable],
    ],
)
def test_bad_usage_exits_with_2(args):
    done = run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith('broker.py: error: ')


def test_three_at_once_leave_nothing_behind_whatever_signal_ends_them(place):
    """Started at the same moment they do not disturb each other, and even
    SIGKILL leaves nothing.
    """
    started = {
        number: start('--management') for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    }
    urls = []
    for process in started.values():
        amqp, http = process.stdout.readline(), process.stdout.readline()
        urls.append(
            re.fullmatch(r'export AMQP_URL=(amqp://guest:guest@127\.0\.0\.1:\d+/%2F)\n', amqp)[1]
        )
        assert re.fullmatch(r'export MANAGEMENT_URL=http://guest:guest@127\.0\.0\.1:\d+\n', http)
    for url, (number, process) in zip(urls, started.items()):
        assert_works(url)
        status, log = hammer(os.killpg, process, number)
        expected = 0
        if number == signal.SIGKILL:
            expected = -signal.SIGKILL
        assert status == expected and 'Traceback' not in log
        wait_until(lambda url=url: not is_open(url))
    wait_until(place.is_empty)


def test_a_signal_while_it_starts_leaves_nothing_behind(place):
    process = start(*COMMAND)
    wait_until(
        lambda: any(
            'RABBITMQ_NODENAME' in environment for environment in place.processes().values()
        )
    )
    status, log = hammer(os.kill, process, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM and 'Traceback' not in log


def copy_into(folder):
    """Copy broker.py and the modules it imports; return the path of the copy."""
    for name in COPIED:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(ROOT / name, path)
    return os.path.join(folder, 'broker.py')


def remove_copy(folder):
    os.remove(os.path.join(folder, 'broker.py'))
    shutil.rmtree(os.path.join(folder, 'siamese'))


def test_an_ordinary_user_can_start_it_and_sigkill_leaves_nothing_behind(place):
    """Its command must not be left behind either, trying forever to reach a broker."""
    script = copy_into(place.folder)
    drop, owner = [], os.getuid()
    if owner == 0:
        drop = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
        owner = 65534
    process = start(*COMMAND, prefix=(*drop, '/usr/bin/python3', script))
    assert_works(process.stdout.readline().strip())
    owners = {os.stat(f'/proc/{pid}').st_uid for pid in place.processes()}
    assert owners == {owner}
    remove_copy(place.folder)
    process.kill()
    process.wait()
    wait_until(place.is_empty)
    process.communicate()


def test_without_rabbitmq_it_says_how_to_install_it(place, monkeypatch):
    monkeypatch.setenv('RABBITMQ_HOME', place.folder)
    done = run('true')
    assert done.returncode == 3
    for line in (
        'sudo apt-get install rabbitmq-server',
        'sudo dnf install rabbitmq-server',
        'brew install rabbitmq',
        'docker run --rm',
    ):
        assert line in done.stderr
    assert 'Traceback' not in done.stderr and 'guest' not in done.stderr
    with (
        pytest.raises(product.NotInstalled, match='rabbitmq-server was not found'),
        rabbitmq.throwaway(),
    ):
        pass


def test_without_qpid_it_says_how_to_install_it(place, monkeypatch):
    monkeypatch.setenv('QPID_HOME', place.folder)
    done = run('--product', 'qpid', 'true')
    assert done.returncode == 3 and 'make qpid' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    'flags',
    [
        ['--product', 'qpid', '--nodes', '3'],
        ['--product', 'qpid', '--management'],
        ['--product', 'rabbitmq', '--lenient'],
        ['--product', 'other'],
    ],
    ids=' '.join,
)
def test_what_a_product_does_not_have_is_a_usage_error(flags):
    done = run(*flags, 'true')
    assert done.returncode == 2 and done.stderr.count('\n') == 1


def test_the_log_of_a_server_that_fails_is_quoted(place, monkeypatch):
    home = tempfile.mkdtemp()
    os.mkdir(f'{home}/sbin')
    with open(f'{home}/sbin/rabbitmq-server', 'w') as file:
        file.write('#!/bin/sh\necho all is well\necho Error: out of luck\nexit 4\n')
    os.chmod(file.name, 0o755)
    monkeypatch.setenv('RABBITMQ_HOME', home)
    done = run('true')
    shutil.rmtree(home)
    assert done.returncode == 3
    assert 'ended with status 4' in done.stderr and 'Error: out of luck' in done.stderr
    assert 'Traceback' not in done.stderr and 'guest' not in done.stderr


# As a context manager


def test_programs_on_the_usual_ports_do_not_matter(place, monkeypatch):
    """Neither they nor the administrator's variables matter; everything listens
    on loopback only.
    """
    for name, value in {
        'RABBITMQ_NODENAME': 'rabbit@localhost',
        'RABBITMQ_BOOT_MODULE': 'no_such_module',
        'RABBITMQ_MNESIA_BASE': '/nonexistent',
        'ERL_EPMD_PORT': '4369',
    }.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        taken = []
        for number in (5672, 4369, 25672, 15672):
            with contextlib.suppress(OSError):  # then a real RabbitMQ holds it, even better
                taken.append(stack.enter_context(socket.create_server(('127.0.0.1', number))))
        b = stack.enter_context(rabbitmq.throwaway(management=True))
        assert_works(b.url)
        with urllib.request.urlopen(authorized(f'{b.management_url}/api/overview')) as answer:
            assert json.load(answer)['management_version']
        listeners = place.listeners()
        assert {address for address, _ in listeners} <= {'127.0.0.1', '::1'}
        ports = {number for _, number in listeners}
        assert {port(b.url), int(b.management_url.rsplit(':', 1)[1])} <= ports and len(ports) == 4
        with open('/proc/sys/net/ipv4/ip_local_port_range') as file:
            low, high = map(int, file.read().split())
        assert all(number > 1023 and not low <= number <= high for number in ports)
        assert select.select(taken, [], [], 0)[0] == []  # nobody knocked


def authorized(url):
    """Return a request to `url` with its user and password in a header, where urllib wants them."""
    scheme, user, password, host = re.fullmatch(r'(\w+)://(\w+):(\w+)@(.*)', url).groups()
    request = urllib.request.Request(f'{scheme}://{host}')
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, request.full_url, user, password, is_authenticated=True)
    return urllib.request.HTTPBasicAuthHandler(manager).http_request(request)


def test_an_exception_in_the_body_leaves_only_the_other_broker(place, one):
    with pytest.raises(ZeroDivisionError), rabbitmq.throwaway(started=False) as b:
        assert b.urls == [b.url] and b.management_url is None
        assert not is_open(b.url)
        b.start()
        assert_works(b.url)
        assert_works(one.url)
        raise ZeroDivisionError
    wait_until(place.is_empty)
    assert_works(one.url)


@pytest.mark.any_broker
@pytest.mark.parametrize('steps', [['kill'], ['pause', 'stop']], ids=' '.join)
def test_a_persistent_message_survives_a_restart(one, steps):
    """And a paused node can be stopped gracefully."""
    put(one.url, steps[-1], b'durable and persistent')
    flush_broker_metadata(one)
    for step in steps:
        getattr(one, step)()
    assert not is_open(one.url)
    one.start()
    assert get(one.url, steps[-1]) == b'durable and persistent'


def test_a_paused_node_answers_after_resume(one):
    with channel(one.url) as ch:
        queue = ch.queue_declare('', exclusive=True).method.queue
        one.pause()
        assert is_open(one.url)
        assert rabbitmq.ask(port(one.url), b'AMQP\0\0\x09\1') == b''
        timer = threading.Timer(1, one.resume)
        began = time.monotonic()
        timer.start()
        ch.basic_publish('', queue, b'')  # returns when confirmed
        assert time.monotonic() - began >= 1
        timer.join()
    assert_works(one.url)


def test_ctl_returns_the_output_or_raises(one):
    one.ctl('add_vhost', 'with ctl')
    assert 'with ctl' in one.ctl('list_vhosts', '--quiet').splitlines()
    with pytest.raises(
        subprocess.CalledProcessError, match='no_such_vhost|does not exist'
    ) as failure:
        one.ctl('delete_vhost', 'no such vhost')
    assert failure.value.returncode != 0


def test_it_starts_on_other_ports_if_one_is_taken(place):
    """Somebody is faster at one of the ports: it starts with others."""
    thieves = []

    def steal():
        ports = wait_until(
            lambda: (
                {
                    environment.get('RABBITMQ_DIST_PORT')
                    for environment in place.processes().values()
                }
                - {None}
            )
        )
        thieves.append(socket.create_server(('127.0.0.1', int(ports.pop()))))

    thief = threading.Thread(target=steal)
    thief.start()
    with rabbitmq.throwaway() as b:
        thief.join()
        assert_works(b.url)
        assert b.ports[0][1] != thieves[0].getsockname()[1]
    thieves[0].close()


def test_only_the_nodes_of_a_cluster_are_told_of_peers():
    """RabbitMQ 3.8.9 waits for them, up to a minute."""
    assert rabbitmq.peers_of(1) == ''
    assert rabbitmq.peers_of(3).count('classic_config.nodes') == 3


def test_another_rabbitmq_on_its_port_is_not_mistaken_for_it(place, one):
    """It is not mistaken for ours; as the URL is known already, no other port will do."""
    greeting = rabbitmq.ask(port(one.url), b'AMQP\0\0\x09\1')
    assert b'RabbitMQ' in greeting

    def greet(listener):
        with contextlib.suppress(OSError):  # until it is shut down
            while True:
                connection, _ = listener.accept()
                connection.sendall(greeting)
                connection.close()

    with (
        rabbitmq.throwaway(started=False) as b,
        socket.create_server(('127.0.0.1', port(b.url))) as listener,
    ):
        other = threading.Thread(target=greet, args=[listener])
        other.start()
        with pytest.raises(product.DidNotStart, match='(?s)(eaddrinuse|in use).*start it again'):
            b.start()
        listener.shutdown(socket.SHUT_RDWR)
        other.join()


def test_a_cluster_of_three_survives_the_loss_of_a_node(place):
    with rabbitmq.throwaway(nodes=3) as b:

        def running(node):
            return len(
                json.loads(b.ctl('cluster_status', '--formatter=json', node=node))['running_nodes']
            )

        assert len(b.urls) == len(set(b.urls)) == 3 and b.url == ','.join(b.urls)
        assert running(node=0) == 3
        put(b.urls[0], 'q', b'first', {'x-queue-type': 'quorum'})
        b.kill(0)
        assert not is_open(b.urls[0])
        wait_until(lambda: running(node=1) == 2)
        put(b.urls[1], 'q', b'second', {'x-queue-type': 'quorum'})
        assert get(b.urls[2], 'q') == b'first'
        b.start(0)
        assert running(node=0) == 3
        assert get(b.urls[0], 'q') == b'second'
