"""cleanup.py: it finds what the scripts made, deletes that, and nothing else."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.documents import environment
from support.processes import TEST_TIMEOUT_S, Running, wait_until
from support.queues import manage, waiting

from siamese import ROOT

NO_API = 'http://127.0.0.1:1'
THEIRS = 'orders'


@pytest.fixture
def clean(run, broker):
    """A function that runs cleanup.py with the management API."""
    return lambda *flags: run('cleanup.py', *flags, '--management-url', broker.management_url)


@pytest.fixture
def made(run, channel):
    """What scripts made, with three messages, and what somebody else made."""
    run('producer.py', '--difficulty', 0, '--count', 3, '--quiet')
    run('validate.py', '--duration', 0)
    run('fanout_consumer.py', 'bert', '--duration', 0)
    run('fanout_consumer.py', '--duration', 0)
    channel.queue_declare(THEIRS, durable=True)
    channel.exchange_declare(THEIRS, durable=True)
    return sorted([socket.gethostname(), 'bert', 'siamese.blocks', 'siamese.dead'])


def names(done, kind):
    """Return the names of a kind in the JSON of a run, in order."""
    return [one['name'] for one in json.loads(done.out)['found'] if one['kind'] == kind]


def on_broker(broker, url, path):
    """Return the names that the management API has at a path of the virtual host of a URL."""
    vhost = url.rpartition('/')[2]
    found = json.loads(manage(broker, 'GET', f'{path}/{vhost}'))
    names = {row['name'] for row in found} - {'', THEIRS}  # '' is the default exchange
    return sorted(name for name in names if not name.startswith('amq.'))


def test_it_lists_what_scripts_made_and_nothing_else(clean, made):
    done = clean('--json', '-')
    assert done.status == 0 and done.err == ''
    assert names(done, 'queue') == made
    assert names(done, 'exchange') == ['siamese.dlx', 'siamese.fanout']
    assert names(done, 'policy') == names(done, 'user') == []
    summary = json.loads(done.out)
    assert (summary['messages'], summary['deleted']) == (3, 0)
    shown = [line.split() for line in clean().out.splitlines()]
    assert shown[0] == ['queue', 'messages', 'consumers']
    assert ['siamese.blocks', '3', '0'] in shown and ['exchange', 'siamese.dlx'] in shown
    quiet = clean('--quiet')
    assert quiet.out.startswith('4 queues, 2 exchanges, 0 policies, 0 users; messages waiting: 3')


def test_it_deletes_all_that_but_messages_only_with_yes(clean, made, broker, url):
    first = clean('--delete')
    assert first.status == 3
    assert 'queue siamese.blocks: left, it holds 3 messages; see --yes\n' in first.out
    assert (
        'queue bert: deleted\n' in first.out and 'exchange siamese.fanout: deleted\n' in first.out
    )
    # As long as a queue is left, its dead letters have a place.
    assert 'queue siamese.dead: left, other queues that are left dead-letter into it' in first.out
    assert 'exchange siamese.dlx: left, in use: a queue that is left is bound to it' in first.out
    assert on_broker(broker, url, 'queues') == ['siamese.blocks', 'siamese.dead']
    second = clean('--delete', '--yes')
    assert second.status == 0 and second.out.endswith('messages waiting: 3; 3 deleted\n')
    assert on_broker(broker, url, 'queues') == on_broker(broker, url, 'exchanges') == []
    assert (
        clean('--delete').out
        == '0 queues, 0 exchanges, 0 policies, 0 users; messages waiting: 0; 0 deleted\n'
    )


def test_what_is_in_use_is_left_and_named(clean, start, broker, url):
    server = start('rpc_server.py')
    server.wait_for('ready')
    client = start('rpc_client.py', '--quiet')
    client.wait_for('ready')
    done = clean('--delete', '--yes')
    assert done.status == 3
    assert 'queue siamese.rpc: left, in use by 1 consumer\n' in done.out
    assert ': left, it is exclusive, and goes with its client\n' in done.out
    assert server.stop().status == 0
    client.stop()
    assert clean('--delete', '--yes').status == 0
    assert on_broker(broker, url, 'queues') == []


def test_users_and_policies_go_too(clean, run, broker, url, api):
    vhost = url.rpartition('/')[2]
    run('roles.py', '--create', MANAGEMENT_URL=broker.management_url)
    policy = f'policies/{vhost}/siamese.check-1'
    body = {'pattern': '^siamese', 'definition': {'max-length': 9}}
    api.put(policy, body)
    api.put('users/siamese.check-1-publisher', {'password': 'x', 'tags': ''})
    api.put('users/somebody', {'password': 'x', 'tags': ''})
    try:
        done = clean('--json', '-')
        assert names(done, 'policy') == ['siamese.check-1']
        assert len(names(done, 'user')) == 5 and 'somebody' not in names(done, 'user')
        assert clean('--delete').status == 0
        users = [row['name'] for row in api.get('users')]
        assert 'somebody' in users and not [name for name in users if name.startswith('siamese')]
        assert on_broker(broker, url, 'policies') == []
    finally:
        api.delete('users/somebody')


def test_it_does_not_delete_its_own_login(clean, run, broker, url):
    run('roles.py', '--create', MANAGEMENT_URL=broker.management_url, ADMINISTRATOR_PASSWORD='own')
    own = url.replace('guest:guest', 'siamese-administrator:own')
    own_api = broker.management_url.replace('guest:guest', 'siamese-administrator:own')
    done = run('cleanup.py', '--delete', AMQP_URL=own, MANAGEMENT_URL=own_api)
    assert done.status == 3
    assert 'user siamese-administrator: left, it is this login; see AMQP_URL\n' in done.out
    assert 'user siamese-publisher: deleted\n' in done.out
    assert clean('--delete').status == 0


# ---- all of it

LISTED = ('queues', 'exchanges', 'bindings', 'users', 'policies', 'vhosts', 'permissions')
LASTING = ('vhost', 'name', 'source', 'destination', 'routing_key', 'user', 'tags', 'pattern')


def listing_of(api):
    """Return all that lasts on a broker."""
    return {
        path: sorted(str([row.get(key) for key in LASTING]) for row in api.get(path))
        for path in LISTED
    }


def in_clone(clone, *command, **env):
    """Run a command in a clone to its end, which must be good; return its stdout."""
    done = subprocess.run(
        command,
        cwd=clone,
        env=environment(**env),
        capture_output=True,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
    )
    assert done.returncode == 0, done
    return done.stdout


def run_all(commands, clone, **env):
    """Start commands in a clone; stop them as soon as all are ready."""
    started = [Running(*command.split(), cwd=clone, env=env) for command in commands]
    for running in started:
        running.wait_for('ready')
    for running in started:
        running.send(signal.SIGINT)
    for running in started:
        assert running.end().status in (0, 1, 3), running


def test_afterwards_broker_and_clone_are_as_they_were(copy, broker, url, api):
    env = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    in_clone(copy, 'git', 'init', '-q')
    in_clone(copy, 'git', 'add', '-A')
    status = ('git', 'status', '--ignored', '--porcelain')
    before = listing_of(api), in_clone(copy, *status)
    table = (ROOT / 'docs/reference/scripts.md').read_text()
    commands = re.findall(r'^\| `\w+\.py` \|.*`(\./.*?)` \|$', table, re.MULTILINE)[:10]
    run_all(commands, copy, **env)
    in_clone(copy, './roles.py', '--create', **env)
    keep = ('--history', 'runs/siamese.db', '--ledger', 'runs/run.jsonl')
    in_clone(copy, './monitor.py', *keep, '--duration', '0', **env)
    after = listing_of(api), in_clone(copy, *status)
    assert all(now != then for now, then in zip(after, before))
    in_clone(copy, './cleanup.py', '--delete', '--yes', **env)
    in_clone(copy, 'make', 'clean')
    assert (listing_of(api), in_clone(copy, *status)) == before


# ---- without the management API


def test_without_the_management_api_it_finds_the_usual_names(run, made, channel, broker, url):
    channel.queue_delete('bert')
    done = run('cleanup.py', '--json', '-', MANAGEMENT_URL=NO_API)
    assert done.status == 0
    assert 'other names than the usual ones are not found: no management API at' in done.err
    assert 'rabbitmq-plugins enable rabbitmq_management' in done.err
    assert sorted(names(done, 'queue')) == sorted({*made} - {'bert'})
    assert names(done, 'exchange') == ['siamese.dlx', 'siamese.fanout']
    assert run('cleanup.py', '--delete', '--yes', MANAGEMENT_URL=NO_API).status == 0
    assert on_broker(broker, url, 'queues') == on_broker(broker, url, 'exchanges') == []


def test_a_queue_of_others_with_the_name_of_this_host_is_left_alone(run, channel):
    host = socket.gethostname()
    channel.queue_declare(host, durable=True)
    done = run('cleanup.py', '--delete', '--yes', MANAGEMENT_URL=NO_API)
    assert done.status == 0 and host not in done.out
    assert waiting(channel, host) == 0


def test_names_stand_for_just_these_whoever_made_them(run, made, broker, url):
    done = run('cleanup.py', '--delete', 'bert', THEIRS, 'nothing', MANAGEMENT_URL=NO_API)
    assert done.status == 0 and done.err == ''
    assert f'queue {THEIRS}: deleted\nexchange {THEIRS}: deleted\n' in done.out
    assert on_broker(broker, url, 'queues') == sorted({*made} - {'bert'})


def test_a_user_without_the_permission_is_told_so(run, made, url, api):
    vhost = url.rpartition('/')[2]
    api.put('users/reader', {'password': 'x', 'tags': ''})
    api.put(f'permissions/{vhost}/reader', {'configure': '', 'write': '', 'read': '.*'})
    try:
        done = run(
            'cleanup.py', '--delete', 'bert', AMQP_URL=url.replace('guest:guest', 'reader:x')
        )
        assert done.status == 3 and 'Traceback' not in done.err
        # RabbitMQ 4 says which right is missing.
        refusal = "queue bert: left, ACCESS_REFUSED - (configure )?access to queue 'bert'"
        assert re.search(refusal, done.out)
    finally:
        api.delete('users/reader')


# ---- streams, which AMQP shows as empty and unused

STREAM = ('--queue', 'siamese.stream', '--queue-type', 'stream')


@pytest.mark.parametrize('argument', [(), ('--queue-arg', 'x-max-age=1D')])
def test_a_stream_is_deleted_only_with_yes(run, clean, broker, url, argument):
    run('perf_producer.py', *STREAM, *argument, '--count', 5, '--quiet')
    flags = '--delete', 'siamese.stream'
    for done in clean('--delete'), run('cleanup.py', *flags):
        assert done.status == 3, done
        assert 'queue siamese.stream: left, it holds' in done.out, done
    assert 'siamese.stream' in on_broker(broker, url, 'queues')
    assert run('cleanup.py', *flags, '--yes').status == 0
    assert 'siamese.stream' not in on_broker(broker, url, 'queues')


def test_a_stream_in_use_is_left(start, run, clean, broker, api, url):
    consumer = start('perf_consumer.py', *STREAM)
    consumer.wait_for('ready')
    path = f'queues/{url.rpartition("/")[2]}/siamese.stream'
    wait_until(lambda: api.get(path).get('consumers') == 1, 'the counters')
    assert 'siamese.stream: left, in use by 1 consumer\n' in clean('--delete', '--yes').out
    consumer.stop()


# ---- asking


def answer(url, broker, text, *flags):
    """Run cleanup.py --delete on a terminal, and answer its question; return status and output."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, 'cleanup.py', '--delete', *flags],
        stdin=its_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, 'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url},
        encoding='utf-8',
    )
    os.close(its_end)
    asked = ''
    while not asked.endswith('? [y/N] '):
        char = process.stderr.read(1)
        assert char, asked
        asked += char
    if text is signal.SIGINT:
        process.send_signal(text)
    else:
        os.write(terminal, f'{text}\n'.encode())
    out, _ = process.communicate(timeout=TEST_TIMEOUT_S)
    os.close(terminal)
    return process.returncode, asked, out


