"""The fault bench: each fault, with producers and consumers at work.

The verdict is what audit.py finds in their ledgers.

A fault is a line of NETWORK or a test of its own; the scenarios are in scenarios.py.
"""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import sympy
from support.processes import TEST_TIMEOUT_S, let_fault_last, wait_until
from support.queues import kill_broker
from support.scenarios import (
    FLOWING_MESSAGES,
    PROOFS,
    RECONNECT_LINES,
    SCENARIOS,
    GrowingLedger,
    Scenario,
    audited,
    drain,
    endure,
    named,
    stderr_of,
)

from siamese import ROOT, ledger
from siamese.testbed import proxy, rabbitmq
from siamese.testbed.rabbitmq import RabbitMQ

pytestmark = pytest.mark.pair

# ---- the network: a proxy between the scripts and the broker


def cut_in_the_handshake(between, limit):
    between.limit, clients = limit, len(between.writers) // 2
    between.cut()
    tries = between.accepted + 2 * clients
    wait_until(lambda: between.accepted >= tries, 'two more tries of each script')


def refuse(between):
    between.refuse()
    between.cut()
    let_fault_last(1)


def silence(between):
    between.hold()
    between.cut()
    let_fault_last(1)


def allow(between):
    between.limit = None
    between.release()


NETWORK = {  # what happens, what ends it
    'FIN': (lambda between: between.cut(), allow),
    'RST': (lambda between: between.cut(reset=True), allow),
    'refused': (refuse, lambda between: between.accept()),
    'silent': (silence, allow),
    'black hole': (lambda between: between.hold(), allow),
    'nothing reaches the broker': (lambda between: between.hold('up'), allow),
    'nothing comes from the broker': (lambda between: between.hold('down'), allow),
    **{
        f'cut after {limit} bytes': (
            lambda between, limit=limit: cut_in_the_handshake(between, limit),
            allow,
        )
        for limit in (0, 8, 300, 530, 560)
    },
}


@pytest.mark.parametrize('fault', NETWORK)
def test_a_fault_of_the_network(start, url, tmp_path, fault):
    inject, heal = NETWORK[fault]
    began = []
    # 10 is what scripts use; then it takes 15 to 30 s to notice.
    seconds = 4
    if fault == 'black hole':
        seconds = 10
    with proxy.in_front_of(f'{url}?heartbeat={seconds}') as between:
        endure(
            start,
            tmp_path,
            between.url,
            lambda _: (began.append(time.time()), inject(between)),
            lambda: heal(between),
        )
    for queue in SCENARIOS:
        lost = [event['at'] for event in named(ledger.read([tmp_path / queue]), 'disconnected')]
        assert lost and all(at - began[0] < 60 for at in lost)


@contextlib.contextmanager
def questions(start, url, client_back=RECONNECT_LINES[-1], server_back=RECONNECT_LINES[-1]):
    """Ask and answer, from before a fault to after it: no number is skipped, no answer is wrong."""

    def more():
        asked = len(client.out)
        wait_until(lambda: len(client.out) > asked + FLOWING_MESSAGES, 'answers')

    server = start('rpc_server.py', '--quiet', '--url', url)
    client = start('rpc_client.py', '--timeout', 2, '--url', url)
    for running in client, server:  # they take what the other scenarios leave of the processors
        os.setpriority(os.PRIO_PROCESS, running.process.pid, 10)
    more()
    yield client, server
    client.wait_for(client_back)
    server.wait_for(server_back)
    more()
    done = client.stop()
    assert done.status == 0 and 'Traceback' not in done.err + server.stop().err, done.err
    *lines, _, _ = done.out.splitlines()
    found = {int(line.split()[0]): ' is prime' in line for line in lines}
    # One question at a time: answered in order, none twice.
    assert [*found] == [*range(1, 2 * len(lines), 2)]
    primes = {number for number, prime in found.items() if prime}
    assert primes == {*sympy.primerange(3, 2 * len(lines))}


@pytest.mark.parametrize('fault', NETWORK)
def test_questions_and_a_fault_of_the_network(start, url, fault):
    inject, heal = NETWORK[fault]
    with (
        proxy.in_front_of(f'{url}?heartbeat=2') as between,
        questions(start, between.url) as running,
    ):
        inject(between)
        for script in running:
            script.wait_for(RECONNECT_LINES[0])
        heal(between)


# ---- the broker: what its administrator does, and its alarms


def vhost(url):
    return url.rpartition('/')[2]


def signal_all(processes, number):
    for running in processes:
        running.send(number)


