"""audit.py as a command; what it finds is tested in tests/unit/test_verdict.py."""

import json

from support.processes import Running


def test_a_ledger_without_consumer_cannot_be_judged(tmp_path):
    event = {'at': 0, 'by': 'alice', 'run': 'cafe', 'epoch': 1, 'event': 'attempted'}
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(json.dumps({**event, 'id': '1', 'attempt': 1, 'digest': 'd'}) + '\n')
    done = Running('audit.py', ledger).end()
    assert done.status == 3
    assert done.out.endswith('unknown: the ledgers know of no consumer\n')
    assert done.err == ''


def test_a_missing_file_and_bad_flags():
    done = Running('audit.py', '/none').end()
    assert done.status == 3
    assert 'No such file' in done.err
    assert 'Traceback' not in done.err
    assert Running('audit.py').end().status == 2
