"""Scenarios that are to survive faults: producers and consumers, and the audit of their ledgers.

A scenario is a line of SCENARIOS.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat

import pika
from support.processes import wait_until
from support.queues import waiting

from siamese import ledger, verdict

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
FLOWING_MESSAGES = 5  # that are delivered, before the test takes it that messages flow
RECONNECT_LINES = 'connection lost', 'back after'


class GrowingLedger:
    """A ledger that scripts still write: each of its lines is parsed once, and split up."""

    def __init__(self, path):
        path.touch()
        self.path = path
        self.position = 0
        self.found = []

    def events(self):
        """Return all events so far."""
        with open(self.path, 'rb') as file:
            file.seek(self.position)
            whole_lines, newline, _ = file.read().rpartition(b'\n')
        self.position += len(whole_lines + newline)
        for line in map(json.loads, whole_lines.splitlines()):
            self.found += ledger.singly(line)
        return self.found

    def count(self, name):
        """Return how many events have this name."""
        return len(named(self.events(), name))


class Scenario:
    """A producer and a consumer that are to survive a fault, their queue, and their ledger."""

    def __init__(self, start, url, queue, path, *flags):
        self.start = start
        self.url = url
        self.queue = queue
        self.ledger = GrowingLedger(path)
        self.flags = ['--ledger', path, '--url', url, *flags]
        producer, self.consume = SCENARIOS[queue]
        self.consumer = start(
            *self.consume, '--quiet', '--prefetch', 20, '--name', 'consumer', *self.flags
        )
        self.consumer.wait_for('ready')  # a broadcast from before is not for its queue
        self.producer = start(*producer, '--quiet', '--name', 'producer', *self.flags)

    def __str__(self):
        return f'the flow of {self.queue} (logs: {"".join(self.producer.err + self.consumer.err)})'

    def flows(self, since=0.0):
        """Wait until messages come through that were published after a time.

        Return when the first of them was confirmed.
        """

        def through():
            events = self.ledger.events()
            attempted = named(events, 'attempted')
            published = {event['id'] for event in attempted if event['at'] > since}
            acked = [one for one in named(events, 'acked') if one['id'] in published]
            confirmed = [one for one in named(events, 'confirmed') if one['id'] in published]
            if len(acked) < FLOWING_MESSAGES or not confirmed:
                return None
            return min(event['at'] for event in confirmed)

        return wait_until(through, self)

    def stop(self):
        """Stop both and empty the queue; return what the audit finds, which must be valid.

        What the consumer of a dead node held comes back into a quorum queue up to 60 s later
        (consumer_disconnected_timeout of RabbitMQ 4.3). The consumers until then are few:
        after twenty that came and went the delivery limit might have dropped a message.
        """
        ends = [running.stop() for running in (self.producer, self.consumer)]
        idle_s = iter(chain([1], repeat(10)))

        def is_complete():
            consume = (*self.consume, *self.flags)
            ends.extend(drain(self.start, self.url, self.queue, *consume, idle_s=next(idle_s)))
            found, _ = audited(self.ledger.path)
            return not found['lost']

        wait_until(is_complete, 'the last messages')
        for done in ends:
            assert 'Traceback' not in done.err, done.err
        of_scenario, of_drains = ends[:2], ends[2:]
        assert all(done.status == 0 for done in of_scenario), of_scenario
        assert all(done.status in (0, 3) for done in of_drains), of_drains  # 3: was empty
        found, status = audited(self.ledger.path)
        assert status == 0, (found, [done.err for done in ends])
        assert found['ok'] == found['attempted'] == found['confirmed'], found
        assert len(found['ok']) > 2 * FLOWING_MESSAGES
        return found


def audited(path):
    """Return what the audit finds in a ledger, and its exit status."""
    found = verdict.audit(ledger.read([path]))
    return found, verdict.judge(found).exit_status


def named(events, name):
    """Return the events of a ledger with a name."""
    return [event for event in events if event['event'] == name]


def drain(start, url, queue, *consume, idle_s=1):
    """Let one consumer after the other empty the queue; return how they ended."""
    ends = []

    def is_empty():
        flags = '--url', url, '--quiet', '--idle', idle_s, '--name', f'drain{len(ends)}'
        ends.append(start(*consume, *flags).end())
        urls = [pika.URLParameters(one) for one in url.split(',')]
        with pika.BlockingConnection(urls) as connection:
            return not waiting(connection.channel(), queue)

    wait_until(is_empty, f'an empty queue {queue}')
    return ends


def stderr_of(running):
    """Return the log of a script without time and name."""
    return [line.split(' ', 2)[2].rstrip() for line in running.err]


def endure(
    start,
    folder,
    url,
    inject,
    heal=lambda: None,
    producer=RECONNECT_LINES,
    consumer=RECONNECT_LINES,
    also=(),
    flags=(),
    queues=SCENARIOS,
):
    """Let the scenarios of `queues` at `url` go through a fault: inject(scenarios), heal().

    `start` is the fixture, `folder` takes the ledgers. `producer` and `consumer` are what
    their logs are to hold, each in one line and nothing else (but `also`): first what they
    notice before the fault is healed, last how it ends.
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
        took = scenario.flows(healed) - healed
        print(f'{scenario.queue}: confirmed again {took:.1f} s after the heal')
    for running, texts in logs:
        if texts:
            running.wait_for(texts[-1])
    for running, texts in logs:
        log = [line for line in stderr_of(running) if not any(text in line for text in also)]
        expected = 'ready: ', *texts
        assert len(log) == len(expected), log
        assert all(text in line for text, line in zip(expected, log)), log
    with ThreadPoolExecutor() as pool:
        for found in pool.map(Scenario.stop, scenarios):
            print({name: len(ids) for name, ids in found.items() if ids})