def stop_with_empty_queues(scenarios):
    """SIGSTOP producers, and consumers when they have settled everything.

    Return [producer, consumer, producer ...].
    """

    def settled(scenario):
        events = scenario.ledger.events()
        attempted = {event['id'] for event in named(events, 'attempted')}
        return attempted <= {event['id'] for event in named(events, 'acked')}

    everyone = [
        running for scenario in scenarios for running in (scenario.producer, scenario.consumer)
    ]

    def stopped():
        signal_all(everyone[::2], signal.SIGSTOP)
        for _ in range(20):
            if all(map(settled, scenarios)):
                return True
            let_fault_last(0.1)
        # One was stopped between its ledger and the socket.
        signal_all(everyone[::2], signal.SIGCONT)

    wait_until(stopped, 'empty queues')
    let_fault_last(0.3)  # acknowledgements follow within delivery.TICK_S
    signal_all(everyone[1::2], signal.SIGSTOP)
    return everyone


def test_connections_closed_by_the_administrator(start, tmp_path, url, broker):
    with questions(start, url):
        endure(
            start,
            tmp_path,
            url,
            lambda _: broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance'),
        )


def test_a_limit_of_connections(start, tmp_path, url, broker):
    def inject(_):
        broker.ctl('set_vhost_limits', '-p', vhost(url), '{"max-connections": 0}')
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')

    with questions(start, url):
        endure(
            start, tmp_path, url, inject, lambda: broker.ctl('clear_vhost_limits', '-p', vhost(url))
        )


def test_a_virtual_host_that_is_down(start, tmp_path, url, broker):
    def inject(scenarios):
        # They would see nacks or a cancelled consumer first.
        everyone = stop_with_empty_queues(scenarios)
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')
        broker.ctl('eval', f'rabbit_vhost_sup_sup:delete_on_all_nodes(<<"{vhost(url)}">>).')
        signal_all(everyone, signal.SIGCONT)
        let_fault_last(1)

    with questions(start, url):
        endure(start, tmp_path, url, inject, lambda: broker.ctl('restart_vhost', '-p', vhost(url)))


@pytest.mark.parametrize(
    'resource, alarm, clear',
    [
        ('memory', ('set_vm_memory_high_watermark', 0), ('set_vm_memory_high_watermark', 0.4)),
        ('disk', ('set_disk_free_limit', '9000GB'), ('set_disk_free_limit', '1MB')),
    ],
)
def test_an_alarm(start, tmp_path, url, broker, resource, alarm, clear):
    log = f'broker blocks publishers: low on {resource}', 'no longer blocks publishers, after'
    try:
        # The client, blocked, asks no more.
        with questions(start, url, log[-1], server_back='') as (client, _):

            def heal():
                # Where the server is blocked first, it notices with its next question.
                client.wait_for(log[0])
                broker.ctl(*clear)

            endure(
                start, tmp_path, url, lambda _: broker.ctl(*alarm), heal, consumer=(), producer=log
            )
    finally:
        broker.ctl(*clear)


def test_a_deleted_queue(start, tmp_path, url, channel):
    def inject(scenarios):
        # A deleted queue takes along what is in it.
        producers = stop_with_empty_queues(scenarios)[::2]
        for scenario in scenarios:
            channel.queue_delete(scenario.queue)
        signal_all(producers, signal.SIGCONT)
        for producer in producers:
            producer.wait_for('message returned')  # so it is they who find it missing
        signal_all([scenario.consumer for scenario in scenarios], signal.SIGCONT)

    endure(
        start,
        tmp_path,
        url,
        inject,
        queues=[*SCENARIOS][:-1],
        producer=('message returned', 'back after'),
        consumer=('consumer cancelled', 'back after'),
    )


def test_a_deleted_queue_of_questions(start, url, channel):
    """What was in it is retried."""
    with questions(start, url, client_back='') as (_, server):
        channel.queue_delete('siamese.rpc')
        server.wait_for('consumer cancelled')


def test_a_full_queue_that_rejects(start, tmp_path, url, broker):
    consumers = []

    def inject(scenarios):
        consumers.extend(scenario.consumer for scenario in scenarios)
        # Not 5: a busy machine lets a queue of consumers that work grow for a moment, too. And
        # not after they are stopped: a queue that is longer by then is cut.
        broker.ctl(
            'set_policy',
            '-p',
            vhost(url),
            'small',
            '',
            '{"max-length": 100, "overflow": "reject-publish"}',
        )
        signal_all(consumers, signal.SIGSTOP)

    def heal():
        broker.ctl('clear_policy', '-p', vhost(url), 'small')
        signal_all(consumers, signal.SIGCONT)

    endure(
        start,
        tmp_path,
        url,
        inject,
        heal,
        producer=('broker nacks messages', 'takes messages again'),
        consumer=(),
    )


