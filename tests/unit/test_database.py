"""database.py: buckets, retention, and the file."""

import contextlib
import datetime
import fcntl
import itertools
import multiprocessing
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOON, letter, queue, seen

from common import Failure
from siamese import ROOT
from siamese.monitoring import clients, database, dead_letters, queues


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


@given(st.integers(0, 2**32))
def test_periods_begin_when_they_do_in_utc(at):
    then = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).replace(
        minute=0, second=0, microsecond=0
    )
    expected = [
        then,
        then.replace(hour=0),
        then.replace(hour=0, day=1),
        then.replace(hour=0, day=1, month=1),
    ]
    assert [database.start_of(period, at) for period in database.PERIODS] == [
        moment.timestamp() for moment in expected
    ]


def test_a_report_by_hour_day_month_and_year(db):
    months = [
        datetime.datetime(year, month, 28, 23, 59, tzinfo=datetime.timezone.utc).timestamp()
        for year in (2025, 2026)
        for month in (1, 12)
    ]
    for number, at in enumerate(months):
        queues.update(
            db,
            at,
            [queue('a', published=number, ready=number), queue('siamese.dead', published=number)],
            uptime=None,
        )
    dead_letters.insert(
        db,
        [
            letter(n, queue='b', at=months[0] + n, reason=reason)
            for n, reason in enumerate(('expired', 'rejected', 'maxlen', 'unknown'))
        ],
        's',
        months[0],
    )

    def shown(*args, **kwargs):
        return [
            (
                datetime.datetime.fromtimestamp(row['start'], datetime.timezone.utc).strftime(
                    '%Y-%m-%dT%H'
                ),
                row['queue'],
                row['published'],
                row['ready_high'],
                row['expired'],
                row['rejected'],
                row['other'],
            )
            for row in database.by_period(db, *args, **kwargs)
        ]

    assert shown('year', 'a') == [
        ('2025-01-01T00', 'a', 1, 1, 0, 0, 0),
        ('2026-01-01T00', 'a', 2, 3, 0, 0, 0),
    ]
    assert shown('month', 'a') == [
        (f'{day}T00', 'a', 1, n, 0, 0, 0)
        for n, day in enumerate(('2025-12-01', '2026-01-01', '2026-12-01'), 1)
    ]
    assert shown('hour', 'a', since=NOON) == [('2026-12-28T23', 'a', 1, 3, 0, 0, 0)]
    assert shown('day', 'b') == [('2025-01-28T00', 'b', 0, 0, 1, 1, 2)]
    assert shown('year', total=True) == [
        ('2025-01-01T00', '', 1, 1, 1, 1, 2),
        ('2026-01-01T00', '', 2, 3, 0, 0, 0),
    ]
    assert [row[1] for row in shown('day', until=months[0] + 1)] == ['b']


def test_retention(db):
    for days in range(4):
        queues.update(db, NOON + days * 86400, [queue(published=days)], uptime=None)
        dead_letters.insert(db, [letter(days, at=NOON + days * 86400)], 's', NOON + days * 86400)
    seen(db, NOON + 2 * 86400, 'a')
    seen(db, NOON + 2 * 86400 + 1)
    for days in (3, 34):
        assert (
            len(clients.rows(db)) == 1
        )  # when nobody has seen it for a month it will not come back
        database.forget(db, NOON + 2 * 86400, NOON + days * 86400)
    assert [row['expired'] for row in database.by_period(db, 'day')] == [1, 1]
    assert [row['message_id'] for row in dead_letters.find(db)[0]] == ['alice-3', 'alice-2']
    assert clients.rows(db) == [] and len(database.by_period(db, 'month')) == 1
    assert [row['name'] for row in queues.rows(db, gone=True)] == ['q']
    queues.update(db, NOON + 4 * 86400, [], uptime=None)
    database.forget(db, NOON + 60 * 86400, NOON + 60 * 86400)
    assert queues.rows(db, gone=True) == dead_letters.by_queue(db) == []


def count_up(path):
    db = database.open_for_writing(path)
    for number in range(50):
        dead_letters.insert(db, [letter(number)], 's', NOON)
    db.close()


