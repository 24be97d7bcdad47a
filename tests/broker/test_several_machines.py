"""Scripts on three hosts whose clocks are minutes apart: each scenario has the right verdict.

Connections lead through relays. One clock is set back on the way.
"""

import pytest
from support.hosts import Host
from support.processes import let_fault_last, replace_once, wait_until
from support.queues import judge

from siamese.testbed import proxy

MINUTES = 60
DELAY_S = 0.02


def late(data):
    """Let what a broker sends be on its way for a while."""
    let_fault_last(DELAY_S)
    return data


@pytest.fixture
def hosts(tmp_path):
    return [
        Host(tmp_path, 'one', 0),
        Host(tmp_path, 'two', 8 * MINUTES),
        Host(tmp_path, 'three', -3 * MINUTES),
    ]


def on(host, start, *argv):
    """Start a script on a host, with a ledger that has the name of its first word."""
    ledger = host.ledger(argv[0].partition('.')[0])
    return start(*argv, '--name', f'{argv[0]}@{host.name}', '--ledger', ledger, **host.env)


def folders(hosts):
    return [host.folder for host in hosts]


@pytest.mark.parametrize(
    ('producer', 'consumer'),
    [
        (('producer.py', '--difficulty', 1), ('validate.py', '--difficulty', 1)),
        (('perf_producer.py', '--rate', 100), ('perf_consumer.py',)),
        (('ack_producer.py', '--rate', 100), ('ack_consumer.py', '--reject', 0)),
        (('fanout_producer.py', '--rate', 100), ('fanout_consumer.py', 'three')),
    ],
    ids=['blocks', 'perf', 'ack', 'fanout'],
)
def test_each_scenario_is_valid_whatever_the_clocks_say(start, run, hosts, url, producer, consumer):
    _, two, three = hosts
    with proxy.in_front_of(url, alter=late) as between:
        taker = on(three, start, *consumer, '--count', 30, '--url', between.url)
        taker.wait_for('ready')
        maker = on(two, start, *producer, '--count', 30)
        maker.wait_for('ready')
        two.set(-2 * MINUTES)
        assert (maker.end().status, taker.end().status) == (0, 0)
    status, found = judge(run, *folders(hosts))
    assert status == 0 and found['ok'] == 30
    assert not found['cannot_tell']


@pytest.mark.parametrize('ahead', [-8, 8 * MINUTES])
def test_a_consumer_that_joins_late_elsewhere_has_lost_nothing(start, run, hosts, ahead):
    one, two, _ = hosts
    two.set(ahead)
    first = on(one, start, 'fanout_consumer.py', 'first')
    first.wait_for('ready')
    maker = on(one, start, 'fanout_producer.py', '--rate', 20, '--ttl', 1)
    first.wait_for(' 30  ', first.out)
    late = on(two, start, 'fanout_consumer.py', 'late')
    late.wait_for('Hello', late.out)
    first.wait_for(' 90  ', first.out)
    assert [each.stop().status for each in (maker, late, first)] == [0, 0, 0]
    status, found = judge(run, *folders(hosts))
    assert status == 0, found
    assert not found['lost'] and not found['cannot_tell']


def until_more_comes(taker):
    before = len(taker.out)
    wait_until(lambda: len(taker.out) > before + 2, 'more messages')


@pytest.mark.parametrize('ahead', [-8, 8 * MINUTES])
def test_what_somebody_takes_away_from_a_queue_is_lost(start, run, hosts, channel, ahead):
    one, two, _ = hosts
    two.set(ahead)
    taker = on(two, start, 'fanout_consumer.py', 'shared')
    taker.wait_for('ready')
    maker = on(one, start, 'fanout_producer.py', '--rate', 20, '--ttl', 60)
    taker.wait_for('Hello', taker.out)
    thief = channel.basic_consume('shared', lambda *_: None, auto_ack=True)
    taker.wait_for('1 before it missed', taker.out)
    channel.basic_cancel(thief)
    until_more_comes(taker)  # what came after it proves that it did not expire
    assert [each.stop().status for each in (maker, taker)] == [0, 0]
    status, found = judge(run, *folders(hosts))
    assert status == 1 and found['lost'] and not found['cannot_tell']


@pytest.mark.parametrize('ahead', [-8, 8 * MINUTES])
def test_what_a_relay_alters_on_the_way_to_another_host_is_found(start, run, hosts, url, ahead):
    one, two, _ = hosts
    two.set(ahead)
    alter, done = replace_once(b'Hello world', b'Hello worle')
    with proxy.in_front_of(url, alter=alter) as between:
        taker = on(two, start, 'ack_consumer.py', '--url', between.url, '--count', 20)
        taker.wait_for('ready')
        maker = on(one, start, 'ack_producer.py', '--count', 21, '--rate', 50)
        assert maker.end().status == 0
        assert taker.end().status == 1
    assert done
    status, found = judge(run, *folders(hosts))
    assert status == 1 and len(found['corrupt']) == 1
    assert not found['cannot_tell']
