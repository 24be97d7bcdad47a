"""What the README promises of all scripts that talk to a broker, held against each of them."""

import signal
import subprocess
import sys

import pytest
from support.processes import Running
from support.scripts import CLIENTS as SCRIPTS

from siamese import ROOT

NEED_SYMPY = {'validate.py', 'rpc_server.py'}


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_bad_flag_ends_it_with_one_line(name):
    """More bad flags: tests/unit/test_flags.py."""
    done = Running(*name.split(), '--count', '0').end()
    assert done.status == 2
    assert done.out == ''
    assert 'argument --count: ' in done.err
    assert done.err.count('\n') == 1


@pytest.mark.parametrize('name', SCRIPTS)
def test_an_unavailable_broker_is_waited_for_as_long_as_told(name):
    flags = '--url', 'amqp://u:secret@127.0.0.1:1', '--give-up-after', '2', '--count', '1'
    done = Running(*name.split(), *flags).end()
    assert done.status == 3
    assert 'broker unreachable at 127.0.0.1:1/%2F (Connection refused), retrying' in done.err
    assert 'broker unreachable at 127.0.0.1:1/%2F for 2 s' in done.err
    assert 'broker unreachable at' in done.out
    assert 'Traceback' not in done.err and 'secret' not in done.err + done.out


@pytest.mark.parametrize('name', SCRIPTS)
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(start, name, number):
    running = start(*name.split())
    running.wait_for('ready: RabbitMQ')
    done = running.stop(number)
    assert done.status in (0, 3) and f'stopped: {number.name}' in done.out, done.err
    assert 'Traceback' not in done.err


@pytest.mark.parametrize('name', sorted(set(SCRIPTS) - NEED_SYMPY))
def test_a_whole_run_costs_no_sympy(name, url):
    command = [
        sys.executable,
        '-X',
        'importtime',
        *name.split(),
        '--url',
        url,
        '--duration',
        '0.3',
        '--quiet',
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode in (0, 3)
    assert b' sympy.core' not in done.stderr
    assert b'pika' in done.stderr
