"""What README and docstrings show is what happens.

Their commands are run, and their sample output is compared.
"""

import ast
import re
import subprocess

import pytest
from support.documents import environment, files_in, normal, sessions, steps_of
from support.processes import TEST_TIMEOUT_S
from support.scripts import SCENARIO_SCRIPTS

from siamese import ROOT
from siamese.testbed import rabbitmq as broker_module

# In the order in which a person would run them.
SAMPLES = [
    'monitor.py',
    *SCENARIO_SCRIPTS,
    'audit.py',
    'dashboard.py',
    'roles.py',
    'token_server.py',
    'broker.py',
    'compare.py',
    'cleanup.py',
]
# Of docs/, those with commands; compare.md compares two brokers, as test_compare.py does.
PAGES = sorted(
    path.name
    for path in (ROOT / 'docs').glob('*.md')
    if '```console' in path.read_text() and path.name != 'compare.md'
)


# Where commands may write: examples, make, and token_server.py its keys.
WRITTEN = ('runs/', '.venv/', 'siamese-keys/')


@pytest.fixture
def variables(broker, url, run):
    """Where the broker is; and no roles are left there that a sample made."""
    variables = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    yield variables
    run('roles.py', '--remove', **variables)


@pytest.mark.pair
def test_the_samples_in_the_docstrings(copy, broker, variables, run):
    run(
        'fanout_consumer.py', 'bert', '--duration', 0
    )  # there is a queue that listens to fanout_producer.py
    run('roles.py', '--create', **variables)
    for name in SAMPLES:
        docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
        sample = re.search(r'^    \$ .*\n(?:    .*\n)+', docstring, re.MULTILINE)[0]
        ((command, output),) = sessions(re.sub(r'^    ', '', sample, flags=re.MULTILINE))
        # compare.py shows the URL, and leaves nothing behind.
        shown = {'AMQP_URL': broker.url} if name == 'compare.py' else variables
        done = subprocess.run(
            ['sh', '-c', command],
            cwd=copy,
            env=environment(**shown),
            encoding='utf-8',
            capture_output=True,
            timeout=TEST_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        log = done.stderr if name == 'broker.py' else ''  # its sample shows the log as well
        assert normal(log + done.stdout) == normal(output), command


def in_one_shell(steps, folder, **more):
    """Run the commands of `steps` in one shell, as a person would.

    What they write goes into runs/. Return what each of them showed on stdout.
    """
    before = files_in(folder)
    shell = [
        'set -e',
        *(f'echo "=== {number}"\n{command}' for number, (command, _) in enumerate(steps)),
    ]
    done = subprocess.run(
        ['bash', '-c', '\n'.join(shell)],
        cwd=folder,
        env=environment(**more),
        encoding='utf-8',
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.split(r'^=== \d+\n', done.stdout, flags=re.MULTILINE)[1:]
    assert len(shown) == len(steps)
    for (command, expected), output in zip(steps, shown):
        if expected.strip():
            assert normal(output) == normal(expected), command
    written = files_in(folder) - before
    assert {name for name in written if not name.startswith(WRITTEN)} == set()
    return shown


def test_the_commands_in_the_readme(copy):
    steps = steps_of(ROOT / 'README.md')
    assert steps.pop(1)[0] == 'make test'  # this is make test
    with broker_module.throwaway() as broker:
        # The URL in the README is an example.
        steps = [
            (re.sub(r'^export AMQP_URL=.*', f'export AMQP_URL={broker.url}', command), output)
            for command, output in steps
        ]
        demo = in_one_shell(steps, copy)[0]
    assert demo.rstrip().endswith(
        'valid: every confirmed message was delivered unaltered, and every copy is explained'
    )
    for name in 'alice', 'bob', 'carol', 'dave':
        assert re.search(rf'^{name} +\| ', demo, re.MULTILINE)
        assert re.search(rf'^{name} +\| exit status 0$', demo, re.MULTILINE)


@pytest.mark.parametrize('page', PAGES)
def test_the_commands_in_the_docs(copy, variables, page):
    steps = steps_of(ROOT / 'docs' / page)
    assert {command for command, _ in steps if command.startswith('make ')} <= {
        'make pdf'
    }  # test_pdf.py runs it
    in_one_shell([step for step in steps if step[0] != 'make pdf'], copy, **variables)


def test_flags_that_the_documents_mention_exist(run):
    text = ''.join(path.read_text() for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')])
    mentioned = {}
    for script, flags in re.findall(r'\./(\w+\.py)([^`|;&\n]*)', text):
        mentioned.setdefault(script, set()).update(re.findall(r'(?<= )--[a-z-]+', flags))
    for script, flags in mentioned.items():
        known = set(re.findall(r'--[a-z-]+', run(script, '--help').out))
        assert flags <= known, f'{script}: {flags - known}'
