"""dead.py: each dead letter is there once, and can be found."""

import pytest
from histories import NOON, letter

import dead
import history


@pytest.fixture
def db():
    return history.open_for_writing(':memory:')


def test_a_dead_letter_that_comes_again_is_stored_once_and_its_twin_is_not_lost(db):
    twins = [letter(message_id=''), letter(message_id='')]
    assert dead.store(db, twins[:1], 'first', NOON) == 1
    again = [{**twin, 'redelivered': True} for twin in twins]  # the first was stored, but never acknowledged
    assert dead.store(db, again, 'second', NOON + 1) == 1
    assert dead.store(db, again, 'third', NOON + 2) == 0
    dead.settle(db, 'third', NOON + 3)
    assert dead.store(db, again, 'fourth', NOON + 4) == 2  # they were acknowledged, so these are others
    assert dead.letters(db)[1] == history.report(db, 'day')[0]['expired'] == 4


def test_dead_letters_filtered_and_paged(db):
    dead.store(db, [letter(n, queue='ab'[n % 2], reason='rejected' if n < 3 else 'expired') for n in range(9)],
                       's', NOON)
    dead.mark_requeued(db, dead.ids(db, '#1'), NOON + 1)
    dead.mark_requeued(db, dead.ids(db, '#1'), NOON + 2)

    def ids(**wanted):
        rows, count = dead.letters(db, **wanted)
        assert count >= len(rows)
        return [row['id'] for row in rows]
    assert ids() == list(range(9, 0, -1)) and ids(limit=2, offset=3) == [6, 5]
    assert ids(queue='a') == [9, 7, 5, 3, 1] and ids(reason='rejected', queue='b') == [2]
    assert ids(requeued=True) == [1] and ids(search='alice-7') == [8] and ids(sender='bob') == ids(since=NOON) == []
    assert dead.ids(db, 'a') == [3, 5, 7, 9] and len(dead.ids(db, 'all')) == 8
    assert dead.letter(db, 1)['body'] == b'\xff\x00' and dead.letter(db, 1)['requeued'] == NOON + 1
    assert dead.letter(db, 10) is None
    assert [(row['queue'], row['reason'], row['count']) for row in dead.by_queue(db, requeued=False)] == [
        ('a', 'expired', 3), ('a', 'rejected', 1), ('b', 'expired', 3), ('b', 'rejected', 1)]
