"""docs/reference/json.md: the keys that it lists are those that the scripts write."""

import json
import re

import pytest
from support.scripts import SCENARIO_SCRIPTS

from siamese import ROOT
from siamese.verdict import MEANING

PAGE = (ROOT / 'docs/reference/json.md').read_text()
FLAGS = {
    'fanout_consumer.py': ('bert',),
    'monitor.py': ('--history', ':memory:'),
}


def keys_in(text):
    return set(re.findall(r'`([a-z_]\w+)`', text))


def listed_for(script):
    """Return the keys that the page lists for a script, with those of every script."""
    common = PAGE.partition('## Keys of every script')[2].partition('## Keys of their own')[0]
    rows = dict(re.findall(r'^\| `(\w+\.py)` \| (.*) \|$', PAGE, re.MULTILINE))
    return keys_in(common) | keys_in(rows[script])


@pytest.mark.parametrize('script', [*SCENARIO_SCRIPTS, 'monitor.py'])
def test_the_page_lists_the_keys_of_a_script(start, script):
    running = start(script, *FLAGS.get(script, ()), '--json', '-')
    running.wait_for('ready')
    assert set(json.loads(running.stop().out)) == listed_for(script)


def test_the_page_lists_the_keys_of_the_audit(run, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    run('ack_producer.py', '--count', 1, '--ledger', ledger)
    keys = set(json.loads(run('audit.py', ledger, '--json', '-').out))
    part = PAGE.partition('## audit.py')[2].partition('## Others')[0]
    assert keys == keys_in(part)
    assert set(MEANING) <= keys
