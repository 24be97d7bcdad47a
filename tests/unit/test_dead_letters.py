"""dead_letters.py: each dead letter is stored once, and can be found."""

import datetime
from types import SimpleNamespace

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOON, letter

from siamese.messaging import raw_fields
from siamese.monitoring import database, dead_letters, raw_properties

P = dead_letters.PREFETCH


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def test_equal_dead_letters_without_an_id_are_all_kept_and_those_in_doubt_are_marked(db):
    equal = [letter(tag, message_id='') for tag in (1, 2, 3)]
    assert dead_letters.insert(db, equal, 'first', NOON) == (3, 0)
    dead_letters.settle(db, 'first', up_to=2)
    again = [{**each, 'redelivered': True} for each in equal[:2]]
    # One may be the third, whose acknowledgement may be lost; the other one is new for certain.
    assert dead_letters.insert(db, again, 'second', NOON + 1) == (2, 1)
    # Not flagged, but a broker may have forgotten the flag: two may be those of before.
    assert dead_letters.insert(db, equal, 'third', NOON + 2) == (3, 2)
    dead_letters.settle(db, 'second', up_to=P)
    dead_letters.settle(db, 'third', up_to=P)
    assert dead_letters.insert(db, again, 'fourth', NOON + 3) == (2, 0)
    found, count = dead_letters.find(db)
    assert [row['id'] for row in found if row['copy']] == [7, 6, 4]
    (day,) = database.by_period(db, 'day')
    assert count == day['expired'] == 10 and day['copies'] == 3


def test_a_dead_letter_with_an_id_counts_once_until_it_is_settled(db):
    again = [{**letter(1), 'redelivered': True}]
    assert dead_letters.insert(db, [letter(1)], 'first', NOON) == (1, 0)
    for session in 'second', 'third':
        assert dead_letters.insert(db, again, session, NOON + 1) == (0, 0)
    # Some brokers forget the flag when they restart, so this one may be a copy.
    assert dead_letters.insert(db, [letter(1)], 'fourth', NOON + 2) == (1, 1)
    dead_letters.settle(db, 'fourth', up_to=0)
    assert dead_letters.insert(db, again, 'fifth', NOON + 3) == (0, 0)
    dead_letters.settle(db, 'fifth', up_to=1)
    assert dead_letters.insert(db, again, 'sixth', NOON + 4) == (1, 0)


def test_at_most_a_prefetch_of_dead_letters_is_in_doubt_after_a_break(db):
    for tag in range(1, 5 * P, 3):
        dead_letters.insert(db, [letter(tag + n, message_id='') for n in range(3)], 's', NOON)
        dead_letters.settle(db, 's', up_to=tag + 2 - P)
    redelivered = [{**letter(n, message_id=''), 'redelivered': True} for n in range(2 * P)]
    assert dead_letters.insert(db, redelivered, 't', NOON) == (2 * P, P)


def test_counts_of_what_may_be_a_copy_end_when_it_is_requeued_or_deleted(db):
    equal = [letter(n, message_id='', redelivered=True) for n in range(3)]
    for session in 'first', 'second':
        dead_letters.insert(db, equal, session, NOON)

    def copies():
        counted = {dead_letters.by_queue(db, since)[0]['copies'] for since in (None, 0)}
        return counted, dead_letters.copies_among(db, 'all'), dead_letters.copies_among(db, 'q')

    assert copies() == ({3}, 3, 3) and dead_letters.copies_among(db, '#1') == 0
    dead_letters.mark_requeued(db, [5, 5], NOON)
    assert copies() == ({2}, 2, 2)
    db.execute('DELETE FROM dead WHERE id IN (5, 6)')
    assert copies() == ({1}, 1, 1)


def parsed(properties, now, redelivered):
    delivery = SimpleNamespace(
        method=SimpleNamespace(
            exchange='x', routing_key='k', redelivered=redelivered, delivery_tag=1
        ),
        properties=raw_fields.RawProperties(b''.join(properties.encode())),
        body=b'',
    )
    return raw_properties.parse(delivery, now)


