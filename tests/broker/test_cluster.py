"""A cluster of three nodes.

Confirmed messages survive the loss of a node, of the majority, and of the node in use.
"""

import pika
import pytest
from support.processes import let_fault_last, wait_until
from support.scenarios import (
    PROOFS,
    RECONNECT_LINES,
    GrowingLedger,
    audited,
    drain,
    endure,
)

from siamese.testbed import rabbitmq as broker_module

pytestmark = pytest.mark.pair

ENOUGH = 400  # blocks before and after a fault
QUORUM = {'queues': PROOFS, 'flags': ('--queue-type', 'quorum')}
NACKS = (
    'broker nacks messages',
    'takes messages again',
)  # in flight as the node died, or while a leader is elected


@pytest.fixture(scope='module')
def cluster():
    with broker_module.throwaway(nodes=3) as throwaway:
        yield throwaway


@pytest.fixture
def urls(cluster, request):
    """The URLs of the three nodes, with a virtual host for this test.

    After the test all three nodes run again.
    """
    vhost = request.node.originalname
    cluster.ctl('add_vhost', vhost)
    cluster.ctl('set_permissions', '-p', vhost, 'guest', '.*', '.*', '.*')
    yield [url.replace('%2F', f'{vhost}?heartbeat=4') for url in cluster.urls]
    cluster.resume(None)
    cluster.start()
    cluster.ctl('delete_vhost', vhost)


def declare(url, kind):
    """Declare the queues of the scenarios at a node; it becomes their home, or their leader."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in PROOFS:
            connection.channel().queue_declare(
                queue,
                durable=True,
                arguments={'x-queue-type': kind, 'x-dead-letter-exchange': 'siamese.dlx'},
            )


@pytest.mark.parametrize('fault', ['kill', 'stop'])
def test_the_node_in_use_that_leads_the_queues(start, tmp_path, cluster, urls, fault):
    """The next URL is used while the node is still down."""
    endure(
        start, tmp_path, ','.join(urls), lambda _: getattr(cluster, fault)(0), also=NACKS, **QUORUM
    )


def test_a_leader_elsewhere_is_killed(start, tmp_path, cluster, urls):
    """The scripts notice nothing."""
    declare(urls[2], 'quorum')
    endure(
        start,
        tmp_path,
        ','.join(urls),
        lambda _: cluster.kill(2),
        producer=(),
        consumer=(),
        also=NACKS,
        **QUORUM,
    )


def test_the_majority_is_lost_for_a_while(start, tmp_path, cluster, urls):
    """Messages published meanwhile wait for their confirm, on an open connection."""

    def inject(_):
        cluster.kill(1)
        cluster.kill(2)
        # With the start of two nodes it is less than the 60 s that a confirm may take.
        let_fault_last(10)

    endure(
        start, tmp_path, ','.join(urls), inject, cluster.start, producer=(), consumer=(), **QUORUM
    )


def test_the_node_in_use_freezes(start, tmp_path, cluster, urls):
    endure(
        start,
        tmp_path,
        ','.join(urls),
        lambda _: cluster.pause(0),
        lambda: cluster.resume(0),
        also=NACKS,
        **QUORUM,
    )


def test_the_network_between_the_nodes_is_cut(start, tmp_path, cluster, urls):
    """Where the node in use pauses until it sees the others, the scripts use the next URL.

    Where it does not, messages wait for their confirm, on an open connection.
    """
    lines = RECONNECT_LINES if cluster.pauses_minority() else ()

    def inject(_):
        cluster.isolate(0)
        if not lines:
            let_fault_last(5)

    endure(
        start,
        tmp_path,
        ','.join(urls),
        inject,
        lambda: cluster.rejoin(0),
        producer=lines,
        consumer=lines,
        also=NACKS,
        **QUORUM,
    )


def test_the_leader_is_cut_off_from_consumers_elsewhere(start, tmp_path, cluster, urls):
    """Their acknowledgements may be lost on the way to the leader.

    The messages are then redelivered, on connections that stay open.
    """
    declare(urls[0], 'quorum')
    ways = [','.join(urls[at:] + urls[:at]) for at in (1, 2)]
    ledger = GrowingLedger(tmp_path / 'run.jsonl')
    flags = (
        '--queue',
        'blocks',
        '--queue-type',
        'quorum',
        '--difficulty',
        1,
        '--quiet',
        '--ledger',
        ledger.path,
    )

    validators = [
        start('validate.py', '--prefetch', 50, '--name', f'v{at}', '--url', url, *flags)
        for at, url in enumerate(ways)
    ]
    producers = [
        start('producer.py', '--rate', 200, '--name', f'p{at}', '--url', url, *flags)
        for at, url in enumerate(ways)
    ]
    wait_until(lambda: ledger.count('acked') > ENOUGH, 'blocks')
    cluster.isolate(0)
    let_fault_last(5)
    cluster.rejoin(0)
    before = ledger.count('acked')
    wait_until(lambda: ledger.count('acked') > before + ENOUGH, 'more blocks')
    ends = [running.stop() for running in (*producers, *validators)]
    ends += drain(start, ways[0], 'blocks', 'validate.py', *flags)
    for done in ends:
        assert done.status in (0, 3) and 'Traceback' not in done.err, done.err
    found, status = audited(ledger.path)
    print({name: len(ids) for name, ids in found.items() if ids})
    assert status == 0
    assert found['ok'] == found['attempted'] == found['confirmed']


def test_a_classic_queue_whose_home_is_killed(start, tmp_path, cluster, urls):
    """The queue is unavailable as long as its home; then every message is there."""
    declare(urls[2], 'classic')
    nacks = (
        int(cluster.ctl('version').split('.')[0]) > 3
    )  # RabbitMQ 4 nacks what a dead home cannot take, 3 returns it
    endure(
        start,
        tmp_path,
        ','.join(urls),
        lambda _: cluster.kill(2),
        lambda: cluster.start(2),
        producer=NACKS if nacks else ('message returned', 'back after'),
        also=() if nacks else NACKS,
        consumer=('consumer cancelled', 'back after'),
        queues=PROOFS,
    )
