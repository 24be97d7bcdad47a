"""setup.sh where something is missing and cannot be installed: it says what to
do, and exits with 3.
"""

import os
import shutil
import subprocess
import sys

import pytest

from siamese import ROOT


@pytest.fixture
def machine(tmp_path):
    """A folder with setup.sh, and a function that runs it where `tools` are all
    there is (no apt-get, no sudo).
    """
    for name in (
        'tools/setup.sh',
        'siamese/__init__.py',
        'siamese/testbed/__init__.py',
        'siamese/testbed/guard.py',
        'siamese/testbed/product.py',
        'siamese/testbed/rabbitmq.py',
        'requirements.txt',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    bin = tmp_path / 'bin'
    bin.mkdir()
    for tool in 'sh', 'dirname', 'id', 'sed', 'rm', 'mkdir', 'tail', 'chmod':
        (bin / tool).symlink_to(shutil.which(tool))

    def run(python, *argv, **env):
        (bin / 'python3').write_text(f'#!{shutil.which("sh")}\n{python}\n')
        (bin / 'python3').chmod(0o755)
        return subprocess.run(
            [tmp_path / 'tools' / 'setup.sh', *argv],
            env={'PATH': str(bin), **env},
            capture_output=True,
            encoding='utf-8',
            timeout=60,
        )

    return run


REAL = f'exec {sys.executable} "$@"'


def test_without_rabbitmq_it_says_how_to_install_it(machine):
    done = machine(REAL, 'broker', RABBITMQ_HOME='/none')
    assert done.returncode == 3 and 'no RabbitMQ server is installed here' in done.stderr
    for remedy in 'apt-get', 'dnf', 'brew', 'docker':
        assert f'{remedy} ' in done.stderr
    assert 'Traceback' not in done.stderr


def test_without_venv_it_says_how_to_install_it(machine):
    done = machine(f'[ "$2" = venv ] && exit 1; {REAL}', 'venv', 'requirements.txt')
    assert done.returncode == 3 and 'as root: apt-get install python3-venv' in done.stderr


def program(path, text):
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)


LAST_LINES = (
    'for number in 1 2 3 4 5 6 7; do echo "line $number of http://me:secret@proxy"; done >&2'
)


def assert_it_shows_the_last_lines(done):
    """It ends with status 3, five lines of LAST_LINES without the password, and the remedy."""
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert lines[-7:-1] == [
        'setup: that failed:',
        *(f'    line {number} of http://***@proxy' for number in range(3, 8)),
    ]
    assert lines[-1].startswith('setup: ') and 'again' in lines[-1]


def test_pip_that_fails_shows_its_last_lines_and_the_remedy(machine, tmp_path):
    program(tmp_path / '.venv/bin/pip', '')
    program(tmp_path / '.venv/bin/python', f'{LAST_LINES}; exit 1')
    done = machine(REAL, 'venv', 'requirements.txt')
    assert_it_shows_the_last_lines(done)
    assert 'PIP_CERT' in done.stderr


def test_npm_that_fails_shows_its_last_lines_and_the_remedy(machine, tmp_path):
    program(tmp_path / 'bin/chromium', '')
    program(tmp_path / 'bin/fc-list', 'echo a font')
    program(tmp_path / 'bin/npm', f'mkdir -p docs/.mermaid/node_modules; {LAST_LINES}; exit 1')
    done = machine(REAL, 'pdf')
    assert_it_shows_the_last_lines(done)
    assert 'NODE_EXTRA_CA_CERTS' in done.stderr
    assert not (tmp_path / 'docs/.mermaid').exists()  # else the next run takes it for complete


def test_apt_get_that_fails_shows_its_last_lines_and_the_remedy(machine, tmp_path):
    program(tmp_path / 'bin/id', 'echo 0')
    program(tmp_path / 'bin/apt-get', f'[ $1 = install ] || exit 0; {LAST_LINES}; exit 100')
    assert_it_shows_the_last_lines(machine(REAL, 'saml'))


EXPIRED = 'E: Release file for http://mirror/InRelease is expired (invalid since 21d)'