@pytest.mark.parametrize('count, ahead', [(1, -9), (2, -9), (1, 3600)])
def test_a_redelivered_dead_letter_is_recognised_whatever_the_clocks_say(db, count, ahead):
    death = {
        'queue': 'q',
        'reason': 'expired',
        'count': count,
        'exchange': '',
        'routing-keys': ['q'],
        'time': datetime.datetime.fromtimestamp(NOON + ahead, datetime.timezone.utc),
    }
    for delivery in range(3):
        # The broker sorts the headers when it adds one.
        headers = {'z': 2, 'a': 1, 'x-death': [death]}
        if delivery:
            added = {'x-acquired-count': delivery + 1, 'x-delivery-count': delivery}
            headers = dict(sorted({**headers, **added}.items()))
        properties = pika.BasicProperties(headers=headers, message_id='m')
        letter = parsed(properties, NOON + delivery, redelivered=bool(delivery))
        stored = dead_letters.insert(db, [letter], f'session {delivery}', NOON + delivery)
        assert stored.new == (not delivery)
    death['time'] += datetime.timedelta(seconds=1)
    another = pika.BasicProperties(
        headers={'a': 1, 'x-death': [death], 'x-delivery-count': 1, 'z': 2}, message_id='m'
    )
    letter = parsed(another, NOON + 3, redelivered=True)
    assert dead_letters.insert(db, [letter], 'session 3', NOON + 3) == (1, 0)


def test_dead_letters_are_filtered_and_paged(db):
    dead_letters.insert(
        db,
        [letter(n, queue='ab'[n % 2], reason='rejected' if n < 3 else 'expired') for n in range(9)],
        's',
        NOON,
    )
    dead_letters.mark_requeued(db, dead_letters.ids(db, '#1'), NOON + 1)
    dead_letters.mark_requeued(db, dead_letters.ids(db, '#1'), NOON + 2)

    def ids(**wanted):
        rows, count = dead_letters.find(db, **wanted)
        assert count >= len(rows)
        return [row['id'] for row in rows]

    assert ids() == list(range(9, 0, -1)) and ids(limit=2, offset=3) == [6, 5]
    assert ids(queue='a') == [9, 7, 5, 3, 1] and ids(reason='rejected', queue='b') == [2]
    assert ids(requeued=True) == [1] and ids(search='alice-7') == [8] and ids(since=NOON) == []
    assert dead_letters.ids(db, 'a') == [3, 5, 7, 9] and len(dead_letters.ids(db, 'all')) == 8
    assert (
        dead_letters.get(db, 1)['body'] == b'\xff\x00'
        and dead_letters.get(db, 1)['requeued'] == NOON + 1
    )
    assert dead_letters.get(db, 10) is None
    assert (
        dead_letters.ids(db, '#²')
        == dead_letters.ids(db, '#' + '9' * 30)
        == dead_letters.ids(db, '#10')
        == []
    )
    assert [
        (row['queue'], row['reason'], row['count'], row['waiting'])
        for row in dead_letters.by_queue(db)
    ] == [
        ('a', 'expired', 3, 3),
        ('a', 'rejected', 2, 1),
        ('b', 'expired', 3, 3),
        ('b', 'rejected', 1, 1),
    ]


def test_a_search_for_dead_letters_ignores_case(db):
    dead_letters.insert(db, [letter(1, sender='Jürgen'), letter(2)], 's', NOON)
    assert [dead_letters.find(db, search=text)[1] for text in ('ALICE-1', 'jÜRG', 'J', 'x')] == [
        1,
        1,
        1,
        0,
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(['store', 'requeue', 'forget']), st.integers(0, 40)),
        max_size=30,
    )
)
def test_counts_equal_the_number_of_dead_letters(steps):
    db = database.open_for_writing(':memory:')
    for number, (what, n) in enumerate(steps):
        if what == 'store':
            facts = {'queue': 'ab'[n % 2], 'reason': ('expired', 'rejected')[n % 3 == 0]}
            dead_letters.insert(db, [letter(number, **facts)], 's', NOON + n)
        elif what == 'requeue':
            dead_letters.mark_requeued(db, [n, n], NOON)
        else:
            database.forget(db, NOON + n, NOON)
    for wanted in (
        {},
        {'queue': 'a'},
        {'reason': 'rejected'},
        {'queue': 'b', 'reason': 'expired', 'requeued': False},
    ):
        for state in None, True, False:
            rows, count = dead_letters.find(db, **{'requeued': state, **wanted}, limit=-1)
            assert count == len(rows)
    rows = dead_letters.by_queue(db)
    assert [{**row, 'stored': 0} for row in dead_letters.by_queue(db, 0)] == [
        {**row, 'stored': 0} for row in rows
    ]


