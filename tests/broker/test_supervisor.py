"""supervisor.py, guard.py and the demos: nothing stays behind, whatever ends them."""

import contextlib
import os
import signal
import sys

import psutil
import pytest
from support.processes import TEST_TIMEOUT_S, Running, wait_until

from siamese import ROOT

SUPERVISOR = (sys.executable, '-m', 'siamese.testbed.supervisor')
# Leaves a process in the background that hears no SIGTERM, and a file.
STUBBORN = """
(trap '' TERM; exec sleep 600) &
echo text >"$SUPERVISED_FOLDER/file"
echo begun
"""


def begun_by(running):
    """Return all processes that a script has begun, in whatever session."""
    return psutil.Process(running.process.pid).children(recursive=True)


def scripts_of(running):
    """Return those of them that are scripts at the root."""
    return [one for one in begun_by(running) if is_script(one)]


def is_script(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(word.endswith('.py') for word in process.cmdline()[:2])
    return False


def assert_all_end(processes):
    left = psutil.wait_procs(processes, TEST_TIMEOUT_S)[1]
    for process in left:
        process.kill()
    assert not left


def test_kill_9_leaves_no_process_and_no_file(tmp_path):
    command = f'{STUBBORN} exec sleep 600'
    running = Running(*SUPERVISOR, 'sh', '-c', command, env={'TMPDIR': str(tmp_path)})
    running.wait_for('begun', running.out)
    begun = begun_by(running)
    assert begun and os.listdir(tmp_path)
    running.send(signal.SIGKILL)
    assert_all_end(begun)
    wait_until(lambda: not os.listdir(tmp_path), 'the removal of the folder')


def test_one_signal_asks_the_command_to_end(tmp_path):
    command = "trap 'echo asked; exit 7' TERM; echo begun; while :; do sleep 600 & wait; done"
    running = Running(*SUPERVISOR, 'sh', '-c', command, env={'TMPDIR': str(tmp_path)})
    running.wait_for('begun', running.out)
    begun = begun_by(running)
    done = running.stop(signal.SIGINT)
    assert done.status == 7 and 'asked' in done.out
    assert_all_end(begun)
    assert not os.listdir(tmp_path)


def test_what_hears_no_signal_is_killed_by_a_second_one(tmp_path):
    command = f'{STUBBORN} trap : TERM; while :; do sleep 600 & wait; done'
    running = Running(*SUPERVISOR, 'sh', '-c', command, env={'TMPDIR': str(tmp_path)})
    running.wait_for('begun', running.out)
    begun = begun_by(running)
    running.send(signal.SIGTERM)

    def ends():
        running.send(signal.SIGTERM)
        return running.process.poll() is not None

    wait_until(ends, 'the end of the supervisor')
    assert running.end().status == 128 + signal.SIGKILL
    assert_all_end(begun)
    assert not os.listdir(tmp_path)


def test_the_exit_status_is_that_of_the_command(tmp_path):
    env = {'TMPDIR': str(tmp_path)}
    assert Running(*SUPERVISOR, 'sh', '-c', 'exit 7', env=env).end().status == 7
    killed = Running(*SUPERVISOR, 'sh', '-c', 'kill -KILL $$', env=env).end()
    assert killed.status == 128 + signal.SIGKILL
    assert not os.listdir(tmp_path)


def test_without_a_place_for_its_folder_it_says_so():
    env = {'TMPDIR': '/none'}
    done = Running(sys.executable, '-c', NO_TEMP, env=env).end()
    assert done.status == 3 and done.err.startswith('supervisor: No folder could be made in')


NO_TEMP = """
import sys, tempfile
from siamese.testbed import supervisor
tempfile.tempdir = '/none'
sys.argv[1:] = ['true']
sys.exit(supervisor.main())
"""


@pytest.mark.parametrize('name', ['dashboard.sh', 'saml.sh'])
def test_each_demo_is_supervised(name):
    text = (ROOT / 'demos' / name).read_text()
    assert f'exec python3 -m siamese.testbed.supervisor demos/{name} "$@"' in text
    assert 'mktemp' not in text


def test_kill_9_of_soak_leaves_no_script(start, url, tmp_path):
    flags = ('--url', url, '--queue-type', 'classic', '--minutes', 5, '--folder', tmp_path)
    soak = start('soak.py', *flags)
    wait_until(lambda: len(scripts_of(soak)) == 8, 'eight scripts')
    begun = begun_by(soak)
    soak.send(signal.SIGKILL)
    assert_all_end(begun)
