"""The fault bench: each fault, with producers and consumers at work. The verdict is audit.py's over their ledgers.

A scenario is a line of SCENARIOS, a fault a line of one of the tables, or a test of its own.
"""

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from conftest import PATIENCE, ROOT, wait_until

import audit
import broker as broker_module
import proxy

SCENARIOS = {  # queue: (producer, consumer)
    'blocks': (['producer.py', '--difficulty', 2, '--rate', 30], ['validate.py', '--difficulty', 2]),
    'perf': (['perf_producer.py', '--persistent', '--rate', 40], ['perf_consumer.py']),
}
FLOW = 5  # messages that came through, so that one says: it flows


class Scenario:
    """A producer and a consumer that are to survive a fault, their queue, and their ledger."""

    def __init__(self, start, url, queue, ledger):
        self.start, self.queue, self.ledger = start, queue, ledger
        ledger.touch()
        self.flags = ['--queue', queue, '--ledger', ledger, '--url', url]
        producer, self.consume = SCENARIOS[queue]
        self.consumer = start(*self.consume, '--quiet', '--prefetch', 20, '--name', 'consumer', *self.flags)
        self.producer = start(*producer, '--quiet', '--name', 'producer', *self.flags)

    def read(self):
        return list(audit.read([self.ledger]))

    def flows(self, since=0.0):
        """Wait until messages come through that were sent after a time; return when the first was accepted."""
        def through():
            events = self.read()
            sent = {event['id'] for event in events if event['event'] == 'attempted' and event['at'] > since}
            out = [event for event in events if event['event'] == 'validated' and event['id'] in sent]
            return len(out) >= FLOW and min(event['at'] for event in events if event['event'] == 'accepted'
                                            and event['id'] in sent)
        return wait_until(through, f'{self.queue}: flowing; {"".join(self.producer.err + self.consumer.err)}')

    def stop(self):
        """Stop both and take out what is left; return what the audit finds, which must be valid."""
        ends = [running.stop() for running in (self.producer, self.consumer)]
        drain = self.start(*self.consume, '--quiet', '--idle', 1, '--name', 'drain', *self.flags).end()
        for done in (*ends, drain):
            assert 'Traceback' not in done.err and done.status in (0, 3 * (done is drain)), done.err
        found = audit.audit(self.read())
        assert audit.judge(found)[1] == 0, (found, [done.err for done in ends])
        assert found['ok'] == found['attempted'] == found['accepted'] and len(found['ok']) > 2 * FLOW
        return found


def said(running):
    """Return the log of a script without time and name."""
    return [line.split(' ', 2)[2].rstrip() for line in running.err]


GONE = 'broker gone', 'back after'


@pytest.fixture
def endure(start, tmp_path):
    """A function that lets all scenarios at `url` go through the fault that inject(scenarios) and heal() make.

    `producer` and `consumer` are what their logs are to hold, each in one line and nothing else: first what they notice
    before it is healed, last how it ends.
    """
    def endure(url, inject, heal=lambda: None, producer=GONE, consumer=GONE):
        scenarios = [Scenario(start, url, queue, tmp_path / queue) for queue in SCENARIOS]
        for scenario in scenarios:
            scenario.flows()
        inject(scenarios)
        logs = [(running, texts) for scenario in scenarios for running, texts in (
            (scenario.producer, producer), (scenario.consumer, consumer))]
        for running, texts in logs:
            if texts:
                running.wait_for(texts[0])
        heal()
        healed = time.time()
        for scenario in scenarios:
            print(f'{scenario.queue}: accepted again {scenario.flows(healed) - healed:.1f} s after the heal')
        for running, texts in logs:
            if texts:
                running.wait_for(texts[-1])
        for running, texts in logs:
            log, texts = said(running), ('ready: ', *texts)
            assert len(log) == len(texts) and all(text in line for text, line in zip(texts, log)), log
        with ThreadPoolExecutor() as pool:
            for found in pool.map(Scenario.stop, scenarios):
                print({name: len(ids) for name, ids in found.items() if ids})
    return endure


# ---- the network: a proxy between the scripts and the broker


def spell(seconds):
    """Let a fault last: nothing tells from outside that a script has tried in vain."""
    threading.Event().wait(seconds)


