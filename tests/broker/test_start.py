"""start.py: how every script begins, with signals, without pika, under any Python."""

import os
import signal
import sys

import psutil
import pytest
from support.processes import Running
from support.scripts import CLIENTS, SCRIPTS

from siamese import ROOT

NOBODY = ('--url', 'amqp://127.0.0.1:1')
# Every script imports argparse. This one is not imported to its end, and is held up where Python
# swallows exceptions.
HELD_UP = """
import time

class Callback:
    def __del__(self):
        print('importing', flush=True)
        while True:  # a signal that comes just before a sleep does not end it
            time.sleep(0.01)

Callback()
"""
# Python takes the handlers of signals away before it deletes what modules hold; then this waits
# for a byte.
HELD_UP_AT_THE_END = """
import os
import sys

class Last:
    def __init__(self):
        self.gate = os.open(os.environ['GATE'], os.O_RDWR)

    def __del__(self, read=os.read, write=os.write):
        write(1, b'ending\\n')
        read(self.gate, 1)

if os.path.basename(sys.argv[0]).endswith('.py'):
    last = Last()
"""
# Runs a script of its first argument as an older Python would.
OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 8, 18)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def held_up(tmp_path_factory):
    folder = tmp_path_factory.mktemp('held_up')
    (folder / 'argparse.py').write_text(HELD_UP)
    return str(folder)


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_signal_while_it_imports_ends_it_at_once_and_in_silence(name, held_up):
    for number in signal.SIGINT, signal.SIGTERM:
        running = Running(name, env={'PYTHONPATH': held_up})
        running.wait_for('importing', running.out)
        done = running.stop(number)
        assert done.status == 130
        assert done.err == ''


def test_a_script_in_the_background_of_a_shell_hears_sigint_too(held_up):
    """Such a shell has it ignored."""
    command = ['sh', '-c', f'{sys.executable} producer.py & wait $!; echo status $?']
    running = Running(*command, env={'PYTHONPATH': held_up})
    running.wait_for('importing', running.out)
    (script,) = psutil.Process(running.process.pid).children()
    script.send_signal(signal.SIGINT)
    assert running.end().out.endswith('status 130\n')


@pytest.mark.parametrize('name', ['audit.py', 'producer.py'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_ends_leaves_the_status_as_it_is(name, number, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(HELD_UP_AT_THE_END)
    gate = tmp_path / 'gate'
    os.mkfifo(gate)
    running = Running(name, '--help', env={'PYTHONPATH': str(tmp_path), 'GATE': str(gate)})
    running.wait_for('ending', running.out)
    running.send(number)
    with open(gate, 'wb') as opened:
        opened.write(b'1')
    assert running.end().status == 0


@pytest.mark.parametrize('name', SCRIPTS)
def test_help_needs_no_pika(name):
    with_all = Running(name, '--help').end()
    without = Running(sys.executable, '-S', name, '--help').end()  # without site-packages
    assert without.status == 0
    assert without.err == ''
    assert without.out == with_all.out


@pytest.mark.parametrize('name', sorted({*SCRIPTS} - {'audit.py', 'broker.py', 'token_server.py'}))
def test_without_pika_it_says_what_to_do(name):
    flags = {'compare.py': ['amqp://127.0.0.1:1'], 'roles.py': ['--check']}.get(name, [])
    done = Running(sys.executable, '-S', name, *flags).end()
    assert done.status == 3, done.err
    assert done.out == ''
    assert done.err.count('\n') == 1
    assert 'pika is not installed: . .venv/bin/activate, or pip install -r' in done.err


def test_audit_needs_no_pika(tmp_path):
    ledger = tmp_path / 'run.jsonl'
    ledger.touch()
    done = Running(sys.executable, '-S', 'audit.py', ledger).end()
    assert done.out.endswith('unknown: the ledgers know of no producer\n')
    assert done.err == ''


def test_without_sympy_it_says_what_to_do(tmp_path):
    (tmp_path / 'sympy.py').write_text('raise ModuleNotFoundError(name="sympy")\n')
    done = Running('rpc_server.py', *NOBODY, env={'PYTHONPATH': str(tmp_path)}).end()
    assert done.status == 3
    assert done.err.count('\n') == 1
    assert 'sympy is not installed: ' in done.err


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_python_that_is_too_old_is_told_in_one_line(name):
    done = Running(sys.executable, '-c', OLD_PYTHON, name).end()
    assert done.status == 3
    assert done.err == f'{name}: Python 3.9 or later is needed, this is 3.8\n'


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_starts_under_the_options_of_python(name):
    """-I leaves out the folder of the script, as -P of Python 3.11 does; -OO docstrings."""
    done = Running(sys.executable, '-I', '-OO', name, '--help').end()
    assert done.status == 0
    assert done.err == ''


def test_it_starts_through_a_symbolic_link(tmp_path):
    link = tmp_path / 'mine.py'
    link.symlink_to(ROOT / 'audit.py')
    done = Running(sys.executable, '-I', link, '--help').end()
    assert done.status == 0


@pytest.mark.parametrize('client', [*CLIENTS, 'producer.py --difficulty 16'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_without_a_broker_it_ends_on_one_signal_and_could_not_tell(client, number):
    """Such a difficulty takes years: nothing is there to be published."""
    patience = ()
    if 'producer' in client:
        patience = ('--stop-timeout', 0.5)
    running = Running(*client.split(), *NOBODY, *patience)
    running.wait_for('retrying')
    done = running.stop(number)
    assert done.status == 3, done.err
    assert 'Traceback' not in done.err
    assert done.out


def test_it_says_how_many_messages_wait_and_for_what():
    running = Running('ack_producer.py', *NOBODY, '--stop-timeout', 0.5, '--rate', 1000)
    running.wait_for(' 20  ', running.out)
    done = running.stop(signal.SIGTERM)
    assert done.status == 3
    assert ' not confirmed, waiting at most 0.5 s: broker unavailable, ' in done.err
    assert ' not confirmed 0.5 s after SIGTERM: broker unavailable, ' in done.err
    assert ' not confirmed 0.5 s after SIGTERM: broker unavailable, ' in done.out


def test_after_duration_it_waits_as_long():
    flags = ('--duration', 0.5, '--stop-timeout', 0.5, '--rate', 1000)
    done = Running('ack_producer.py', *NOBODY, *flags).end()
    assert done.status == 3
    assert ' not confirmed 0.5 s after --duration: broker unavailable, ' in done.out
