"""Scenarios that are to survive faults: producers and consumers at work, and what audit.py finds in their ledgers.

A scenario is a line of SCENARIOS.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import pika
from support.processes import wait_until
from support.queues import waiting

from siamese import ledger as books
from siamese import verdict as audit

SCENARIOS = {  # queue: (producer, consumer)
    'blocks': (
        ['producer.py', '--queue', 'blocks', '--difficulty', 2, '--rate', 30],
        ['validate.py', '--queue', 'blocks', '--difficulty', 2],
    ),
    'perf': (
        ['perf_producer.py', '--queue', 'perf', '--persistent', '--rate', 40],
        ['perf_consumer.py', '--queue', 'perf'],
    ),
    'ack': (
        ['ack_producer.py', '--queue', 'ack', '--rate', 30],
        ['ack_consumer.py', '--queue', 'ack', '--ack', 80, '--reject', 20],
    ),
    'fanout': (
        ['fanout_producer.py', '--rate', 30, '--ttl', 3600],
        ['fanout_consumer.py', 'fanout'],
    ),
}
PROOFS = 'blocks', 'perf'  # whose queues the test of a cluster declares
FLOW = 5  # messages that came through, so that one says: it flows


class Scenario:
    """A producer and a consumer that are to survive a fault, their queue, and their ledger."""

    def __init__(self, start, url, queue, ledger, *flags):
        self.start, self.url, self.queue, self.ledger = start, url, queue, ledger
        ledger.touch()
        self.flags = ['--ledger', ledger, '--url', url, *flags]
        producer, self.consume = SCENARIOS[queue]
        self.consumer = start(
            *self.consume, '--quiet', '--prefetch', 20, '--name', 'consumer', *self.flags
        )
        self.consumer.wait_for('ready')  # what is sent to everybody before it listens is not for it
        self.producer = start(*producer, '--quiet', '--name', 'producer', *self.flags)

    def __str__(self):
        return f'the flow of {self.queue} (logs: {"".join(self.producer.err + self.consumer.err)})'

    def read(self):
        return list(books.read([self.ledger]))

    def flows(self, since=0.0):
        """Wait until messages come through that were sent after a time; return when the first was accepted."""

        def through():
            events = self.read()
            sent = {
                event['id']
                for event in events
                if event['event'] == 'attempted' and event['at'] > since
            }
            out = [event for event in events if event['event'] == 'acked' and event['id'] in sent]
            accepted = [
                event['at']
                for event in events
                if event['event'] == 'confirmed' and event['id'] in sent
            ]
            return len(out) >= FLOW and accepted and min(accepted)

        return wait_until(through, self)

    def stop(self):
        """Stop both and take out what is left; return what the audit finds, which must be valid."""
        ends = [running.stop() for running in (self.producer, self.consumer)]
        ends += drain(self.start, self.url, self.queue, *self.consume, *self.flags)
        for number, done in enumerate(ends):
            assert 'Traceback' not in done.err and done.status in (0, 3 * (number > 1)), done.err
        found = audit.audit(self.read())
        assert audit.judge(found)[1] == 0, (found, [done.err for done in ends])
        assert (
            found['ok'] == found['attempted'] == found['confirmed'] and len(found['ok']) > 2 * FLOW
        )
        return found


def drain(start, url, queue, *consume):
    """Let consumers take out what is left, one after the other until nothing is; return how they ended."""
    ends = []

    def is_empty():
        ends.append(
            start(
                *consume, '--url', url, '--quiet', '--idle', 1, '--name', f'drain{len(ends)}'
            ).end()
        )
        with pika.BlockingConnection(
            [pika.URLParameters(one) for one in url.split(',')]
        ) as connection:
            return not waiting(connection.channel(), queue)

    wait_until(is_empty, f'an empty queue {queue}')
    return ends


def said(running):
    """Return the log of a script without time and name."""
    return [line.split(' ', 2)[2].rstrip() for line in running.err]


GONE = 'broker gone', 'back after'


def endure(
    start,
    folder,
    url,
    inject,
    heal=lambda: None,
    producer=GONE,
    consumer=GONE,
    also=(),
    flags=(),
    queues=SCENARIOS,
):
    """Let the scenarios of `queues` at `url` go through the fault that inject(scenarios) and heal() make.

    `start` is the fixture, `folder` takes the ledgers. `producer` and `consumer` are what their logs are to hold, each
    in one line and nothing else (but `also`): first what they notice before it is healed, last how it ends.
    """
    scenarios = [Scenario(start, url, queue, folder / queue, *flags) for queue in queues]
    for scenario in scenarios:
        scenario.flows()
    inject(scenarios)
    logs = [
        (running, texts)
        for scenario in scenarios
        for running, texts in ((scenario.producer, producer), (scenario.consumer, consumer))
    ]
    for running, texts in logs:
        if texts:
            running.wait_for(texts[0])
    heal()
    healed = time.time()
    for scenario in scenarios:
        print(
            f'{scenario.queue}: accepted again {scenario.flows(healed) - healed:.1f} s after the heal'
        )
    for running, texts in logs:
        if texts:
            running.wait_for(texts[-1])
    for running, texts in logs:
        log, texts = (
            [line for line in said(running) if not any(text in line for text in also)],
            ('ready: ', *texts),
        )
        assert len(log) == len(texts) and all(text in line for text, line in zip(texts, log)), log
    with ThreadPoolExecutor() as pool:
        for found in pool.map(Scenario.stop, scenarios):
            print({name: len(ids) for name, ids in found.items() if ids})
