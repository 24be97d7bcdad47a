"""dead_letters.py: each dead letter is stored once, and can be found."""

import datetime
from types import SimpleNamespace

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOON, letter

from siamese.monitoring import database, dead_letters, raw_properties


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def test_a_redelivered_dead_letter_is_stored_once_and_its_twin_is_not_lost(db):
    twins = [letter(message_id=''), letter(message_id='')]
    assert dead_letters.insert(db, twins[:1], 'first', NOON) == 1
    again = [
        {**twin, 'redelivered': True} for twin in twins
    ]  # the first was stored, but never acknowledged
    assert dead_letters.insert(db, again, 'second', NOON + 1) == 1
    assert dead_letters.insert(db, again, 'third', NOON + 2) == 0
    dead_letters.settle(db, 'third', NOON + 3)
    assert (
        dead_letters.insert(db, again, 'fourth', NOON + 4) == 2
    )  # they were acknowledged, so these are others
    assert dead_letters.find(db)[1] == database.by_period(db, 'day')[0]['expired'] == 4


def parsed(properties, now, redelivered):
    delivery = SimpleNamespace(
        method=SimpleNamespace(exchange='x', routing_key='k', redelivered=redelivered),
        properties=raw_properties.RawProperties(b''.join(properties.encode())),
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
        again = {'x-delivery-count': delivery} if delivery else {}
        properties = pika.BasicProperties(headers={'a': 1, 'x-death': [death], **again, 'z': 2})
        letter = parsed(properties, NOON + delivery, redelivered=bool(delivery))
        new = dead_letters.insert(db, [letter], f'session {delivery}', NOON + delivery)
        assert new == (not delivery)
    death['time'] += datetime.timedelta(seconds=1)
    another = pika.BasicProperties(
        headers={'a': 1, 'x-death': [death], 'x-delivery-count': 1, 'z': 2}
    )
    letter = parsed(another, NOON + 3, redelivered=True)
    assert dead_letters.insert(db, [letter], 'session 3', NOON + 3) == 1


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
