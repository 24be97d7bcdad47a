"""serving.py: when the loop lets messages come together."""

import math
from types import SimpleNamespace

import pytest

from siamese.messaging import serving
from siamese.messaging.serving import BUSY, RESTS, SPIN_S, TOGETHER_S, Serving


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


@pytest.fixture
def publisher(monkeypatch):
    """A link that publishes; `turns` are until when its turns of the loop last."""
    now = [100.0]

    def turn(link, until):
        link.turns.append(until)
        now[0] = max(now[0], until + SPIN_S)

    monkeypatch.setattr(serving.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(serving.LinkStatus, '_pump', turn)
    link = Serving.__new__(Serving)
    link.turns = []
    link.now = now
    link.stop_reason = link.reason = ''
    link.reason_to_stop = lambda: link.reason
    link.under_way = 100
    link.reconnector = SimpleNamespace(connection=SimpleNamespace(has_more=False))
    return link


def test_what_is_published_right_after_a_turn_of_the_loop_waits_for_the_next(publisher):
    assert publisher.keep_publishing(1, due=0)
    assert len(publisher.turns) == 1
    publisher.now[0] += TOGETHER_S / 2
    assert publisher.keep_publishing(2, due=0)
    assert publisher.done == 2 and len(publisher.turns) == 1
    publisher.now[0] += TOGETHER_S
    assert publisher.keep_publishing(3, due=0)
    assert len(publisher.turns) == 2


def test_what_is_due_later_is_waited_for_in_a_turn_of_the_loop(publisher):
    publisher.keep_publishing(1, due=0)
    due = publisher.now[0] + TOGETHER_S / 2
    assert publisher.keep_publishing(2, due)
    assert publisher.turns[1:] == [due - SPIN_S]


def test_a_run_that_is_over_publishes_no_more_also_between_two_turns(publisher):
    publisher.keep_publishing(1, due=0)
    publisher.reason = 'count reached'
    assert not publisher.keep_publishing(2, due=0)
    assert publisher.stop_reason == 'count reached'
