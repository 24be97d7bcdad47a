"""What README and docstrings show is what happens.

Their commands are run, and their sample output is compared.
"""

import ast
import re
import subprocess

import pytest
from support.documents import environment, normal, sessions, steps_of
from support.processes import TEST_TIMEOUT_S

from siamese import ROOT
from siamese.testbed import rabbitmq as broker_module

# In the order in which a person would run them.
SAMPLES = [
    'monitor.py',
    'producer.py',
    'validate.py',
    'audit.py',
    'perf_producer.py',
    'perf_consumer.py',
    'fanout_producer.py',
    'fanout_consumer.py',
    'ack_producer.py',
    'ack_consumer.py',
    'rpc_server.py',
    'rpc_client.py',
    'dashboard.py',
    'roles.py',
    'token_server.py',
    'broker.py',
    'compare.py',
]
# Of docs/, those with commands; compare.md compares two brokers, as test_compare.py does.
PAGES = sorted(
    path.name
    for path in (ROOT / 'docs').glob('*.md')
    if '```console' in path.read_text() and path.name != 'compare.md'
)
# The headings of answers.md: the wiki's questions and parts, in its words, in its order.
QUESTIONS = """\
Purpose of the scripts/scenarios
Best practice?
How does the best practice deployment look like?
One broker accessible via VPN for pure internal use, and one for public / cloud?
Only one broker for internal and public / cloud, and which security mechanisms are there \
(authentication / authorization)?
The following test cases shall be possible to test
1 producer, n subscribers
n producers and 1 subscriber
m producers and n subscribers
Scenario 1 - Valid message exchange
Scenario 2 - Performance
Scenario 3 - Distribute single message to multiple consumers
Scenario 4 - Active message acknowledgement/rejection on the consumer side
How can the broker know the message is lost if neither an acknowledgement nor a reject is received?
Scenario 5 - RPC Example
Scenario 6 - Queue instance not available
What happens if the queue is not available?
What are the concepts/available options in regards to business continuity and (high) availability?
Start up stress test: broker was down, but during start up, producer continuously tries \
to send messages.
Shall the script keep trying to send messages or not?
Scenario 7 - Message producer/consumer not available
Which information is stored in the message queue if subscribers have not been able to \
pick up messages?
Can we report such situation automatically in a dashboard or via e-mail?
Simple approach: just run one producer, but no consumers.
Complex approach: run one producer and some (but not all) consumers.
More complex approach: run multiple producers and some (but not all) consumers.
Questions
User/Role and privilege concept
General introduction to the role - and user concept
Authentication/authorization shall be performed via claims based SAML 2.0
Prioritization and validity of messages (TTL)
Is it possible to send messages with higher priority in order to make sure it's delivered \
as fast as possible, in case \
there are already several messages in the queue?
Is setting TTL on individual messages possible in order specify how long a specific \
message is valid?
Is the message then automatically removed from the queue?
Acknowledgement (fire and forget vs. guaranteed delivery/processing)
Show how consumer can acknowledge or not acknowledge message delivery/processing.
Is the message queue able to show which consumer has fetched a message and if it has been \
acknowledged by this \
specific consumer?
Different states shall be available to show the specific state each consumer/producer \
has; Eg. Sends information, \
receives information, last connection interrupt, etc.
Dashboard
Comparison
Deployment of the test scripts
Computing resources
Requirements
Steps to deploy
Python virtualenv
Proxy
Python requirements
PDF version of this Wiki
"""


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

    Return what each of them showed on stdout.
    """
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


def test_every_question_of_the_wiki_has_an_answer_and_a_command():
    sections = re.split(
        r'^(##+) (.*)\n', (ROOT / 'docs/answers.md').read_text(), flags=re.MULTILINE
    )[1:]
    levels, titles, bodies = sections[0::3], sections[1::3], sections[2::3]
    assert titles == QUESTIONS.splitlines()
    for level, title, body, following in zip(levels, titles, bodies, [*levels[1:], '']):
        if len(following) <= len(level):  # it has no questions below it
            answer, _, command = body.partition('```console\n$ ')
            assert answer.strip() and command, title


@pytest.mark.parametrize(
    'page', ['blocks', 'perf', 'fanout', 'acknowledge', 'rpc', 'availability', 'monitor']
)
def test_each_scenario_has_a_page_with_diagram_commands_and_what_it_proves(page):
    text = (ROOT / 'docs' / f'{page}.md').read_text()
    assert '```mermaid\n' in text and '```console\n$ ' in text
    assert '\n## What it proves, and what it does not\n' in text


def test_flags_that_the_documents_mention_exist(run):
    text = ''.join(path.read_text() for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')])
    mentioned = {}
    for script, flags in re.findall(r'\./(\w+\.py)([^`|;&\n]*)', text):
        mentioned.setdefault(script, set()).update(re.findall(r'(?<= )--[a-z-]+', flags))
    for script, flags in mentioned.items():
        known = set(re.findall(r'--[a-z-]+', run(script, '--help').out))
        assert flags <= known, f'{script}: {flags - known}'


def test_links_in_the_documents_lead_somewhere():
    for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for name, heading in re.findall(r'\]\((?!https:)([^)#]*)#?([^)]*)\)', path.read_text()):
            target = (path.parent / name) if name else path
            assert target.exists(), f'{path.name}: {name}'
            titles = re.findall(r'^#+ (.*)', target.read_text(), re.MULTILINE) if heading else []
            anchors = {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
            assert not heading or heading in anchors, f'{path.name}: {name}#{heading}'
