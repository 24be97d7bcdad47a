"""What make's targets do beside starting scripts."""

import re
import subprocess

import pytest
from support.documents import environment
from support.processes import TEST_TIMEOUT_S


@pytest.fixture
def shell(copy, broker, url):
    """A function that types commands into the shell of `make shell`."""

    def type_in(commands):
        return subprocess.run(
            ['demos/shell.sh'],
            cwd=copy,
            env=environment(AMQP_URL=url, MANAGEMENT_URL=broker.management_url, SHELL='/bin/sh'),
            input=commands,
            encoding='utf-8',
            capture_output=True,
            timeout=TEST_TIMEOUT_S,
        )

    return type_in


def test_what_make_shell_says_to_try_works_there(shell, run, broker):
    said = shell('').stderr
    assert 'AMQP_URL' in said and 'MANAGEMENT_URL' in said and 'Leave with exit or Ctrl-D' in said
    commands = re.findall(r'^  (\./.*)', said, re.MULTILINE)
    assert len(commands) == 5
    done = shell(''.join(f'{command} || echo failed: $?\n' for command in commands))
    run('roles.py', '--remove', MANAGEMENT_URL=broker.management_url)
    assert 'failed' not in done.stdout and '0 wrong' in done.stdout, done
    assert 'valid: every confirmed message' in done.stdout
    assert 'counters are up to 5 s old' in done.stdout


def test_a_command_that_fails_is_no_failure_of_make_shell(shell):
    assert shell('false\n').returncode == 0


def test_make_shell_has_the_management_api(copy):
    listed = subprocess.run(
        ['make', '-n', 'shell'], cwd=copy, capture_output=True, encoding='utf-8', check=True
    )
    assert './broker.py --management demos/shell.sh' in listed.stdout