def test_package_lists_that_have_expired_are_named_with_the_remedy(machine, tmp_path):
    program(tmp_path / 'bin/id', 'echo 0')
    program(tmp_path / 'bin/apt-get', f'[ $1 = install ] || echo "{EXPIRED}"; exit 100')
    done = machine(REAL, 'saml')
    assert done.returncode == 3 and EXPIRED in done.stderr
    assert 'apt-get -o Acquire::Check-Valid-Until=false update; then again' in done.stderr


def test_package_lists_that_have_expired_may_do(machine, tmp_path):
    program(tmp_path / 'bin/id', 'echo 0')
    update = f'echo "{EXPIRED}"; exit 100'
    program(tmp_path / 'bin/apt-get', f'[ $1 = install ] || {{ {update}; }}; >installed')
    done = machine(REAL, 'saml')
    assert done.returncode == 0 and (tmp_path / 'installed').exists()
    assert 'that failed' not in done.stderr


def test_an_old_python_is_refused(machine):
    done = machine('[ "$1" = -c ] && exit 1', 'venv', 'requirements.txt')
    assert done.returncode == 3 and 'Python 3.9 or later is needed' in done.stderr


def test_with_rabbitmq_there_is_nothing_to_do(machine):
    done = machine(REAL, 'broker', PATH=os.environ['PATH'])
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_without_a_browser_it_says_how_to_install_one(machine):
    done = machine(REAL, 'browser')
    assert done.returncode == 3 and 'no Chromium is installed here' in done.stderr
    assert 'apt-get install chromium' in done.stderr


def test_without_xmlsec1_it_says_how_to_install_it(machine):
    done = machine(REAL, 'saml')
    assert done.returncode == 3 and 'no xmlsec1 is installed here' in done.stderr
    assert 'apt-get install xmlsec1' in done.stderr


def test_a_download_that_fails_leaves_no_second_broker(machine, tmp_path):
    (tmp_path / 'bin' / 'debootstrap').write_text('#!/bin/sh\necho no mirror\nexit 1\n')
    (tmp_path / 'bin' / 'debootstrap').chmod(0o755)
    done = machine(REAL, 'rabbitmq4')
    assert (
        done.returncode == 3
        and 'without RabbitMQ 4.x of Debian 13: debootstrap could not download it' in done.stderr
    )
    assert 'no mirror' in done.stderr and not (tmp_path / '.rabbitmq4' / 'sbin').exists()


def test_a_folder_without_a_python_is_told(machine):
    done = machine(REAL, 'python', '.rabbitmq4')
    assert done.returncode == 3 and done.stderr.endswith('setup: no Python in .rabbitmq4\n')


def test_a_download_that_fails_leaves_no_qpid(machine, tmp_path):
    program(tmp_path / 'bin/mvn', f'mkdir -p .qpid/part; {LAST_LINES}; exit 1')
    done = machine(REAL, 'qpid')
    assert done.returncode == 3 and '    line 7 of http://***@proxy' in done.stderr
    assert 'setup: without Qpid: is Maven Central reachable?' in done.stderr
    assert not (tmp_path / '.qpid/lib').exists()


def test_peers_that_cannot_be_installed_are_named_and_left_out(machine):
    done = machine('exit 1', 'peers')
    assert done.returncode == 0
    for peer in 'py-amqp and aio-pika', 'amqplib', 'rabbitmq_c', 'rabbitmq_c_tuned', 'PerfTest':
        assert f'setup: without {peer}: ' in done.stderr


def test_tests_that_share_a_fixture_run_in_one_worker(tmp_path):
    """With some versions of pytest each worker would start a broker, a cluster, a browser."""
    (tmp_path / 'test_shared.py').write_text(
        'import pytest\n\n\n'
        "@pytest.mark.parametrize('number', range(6))\n"
        "@pytest.mark.xdist_group('shared')\n"
        'def test_one(number, worker_id):\n'
        "    print(f'worker {worker_id}')\n"
    )
    command = ['-m', 'pytest', '-rP', '-n', '3', '--dist', 'loadgroup', '-p', 'no:cacheprovider']
    done = subprocess.run(
        [sys.executable, *command, tmp_path], cwd=tmp_path, capture_output=True, encoding='utf-8'
    )
    assert '6 passed' in done.stdout
    workers = [line for line in done.stdout.splitlines() if line.startswith('worker ')]
    assert len(workers) == 6
    assert len(set(workers)) == 1
