"""verdicts.py: what a run proved, in the history."""

import json
import logging
import sys
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from siamese.monitoring import database, verdicts
from siamese.monitoring.verdicts import books_of, command_of, store_verdict

SUMMARY = {'verdict': 'invalid: 1 lost', 'exit_status': 1, 'attempted': 3154, 'lost': ['a-1']}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/x/audit.py', 'runs/run 1.jsonl'])
    return str(tmp_path / 'siamese.db')


def stored(path):
    db = database.open_for_writing(path)
    rows, count = verdicts.find(db)
    assert len(rows) == count
    return [verdicts.get(db, row['id']) for row in rows]


def store(path, summary=None, **more):
    store_verdict(SimpleNamespace(history=path), summary or SUMMARY, **more)


def test_a_verdict_is_stored_with_its_books_and_how_to_repeat_it(path):
    store(path, place='127.0.0.1:5672/%2F', flags={'--seed': 7})
    (row,) = stored(path)
    assert (row['script'], row['text'], row['exit_status']) == ('audit.py', 'invalid: 1 lost', 1)
    assert row['command'] == "./audit.py 'runs/run 1.jsonl' --seed 7"
    assert row['books'] == {'attempted': '3,154', 'lost': '1: a-1'}
    assert '@' in row['who'] and row['place'] == '127.0.0.1:5672/%2F'


def test_a_flag_that_was_given_is_not_repeated():
    assert command_of(['soak.py', '--seed=4'], {'--seed': 4}) == './soak.py --seed=4'
    assert command_of(['soak.py', '--seed', '4'], {'--seed': 4}) == './soak.py --seed 4'


def test_without_the_flag_nothing_is_stored(tmp_path):
    store(None)
    assert list(tmp_path.iterdir()) == []


def test_no_password_is_stored(path):
    command = command_of(['compare.py', 'amqp://u:S3cret@h/v', '--url=amqp://u:S3cret@h'])
    assert 'S3cret' not in command and command.startswith("./compare.py 'amqp://***@h/v'")
    leak = {'brokers': [{'facts': {'why': 'refused amqp://u:S3cret@h'}}], 'lost': ['//u:S3cret@']}
    store(path, {**SUMMARY, **leak})
    assert 'S3cret' not in json.dumps(stored(path))


def test_verdicts_are_found_by_script_and_status_latest_first(path):
    for status in 0, 1, 3, 1:
        store(path, {**SUMMARY, 'exit_status': status})
    db = database.open_for_reading(path)
    assert [row['exit_status'] for row in verdicts.find(db)[0]] == [1, 3, 1, 0]
    assert verdicts.find(db, status=1, limit=1)[1] == 2
    assert verdicts.find(db, script='soak.py') == ([], 0)
    assert verdicts.get(db, 99) is None


class Fault(NamedTuple):
    fault: str
    took_s: float


def test_books_hold_tables_and_the_first_of_many_names():
    books = books_of({'faults': [Fault('kill', 0.25)], 'ok': [f'm{n}' for n in range(999)]})
    assert books['faults'] == {'1': {'fault': 'kill', 'took_s': '0.25'}}
    assert books['ok'].startswith('999: m0, m1, ') and len(books['ok']) < 200


def test_books_that_are_too_large_are_left_out(path):
    checks = {f'check {n}': {f'part {m}': 'x' * 9999 for m in range(99)} for n in range(99)}
    store(path, {**SUMMARY, 'checks': checks})
    (row,) = stored(path)
    assert row['books'] == verdicts.TOO_LARGE and row['exit_status'] == 1


def test_what_cannot_be_stored_is_logged_on_one_line(path, caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.ERROR)
    notes = tmp_path / 'notes.txt'
    notes.write_text('no history ' * 99)
    store(str(notes))
    assert 'the verdict was not stored: ' in caplog.text
    assert 'is not a history of monitor.py' in caplog.text
    caplog.clear()
    monkeypatch.setattr(verdicts, 'LOCKED_MS', 50)
    db = database.open_for_writing(path)
    db.execute('BEGIN IMMEDIATE')
    store(path)
    assert 'the verdict was not stored: ' in caplog.text and 'locked' in caplog.text
    db.execute('ROLLBACK')
    store(path)
    assert len(stored(path)) == 1


def test_verdicts_are_kept_as_long_as_the_rest(path):
    store(path)
    db = database.open_for_writing(path)
    (row,), _ = verdicts.find(db)
    database.forget(db, row['at'], row['at'])
    assert verdicts.find(db)[1] == 1
    database.forget(db, row['at'] + 1, row['at'] + 1)
    assert verdicts.find(db)[1] == 0
