"""history.py: the figures stay true whatever counters, clocks and processes do."""

import datetime
import multiprocessing
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

import history
from common import Failure

NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC
ZERO = dict.fromkeys(history.COUNTED, 0)


def queue(name='q', ready=0, consumers=0, **counted):
    return {'name': name, 'type': 'classic', 'state': 'running', 'ready': ready, 'unacked': 0, 'consumers': consumers,
            **dict.fromkeys(history.RATES, 0), **ZERO, **counted}


def letter(number=1, **facts):
    return {'at': NOON, 'queue': 'q', 'reason': 'expired', 'exchange': '', 'routing_key': 'q', 'sender': 'alice',
            'message_id': f'alice-{number}', 'body': b'\xff\x00', 'encoded': b'\0\0', 'properties': {'headers': {}},
            'redelivered': False, **facts}


@pytest.fixture
def db():
    return history.open_for_writing(':memory:')


# ---- counters

STEPS = st.lists(st.one_of(st.tuples(st.just('count'), st.integers(0, 1000)), st.just(('poll', 0)),
                           st.just(('node restarts', 0)), st.just(('monitor restarts', 0)),
                           st.just(('queue anew', 0))), max_size=40)


@given(STEPS, st.booleans())
def test_what_is_counted_is_what_the_broker_counted_until_each_look(tmp_path_factory, steps, several):
    path = str(tmp_path_factory.mktemp('history') / 'siamese.db')
    db, now, node_start = history.open_for_writing(path), NOON, NOON - 1000
    counter = seen = truth = 0

    def poll():
        nonlocal seen, truth
        history.collect(db, now, [queue(published=counter)], None if several else now - node_start)
        truth, seen = truth + counter - seen, counter

    poll()
    for step, count in steps:
        now += 30
        if step == 'count':
            counter += count
        elif step == 'poll':
            poll()
        elif step == 'monitor restarts':
            db.close()
            db = history.open_for_writing(path)
        else:  # what was counted since the last look is lost with the counter
            poll()
            counter = seen = 0
            if step == 'node restarts':
                node_start = now
            poll()  # a counter that has grown beyond where it stood, and a node of a cluster, cannot be told apart
    poll()
    assert history.queues(db)[0]['published'] == truth
    for period in history.PERIODS:
        assert sum(row['published'] for row in history.report(db, period)) == truth
    assert all(row[name] >= 0 for row in history.report(db, 'hour') for name in history.FIGURES)
    db.close()


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.booleans())
def test_a_counter_never_counts_backwards_nor_more_than_it_shows(old, new, restarted, several):
    assert 0 <= history.grown(old, new, restarted, several) <= new


def test_a_node_that_restarts_and_counts_beyond_where_it_was_is_noticed_by_its_uptime(db):
    history.collect(db, NOON, [queue(published=10)], uptime=1000)
    history.collect(db, NOON + 30, [queue(published=15)], uptime=20)
    assert history.queues(db)[0]['published'] == 15


def test_a_node_that_restarted_and_is_up_for_longer_than_before_is_another_process(db):
    history.collect(db, NOON, [queue(published=10)], uptime=10, process='1')
    history.collect(db, NOON + 5, [queue(published=11)], uptime=15, process='1')
    history.collect(db, NOON + 40, [queue(published=15)], uptime=20, process='2')
    assert history.queues(db)[0]['published'] == 16


def test_a_node_that_restarted_while_nobody_looked_and_a_clock_that_was_set(db):
    history.collect(db, NOON, [queue(published=10)], uptime=100)
    history.collect(db, NOON + 5000, [queue(published=15)], uptime=500)
    assert history.queues(db)[0]['published'] == 15
    history.collect(db, NOON + 9000, [queue(published=17)], uptime=4500)
    history.collect(db, NOON + 9050, [queue(published=18)], uptime=4505)
    assert history.queues(db)[0]['published'] == 18


def test_of_a_cluster_a_counter_that_sinks_counts_nothing_twice(db):
    for at, published in enumerate((0, 100, 40, 50)):
        history.collect(db, NOON + at, [queue(published=published)], uptime=None)
    assert history.queues(db)[0]['published'] == 110


