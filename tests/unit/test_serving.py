"""serving.py: when the loop lets messages come together."""

import math
from types import SimpleNamespace

import pytest

from siamese.messaging import serving
from siamese.messaging.serving import BUSY, RESTS, Serving


@pytest.fixture
def rest(monkeypatch):
    """A function: does a link with room for 400 messages rest, once so many have come?"""
    slept = []
    monkeypatch.setattr(serving.time, 'sleep', slept.append)
    link = Serving.__new__(Serving)
    link.under_way = 400
    connection = SimpleNamespace()
    link.reconnector = SimpleNamespace(connection=connection)

    def rests(taken, until=math.inf, has_more=False):
        slept.clear()
        connection.has_more = has_more
        link.taken = taken
        link._rest(until)
        assert link.taken == 0
        return bool(slept)

    return rests


def test_it_rests_where_messages_come_fast(rest):
    assert rest(BUSY)
    assert not rest(BUSY - 1)


def test_it_does_not_rest_where_the_broker_would_wait(rest):
    assert rest(99)
    assert not rest(100)


def test_it_does_not_rest_where_something_is_due(rest):
    assert not rest(BUSY, until=0)


def test_now_and_then_a_turn_without_a_rest_shows_whether_they_still_come_fast(rest):
    assert [rest(BUSY) for _ in range(2 * RESTS + 2)] == 2 * ([True] * RESTS + [False])
    assert [rest(BUSY), rest(1), rest(BUSY)] == [True, False, True]


def test_it_does_not_rest_where_more_is_there_already(rest):
    assert not rest(BUSY, has_more=True)
