"""Ledgers of earlier versions have the verdict that their own audit.py gave, or are refused.

Those in tests/support/ledgers are of runs on RabbitMQ 3.10.8: producer.py and validate.py,
the perf pair, the ack pair. They have the names of the parts of CHANGELOG.md. verdicts.json
has what the audit.py of that version said: of the ledger as it was written, and with one
delivery that is left out, altered or told twice.
"""

import json
from pathlib import Path

import pytest

import audit
from siamese import verdict

LEDGERS = Path(__file__).parents[1] / 'support' / 'ledgers'
VERDICTS = json.loads((LEDGERS / 'verdicts.json').read_text())
REFUSED = ['1-blocks', '2-five-scenarios']
SPOILED = 1  # which of the deliveries


def spoiled(lines, how):
    """Return the lines of a ledger in which one delivery is not as it was."""
    acked = [line for line in lines if line['event'] == 'acked'][SPOILED]
    at = lines.index(acked)
    instead = {
        'as written': [acked],
        'lost': [],
        'corrupt': [{**acked, 'digest': 'f' * 64}],
        'duplicated': [acked, acked],
    }
    return [*lines[:at], *instead[how], *lines[at + 1 :]]


@pytest.mark.parametrize('how', ['as written', 'lost', 'corrupt', 'duplicated'])
@pytest.mark.parametrize('name', VERDICTS)
def test_an_old_ledger_has_the_verdict_of_its_time(name, how, tmp_path, capsys):
    lines = [*map(json.loads, (LEDGERS / f'{name}.jsonl').read_text().splitlines())]
    path = tmp_path / 'run.jsonl'
    path.write_text('\n'.join(map(json.dumps, spoiled(lines, how))))
    status = audit.main([str(path), '--quiet', '--json', '-'])
    found = json.loads(capsys.readouterr().out)
    kinds = {kind: found[kind] for kind in verdict.MEANING if found[kind]}
    assert {**kinds, 'exit_status': status} == VERDICTS[name][how]


@pytest.mark.parametrize('name', REFUSED)
def test_a_ledger_of_other_words_is_refused(name, capsys):
    status = audit.main([str(LEDGERS / f'{name}.jsonl')])
    last = capsys.readouterr().out.splitlines()[-1]
    assert (status, last.partition(':')[0]) == (3, 'unknown')
    assert last.endswith('cannot be read; written by an older version? use a fresh ledger')
