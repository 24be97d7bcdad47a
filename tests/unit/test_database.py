"""database.py: buckets, retention, and the file."""

import datetime
import multiprocessing
import os
import sqlite3
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOON, letter, queue, seen

from common import Failure
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


def test_a_history_that_no_process_writes_can_be_read_without_write_permission():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to others
        path = f'{folder}/siamese.db'
        db = database.open_for_writing(path)
        dead_letters.insert(db, [letter()], 's', NOON)
        db.close()
        os.chmod(folder, 0o555)
        reader = os.fork()
        if not reader:
            status = 1
            try:
                if os.geteuid() == 0:  # who may do all
                    os.setuid(65534)
                status = int(dead_letters.find(database.open_for_reading(path))[1] != 1)
            finally:
                os._exit(status)
        assert os.waitpid(reader, 0)[1] == 0
        os.chmod(folder, 0o755)


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