def test_a_consumer_that_takes_too_long(start, tmp_path, url, broker, channel):
    def limit(acknowledgement, tick):  # ms
        broker.ctl(
            'eval',
            f'application:set_env(rabbit, consumer_timeout, {acknowledgement}), '
            f'application:set_env(rabbit, channel_tick_interval, {tick}).',
        )

    def inject(scenarios):
        consumers = [scenario.consumer for scenario in scenarios]
        signal_all(consumers, signal.SIGSTOP)
        wait_until(
            lambda: (
                not any(
                    channel.queue_declare(queue, passive=True).method.consumer_count
                    for queue in PROOFS
                )
            ),
            'the timeouts',
        )
        limit(1800000, 60000)  # of new channels: nothing else may time out
        signal_all(consumers, signal.SIGCONT)

    limit(8000, 500)
    try:
        endure(
            start,
            tmp_path,
            url,
            inject,
            producer=(),
            consumer=('timed out', 'back after'),
            # Where its channel is not closed, or the halt was longer than its heartbeat.
            also=('consumer cancelled', 'connection lost'),
            queues=PROOFS,
            flags=('--queue-type', 'quorum'),  # all versions of RabbitMQ have one there
        )
    finally:
        limit(1800000, 60000)


def test_a_revoked_permission_ends_the_scripts(start, url, broker, tmp_path):
    """A line names the remedy; what was confirmed is delivered."""
    broker.ctl('add_user', 'clerk', 'secret')
    broker.ctl('set_permissions', '-p', vhost(url), 'clerk', '.*', '.*', '.*')
    try:
        scenarios = [
            Scenario(start, url.replace('guest:guest', 'clerk:secret'), queue, tmp_path / queue)
            for queue in SCENARIOS
        ]
        clerk = url.replace('guest:guest', 'clerk:secret')
        pair = start('rpc_server.py', '--url', clerk), start('rpc_client.py', '--url', clerk)
        for scenario in scenarios:
            scenario.flows()
        pair[1].wait_for(' is prime', pair[1].out)
        broker.ctl('set_permissions', '-p', vhost(url), 'clerk', '.*', '', '')
        # A channel remembers its permissions.
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')
        for running in (
            *pair,
            *(one for scenario in scenarios for one in (scenario.producer, scenario.consumer)),
        ):
            done = running.end()
            assert done.status == 3
            assert "user 'clerk' lacks permission" in done.err
            assert 'Traceback' not in done.err
        for scenario in scenarios:
            path = scenario.ledger.path
            drain(start, url, scenario.queue, *scenario.consume, '--ledger', path)
            found, status = audited(path)
            assert status == 0, found
            assert found['confirmed'], found
    finally:
        broker.ctl('delete_user', 'clerk')


# ---- the broker dies, stops, freezes


@pytest.fixture(scope='module')
def mortal():
    with rabbitmq.throwaway() as throwaway:
        yield throwaway


BROKER_FAULTS = {  # name: fault, heal
    'is killed': (kill_broker, RabbitMQ.start),
    'stops': (RabbitMQ.stop, RabbitMQ.start),
    'freezes': (RabbitMQ.pause, RabbitMQ.resume),
}


@pytest.mark.parametrize('fault', BROKER_FAULTS)
def test_a_broker_that(fault, start, tmp_path, mortal):
    inject, heal = BROKER_FAULTS[fault]
    with questions(start, f'{mortal.url}?heartbeat=4'):
        endure(
            start,
            tmp_path,
            f'{mortal.url}?heartbeat=4',
            lambda _: inject(mortal),
            lambda: heal(mortal),
        )


# ---- no broker from the start


@pytest.fixture
def no_broker(request, url, broker):
    """The URL of something that is no broker, or of nothing at all."""
    kind = request.param
    if kind == 'silent':
        with proxy.in_front_of(url) as between:
            between.hold()
            yield between.url
    elif kind == 'nothing behind the proxy':
        with proxy.in_front_of('amqp://guest:guest@127.0.0.1:1/%2F') as between:
            yield between.url
    else:
        yield {
            'nothing there': 'amqp://127.0.0.1:1',
            'unknown host': 'amqp://nohost.invalid',
            'speaks HTTP': f'amqp://127.0.0.1:{broker.management_url.rpartition(":")[2]}',
        }[kind]


@pytest.mark.parametrize(
    'no_broker',
    ['nothing there', 'unknown host', 'speaks HTTP', 'silent', 'nothing behind the proxy'],
    indirect=True,
)
def test_an_unreachable_broker_is_tried_until_they_give_up(start, no_broker):
    """Each script tries again and again, and logs that once.

    --give-up-after ends it with another line and status 3.
    """
    scripts = [
        start(*command, '--url', no_broker, '--give-up-after', 2)
        for pair in SCENARIOS.values()
        for command in pair
    ]
    for running in scripts:
        done = running.end()
        *tries, end = stderr_of(running)
        assert done.status == 3 and 'broker unreachable at' in end and 'for 2 s' in end, done.err
        assert len(tries) <= 1 and all('retrying' in line for line in tries), done.err


