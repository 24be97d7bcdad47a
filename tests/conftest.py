"""What tests share: one RabbitMQ for all of them, a virtual host for each, and scripts as processes."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pika
import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from siamese.testbed import rabbitmq as broker_module  # noqa: E402

settings.register_profile('patient', deadline=None)  # a stalled machine must not fail a test
settings.load_profile('patient')

PATIENCE = 120  # s until a test that waits for something gives up; a stalled machine must not fail it


def wait_until(condition, what='condition', patience=PATIENCE):
    """Return the first true value of `condition()`; fail when there is none in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.05)
    pytest.fail(f'{what} did not come about within {patience} s')


def spell(seconds):
    """Let a fault last: nothing tells from outside that a script has tried in vain."""
    threading.Event().wait(seconds)


def replace_once(old, new):
    """Return a function for proxy.before(alter=) that replaces the first `old` it sees, and a list that then has it."""
    done = []

    def alter(data):
        if old in data and not done:
            done.append(old)
            return data.replace(old, new, 1)
        return data
    return alter, done


class Running:
    """A script as a process. What it prints is read as it comes, so that a test can wait for a line."""

    def __init__(self, *argv, env=None, cwd=ROOT):
        argv = [sys.executable, *argv] if str(argv[0]).endswith('.py') else argv
        self.process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, encoding='utf-8', cwd=cwd,
                                        env={**os.environ, 'PYTHONUTF8': '1', 'PYTHONUNBUFFERED': '', **(env or {})})
        self.out, self.err = [], []
        self.readers = [threading.Thread(target=lines.extend, args=(stream,), daemon=True) for lines, stream in
                        ((self.out, self.process.stdout), (self.err, self.process.stderr))]
        for reader in self.readers:
            reader.start()

    def wait_for(self, text, lines=None):
        """Wait for `text` in the log (or in `lines`, self.out say), and return its line."""
        lines = self.err if lines is None else lines
        return wait_until(lambda: next((line for line in list(lines) if text in line), None),
                          f'{text!r} in {self.process.args[1:]}: {"".join(self.err)}')

    def send(self, number):
        self.process.send_signal(number)

    def end(self, patience=PATIENCE):
        """Wait until it ends; return status, out and err."""
        self.process.wait(patience)
        for reader in self.readers:
            reader.join(patience)
        return SimpleNamespace(status=self.process.returncode, out=''.join(self.out), err=''.join(self.err))

    def stop(self, number=signal.SIGINT):
        """Send a signal, and return how it ended."""
        self.send(number)
        return self.end()


@pytest.fixture(scope='session')
def broker():
    """The RabbitMQ of this test run, with the management plugin."""
    for variable in ('AMQP_URL', 'MANAGEMENT_URL'):
        os.environ.pop(variable, None)
    with broker_module.throwaway(management=True) as throwaway:
        yield throwaway


def manage(broker, method, path):
    """Call the management API; return the body."""
    scheme, _, rest = broker.management_url.partition('://')
    login, _, host = rest.partition('@')
    request = urllib.request.Request(f'{scheme}://{host}/api/{path}', b'' if method == 'PUT' else None, method=method)
    request.add_header('Authorization', 'Basic ' + base64.b64encode(login.encode()).decode())
    request.add_header('Content-Type', 'application/json')
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


@pytest.fixture
def url(broker, request):
    """The URL of a virtual host of this test's own: no other test sees its queues."""
    vhost = quote(f'{request.node.name[:60]}-{time.monotonic_ns()}', safe='')
    manage(broker, 'PUT', f'vhosts/{vhost}')
    yield broker.url.replace('%2F', vhost)
    manage(broker, 'DELETE', f'vhosts/{vhost}')


@pytest.fixture
def start(url):
    """A function that starts a script against this test's virtual host; what still runs at the end is killed."""
    started = []

    def start(*argv, **env):
        started.append(Running(*argv, env={'AMQP_URL': url, **env}))
        return started[-1]
    yield start
    for running in started:
        running.process.kill()
        running.end()


@pytest.fixture
def run(start):
    """A function that runs a script to its end against this test's virtual host."""
    return lambda *argv, **env: start(*argv, **env).end()


@pytest.fixture
def channel(url):
    """A channel of the test's own: its independent look at the queues."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):  # a test may have had it closed
        connection.close()


def sync(broker):
    """Have the broker write to disk what was declared. When RabbitMQ dies a moment after a declaration, it forgets the
    queue, and with it what was confirmed."""
    assert broker.ctl('eval', 'mnesia:sync_log().').strip() == 'ok'


def waiting(channel, queue):
    """Return how many messages wait in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count


def judge(run, ledger):
    """Return audit.py's exit status and findings."""
    done = run('audit.py', ledger, '--json', '-', '--quiet')
    return done.status, json.loads(done.out)


def drain(channel, queue):
    """Return and acknowledge all messages that wait in a queue as [(properties, body)]."""
    messages, expected = [], waiting(channel, queue)
    if expected:
        channel.basic_qos(prefetch_count=1000)  # a quorum queue stops at 2,000 unacknowledged (RabbitMQ 3.10.8)
        for method, properties, body in channel.consume(queue, inactivity_timeout=PATIENCE):
            assert method, f'{expected} messages waited in {queue}, {len(messages)} came'
            messages.append((properties, body))
            if len(messages) == expected or not len(messages) % 500:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if len(messages) == expected:
                break
        channel.cancel()
    return messages