def test_what_somebody_has_seen_is_counted_no_more_and_stays(db):
    letters = [letter(1), letter(2), letter(3, reason='rejected'), letter(4, queue='other')]
    dead_letters.insert(db, letters, 's', NOON)
    assert dead_letters.mark_seen(db, 'alice', NOON + 1, number=2) == 1
    assert dead_letters.mark_seen(db, 'bob', NOON + 2, queue='q', reason='expired') == 1
    marked = {row['id']: row['seen_by'] for row in dead_letters.find(db, requeued=False)[0]}
    assert marked == {1: 'bob', 2: 'alice', 3: None, 4: None}
    rows, count = dead_letters.find(db, unseen=True)
    assert [row['id'] for row in rows] == [4, 3] and count == 2
    unseen = {(row['queue'], row['reason']): row['unseen'] for row in dead_letters.by_queue(db)}
    assert unseen == {('q', 'expired'): 0, ('q', 'rejected'): 1, ('other', 'expired'): 1}
    since = dead_letters.by_queue(db, since=0)
    assert [row['unseen'] for row in since] == [1, 0, 1]
    assert dead_letters.mark_seen(db, 'bob', NOON) == 2
    assert dead_letters.find(db, unseen=True) == ([], 0)


def test_nobody_has_seen_what_came_later(db):
    dead_letters.insert(db, [letter(1)], 's', NOON)
    shown = dead_letters.last_id(db)
    dead_letters.insert(db, [letter(2)], 's', NOON)
    assert dead_letters.mark_seen(db, 'alice', NOON, up_to=shown) == 1
    assert [row['id'] for row in dead_letters.find(db, unseen=True)[0]] == [2]


def test_very_many_are_marked_a_part_at_a_time(db, monkeypatch):
    monkeypatch.setattr(dead_letters, 'MARKED_AT_ONCE', 3)
    dead_letters.insert(db, [letter(number) for number in range(10)], 's', NOON)
    assert dead_letters.mark_seen(db, 'alice', NOON, search='ALICE') == 10
    assert dead_letters.find(db, unseen=True) == ([], 0)


def test_the_tally_of_unseen_letters_holds_whatever_is_done_to_them(db):
    dead_letters.insert(db, [letter(number) for number in range(1, 6)], 's', NOON)
    dead_letters.mark_seen(db, 'alice', NOON, number=1)
    dead_letters.mark_requeued(db, [1, 2], NOON)
    dead_letters.mark_seen(db, 'alice', NOON, number=2)
    dead_letters.mark_seen(db, 'alice', NOON, number=3)
    (row,) = dead_letters.by_queue(db)
    assert (row['waiting'], row['unseen']) == (3, 2)
    db.execute('DELETE FROM dead WHERE id IN (2, 3, 4)')
    (row,) = dead_letters.by_queue(db)
    assert (row['waiting'], row['unseen']) == (1, 1)


def test_the_next_one_and_the_one_before_are_those_of_the_filter(db):
    letters = [letter(number, queue='ab'[number % 2]) for number in range(1, 6)]
    dead_letters.insert(db, letters, 's', NOON)

    def beside(number, newer, **wanted):
        return dead_letters.neighbour(db, number, newer, **wanted)

    assert (beside(3, True), beside(3, False)) == (4, 2)
    assert (beside(3, True, queue='b'), beside(3, False, queue='b')) == (5, 1)
    assert (beside(5, True), beside(1, False)) == (None, None)
    dead_letters.mark_seen(db, 'alice', NOON, number=4)
    assert beside(3, True, unseen=True) == 5