def cut_in_the_handshake(between, limit):
    between.limit = limit
    between.cut()
    tries = between.accepted + 2 * 2 * len(SCENARIOS)
    wait_until(lambda: between.accepted >= tries, 'two more tries of each script')


def refuse(between):
    between.refuse()
    between.cut()
    spell(1)


def mute(between):
    between.hold()
    between.cut()
    spell(1)


def allow(between):
    between.limit = None
    between.release()


NETWORK = {  # what happens, what ends it
    'FIN': (lambda between: between.cut(), allow),
    'RST': (lambda between: between.cut(reset=True), allow),
    'refused': (refuse, lambda between: between.accept()),
    'mute': (mute, allow),
    'black hole': (lambda between: between.hold(), allow),
    'nothing reaches the broker': (lambda between: between.hold('up'), allow),
    'nothing comes from the broker': (lambda between: between.hold('down'), allow),
    **{f'cut after {limit} bytes': (lambda between, limit=limit: cut_in_the_handshake(between, limit), allow)
       for limit in (0, 8, 300, 530, 560)},
}


@pytest.mark.parametrize('fault', NETWORK)
def test_a_fault_of_the_network(endure, url, tmp_path, fault):
    inject, heal = NETWORK[fault]
    began = []
    with proxy.before(f'{url}?heartbeat=2') as between:  # scripts use 10 s; then a black hole takes 15 to 30 s
        endure(between.url, lambda _: (began.append(time.time()), inject(between)), lambda: heal(between))
    for queue in SCENARIOS:
        lost = [event['at'] for event in audit.read([tmp_path / queue]) if event['event'] == 'lost']
        assert lost and all(at - began[0] < 30 for at in lost)


# ---- the broker: what its administrator does, and its alarms


def vhost(url):
    return url.rpartition('/')[2]


