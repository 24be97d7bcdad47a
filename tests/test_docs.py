"""What README and docstrings show is what happens: their commands are run, their sample output is compared."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT

import broker as broker_module

# In the order in which a person would run them.
SAMPLES = ['monitor.py', 'producer.py', 'validate.py', 'audit.py', 'perf_producer.py', 'perf_consumer.py',
           'fanout_producer.py', 'fanout_consumer.py', 'ack_producer.py', 'ack_consumer.py',
<<<<<<< HEAD
           'rpc_server.py', 'rpc_client.py', 'roles.py', 'broker.py', 'compare.py']
PAGES = ['fanout.md', 'acknowledge.md', 'rpc.md', 'access.md', 'monitor.md']  # of docs/, whose commands can be run
=======
           'rpc_server.py', 'rpc_client.py', 'broker.py']
PAGES = ['fanout.md', 'acknowledge.md', 'rpc.md', 'monitor.md']  # of docs/, whose commands can be run
>>>>>>> issue6


def normal(text):
    """Return text with numbers, hashes, times and runs of blanks made alike."""
    text = re.sub(r'\b[0-9a-f]{16}…', 'HASH', text)
    text = re.sub(r'-[0-9a-f]{8}-', '-RUN-', text)
    text = re.sub(r'broker\.py@\S+', 'broker.py@HOST', text)
    lines = [re.sub(r' +', ' ', re.sub(r'\d[\d,.:]*', 'N', line)).strip() for line in text.strip().splitlines()]
    # How many lines a second there are depends on the machine.
    return [line for line, before in zip(lines, [None, *lines]) if line != before or not line.startswith('N s ')]


def sessions(text):
    """Yield (command, output) of each '$ ' line in a text, its '> ' lines, and the lines below them."""
    for block in re.split(r'^\$ ', text, flags=re.MULTILINE)[1:]:
        command, _, output = block.partition('\n')
        while output.startswith('> '):
            more, _, output = output[2:].partition('\n')
            command += f'\n{more}'
        yield command, output


@pytest.fixture
def copy(tmp_path):
    """A copy of what git knows, as a clean clone has it."""
    files = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, check=True,
                           encoding='utf-8').stdout.split()
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def environment(**more):
    venv_first = f'{os.path.dirname(sys.executable)}{os.pathsep}{os.environ["PATH"]}'
    ours = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS', 'BROKER'))}
    return {**ours, 'PATH': venv_first, 'PYTHONUTF8': '1', **more}


<<<<<<< HEAD
@pytest.fixture
def variables(broker, url, run):
    """Where the broker is; and no roles are left there that a sample made."""
    variables = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    yield variables
    run('roles.py', '--remove', **variables)


@pytest.mark.pair
def test_the_samples_in_the_docstrings(copy, broker, variables, run):
=======
def test_the_samples_in_the_docstrings(copy, broker, url, run):
>>>>>>> issue6
    run('fanout_consumer.py', 'bert', '--duration', 0)  # there is a queue that listens to fanout_producer.py
    run('roles.py', '--create', **variables)
    for name in SAMPLES:
        docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
        sample = re.search(r'^    \$ .*\n(?:    .*\n)+', docstring, re.MULTILINE)[0]
        (command, output), = sessions(re.sub(r'^    ', '', sample, flags=re.MULTILINE))
<<<<<<< HEAD
        # compare.py shows the URL, and leaves nothing behind.
        shown = {'AMQP_URL': broker.url} if name == 'compare.py' else variables
        done = subprocess.run(['sh', '-c', command], cwd=copy, env=environment(**shown), encoding='utf-8',
                              capture_output=True, timeout=PATIENCE)
=======
        done = subprocess.run(['sh', '-c', command], cwd=copy, encoding='utf-8', capture_output=True, timeout=PATIENCE,
                              env=environment(AMQP_URL=url, MANAGEMENT_URL=broker.management_url))
>>>>>>> issue6
        assert done.returncode == 0, done.stderr
        log = done.stderr if name == 'broker.py' else ''  # its sample shows the log as well
        assert normal(log + done.stdout) == normal(output), command


def steps_of(path):
    """Return [(command, output)] of the console blocks of a document."""
    blocks = re.findall(r'^```console\n(.*?)^```', path.read_text(), re.MULTILINE | re.DOTALL)
    return list(sessions(''.join(blocks)))


def in_one_shell(steps, folder, **more):
    """Run the commands of `steps` in one shell, as a person would; return what each of them showed on stdout."""
    shell = ['set -e', *(f'echo "=== {number}"\n{command}' for number, (command, _) in enumerate(steps))]
    done = subprocess.run(['bash', '-c', '\n'.join(shell)], cwd=folder, env=environment(**more), encoding='utf-8',
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.split(r'^=== \d+\n', done.stdout, flags=re.MULTILINE)[1:]
    assert len(shown) == len(steps)
    for (command, expected), output in zip(steps, shown):
        if expected.strip():
            assert normal(output) == normal(expected), command
    return shown


def test_the_commands_in_the_readme(copy):
    steps = steps_of(ROOT / 'README.md')
    assert steps.pop(1)[0] == 'make test'  # this is make test
    with broker_module.throwaway() as broker:
        # The URL in the README is an example.
        steps = [(re.sub(r'^export AMQP_URL=.*', f'export AMQP_URL={broker.url}', command), output)
                 for command, output in steps]
        demo = in_one_shell(steps, copy)[0]
    assert demo.rstrip().endswith('valid: all that was accepted came out, unaltered, every copy explained')
    for name in 'alice', 'bob', 'carol', 'dave':
        assert re.search(rf'^{name} +\| ', demo, re.MULTILINE)
        assert re.search(rf'^{name} +\| exit status 0$', demo, re.MULTILINE)


@pytest.mark.parametrize('page', PAGES)
<<<<<<< HEAD
def test_the_commands_in_the_docs(copy, variables, page):
    in_one_shell(steps_of(ROOT / 'docs' / page), copy, **variables)
=======
def test_the_commands_in_the_docs(copy, broker, url, page):
    in_one_shell(steps_of(ROOT / 'docs' / page), copy, AMQP_URL=url, MANAGEMENT_URL=broker.management_url)
>>>>>>> issue6


def test_links_in_the_documents_lead_somewhere():
    for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for target in re.findall(r'\]\((?!https:)([^)#]+)\)', path.read_text()):
            assert (path.parent / target).exists(), f'{path.name}: {target}'
