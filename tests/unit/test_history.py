"""history.py: every queue in every period of a range, page by page."""

import pytest
from support.builders import NOON, letter, queue

from siamese.monitoring import database, dead_letters, history, queues

DAY = 86400


@pytest.fixture
def db():
    """Three queues on three days; a queue named b% has the most errors, on the second day."""
    db = database.open_for_writing(':memory:')
    queues.update(db, NOON - 1, [], 5.0)
    for day in range(3):
        at = NOON + day * DAY
        counted = (day + 1) * 10
        rows = [queue(name, ready=day, published=counted) for name in ('a', 'b%', 'siamese.dead')]
        queues.update(db, at, rows, uptime=None)
    at = NOON + DAY
    letters = [letter(number, queue='b%', at=at) for number in range(3)]
    letters.append(letter(9, queue='b%', at=at, reason='rejected'))
    letters.append(letter(10, queue='a', at=NOON))
    dead_letters.insert(db, letters, 's', NOON)
    return db


def days(is_found=None):
    return history.Range('day', NOON - DAY, NOON + 9 * DAY, is_found)


def test_the_most_errors_come_first_then_the_latest(db):
    rows, count = history.page_of(db, days(), limit=4)
    shown = [(row['queue'], (row['start'] - NOON) // DAY, row['errors']) for row in rows]
    assert shown == [('b%', 0, 4), ('a', -1, 1), ('a', 1, 0), ('b%', 1, 0)]
    assert count == 9 and rows[0]['expired'] == 3 and rows[0]['rejected'] == 1


def test_pages_of_the_table_hold_each_row_once(db):
    found = []
    for offset in range(0, 9, 2):
        rows, _ = history.page_of(db, days(), 'published', False, limit=2, offset=offset)
        found += [(row['start'], row['queue']) for row in rows]
    assert len(found) == len(set(found)) == 9


def test_all_rows_are_those_of_the_report_in_its_order(db):
    for period in database.PERIODS:
        wanted = history.Range(period, 0, NOON + 900 * DAY)
        rows = [dict(row) for row in history.rows_of(db, wanted)]
        for row in rows:
            del row['errors']
        assert rows == database.by_period(db, period) != []


def test_only_queues_that_are_found(db):
    wanted = days(lambda name: name == 'b%')
    rows, count = history.page_of(db, wanted)
    assert count == len(rows) == 3 and {row['queue'] for row in rows} == {'b%'}
    assert [row['expired'] for row in history.totals(db, wanted)] == [0, 3, 0]
    both = days(lambda name: 'a' in name)
    assert [row['published'] for row in history.totals(db, both)] == [20, 20, 20]


def test_without_a_search_totals_are_of_all_but_the_dead_letter_queue(db):
    assert [row['published'] for row in history.totals(db, days())] == [20, 20, 20]
    assert [row['expired'] for row in history.totals(db, days())] == [1, 3, 0]


def test_what_is_no_column_to_sort_by_is_none(db):
    rows, _ = history.page_of(db, days(), sort='start; DROP TABLE bucket')
    assert rows[0]['errors'] == 4
