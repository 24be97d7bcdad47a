"""What README and docstrings show is what happens.

Their commands are run, and their sample output is compared.
"""

import ast
import json
import re
import subprocess
from urllib.parse import quote

import pika
import pytest
from support.documents import HOW_TO, environment, in_one_shell, normal, pages, sessions, steps_of
from support.processes import TEST_TIMEOUT_S, wait_until
from support.queues import manage
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
# Those in docs/how-to/ are run by test_how_to.py.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in pages()
    if '```console' in path.read_text() and path.name != 'compare.md' and path not in HOW_TO
)


@pytest.fixture
def variables(broker, url, run):
    """Where the broker is; and no roles are left there that a sample made."""
    variables = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    yield variables
    run('roles.py', '--remove', **variables)


def are_counted(broker, url):
    vhost = quote(pika.URLParameters(url).virtual_host, safe='')
    listed = json.loads(manage(broker, 'GET', f'queues/{vhost}'))
    return all({'messages_ready', 'consumers'} <= queue.keys() for queue in listed)


@pytest.mark.pair
def test_the_samples_in_the_docstrings(copy, broker, url, variables, run):
    run(
        'fanout_consumer.py', 'bert', '--duration', 0
    )  # there is a queue that listens to fanout_producer.py
    run('roles.py', '--create', **variables)
    for name in SAMPLES:
        docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
        sample = re.search(r'^    \$ .*\n(?:    .*\n)+', docstring, re.MULTILINE)[0]
        ((command, output),) = sessions(re.sub(r'^    ', '', sample, flags=re.MULTILINE))
        if name == 'monitor.py':  # the broker counts what there is a few seconds later
            wait_until(lambda: are_counted(broker, url), 'figures of each queue')
        if name == 'cleanup.py':  # a minute without a server ends that queue
            run('rpc_server.py', '--duration', 0)
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


def test_the_commands_in_the_readme(copy):
    steps = steps_of(ROOT / 'README.md')
    assert steps.pop(2)[0] == 'make test'  # this is make test
    with broker_module.throwaway() as broker:
        # The URL in the README is an example.
        steps = [
            (re.sub(r'^export AMQP_URL=.*', f'export AMQP_URL={broker.url}', command), output)
            for command, output in steps
        ]
        demo, perf, *_ = in_one_shell(steps, copy)
    assert 'kill -9: the broker is dead' in demo and 'Proved: the broker was killed' in demo
    assert perf.rstrip().endswith('messages arrived, and every byte was right')


@pytest.mark.pair
@pytest.mark.parametrize('page', PAGES)
def test_the_commands_in_the_docs(copy, variables, page):
    steps = steps_of(ROOT / page)
    assert {command for command, _ in steps if command.startswith('make ')} <= {
        'make pdf'
    }  # test_pdf.py runs it
    in_one_shell([step for step in steps if step[0] != 'make pdf'], copy, **variables)


def test_flags_that_the_documents_mention_exist(run):
    text = ''.join(path.read_text() for path in [ROOT / 'README.md', *pages()])
    mentioned = {}
    for script, flags in re.findall(r'\./(\w+\.py)([^`|;&\n]*)', text):
        mentioned.setdefault(script, set()).update(re.findall(r'(?<= )--[a-z-]+', flags))
    for script, flags in mentioned.items():
        known = set(re.findall(r'--[a-z-]+', run(script, '--help').out))
        assert flags <= known, f'{script}: {flags - known}'
