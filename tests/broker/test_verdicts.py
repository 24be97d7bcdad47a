"""--history of audit.py, compare.py and soak.py: their verdicts, as dashboard.py shows them."""

import contextlib
import json
import sqlite3

from siamese.monitoring import database, verdicts

QUIET = '--quiet', '--give-up-after', 30


def stored(file):
    with contextlib.closing(database.open_for_reading(str(file))) as db:
        return [verdicts.get(db, row['id']) for row in verdicts.find(db)[0]]


def test_an_audit_stores_what_it_prints(run, url, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    file = tmp_path / 'siamese.db'
    flags = ('--count', 3, '--ledger', ledger, *QUIET)
    assert run('producer.py', '--difficulty', 1, *flags).status == 0
    half = run('audit.py', ledger, '--history', file)
    assert run('validate.py', '--difficulty', 1, *flags).status == 0
    whole = run('audit.py', ledger, '--history', file)
    latest, first = stored(file)
    assert (half.status, whole.status) == (first['exit_status'], latest['exit_status']) == (3, 0)
    assert whole.out.endswith(latest['text'] + '\n')
    assert latest['books']['ok'] == '3' and latest['script'] == 'audit.py'
    assert latest['command'] == f'./audit.py {ledger} --history {file}'


def test_a_comparison_stores_its_verdict_without_the_password(run, url, tmp_path):
    file = tmp_path / 'siamese.db'
    done = run('compare.py', url, '--only', 'integrity', '--history', file)
    (row,) = stored(file)
    assert done.status == row['exit_status'] == 0
    assert ': 1 pass' in row['text'] and 'guest:' not in json.dumps(row)
    assert row['place'] in done.out and 'integrity' in json.dumps(row['books'])


def test_a_history_that_is_locked_or_is_none_changes_no_verdict(run, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text('')
    usual = run('audit.py', ledger)
    notes = tmp_path / 'notes.txt'
    notes.write_text('no history of anything ' * 99)
    done = run('audit.py', ledger, '--history', notes)
    assert (done.status, done.out) == (usual.status, usual.out)
    assert 'the verdict was not stored: ' in done.err and done.err.count('\n') == 1
    file = tmp_path / 'siamese.db'
    database.open_for_writing(str(file)).close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        done = run('audit.py', ledger, '--history', file)
    assert (done.status, done.out) == (usual.status, usual.out)
    assert 'locked' in done.err and done.err.count('\n') == 1
    assert notes.read_text().startswith('no history')
    assert run('audit.py', ledger, '--history', '/none/siamese.db').status == 2