def test_twenty_producers_wait_for_a_broker_that_dies_twice_while_it_starts(start, tmp_path):
    """All that they publish is confirmed and delivered.

    While there is no broker they take next to no CPU and little memory.
    """
    path = tmp_path / 'run.jsonl'
    count = 50
    with rabbitmq.throwaway() as broker, ThreadPoolExecutor() as pool:
        # A queue that was declared a moment before the broker dies would be forgotten.
        for script, queue in (('producer.py', 'blocks'), ('perf_producer.py', 'perf')):
            start(script, '--queue', queue, '--duration', 0, '--url', broker.url).end()
        kill_broker(broker)
        flags = [
            '--queue',
            'blocks',
            '--count',
            count,
            '--quiet',
            '--ledger',
            path,
            '--url',
            broker.url,
        ]
        blocks = [start('producer.py', '--difficulty', 1, '--rate', 20, *flags) for _ in range(10)]
        flags[1] = 'perf'
        texts = [start('perf_producer.py', '--persistent', '--rate', 20, *flags) for _ in range(10)]
        for producer in (*blocks, *texts):
            producer.wait_for('retrying')
        watched = [psutil.Process(producer.process.pid) for producer in (*blocks, *texts)]
        before = [sum(process.cpu_times()[:2]) for process in watched]
        let_fault_last(3)
        used = [sum(process.cpu_times()[:2]) - cpu for process, cpu in zip(watched, before)]
        assert max(used) < 1 and max(process.memory_info().rss for process in watched) < 100e6, used

        def dies(condition):
            starting = pool.submit(broker.start)
            wait_until(condition, 'the moment to kill it')
            broker.kill()
            starting.exception(TEST_TIMEOUT_S)  # it ends, in whatever way

        port = broker.ports[0][0]
        dies(lambda: 'n0' in broker.processes.started)
        dies(
            lambda: rabbitmq.ask(port, b'AMQP') or any('ready' in ''.join(one.err) for one in texts)
        )
        broker.start()
        for producer in (*blocks, *texts):
            done = producer.end()
            assert done.status == 0 and 'Traceback' not in done.err, done.err
        for command, queue in (
            (('validate.py', '--difficulty', 1), 'blocks'),
            (('perf_consumer.py',), 'perf'),
        ):
            ends = drain(start, broker.url, queue, *command, '--queue', queue, '--ledger', path)
            assert ends[0].status == 0, ends[0].err
    found, status = audited(path)
    assert status == 0, found
    assert len(found['ok']) == len(found['confirmed']) == 20 * count, found


# ---- the bench itself


CARELESS = """
import sys

import pika

sys.argv.pop(0)
from siamese.messaging import link as delivery
import {module} as producer
from siamese import script

def lost(link, reason, channel_only):
    for tag in list(link.outbox.unconfirmed):
        if {claims}:
            link.on_confirm(pika.frame.Method(1, pika.spec.Basic.Ack(tag)))
    link.outbox.unconfirmed.clear()
    return careful(link, reason, channel_only)

careful, delivery.Link._on_lost = delivery.Link._on_lost, lost
script.run(producer.main)
"""


@pytest.mark.parametrize('claims', [True, False])
@pytest.mark.parametrize('queue', PROOFS)
def test_what_is_not_republished_is_found(start, url, tmp_path, queue, claims):
    """Republishing is switched off.

    A message is lost if the producer claims its confirm, in doubt if it just forgets it.
    """
    producer, consumer = SCENARIOS[queue]
    driver = tmp_path / 'careless.py'
    path = tmp_path / 'run.jsonl'
    growing = GrowingLedger(path)
    driver.write_text(CARELESS.format(module=producer[0][:-3], claims=claims))
    with proxy.in_front_of(url) as between:
        careless = start(
            driver,
            *producer,
            '--quiet',
            '--ledger',
            path,
            '--url',
            between.url,
            PYTHONPATH=str(ROOT),
        )
        careless.wait_for('ready')
        between.hold('up')
        held = wait_until(lambda: growing.count('attempted'), 'a message')
        wait_until(lambda: growing.count('attempted') > held + FLOWING_MESSAGES, 'more')
        between.cut()
        between.release()
        careless.wait_for('back after')
        careless.stop()
    drain(start, url, queue, *consumer, '--ledger', path)
    found, status = audited(path)
    assert status == claims, found
    assert len(found['lost' if claims else 'in_doubt']) >= FLOWING_MESSAGES, found