def test_several_processes_can_write_while_one_reads(tmp_path):
    path = str(tmp_path / 'siamese.db')
    database.open_for_writing(path).close()
    reader = database.open_for_reading(path)
    writers = [
        multiprocessing.get_context('spawn').Process(target=count_up, args=(path,))
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert dead_letters.find(reader)[1] == database.by_period(reader, 'year')[0]['expired'] == 100


READER = """
import os, sys
from siamese.monitoring import database, dead_letters

if os.geteuid() == 0:  # who may do all
    os.setuid(65534)
sys.exit(dead_letters.find(database.open_for_reading(sys.argv[1]))[1] != 1)
"""


def test_a_history_that_no_process_writes_can_be_read_without_write_permission():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to others
        path = f'{folder}/siamese.db'
        db = database.open_for_writing(path)
        dead_letters.insert(db, [letter()], 's', NOON)
        db.close()
        os.chmod(path, 0o644)  # as its owner may
        os.chmod(folder, 0o555)
        subprocess.run([sys.executable, '-c', READER, path], cwd=ROOT, check=True)
        os.chmod(folder, 0o755)


@pytest.mark.parametrize('opened', [database.open_for_writing, database.open_for_reading])
def test_a_history_of_version_5_is_upgraded_with_what_it_holds(tmp_path, opened):
    path = tmp_path / 'siamese.db'
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript((pathlib.Path(__file__).parent / 'history_5.sql').read_text())
    path.chmod(0o644)
    opened(str(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600
    db = database.open_for_writing(str(path))
    found, count = dead_letters.find(db)
    assert [row['message_id'] for row in found] == ['alice-2', 'alice-1'] and count == 2
    assert dead_letters.by_queue(db) == [
        {
            'queue': 'q',
            'reason': 'expired',
            'count': 2,
            'waiting': 1,
            'unseen': 1,
            'copies': 0,
        }
    ]
    again = [letter(2, redelivered=True)]
    assert dead_letters.insert(db, again, 'second', NOON) == (0, 0)  # it was not settled
    dead_letters.insert(db, [letter(3), letter(3, message_id='', redelivered=True)], 's', NOON)
    (day,) = database.by_period(db, 'day')
    assert day['expired'] == 4 and day['copies'] == 0
    dead_letters.mark_requeued(db, dead_letters.ids(db, 'all'), NOON)
    database.forget(db, NOON + 1, NOON + 1)
    assert dead_letters.by_queue(db) == []
    new = database.open_for_writing(':memory:')
    columns = 'SELECT name FROM pragma_table_info(?) ORDER BY name'
    for table in 'dead', 'tally', 'bucket', 'sample', 'minute', 'detail', 'verdict':
        here, there = (
            {row['name'] for row in each.execute(columns, [table])} for each in (db, new)
        )
        assert here - there <= {'delivered'} and there <= here
    triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    assert db.execute(triggers).fetchall() == new.execute(triggers).fetchall()


def test_only_the_owner_can_read_a_history(tmp_path):
    path = str(tmp_path / 'siamese.db')
    before = os.umask(0)
    try:
        db = database.open_for_writing(path)
        dead_letters.insert(db, [letter()], 's', NOON)
        assert database.lock(f'{path}-requeue')
    finally:
        os.umask(before)
    modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)}
    assert modes == dict.fromkeys(
        [f'siamese.db{end}' for end in ('', '-wal', '-shm', '-requeue')], 0o600
    )
    os.chmod(path, 0o640)  # its owner may let a group read it
    database.open_for_writing(path)
    assert os.stat(path).st_mode & 0o777 == 0o640


def answer(opened, path, question):
    """Return what is said of a history that does not answer, '' if it does."""
    try:
        with contextlib.closing(opened(path)) as db:
            question(db)
    except Failure as failure:
        return str(failure)
    except database.FAULTS as error:
        return str(database.failure_of(error, path))
    return ''


def test_a_damaged_history_takes_one_line(tmp_path):
    path = str(tmp_path / 'siamese.db')
    db = database.open_for_writing(path)
    for number in range(9):
        facts = {'body': b'x' * 900, 'queue': f'queue {number}'}
        dead_letters.insert(db, [letter(number, **facts)], 's', NOON + number * 86400)
        queues.update(db, NOON + number, [queue(published=number, ready=number)], uptime=None)
    database.set_facts(db, alarms={}, nodes=[], state='up')
    db.close()
    whole = pathlib.Path(path).read_bytes()
    questions = [
        lambda db: [dead_letters.get(db, row['id']) for row in dead_letters.find(db)[0]],
        lambda db: dead_letters.find(db, search='x'),
        lambda db: dead_letters.by_queue(db, 0),
        lambda db: database.by_period(db, 'day'),
        lambda db: queues.rows(db),
        database.broker,
    ]
    by_chance = random.Random(1)
    told = set()
    for _ in range(120):
        content = bytearray(whole)
        for _ in range(by_chance.choice((1, 9, 60))):
            content[by_chance.randrange(len(content))] = by_chance.randrange(256)
        page = 4096 * by_chance.randrange(len(content) // 4096)
        if by_chance.random() < 0.3:
            content[page : page + 4096] = bytes(4096)
        pathlib.Path(path).write_bytes(content)
        for opened, question in itertools.product(
            (database.open_for_reading, database.open_for_writing), questions
        ):
            told.add(answer(opened, path, question))
        for end in '-wal', '-shm':
            pathlib.Path(path + end).unlink(missing_ok=True)
    assert f'the history {path} is damaged; restore a copy, or see --history' in told
    assert all(text.isprintable() for text in told)


def test_a_file_that_is_not_a_history_is_refused(tmp_path):
    path = tmp_path / 'notes.txt'
    with pytest.raises(Failure, match='cannot open'):
        database.open_for_reading(str(path))
    with pytest.raises(Failure, match='cannot open'):
        database.open_for_writing(str(tmp_path / 'no' / 'folder'))
    path.write_text(
        'these are no metrics, but a text that is longer than the head of a database ' * 9
    )
    for opened in database.open_for_reading, database.open_for_writing:
        with pytest.raises(Failure, match=r'is not a history of monitor\.py'):
            opened(str(path))
    other = sqlite3.connect(tmp_path / 'other.db')
    other.execute('PRAGMA user_version = 99')
    other.close()
    with pytest.raises(Failure, match='version 99'):
        database.open_for_writing(str(tmp_path / 'other.db'))


def test_who_may_read_a_history_cannot_keep_others_from_writing_it(tmp_path):
    path = str(tmp_path / 'siamese.db')
    database.open_for_writing(path).close()
    with open(path) as reader:
        fcntl.flock(reader, fcntl.LOCK_EX)
        assert database.is_free(path)
    assert not database.is_free(path)  # we have it now


def test_what_is_written_within_a_tick_of_the_kernel_is_not_missed(tmp_path, monkeypatch):
    path = tmp_path / 'siamese.db'
    path.touch()
    at = path.stat().st_mtime_ns
    moments = iter((at, at + 10**9, at + 2 * 10**9))
    monkeypatch.setattr(database.time, 'time_ns', lambda: next(moments))
    at_once, later, much_later = (database.written(str(path)) for _ in range(3))
    assert at_once != later == much_later