def test_what_was_before_the_first_look_is_not_of_this_hour(db):
    history.collect(db, NOON, [queue(published=1000)], uptime=100)
    history.collect(db, NOON + 5, [queue(published=1001), queue('new', published=7)], uptime=105)
    assert {row['name']: row['published'] for row in history.queues(db)} == {'q': 1, 'new': 7}


def test_figures_that_the_broker_does_not_tell_for_a_while_are_not_counted_again(db):
    for at, published in enumerate((0, 5, None, 5, 6)):
        history.collect(db, NOON + at, [queue(published=published)], uptime=100 + at)
    assert history.queues(db)[0]['published'] == 6


def test_a_queue_that_is_deleted_and_declared_anew(db):
    for at, queues in enumerate(([queue(published=0)], [queue(published=5, ready=5)], [], [queue(published=7)])):
        history.collect(db, NOON + at, queues, uptime=100 + at)
        assert [row['ready'] for row in history.queues(db)] == [row['ready'] for row in queues]
    assert history.queues(db)[0]['published'] == 12
    assert history.report(db, 'day')[0]['ready_high'] == 5


# ---- time

@given(st.integers(0, 2**32))
def test_periods_begin_when_they_do_in_utc(at):
    then = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).replace(minute=0, second=0, microsecond=0)
    expected = [then, then.replace(hour=0), then.replace(hour=0, day=1), then.replace(hour=0, day=1, month=1)]
    assert [history.start_of(period, at) for period in history.PERIODS] == [moment.timestamp() for moment in expected]


def test_a_report_by_hour_day_month_and_year(db):
    months = [datetime.datetime(year, month, 28, 23, 59, tzinfo=datetime.timezone.utc).timestamp()
              for year in (2025, 2026) for month in (1, 12)]
    for number, at in enumerate(months):
        history.collect(db, at, [queue('a', published=number, ready=number), queue('siamese.dead', published=number)],
                        uptime=None)
    history.store_dead(db, [letter(n, queue='b', at=months[0] + n, reason=reason) for n, reason in
                            enumerate(('expired', 'rejected', 'maxlen', 'unknown'))], 's', months[0])

    def shown(*args, **kwargs):
        return [(datetime.datetime.fromtimestamp(row['start'], datetime.timezone.utc).strftime('%Y-%m-%dT%H'),
                 row['queue'], row['published'], row['ready_high'], row['expired'], row['rejected'], row['other'])
                for row in history.report(db, *args, **kwargs)]
    assert shown('year', 'a') == [('2025-01-01T00', 'a', 1, 1, 0, 0, 0), ('2026-01-01T00', 'a', 2, 3, 0, 0, 0)]
    assert shown('month', 'a') == [(f'{day}T00', 'a', 1, n, 0, 0, 0) for n, day in
                                   enumerate(('2025-12-01', '2026-01-01', '2026-12-01'), 1)]
    assert shown('hour', 'a', since=NOON) == [('2026-12-28T23', 'a', 1, 3, 0, 0, 0)]
    assert shown('day', 'b') == [('2025-01-28T00', 'b', 0, 0, 1, 1, 2)]
    assert shown('year', total=True) == [('2025-01-01T00', '', 1, 1, 1, 1, 2), ('2026-01-01T00', '', 2, 3, 0, 0, 0)]
    assert [row[1] for row in shown('day', until=months[0] + 1)] == ['b']


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_how_old_the_oldest_message_is_to_within_a_look(flow):
    # Of each look: how many came, and how many left at most, of a queue that is first in, first out.
    db, waiting, published = history.open_for_writing(':memory:'), [], 0
    history.collect(db, NOON, [queue()], uptime=None)
    for look, (come, leave) in enumerate(flow, 1):
        waiting = (waiting + [look] * come)[leave:]
        published += come
        history.collect(db, NOON + look, [queue(published=published, ready=len(waiting))], uptime=None)
        oldest = history.queues(db)[0]['oldest_since']
        assert oldest == (NOON + waiting[0] - 1 if waiting else None)


