"""Ledgers of hosts whose clocks disagree: what the audit concludes, and what it leaves open.

Hypothesis lets consumers come and go, on hosts whose clocks are minutes apart.
"""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.broadcast import Broadcast, Host

from siamese import clocks, ledger, verdict
from siamese.clocks import NEVER, Clocks, Moment
from siamese.sieve import evidence_of

ONE = Host('one', 0, 100)
AHEAD = Host('ahead', 480, 70)
BEHIND = Host('behind', -8, 5000)
HOSTS = [ONE, AHEAD, BEHIND]
WHAT = ['publish', 'publish', 'publish', 'join', 'leave', 'kill', 'wait']
STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 2)), max_size=40)
PLACES = st.lists(st.sampled_from(HOSTS), min_size=3, max_size=3)
TOLD = ('lost', 'expired', 'cannot_tell')


def judged(broadcast):
    """Return what is found in the ledgers, read side by side by their times."""
    streams = broadcast.ledgers.values()
    events = heapq.merge(*streams, key=ledger.time_of)
    return verdict.judge_all(evidence_of(events))


def after(steps, hosts, producer_host=ONE, lose=None):
    broadcast = Broadcast(hosts, producer_host)
    broadcast.lose = lose
    for what, which in steps:
        broadcast.step(what, which)
    broadcast.end()
    return judged(broadcast)


def names(found, kind):
    return [name.rpartition(' (')[0] or name for name in found[kind]]


@given(STEPS, PLACES, st.sampled_from(HOSTS))
def test_no_clock_makes_an_honest_broker_lose_anything(steps, hosts, producer_host):
    found = after(steps, hosts, producer_host)
    assert not any(found[kind] for kind in verdict.FAULTS)


@given(STEPS, PLACES, st.sampled_from(HOSTS), st.integers(1, 9), st.sampled_from('abc'))
@settings(max_examples=300)
def test_what_is_lost_on_one_host_is_not_called_well_on_several(
    steps, hosts, producer_host, number, queue
):
    lose = (queue, f'm{number}')
    same = after(steps, [ONE] * 3, ONE, lose)
    found = after(steps, hosts, producer_host, lose)
    assert not same['cannot_tell']
    assert set(found['lost']) <= set(same['lost'])
    assert set(same['lost']) <= {*found['lost'], *names(found, 'cannot_tell')}


LATE = [('join', 0), *[('publish', 0)] * 5, ('join', 1), *[('publish', 0)] * 5]


@pytest.mark.parametrize('host', HOSTS, ids=lambda host: host.name)
def test_who_joins_late_has_not_lost_what_went_before(host):
    found = after(LATE, [ONE, host])
    assert not any(found[kind] for kind in TOLD)
    assert verdict.judge(found).exit_status == 0


@pytest.mark.parametrize('lost', ['m7', 'm9', 'm10'])
@pytest.mark.parametrize('host', HOSTS, ids=lambda host: host.name)
def test_what_is_lost_after_something_came_is_found_by_any_clock(host, lost):
    found = after(LATE, [ONE, host], lose=('b', lost))
    assert found['lost'] == [f'{lost} in b'] and not found['cannot_tell']
    assert verdict.judge(found).exit_status == 1


def test_of_what_is_lost_before_anything_came_nobody_can_tell():
    found = after(LATE, [ONE, AHEAD], lose=('b', 'm6'))
    assert found['cannot_tell'] == ['m6 in b (lost or expired)']
    assert not found['lost']
    told = verdict.judge(found)
    assert told.exit_status == 3 and told.faults == ['cannot_tell']
    on_one_host = after(LATE, [ONE, ONE], lose=('b', 'm6'))
    assert on_one_host['lost'] == ['m6 in b']


def test_messages_both_ways_compare_two_clocks():
    clocks = Clocks()
    clocks.crossed(Moment('a', 10), Moment('b', 110.5))
    assert clocks.earliest(Moment('b', 150), 'a') == 49.5
    assert clocks.latest(Moment('b', 150), 'a') == NEVER
    clocks.crossed(Moment('b', 120), Moment('a', 20.25))
    assert clocks.latest(Moment('b', 150), 'a') == 50.25


def test_the_shortest_way_counts():
    clocks = Clocks()
    for came in 30, 20, 25:
        clocks.crossed(Moment('a', 10), Moment('b', came))
    assert clocks.lead('a', 'b') == 10


@pytest.mark.parametrize('uptime', [1e300, -1e13, float('inf'), float('nan'), 10**400])
def test_an_impossible_uptime_tells_no_clock(uptime):
    clocks = Clocks()
    clocks.begin(('carol', 'cafe'), {'at': 5, 'clock': 'x', 'uptime': uptime})
    assert clocks.moment(('carol', 'cafe'), 7) == Moment('', 7)


def test_processes_of_a_machine_have_one_clock_unless_it_is_faked(monkeypatch):
    assert clocks.own_clock() == clocks.own_clock()
    real = clocks.steady
    monkeypatch.setattr(clocks, 'steady', lambda: real() - 8)
    assert clocks.own_clock() != clocks.own_clock()


def test_a_ledger_goes_on_when_the_clock_is_set(monkeypatch, tmp_path):
    now = 1_795_457_556.0
    monkeypatch.setattr('time.time', lambda: now)
    writer = ledger.Writer(str(tmp_path / 'run'), by='alice', run='cafe')
    writer.note('connected', epoch=1, broker='b')
    now -= 3600
    writer.note('closed', epoch=1)
    writer.flush()
    first, last = ledger.read([str(tmp_path / 'run')])
    assert 0 <= last['at'] - first['at'] < 60
    assert first['clock'] == clocks.own_clock()
