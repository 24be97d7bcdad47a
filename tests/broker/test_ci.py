"""docs/how-to/run-it-in-ci.md: its examples are YAML, their commands work on a broker."""

import re
import subprocess

import pytest
import yaml
from support.documents import environment
from support.processes import TEST_TIMEOUT_S

from siamese import ROOT

EXAMPLES = re.findall(
    r'```yaml\n(.*?)```', (ROOT / 'docs/how-to/run-it-in-ci.md').read_text(), re.DOTALL
)


def job_of(number):
    """Return the job of an example: the first is for GitLab, the second for GitHub."""
    example = yaml.safe_load(EXAMPLES[number])
    return example['broker'] if number == 0 else example['jobs']['broker']


def commands_of(job):
    if 'script' in job:
        return job['script']
    return [step['run'] for step in job['steps'] if 'run' in step]


def test_the_examples_have_a_broker_and_its_url():
    gitlab, github = job_of(0), job_of(1)
    (service,) = gitlab['services']
    assert f'@{service["alias"]}/' in gitlab['variables']['AMQP_URL']
    assert gitlab['allow_failure'] == {'exit_codes': 3}
    port, _, inside = github['services']['broker']['ports'][0].partition(':')
    assert inside == '5672' and f'@localhost:{port}/' in github['env']['AMQP_URL']
    assert 'requirements.txt' in commands_of(gitlab)[0] and commands_of(github)[0].startswith('pip')


def test_the_test_cases_are_shown_where_compare_writes_them():
    gitlab, github = job_of(0), job_of(1)
    for job in (gitlab, github):
        assert '--junit runs/compare.xml' in commands_of(job)[-1]
    assert gitlab['artifacts']['reports'] == {'junit': 'runs/compare.xml'}
    (shown,) = (step for step in github['steps'] if 'junit' in step.get('uses', ''))
    assert shown['with'] == {'report_paths': 'runs/compare.xml'} and shown['if'] == 'always()'


@pytest.mark.parametrize('number', [0, 1])
def test_the_commands_work(copy, url, number):
    """All but pip, and compare.py, which has tests of its own."""
    install, *commands, compare = commands_of(job_of(number))
    assert install.startswith('pip install') and compare.startswith('./compare.py')
    done = subprocess.run(
        ['sh', '-e', '-c', '\n'.join(commands)],
        cwd=copy,
        env=environment(AMQP_URL=url),
        capture_output=True,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith('valid: ')
    assert '\033' not in done.stdout + done.stderr
    assert (copy / 'runs/verdict.json').exists()