def test_connections_closed_by_the_administrator(endure, url, broker):
    endure(url, lambda _: broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance'))


def test_a_limit_of_connections(endure, url, broker):
    def inject(_):
        broker.ctl('set_vhost_limits', '-p', vhost(url), '{"max-connections": 0}')
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')
    endure(url, inject, lambda: broker.ctl('clear_vhost_limits', '-p', vhost(url)))


def test_a_virtual_host_that_is_down(endure, url, broker):
    def inject(_):
        broker.ctl('eval', f'rabbit_vhost_sup_sup:delete_on_all_nodes(<<"{vhost(url)}">>).')
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')
    endure(url, inject, lambda: broker.ctl('restart_vhost', '-p', vhost(url)))


@pytest.mark.parametrize('resource, alarm, clear', [
    ('memory', ('set_vm_memory_high_watermark', 0), ('set_vm_memory_high_watermark', 0.4)),
    ('disk', ('set_disk_free_limit', '9000GB'), ('set_disk_free_limit', '1MB'))])
def test_an_alarm(endure, url, broker, resource, alarm, clear):
    try:
        endure(url, lambda _: broker.ctl(*alarm), lambda: broker.ctl(*clear), consumer=(), producer=(
            f'broker blocks publishers: low on {resource}', 'no longer blocks publishers, after'))
    finally:
        broker.ctl(*clear)


def signal_all(processes, number):
    for running in processes:
        running.send(number)


def settle(scenario):
    """Wait until all that was attempted is out and acknowledged, while the producer is stopped."""
    def settled():
        ids = {name: {event['id'] for event in scenario.read() if event['event'] == name}
               for name in ('attempted', 'validated')}
        return ids['attempted'] <= ids['validated']
    wait_until(settled, 'an empty queue')


def test_a_deleted_queue(endure, url, channel):
    def inject(scenarios):
        producers = [scenario.producer for scenario in scenarios]
        consumers = [scenario.consumer for scenario in scenarios]
        signal_all(producers, signal.SIGSTOP)
        for scenario in scenarios:
            settle(scenario)  # a deleted queue takes along what is in it
        signal_all(consumers, signal.SIGSTOP)  # so that the producers find it missing
        for scenario in scenarios:
            channel.queue_delete(scenario.queue)
        signal_all(producers, signal.SIGCONT)
        for producer in producers:
            producer.wait_for('message returned')
        signal_all(consumers, signal.SIGCONT)

    endure(url, inject, producer=('message returned', 'channel closed', 'back after'),
           consumer=('consumer cancelled', 'back after'))


def test_a_full_queue_that_rejects(endure, url, broker):
    consumers = []

    def inject(scenarios):
        consumers.extend(scenario.consumer for scenario in scenarios)
        broker.ctl('set_policy', '-p', vhost(url), 'small', '', '{"max-length": 5, "overflow": "reject-publish"}')
        signal_all(consumers, signal.SIGSTOP)

    def heal():
        broker.ctl('clear_policy', '-p', vhost(url), 'small')
        signal_all(consumers, signal.SIGCONT)
    endure(url, inject, heal, producer=('broker nacks messages',), consumer=())


def test_a_consumer_that_takes_too_long(endure, url, broker, channel):
    def limit(acknowledgement, tick):  # ms
        broker.ctl('eval', f'application:set_env(rabbit, consumer_timeout, {acknowledgement}), '
                           f'application:set_env(rabbit, channel_tick_interval, {tick}).')

    def inject(scenarios):
        consumers = [scenario.consumer for scenario in scenarios]
        signal_all(consumers, signal.SIGSTOP)
        wait_until(lambda: not any(channel.queue_declare(queue, passive=True).method.consumer_count
                                   for queue in SCENARIOS), 'the timeouts')
        signal_all(consumers, signal.SIGCONT)

    limit(2000, 500)
    try:
        endure(url, inject, producer=(), consumer=('timed out', 'back after'))
    finally:
        limit(1800000, 60000)


def test_a_right_that_is_taken_away(start, url, broker, tmp_path):
    """It ends the scripts, with a line that names the remedy; what was accepted comes out."""
    broker.ctl('add_user', 'clerk', 'secret')
    broker.ctl('set_permissions', '-p', vhost(url), 'clerk', '.*', '.*', '.*')
    try:
        scenarios = [Scenario(start, url.replace('guest:guest', 'clerk:secret'), queue, tmp_path / queue)
                     for queue in SCENARIOS]
        for scenario in scenarios:
            scenario.flows()
        broker.ctl('set_permissions', '-p', vhost(url), 'clerk', '.*', '', '.*')
        broker.ctl('close_all_connections', '-p', vhost(url), 'maintenance')  # a channel remembers its rights
        for scenario in scenarios:
            for running in scenario.producer, scenario.consumer:
                done = running.end()
                assert done.status == 1 and "user 'clerk' lacks a right" in done.err and 'Traceback' not in done.err
            drain = start(*scenario.consume, '--idle', 1, '--quiet', '--queue', scenario.queue, '--ledger',
                          scenario.ledger).end()
            found = audit.audit(scenario.read())
            assert audit.judge(found)[1] == 0 and found['accepted'], (found, drain.err)
    finally:
        broker.ctl('delete_user', 'clerk')


# ---- the broker dies, stops, freezes


@pytest.fixture(scope='module')
def mortal():
    with broker_module.throwaway() as throwaway:
        yield throwaway


@pytest.mark.parametrize('fault, heal', [('kill', 'start'), ('stop', 'start'), ('pause', 'resume')])
def test_a_broker_that(endure, mortal, fault, heal):
    endure(f'{mortal.url}?heartbeat=2', lambda _: getattr(mortal, fault)(), getattr(mortal, heal))


# ---- no broker from the start


@pytest.fixture
def no_broker(request, url, broker):
    """The URL of something that is no broker, or of nothing at all."""
    kind = request.param
    if kind == 'mute':
        with proxy.before(url) as between:
            between.hold()
            yield between.url
    elif kind == 'nothing behind the proxy':
        with proxy.before('amqp://guest:guest@127.0.0.1:1/%2F') as between:
            yield between.url
    else:
        yield {'nothing there': 'amqp://127.0.0.1:1', 'unknown host': 'amqp://nohost.invalid',
               'speaks HTTP': f'amqp://127.0.0.1:{broker.management_url.rpartition(":")[2]}'}[kind]


@pytest.mark.parametrize('no_broker', ['nothing there', 'unknown host', 'speaks HTTP', 'mute',
                                       'nothing behind the proxy'], indirect=True)
def test_no_broker_at_all(start, no_broker):
    """Each script tries again and again, with one line; --give-up-after ends it with another and status 3."""
    scripts = [start(*command, '--url', no_broker, '--give-up-after', 2)
               for pair in SCENARIOS.values() for command in pair]
    for running in scripts:
        done = running.end()
        *tries, end = said(running)
        assert done.status == 3 and 'no broker at' in end and 'for 2 s' in end, done.err
        assert len(tries) <= 1 and all('trying again' in line for line in tries), done.err


def test_twenty_producers_wait_for_a_broker_that_dies_twice_while_it_starts(start, tmp_path):
    """All they sent is accepted and comes out; while it is away they take next to no CPU and little memory."""
    ledger, count = tmp_path / 'run.jsonl', 50
    with broker_module.throwaway(started=False) as broker, ThreadPoolExecutor() as pool:
        flags = ['--queue', 'blocks', '--count', count, '--quiet', '--ledger', ledger, '--url', broker.url]
        blocks = [start('producer.py', '--difficulty', 1, '--rate', 20, *flags) for _ in range(10)]
        flags[1] = 'perf'
        texts = [start('perf_producer.py', '--persistent', '--rate', 20, *flags) for _ in range(10)]
        for producer in (*blocks, *texts):
            producer.wait_for('trying again')
        watched = [psutil.Process(producer.process.pid) for producer in (*blocks, *texts)]
        before = [sum(process.cpu_times()[:2]) for process in watched]
        spell(3)
        used = [sum(process.cpu_times()[:2]) - cpu for process, cpu in zip(watched, before)]
        assert max(used) < 1 and max(process.memory_info().rss for process in watched) < 100e6, used

        def dies(condition):
            starting = pool.submit(broker.start)
            wait_until(condition, 'the moment to kill it')
            broker.kill()
            starting.exception(PATIENCE)  # it ends, in whatever way

        port = broker.ports[0][0]
        dies(lambda: 0 in broker.processes)
        dies(lambda: broker_module.ask(port, b'AMQP') or any('ready' in ''.join(one.err) for one in texts))
        broker.start()
        for producer in (*blocks, *texts):
            done = producer.end()
            assert done.status == 0 and 'Traceback' not in done.err, done.err
        for command, queue in ((('validate.py', '--difficulty', 1), 'blocks'), (('perf_consumer.py',), 'perf')):
            done = start(*command, '--queue', queue, '--idle', 2, '--quiet', '--ledger', ledger, '--url',
                         broker.url).end()
            assert done.status == 0, done.err
    found = audit.audit(audit.read([ledger]))
    assert audit.judge(found)[1] == 0 and len(found['ok']) == len(found['accepted']) == 20 * count, found


# ---- the bench itself


CARELESS = """
import sys

import pika

sys.argv.pop(0)
import delivery
import {module} as producer
import script

def lost(link, reason, again):
    for tag in list(link.unconfirmed):
        if {claims}:
            link.confirmed(pika.frame.Method(1, pika.spec.Basic.Ack(tag)))
    link.unconfirmed.clear()
    careful(link, reason, again)

careful, delivery.Link._lost = delivery.Link._lost, lost
script.run(producer.main)
"""


@pytest.mark.parametrize('claims', [True, False])
@pytest.mark.parametrize('queue', SCENARIOS)
def test_what_is_not_sent_again_is_found(start, url, tmp_path, queue, claims):
    """Republishing switched off: lost if the producer claims that it was accepted, in doubt if it just forgets."""
    producer, consumer = SCENARIOS[queue]
    driver, ledger = tmp_path / 'careless.py', tmp_path / 'run.jsonl'
    driver.write_text(CARELESS.format(module=producer[0][:-3], claims=claims))
    with proxy.before(url) as between:
        careless = start(driver, *producer, '--queue', queue, '--quiet', '--ledger', ledger, '--url', between.url,
                         PYTHONPATH=str(ROOT))
        careless.wait_for('ready')
        between.hold('up')
        held = wait_until(lambda: Counter(event['event'] for event in audit.read([ledger]))['attempted'], 'a message')
        wait_until(lambda: Counter(event['event'] for event in audit.read([ledger]))['attempted'] > held + FLOW, 'more')
        between.cut()
        between.release()
        careless.wait_for('back after')
        careless.stop()
    start(*consumer, '--queue', queue, '--idle', 1, '--quiet', '--ledger', ledger).end()
    found = audit.audit(audit.read([ledger]))
    assert len(found['lost' if claims else 'in doubt']) >= FLOW and audit.judge(found)[1] == claims, found
