"""Scripts on three hosts whose clocks are minutes apart: each scenario has the right verdict.

Connections lead through relays, which take their time. One clock is set back on the way.
"""

import contextlib

import pytest
from support.hosts import Host
from support.processes import let_fault_last, replace_once, wait_until
from support.queues import judge

from siamese import ledger

MINUTES = 60
DELAY_S = 0.02


def late(data):
    """Let what a broker sends be on its way for a while."""
    let_fault_last(DELAY_S)
    return data


@pytest.fixture
def host(tmp_path, url):
    """A function that makes a host."""
    with contextlib.ExitStack() as stack:

        def host(name, ahead=0, alter=late):
            made = Host(tmp_path, name, ahead, url, alter)
            return stack.enter_context(contextlib.closing(made))

        yield host


@pytest.fixture
def hosts(host):
    return [host('one'), host('two', 8 * MINUTES), host('three', -3 * MINUTES)]


def folders(hosts):
    return [host.folder for host in hosts]


@pytest.mark.parametrize(
    ('producer', 'consumer'),
    [
        (('producer.py', '--difficulty', 1), ('validate.py', '--difficulty', 1)),
        (('perf_producer.py', '--rate', 100), ('perf_consumer.py',)),
        (('ack_producer.py', '--rate', 100), ('ack_consumer.py', '--reject', 0)),
        (('fanout_producer.py', '--rate', 100), ('fanout_consumer.py', 'three')),
        (('rpc_client.py',), ('rpc_server.py',)),
    ],
    ids=['blocks', 'perf', 'ack', 'fanout', 'rpc'],
)
def test_each_scenario_is_valid_whatever_the_clocks_say(start, run, hosts, producer, consumer):
    _, two, three = hosts
    taker = three.on(start, *consumer, '--count', 30)
    taker.wait_for('ready')
    maker = two.on(start, *producer, '--count', 30)
    maker.wait_for('ready')
    two.set(-2 * MINUTES)
    assert (maker.end().status, taker.end().status) == (0, 0)
    status, found = judge(run, *folders(hosts))
    assert status == 0 and found['ok'] == 30
    assert not found['cannot_tell']
    assert len({line['clock'] for line in ledger.read(folders(hosts)) if 'clock' in line}) == 2


@pytest.mark.parametrize('ahead', [-8, 8 * MINUTES])
def test_a_consumer_that_joins_late_elsewhere_has_lost_nothing(start, run, hosts, ahead):
    one, two, _ = hosts
    two.set(ahead)
    first = one.on(start, 'fanout_consumer.py', 'first')
    first.wait_for('ready')
    maker = one.on(start, 'fanout_producer.py', '--rate', 20, '--ttl', 1)
    first.wait_for(' 30  ', first.out)
    late = two.on(start, 'fanout_consumer.py', 'late')
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
    taker = two.on(start, 'fanout_consumer.py', 'shared')
    taker.wait_for('ready')
    maker = one.on(start, 'fanout_producer.py', '--rate', 20, '--ttl', 60)
    taker.wait_for('Hello', taker.out)
    thief = channel.basic_consume('shared', lambda *_: None, auto_ack=True)
    taker.wait_for('1 before it missed', taker.out)
    channel.basic_cancel(thief)
    until_more_comes(taker)  # what came after it proves that it did not expire
    assert [each.stop().status for each in (maker, taker)] == [0, 0]
    status, found = judge(run, *folders(hosts))
    assert status == 1 and found['lost'] and not found['cannot_tell']


@pytest.mark.parametrize('ahead', [-8, 8 * MINUTES])
def test_what_a_relay_alters_on_the_way_to_another_host_is_found(start, run, host, ahead):
    alter, done = replace_once(b'Hello world', b'Hello worle')
    one, two = hosts = [host('one'), host('two', ahead, alter)]
    taker = two.on(start, 'ack_consumer.py', '--count', 20)
    taker.wait_for('ready')
    maker = one.on(start, 'ack_producer.py', '--count', 21, '--rate', 50)
    assert maker.end().status == 0
    assert taker.end().status == 1
    assert done
    status, found = judge(run, *folders(hosts))
    assert status == 1 and len(found['corrupt']) == 1
    assert not found['cannot_tell']
