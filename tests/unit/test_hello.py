"""hello.py: what is a message of scenarios 3 and 4, and which copies of it a fault explains."""

from collections import OrderedDict
from types import SimpleNamespace

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import MALFORMED

from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import hello as hello

NAMES = st.text(
    st.characters(codec='utf-8', exclude_categories=('C', 'Z')), min_size=1, max_size=60
)


def link(name='alice', run='cafecafe', epoch=1, kind='classic'):
    return SimpleNamespace(args=SimpleNamespace(name=name, queue_type=kind), run=run, epoch=epoch)


def delivered(times_sent=1, redelivered=False):
    """Return (method, properties) of message 1 as its consumer gets it."""
    _, properties = hello.message(link(), 1)
    if times_sent > 1:
        properties.headers['x-attempt'] = times_sent
    return SimpleNamespace(redelivered=redelivered), properties


@given(NAMES, st.integers(1, 10**12), st.floats(0.001, 10**6))
def test_what_is_sent_is_read(name, number, seconds):
    body, properties = hello.message(link(name), number, expiration=topology.expiration(seconds))
    assert body == b'Hello world' and int(properties.expiration) == pytest.approx(
        seconds * 1000, abs=0.5
    )
    hello = hello.parse_hello(properties, body)
    assert (hello.producer, hello.run, hello.number) == (
        name,
        'cafecafe',
        number,
    ) and 0 <= hello.age < 60


@pytest.mark.parametrize(
    'lives, overdue', [('1000', True), ('100000', False), (None, False), ('soon', False)]
)
def test_age_and_time_to_live(lives, overdue):
    body, properties = hello.message(link(), 1, expiration=lives)
    properties.headers['x-sent-ms'] -= 50_000
    hello = hello.parse_hello(properties, body)
    assert 50 <= hello.age < 80 and hello.overdue is overdue


@pytest.mark.parametrize('name', MALFORMED)
def test_malformed(name):
    properties, body = MALFORMED[name]
    with pytest.raises(Invalid):
        hello.parse_hello(properties, body)


@given(
    st.one_of(
        st.none(),
        st.binary(max_size=80),
        st.text(max_size=80).filter(lambda id: 'cafecafe' not in id),
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
def test_any_other_id_is_invalid(id):
    with pytest.raises(Invalid, match='message_id'):
        hello.parse_hello(
            pika.BasicProperties(
                message_id=id, content_type='text/plain', headers={'x-sent-ms': 1}
            ),
            hello.TEXT,
        )


@pytest.mark.parametrize('settled', [True, False])
def test_a_copy_within_one_connection(settled):
    """It is explained only when it was not settled, and carries the flag."""
    known = OrderedDict()
    assert received.count(link(), *delivered(), settled=settled) == 1
    with pytest.raises(Invalid, match='replayed'):
        received.count(link(), *delivered())
    if settled:
        with pytest.raises(Invalid, match='settled before'):
            received.count(link(), *delivered(redelivered=True))
    else:
        assert received.count(link(), *delivered(redelivered=True)) == 2


def test_what_a_quorum_queue_delivers_again_though_it_was_acknowledged():
    known = OrderedDict()
    assert received.count(link(kind='quorum'), *delivered()) == 1
    assert received.count(link(kind='quorum'), *delivered(redelivered=True)) == 2
    with pytest.raises(Invalid, match='replayed'):
        received.count(link(kind='quorum'), *delivered())


def test_a_copy_over_another_connection_or_of_another_attempt():
    known = OrderedDict()
    assert received.count(link(), *delivered()) == 1
    assert received.count(link(), *delivered(times_sent=2)) == 2
    assert (
        received.count(link(epoch=2), *delivered(times_sent=2, redelivered=True)) == 3
    )


def test_what_it_remembers_is_bounded(monkeypatch):
    monkeypatch.setattr(hello, 'REMEMBERED', 3)
    known = OrderedDict()
    for number in range(10):
        _, properties = hello.message(link(), number)
        received.count(link(), SimpleNamespace(redelivered=False), properties)
    assert [*known] == [f'alice-cafecafe-{number}' for number in (7, 8, 9)]
