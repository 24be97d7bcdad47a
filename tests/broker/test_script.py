"""script.py: the log, the summary, the exit status; in every script alike."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys

import pytest
from support.block_messages import chain, put
from support.processes import Running
from support.pseudo_terminal import OnTerminal
from support.queues import drain

from siamese import ROOT

SCRIPTS = ['producer.py', 'validate.py']


def test_a_bad_url_in_the_environment_takes_one_line():
    done = Running('producer.py', env={'AMQP_URL': 'amqp://u:secret@h:x'}).end()
    assert done.status == 2 and done.err.count('\n') == 1 and 'secret' not in done.err


def test_one_signal_ends_a_script_that_is_connecting():
    with socket.create_server(('127.0.0.1', 0)) as mute:
        running = Running('validate.py', '--url', f'amqp://127.0.0.1:{mute.getsockname()[1]}')
        connection, _ = mute.accept()
        assert connection.recv(8) == b'AMQP\0\0\x09\1'
        done = running.stop(signal.SIGINT)
        connection.close()
    assert done.status == 3 and 'stopped: SIGINT' in done.out and 'Traceback' not in done.err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_two_signals_end_a_script_that_cannot_finish(number):
    running = Running('producer.py', '--url', 'amqp://127.0.0.1:1', '--count', '1')
    running.wait_for('retrying')
    running.wait_for(' 1 of 1 ', running.out)
    running.send(number)
    running.wait_for(f'{number.name}: finishing')
    done = running.stop(number)
    assert done.status == 130 and '1 not confirmed' in done.out and 'Traceback' not in done.err


def test_the_reader_of_a_pipe_may_leave(run, url):
    command = f'{sys.executable} producer.py --difficulty 0 | head -1'
    done = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', command],
        cwd=ROOT,
        env={**os.environ, 'AMQP_URL': url},
        capture_output=True,
        encoding='utf-8',
        timeout=60,
    )
    assert (
        done.returncode == 141 and 'Traceback' not in done.stderr and done.stdout.count('\n') == 1
    )


def test_a_ledger_that_cannot_be_written_ends_the_run(run, channel):
    put(channel, chain('alice', 3))
    for name in SCRIPTS:
        done = run(name, '--difficulty', 1, '--count', 3, '--ledger', '/dev/full')
        assert (
            done.status == 3
            and 'cannot write the ledger /dev/full: No space left on device' in done.err
        )
        assert 'Traceback' not in done.err and ', back after' not in done.err
    assert (
        len(drain(channel, 'siamese.blocks')) == 3
    )  # nothing is published or acknowledged without a line


@pytest.mark.parametrize('redirection', ['> /dev/full', '>&-', '2>&-', '2> /dev/full'])
def test_streams_that_take_nothing(url, redirection):
    command = f'{sys.executable} producer.py --difficulty 0 --count 1 {redirection}'
    done = subprocess.run(
        ['sh', '-c', command],
        cwd=ROOT,
        env={**os.environ, 'AMQP_URL': url},
        capture_output=True,
        encoding='utf-8',
        timeout=60,
    )
    full = redirection == '> /dev/full'
    assert done.returncode == (3 if full else 0) and 'Traceback' not in done.stderr
    assert ('cannot write the output: No space left on device' in done.stderr) is full


def test_a_full_stderr_does_not_change_the_status_of_a_usage_error():
    for name in 'producer.py', 'broker.py':
        command = f'{sys.executable} {name} --no-such-flag 2> /dev/full'
        assert subprocess.run(command, shell=True, cwd=ROOT, timeout=60).returncode == 2, name


def test_progress_is_shown_on_a_terminal_only(start, url):
    terminal, its_end = pty.openpty()
    flags = ['producer.py', '--quiet', '--difficulty', '0', '--count', '60', '--rate', '30']
    subprocess.run(
        [sys.executable, *flags],
        stderr=its_end,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, 'AMQP_URL': url},
        timeout=60,
        check=True,
    )
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert re.search(r' in [1-9]\d* s, \d+ s left', shown) and '█░' in shown and '\r' in shown
    assert '\033' not in shown
    assert '\r' not in start(*flags).end().err


@pytest.mark.parametrize('name', ['producer.py', 'validate.py'])
def test_json_on_stdout_is_all_there_is(name, run, channel):
    put(channel, chain('alice', 2))
    done = run(name, '--count', 2, '--difficulty', 1, '--json', '-')
    assert done.status == 0 and json.loads(done.out)['stopped'] == 'count reached'


@pytest.mark.parametrize('flags, lines', [([], 0), (['--verbose'], 1)])
def test_what_pika_says_is_for_verbose(flags, lines):
    code = (
        'import logging, sys, validate; validate.parse_args(sys.argv[1:]); '
        'logging.getLogger("pika.connection").critical('
        '"Received METHOD frame for unregistered channel 1")'
    )
    assert Running(sys.executable, '-c', code, *flags).end().err.count('unregistered') == lines


def test_a_line_is_written_in_one_piece_even_unbuffered():
    """Scripts that share a terminal do not mix their lines."""
    code = 'from siamese import script; script.run(lambda: print("one", "line"))'
    read, write = os.pipe2(os.O_DIRECT)  # a pipe that keeps each write apart
    done = subprocess.run([sys.executable, '-u', '-c', code], stdout=write, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and os.read(read, 100) == b'one line\n'


# ---- on a terminal


def test_a_terminal_gets_colours_and_an_error_once():
    command = (sys.executable, 'producer.py', '--url', 'amqp://127.0.0.1:1', '--count', 1)
    flags = ('--give-up-after', 0.5, '--difficulty', 1)
    done = OnTerminal(*command, *flags).end()
    assert done.status == 3
    assert done.text.count('is it running, is AMQP_URL right?') == 1
    assert '\033[33m' in done.text and '\033[31m' in done.text
    assert 'stopped: see above' in done.text


@pytest.mark.parametrize('columns', [60, 80, 120])
def test_with_no_color_no_escape_and_no_line_that_a_terminal_cuts(run, url, columns, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    run('producer.py', '--difficulty', 1, '--count', 3, '--name', 'alice', '--ledger', ledger)
    done = OnTerminal(
        *(sys.executable, 'audit.py', ledger),
        columns=columns,
        env={'NO_COLOR': '1'},
    ).end()
    assert done.status == 3 and '\033' not in done.text
    assert 'attempted' in done.text and max(map(len, done.text.splitlines())) <= columns
    everything = OnTerminal(sys.executable, 'audit.py', '--verbose', ledger, columns=columns).end()
    assert max(map(len, everything.text.splitlines())) <= columns + len('\033[33m\033[0m')


def test_a_perf_run_has_a_bar_on_a_terminal_only(run, url):
    flags = ('perf_producer.py', '--count', 250, '--rate', 100)
    on_terminal = OnTerminal(sys.executable, *flags, env={'AMQP_URL': url}).end()
    assert ' ms  ██████████' in on_terminal.text and '\033[32m' in on_terminal.text
    assert ' s left ' in on_terminal.text  # below the rows
    in_pipe = run(*flags)
    assert '█' not in in_pipe.out and '\033' not in in_pipe.out + in_pipe.err
    coloured = run(*flags, '--color', 'always')
    assert '\033[32m' in coloured.out
