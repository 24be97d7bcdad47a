"""alerts.py: what somebody should look at."""

import pytest
from support.builders import NOON, letter, queue, seen

from siamese.monitoring import alerts, database, dead_letters, queues


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def test_each_kind_of_alert_is_found_once(db):
    assert alerts.warnings(db, 0, 0, NOON) == []
    database.set_facts(
        db, state='unavailable', since=NOON - 60, alarms={'memory alarm on n0': NOON - 8}
    )
    queues.update(db, NOON - 100, [queue(), queue('used'), queue('fresh')], uptime=None)
    queues.update(
        db,
        NOON - 90,
        [queue(published=2, ready=2), queue('used', 1, 1), queue('fresh')],
        uptime=None,
    )
    queues.update(
        db,
        NOON - 10,
        [queue(published=2, ready=2), queue('used', 1, 1), queue('fresh', 1)],
        uptime=None,
    )
    dead_letters.insert(db, [letter()], 's', NOON - 50)
    seen(db, NOON - 9, 'a')
    seen(db, NOON - 5, 'b')
    found = [
        (row.kind, row.name, row.began - NOON) for row in alerts.warnings(db, 30, NOON - 55, NOON)
    ]
    assert found == [
        ('broker', '', -30),
        ('alarm', 'memory alarm on n0', -8),
        ('unread', 'q', -70),
        ('dead', 'q', -50),
        ('interrupted', 'alice', -5),
    ]
    assert not {row.kind for row in alerts.warnings(db, 30, NOON, NOON)} & {
        'dead',
        'interrupted',
    }


def test_a_dead_letter_that_somebody_has_seen_is_no_warning_any_more(db):
    dead_letters.insert(db, [letter(1), letter(2)], 's', NOON)
    dead_letters.mark_seen(db, 'alice', NOON, number=1)
    (alert,) = alerts.warnings(db, 0, NOON - 1, NOON)
    assert alert.number == 1
    dead_letters.mark_seen(db, 'alice', NOON)
    assert alerts.warnings(db, 0, NOON - 1, NOON) == []