def test_on_a_terminal_it_asks_before_it_deletes_messages(made, broker, url):
    status, asked, out = answer(url, broker, 'n')
    assert status == 3 and 'delete queue siamese.blocks and its 3 messages? [y/N] ' in asked
    assert 'queue siamese.blocks: left, it holds 3 messages' in out
    status, _, out = answer(url, broker, 'y')
    assert status == 0 and 'queue siamese.blocks: deleted' in out
    assert on_broker(broker, url, 'queues') == []


def test_a_signal_while_it_asks_deletes_nothing(made, broker, url):
    status, _, out = answer(url, broker, signal.SIGINT)
    assert status == 3 and 'queue bert: left, SIGINT\n' in out
    assert on_broker(broker, url, 'queues') == made


# ---- what ends it


class AnotherBroker(BaseHTTPRequestHandler):
    """The management API of a broker that is called elsewhere."""

    def do_GET(self):
        body = b'{"cluster_name": "elsewhere"}'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nobody reads it."""


def test_the_management_api_of_another_broker_is_refused(run):
    """Else the names of one broker would be deleted on the other."""
    with HTTPServer(('127.0.0.1', 0), AnotherBroker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run(
            'cleanup.py', '--delete', MANAGEMENT_URL=f'http://127.0.0.1:{server.server_port}'
        )
        server.shutdown()
    assert done.status == 3 and done.out == ''
    assert 'is that of another broker (elsewhere, not ' in done.err and done.err.count('\n') == 1


@pytest.mark.parametrize(
    'flags, status, complaint',
    [
        (['--yes'], 2, '--yes goes with --delete'),
        (['--management-url', 'ftp://u:secret@h'], 2, 'bad management URL'),
        (['--url', 'amqp://u:secret@127.0.0.1:1'], 3, 'broker unreachable at 127.0.0.1:1'),
    ],
)
def test_what_it_cannot_do_takes_one_line(flags, status, complaint):
    done = Running('cleanup.py', *flags).end()
    assert done.status == status and complaint in done.err
    assert done.err.count('\n') == 1 and 'secret' not in done.err
