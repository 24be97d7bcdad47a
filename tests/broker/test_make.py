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


# ---- the status of a script


@pytest.fixture
def make(copy):
    """A function that runs make, where each program does only what is written here."""
    (copy / '.venv/bin').mkdir(parents=True)
    (copy / '.venv/bin/activate').write_text('PATH=$PWD/.venv/bin:$PATH')
    for name in 'dev', 'run', 'page', 'demo', 'pdf':
        (copy / '.venv' / name).touch()

    def make(target, setup, soak='exit 9'):
        programs = {'tools/setup.sh': setup, 'soak.py': soak}
        others = ['broker.py', 'demos/story.py', 'demos/perf.py', 'demos/saml.sh']
        for name in (*others, '.venv/bin/python'):
            programs[name] = 'exit 9'
        for name, text in programs.items():
            (copy / name).write_text(f'#!/bin/sh\n{text}\n')
            (copy / name).chmod(0o755)
        return subprocess.run(
            ['make', '--old-file=tools/setup.sh', target],
            cwd=copy,
            env=environment(LC_ALL='C', AMQP_URL=''),
            encoding='utf-8',
            capture_output=True,
            timeout=TEST_TIMEOUT_S,
        )

    return make


SET_UP = [
    'demo',
    'perf',
    'demo-svg',
    'dashboard',
    'demo-saml',
    'shell',
    'test',
    'soak',
    'pdf',
    'bench',
    'screenshots',
]


@pytest.mark.parametrize('target', [*SET_UP, 'rabbitmq4', 'qpid'])
def test_make_names_the_status_of_setup(make, target):
    done = make(target, 'exit 3')
    assert done.returncode == 2 and re.search(r'Error 3$', done.stderr, re.MULTILINE), done


@pytest.mark.parametrize('status', [1, 3, 130])
def test_make_names_the_status_of_a_script(make, status):
    done = make('soak', 'exit 0', f'exit {status}')
    assert done.returncode == 2
    assert re.search(rf'Error {status}$', done.stderr, re.MULTILINE), done