def test_rates_of_each_look(db):
    for at, published in ((0, 0), (10, 20), (20, 20)):
        history.collect(db, NOON + at, [queue(published=published, ready=3)], uptime=None)
    assert history.samples(db) == {'q': [(NOON + 10, 3, 0, 2.0, 0.0, 0.0), (NOON + 20, 3, 0, 0.0, 0.0, 0.0)]}
    assert history.samples(db, 'q') == history.samples(db) and history.samples(db, 'other') == {}
    history.collect(db, NOON + 20 + history.RECENT, [queue(published=20)], uptime=None)
    assert len(history.samples(db)['q']) == 1


def test_rates_are_our_own_where_the_broker_says_none(db):
    rates = []
    for at, published in ((0, 100), (5, 200), (10, 200), (15, 400), (60, 1000)):
        history.collect(db, NOON + at, [queue(published=published, publish_rate=7)], uptime=None)
        rates.append(history.queues(db)[0]['publish_rate'])
    assert rates == [7, 20, 10, 20, 7]  # 7: the broker's, where nothing was seen in the last 15 s


# ---- dead letters

def test_a_dead_letter_that_comes_again_is_stored_once_and_its_twin_is_not_lost(db):
    twins = [letter(message_id=''), letter(message_id='')]
    assert history.store_dead(db, twins[:1], 'first', NOON) == 1
    again = [{**twin, 'redelivered': True} for twin in twins]  # the first was stored, but never acknowledged
    assert history.store_dead(db, again, 'second', NOON + 1) == 1
    assert history.store_dead(db, again, 'third', NOON + 2) == 0
    history.settle(db, 'third', NOON + 3)
    assert history.store_dead(db, again, 'fourth', NOON + 4) == 2  # they were acknowledged, so these are others
    assert history.dead_letters(db)[1] == history.report(db, 'day')[0]['expired'] == 4


def test_dead_letters_filtered_and_paged(db):
    history.store_dead(db, [letter(n, queue='ab'[n % 2], reason='rejected' if n < 3 else 'expired') for n in range(9)],
                       's', NOON)
    history.mark_requeued(db, history.dead_ids(db, '#1'), NOON + 1)
    history.mark_requeued(db, history.dead_ids(db, '#1'), NOON + 2)

    def ids(**wanted):
        rows, count = history.dead_letters(db, **wanted)
        assert count >= len(rows)
        return [row['id'] for row in rows]
    assert ids() == list(range(9, 0, -1)) and ids(limit=2, offset=3) == [6, 5]
    assert ids(queue='a') == [9, 7, 5, 3, 1] and ids(reason='rejected', queue='b') == [2]
    assert ids(requeued=True) == [1] and ids(search='alice-7') == [8] and ids(sender='bob') == ids(since=NOON) == []
    assert history.dead_ids(db, 'a') == [3, 5, 7, 9] and len(history.dead_ids(db, 'all')) == 8
    assert history.dead_letter(db, 1)['body'] == b'\xff\x00' and history.dead_letter(db, 1)['requeued'] == NOON + 1
    assert history.dead_letter(db, 10) is None
    assert [(row['queue'], row['reason'], row['count']) for row in history.dead_by_queue(db, requeued=False)] == [
        ('a', 'expired', 3), ('a', 'rejected', 1), ('b', 'expired', 3), ('b', 'rejected', 1)]


# ---- clients

def seen(db, at, *connections, name='alice'):
    history.see_clients(db, at, {(name, 'guest'): {
        'does': 'sends', 'state': 'idle', 'connections': dict.fromkeys(connections, (10, 1))}} if connections else {})


def test_a_client_that_comes_back_was_interrupted(db):
    seen(db, 1, 'a')
    seen(db, 2, 'a')
    assert history.clients(db)[0]['interruptions'] == 0
    seen(db, 3, 'b')  # it was back before anybody looked
    seen(db, 3.2, 'b', 'c')  # the API still names the one that is gone
    seen(db, 3.4, 'c')
    seen(db, 4)
    assert history.clients(db)[0]['state'] == 'gone' and history.clients(db)[0]['since'] == 4
    seen(db, 7, 'd')
    row, = history.clients(db)
    assert (row['interruptions'], row['last_interruption'], row['back'], row['state']) == (3, 4, 7, 'idle')
    assert row['sent'] == 40 and row['received'] == 4 and row['does'] == 'sends'


