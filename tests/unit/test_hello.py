"""hello.py: what is a message of scenarios 3 and 4, and which copies of it a fault explains."""

from types import SimpleNamespace

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import MALFORMED

from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import hello

NAMES = st.text(
    st.characters(codec='utf-8', exclude_categories=('C', 'Z')), min_size=1, max_size=60
)


def link(name='alice', run='cafecafe', epoch=1, queue_type='classic'):
    args = SimpleNamespace(name=name, queue_type=queue_type)
    return SimpleNamespace(args=args, run=run, epoch=epoch, flags_redelivered=True)


def delivered(attempt=1, redelivered=False, number=1):
    """Return a message as its consumer gets it."""
    _, properties = hello.message(link(), number)
    return SimpleNamespace(attempt=attempt, redelivered=redelivered, properties=properties)


@given(NAMES, st.integers(1, 10**12), st.floats(0.001, 10**6))
def test_a_published_message_is_read(name, number, seconds):
    body, properties = hello.message(link(name), number, expiration=topology.expiration(seconds))
    assert body == b'Hello world' and int(properties.expiration) == pytest.approx(
        seconds * 1000, abs=0.5
    )
    read = hello.parse_hello(properties, body)
    assert (read.producer, read.run, read.number) == (name, 'cafecafe', number)
    assert 0 <= read.age < 60


@pytest.mark.parametrize(
    'lives, overdue', [('1000', True), ('100000', False), (None, False), ('soon', False)]
)
def test_age_and_time_to_live(lives, overdue):
    body, properties = hello.message(link(), 1, expiration=lives)
    properties.headers['x-sent-ms'] -= 50_000
    read = hello.parse_hello(properties, body)
    assert 50 <= read.age < 80 and read.overdue is overdue


@pytest.mark.parametrize('name', MALFORMED)
def test_malformed_messages_are_invalid(name):
    properties, body = MALFORMED[name]
    with pytest.raises(Invalid):
        hello.parse_hello(properties, body)


@given(
    st.one_of(
        st.none(),
        st.binary(max_size=80),
        st.text(max_size=80).filter(lambda text: 'cafecafe' not in text),
        st.sampled_from(
            [
                '-cafecafe-1',
                'a-cafecafe-0',
                'a-cafecafe-01',
                'a-cafecafe--1',
                'a-CAFECAFE-1',
                'a\n-cafecafe-1',
                'a-cafecafe-1\n',
                'a-cafecafe-' + '9' * 19,
            ]
        ),
    )
)
def test_any_other_message_id_is_invalid(message_id):
    with pytest.raises(Invalid, match='message_id'):
        hello.parse_hello(
            pika.BasicProperties(
                message_id=message_id, content_type='text/plain', headers={'x-sent-ms': 1}
            ),
            hello.TEXT,
        )


@pytest.mark.parametrize('settled', [True, False])
def test_a_copy_within_one_connection(settled):
    """It is explained only if the first was not settled, and the copy has the flag."""
    received = hello.Received(link())
    assert received.add(delivered(), settled=settled) == 1
    with pytest.raises(Invalid, match='replayed'):
        received.add(delivered())
    if settled:
        with pytest.raises(Invalid, match='settled before'):
            received.add(delivered(redelivered=True))
    else:
        assert received.add(delivered(redelivered=True)) == 2


def test_a_quorum_queue_may_redeliver_what_was_acknowledged():
    received = hello.Received(link(queue_type='quorum'))
    assert received.add(delivered()) == 1
    assert received.add(delivered(redelivered=True)) == 2
    with pytest.raises(Invalid, match='replayed'):
        received.add(delivered())


def test_a_copy_over_another_connection_or_of_another_attempt_is_explained():
    received = hello.Received(link())
    assert received.add(delivered()) == 1
    assert received.add(delivered(attempt=2)) == 2
    received.link.epoch = 2
    assert received.add(delivered(attempt=2, redelivered=True)) == 3


def test_the_number_of_remembered_messages_is_bounded(monkeypatch):
    monkeypatch.setattr(hello, 'REMEMBERED_MESSAGES', 3)
    received = hello.Received(link())
    for number in range(10):
        received.add(delivered(number=number))
    assert [*received.known] == [f'alice-cafecafe-{number}' for number in (7, 8, 9)]


def greeting(number, run='cafecafe'):
    return hello.Hello(producer='alice', run=run, number=number, age=0.0, overdue=False)


def test_gaps_are_counted_for_each_run():
    gaps = hello.Gaps()
    assert gaps.add(greeting(2), is_first=True) == 1
    assert gaps.add(greeting(5), is_first=True) == 2
    assert gaps.add(greeting(5), is_first=False) == 0
    assert gaps.add(greeting(2, run='beefbeef'), is_first=True) == 1
    assert gaps.missed() == 4
    assert gaps.add(greeting(1), is_first=True) == 0  # late
    assert gaps.missed() == 3


def test_gaps_of_forgotten_runs_still_count(monkeypatch):
    monkeypatch.setattr(hello, 'REMEMBERED_MESSAGES', 2)
    gaps = hello.Gaps()
    for run in range(5):
        gaps.add(greeting(3, run=f'{run:08x}'), is_first=True)
    assert len(gaps.highest) == 2
    assert gaps.missed() == 10


def test_a_copy_of_a_forgotten_run_counts_as_missed(monkeypatch):
    monkeypatch.setattr(hello, 'REMEMBERED_MESSAGES', 1)
    gaps = hello.Gaps()
    gaps.add(greeting(1, run='cafecafe'), is_first=False)
    gaps.add(greeting(1, run='beefbeef'), is_first=True)
    assert gaps.missed() == 1
