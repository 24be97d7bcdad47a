"""clock.py, and what else holds when a machine's clock is set: hours ahead, hours back."""

import json

import pytest
from support.builders import NOON, letter, queue, seen

from siamese.monitoring import alerts, clients, clock, daemon, database, dead_letters, queues

HOUR_S = 3600
RETENTION_S = 7 * database.DAY_S


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def collected(db, at, **counted):
    """Collect as monitor.py does, at a time that its clock tells."""
    clock.pull_back(db, at)
    queues.update(db, at, [queue(**counted)], uptime=None)
    database.set_facts(db, monitor={'name': 'm', 'seen': at, 'interval': 5})


def everything(db):
    tables = 'fact', 'queue', 'sample', 'client', 'dead', 'bucket'
    return [db.execute(f'SELECT * FROM {table}').fetchall() for table in tables]


def test_a_time_that_has_not_come_yet_is_now(db):
    ahead = NOON + HOUR_S
    database.set_facts(db, state='unavailable', since=ahead, alarms={'disk alarm on n': ahead})
    seen(db, ahead, 'a')
    seen(db, ahead + 1)
    seen(db, ahead + 2, 'b')
    dead_letters.insert(db, [letter(1), letter(2)], 's', ahead)
    dead_letters.mark_requeued(db, [1], ahead)
    collected(db, ahead, ready=3, published=3)
    before = {alert.kind: alert.began for alert in alerts.warnings(db, 0, 0, NOON)}
    assert set(before) == {'broker', 'alarm', 'dead', 'interrupted'}  # it seems to wait for -1 h
    assert min(before.values()) > NOON
    clock.pull_back(db, NOON)
    after = {alert.kind: alert.began for alert in alerts.warnings(db, 0, 0, NOON)}
    assert after == dict.fromkeys([*before, 'unread'], NOON)
    (client,) = clients.rows(db)
    assert (client['since'], client['last_seen'], client['back']) == (NOON, NOON, NOON)
    assert dead_letters.find(db, requeued=True)[0][0]['requeued'] == NOON
    assert queues.samples(db) == {}


def test_what_is_right_stays_as_it_is(db):
    seen(db, NOON - 2, 'a')
    dead_letters.insert(db, [letter()], 's', NOON - 1)
    collected(db, NOON, ready=3, published=3)
    before = everything(db)
    clock.pull_back(db, NOON)
    assert everything(db) == before


def test_a_connection_that_was_seen_in_the_future_is_gone_when_it_is_gone(db):
    seen(db, NOON + HOUR_S, 'a')
    dead_letters.insert(db, [letter()], 's', NOON + HOUR_S)
    clock.pull_back(db, NOON)
    seen(db, NOON + 1, 'b')  # the successor began later, whatever the clock said
    assert clients.rows(db)[0]['interruptions'] == 1
    clients.update(db, NOON - HOUR_S, {}, grace_s=10)
    assert clients.rows(db)[0]['state'] == 'gone'


@pytest.mark.parametrize('jump_s', [HOUR_S, -HOUR_S])
def test_a_clock_that_is_set_is_no_restart_of_a_young_node(db, jump_s):
    queues.update(db, NOON, [queue(published=100)], uptime=1000, elapsed_s=None)
    clock.pull_back(db, NOON + jump_s)
    at = NOON + jump_s + 5
    queues.update(db, at, [queue(published=101)], uptime=1005, elapsed_s=5)
    assert queues.rows(db)[0]['published'] == 1  # what was before the first time is left out


def test_rates_and_ages_go_on_after_the_clock_was_set(db):
    for at in range(0, 30, 5):
        collected(db, NOON + HOUR_S + at, ready=at, published=at)
    for at in range(30, 60, 5):
        collected(db, NOON + at, ready=at, published=at)
    (row,) = queues.rows(db)
    assert row['publish_rate'] == pytest.approx(1)
    assert NOON <= row['oldest_since'] <= NOON + 30
    assert all(sample.publish_rate >= 0 for sample in queues.samples(db)['q'])


def test_the_steady_clock_tells_what_passed(db, monkeypatch):
    starts = iter([('boot 1', 100.0), ('boot 1', 103.5), ('boot 2', 7.0), ('boot 2', 8.0), None])
    monkeypatch.setattr(clock, '_steady', lambda: next(starts))
    assert [clock.elapsed(db) for _ in range(5)] == [None, 3.5, None, 1.0, None]


def test_this_machine_has_a_steady_clock():
    start, seconds = clock._steady()
    assert start and seconds > 0
    assert json.loads(json.dumps([start, seconds])) == [start, seconds]


def test_nothing_is_deleted_because_the_clock_is_ahead_once(db):
    for days in range(3):
        dead_letters.insert(db, [letter(days)], 's', NOON + days * database.DAY_S)
    now = NOON + RETENTION_S + database.DAY_S  # the first letter is too old, for a day
    for looked_at in (now, now + 365 * database.DAY_S, now):
        daemon.forget_outdated(db, RETENTION_S, looked_at)
    kept = sorted(row['message_id'] for row in dead_letters.find(db)[0])
    assert kept == ['alice-1', 'alice-2']