def test_what_a_client_does_by_what_its_counters_grew(db):
    states = []
    for at, counts in enumerate([(10, 1), (10, 2), (11, 3), (12, 3), (12, 3)]):
        history.see_clients(db, at, {('alice', 'guest'): {'does': '', 'state': 'idle', 'connections': {'a': counts}}})
        states.append(history.clients(db)[0]['state'])
    assert states == ['idle', 'receives', 'sends and receives', 'sends', 'idle']


def test_what_the_event_exchange_tells_of_clients(db):
    history.client_came(db, 1, 'alice', 'guest', 'a')
    history.client_went(db, 2, 'a')
    history.client_went(db, 2, 'unknown')
    assert history.clients(db)[0]['state'] == 'gone'
    history.client_came(db, 3, 'alice', 'guest', 'b')
    row, = history.clients(db)
    assert (row['interruptions'], row['last_interruption'], row['back']) == (1, 2, 3)
    history.see_clients(db, 4, {}, patience=10)  # the API does not know of it yet
    assert history.clients(db)[0]['state'] == 'idle'
    history.see_clients(db, 14, {}, patience=10)
    assert history.clients(db)[0]['state'] == 'gone'


# ---- warnings, retention, files

def test_warnings(db):
    assert history.warnings(db, 0, 0, NOON) == []
    history.note(db, state='away', since=NOON - 60, alarms=['memory alarm on n0'])
    history.collect(db, NOON - 100, [queue(), queue('used'), queue('fresh')], uptime=None)
    history.collect(db, NOON - 90, [queue(published=2, ready=2), queue('used', 1, 1), queue('fresh')], uptime=None)
    history.collect(db, NOON - 10, [queue(published=2, ready=2), queue('used', 1, 1), queue('fresh', 1)], uptime=None)
    history.store_dead(db, [letter()], 's', NOON - 50)
    seen(db, NOON - 9, 'a')
    seen(db, NOON - 5, 'b')
    found = [(row['kind'], row['name'], row['began'] - NOON) for row in history.warnings(db, 30, NOON - 55, NOON)]
    assert found == [('broker', '', -60), ('alarm', '', 0), ('unread', 'q', -70), ('dead', 'q', -50),
                     ('interrupted', 'alice', -5)]
    assert not {row['kind'] for row in history.warnings(db, 30, NOON, NOON)} & {'dead', 'interrupted'}


def test_retention(db):
    for days in range(4):
        history.collect(db, NOON + days * 86400, [queue(published=days)], uptime=None)
        history.store_dead(db, [letter(days, at=NOON + days * 86400)], 's', NOON + days * 86400)
    seen(db, NOON, 'a')
    seen(db, NOON + 1)
    history.forget(db, NOON + 2 * 86400)
    assert [row['expired'] for row in history.report(db, 'day')] == [1, 1]
    assert [row['message_id'] for row in history.dead_letters(db)[0]] == ['alice-3', 'alice-2']
    assert history.clients(db) == [] and len(history.report(db, 'month')) == 1


def count_up(path):
    db = history.open_for_writing(path)
    for number in range(50):
        history.store_dead(db, [letter(number)], 's', NOON)
    db.close()


def test_several_processes_write_and_one_reads(tmp_path):
    path = str(tmp_path / 'siamese.db')
    history.open_for_writing(path).close()
    reader = history.open_for_reading(path)
    writers = [multiprocessing.get_context('spawn').Process(target=count_up, args=(path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert history.dead_letters(reader)[1] == history.report(reader, 'year')[0]['expired'] == 100


def test_a_file_that_is_no_history(tmp_path):
    path = tmp_path / 'notes.txt'
    with pytest.raises(Failure, match='cannot open'):
        history.open_for_reading(str(path))
    with pytest.raises(Failure, match='cannot open'):
        history.open_for_writing(str(tmp_path / 'no' / 'folder'))
    path.write_text('these are no figures, but a text that is longer than the head of a database ' * 9)
    for opened in history.open_for_reading, history.open_for_writing:
        with pytest.raises(Failure, match=r'no history of monitor\.py'):
            opened(str(path))
    other = sqlite3.connect(tmp_path / 'other.db')
    other.execute('PRAGMA user_version = 99')
    other.close()
    with pytest.raises(Failure, match='version 99'):
        history.open_for_writing(str(tmp_path / 'other.db'))
