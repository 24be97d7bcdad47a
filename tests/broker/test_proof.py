"""The proof at full speed: what audit.py says is what the other side says, kill -9 or not.

SIAMESE_KILLS=500 makes it longer than the 12 of the suite, SIAMESE_SEED repeats a run.
"""

import contextlib
import os
import random
import secrets
import signal
import threading
from collections import Counter

import pika
import pytest
from support.processes import TEST_TIMEOUT_S, Running, wait_until
from support.queues import kill_broker, waiting
from support.wiretap import CONFIRM, PUBLISH, Wiretap

from siamese import ledger, verdict
from siamese.sieve import evidence_of
from siamese.testbed import rabbitmq

KILLS = int(os.environ.get('SIAMESE_KILLS', '12'))
SEED = os.environ.get('SIAMESE_SEED') or secrets.token_hex(4)
PAIR = {
    'producer': ('perf_producer.py', '--persistent', '--size', 256),
    'consumer': ('perf_consumer.py',),
}
VICTIMS = (*PAIR, 'broker')
IMMEDIATE_KILLS = 4
LEAST_BYTES, MOST_BYTES = 1_000, 60_000  # of a ledger until the next moment


class FullSpeed:
    """The perf pair at work through a wiretap, with a ledger each."""

    def __init__(self, broker, tap, folder):
        self.broker = broker
        self.tap = tap
        self.paths = {role: folder / f'{role}.jsonl' for role in PAIR}
        self.running = {}
        for role in PAIR:
            self.paths[role].touch()
            self.start(role)

    def script(self, role, *flags):
        flags = (*PAIR[role], '--quiet', '--queue', 'q', '--ledger', self.paths[role], *flags)
        return Running(*flags, env={'AMQP_URL': self.tap.url})

    def start(self, role):
        self.running[role] = self.script(role)

    def work(self, chance):
        """Wait until each ledger has grown by some bytes."""
        wanted = {
            path: path.stat().st_size + chance.randrange(LEAST_BYTES, MOST_BYTES)
            for path in self.paths.values()
        }

        def have_grown():
            for running in self.running.values():
                assert running.process.poll() is None, running.end().err
            return all(path.stat().st_size > size for path, size in wanted.items())

        wait_until(have_grown, 'more lines')

    def kill(self, victim):
        """Kill one of the three with SIGKILL, and start it again."""
        if victim == 'broker':
            kill_broker(self.broker)
            self.broker.start()
            return
        self.running[victim].send(signal.SIGKILL)
        self.running[victim].end()
        self.start(victim)

    def close(self):
        """Kill what still runs."""
        for running in self.running.values():
            running.process.kill()
            running.end()

    def drain(self):
        """End all, and take what is left."""
        assert self.running['producer'].stop().status == 0
        assert self.running['consumer'].stop().status == 0
        assert self.script('consumer', '--exit-when-empty').end(TEST_TIMEOUT_S).status in (0, 3)


def ids_in(path, event):
    """Return the ids of which a ledger has this event."""
    lines = (line for line in ledger.read([str(path)]) if line['event'] == event)
    return {one['id'] for line in lines for one in ledger.singly(line)}


def overtaken(truth):
    """Return the ids that came after a later one of the same run, over one connection."""
    found = set()
    for copies in truth.deliveries:
        latest = Counter()
        for one in copies:
            run, number, _ = one.id.split('-')
            if not one.redelivered and truth.published[one.id] == 1:
                if int(number) < latest[run]:
                    found.add(one.id)
                latest[run] = max(latest[run], int(number))
    return found


VERBS = {'producer': PUBLISH, 'consumer': CONFIRM}


@pytest.mark.parametrize('role', PAIR)
def test_books_are_written_before_the_act_however_soon_the_script_is_killed(role, tmp_path):
    """It is killed as soon as the relay sees a basic.publish, or a basic.ack, of it."""
    killed = threading.Event()

    def kill_who_acts(data):
        if VERBS[role] in data and not killed.is_set():
            run.running[role].send(signal.SIGKILL)
            killed.set()

    with rabbitmq.throwaway() as broker:
        tap = Wiretap(broker.url)
        with contextlib.closing(FullSpeed(broker, tap, tmp_path)) as run:
            for _ in range(IMMEDIATE_KILLS):
                run.work(random)
                killed.clear()
                tap.on_up = kill_who_acts
                assert killed.wait(TEST_TIMEOUT_S)
                assert run.running[role].end().status == -signal.SIGKILL
                run.start(role)
            tap.on_up = lambda data: None
            run.work(random)
            run.drain()
        tap.close()
    truth = tap.truth()
    assert truth.published.keys() <= ids_in(run.paths['producer'], 'attempted')
    assert truth.acked <= ids_in(run.paths['consumer'], 'acked')


@pytest.mark.pair
def test_after_kill_9_at_any_moment_the_books_say_what_the_wire_says(tmp_path):
    print(f'SIAMESE_SEED={SEED} SIAMESE_KILLS={KILLS}')
    chance = random.Random(SEED)
    with rabbitmq.throwaway() as broker:
        tap = Wiretap(broker.url)
        with contextlib.closing(FullSpeed(broker, tap, tmp_path)) as run:
            for number in range(KILLS):
                run.work(chance)
                run.kill(VICTIMS[number % len(VICTIMS)])
            run.work(chance)
            run.drain()
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            assert waiting(connection.channel(), 'q') == 0
        tap.close()
    truth = tap.truth()
    attempted, confirmed = (ids_in(run.paths['producer'], e) for e in ('attempted', 'confirmed'))
    acked = ids_in(run.paths['consumer'], 'acked')
    # What a script does is in its books before it is on the wire; what it hears, after that.
    assert truth.published.keys() <= attempted
    assert confirmed <= truth.confirmed
    assert truth.acked <= acked <= truth.copies().keys()
    evidence = evidence_of(ledger.read([str(path) for path in run.paths.values()]))
    found = verdict.judge_all(evidence)
    expected = {
        'lost': confirmed - acked,
        'duplicated': {id for id, copies in truth.copies().items() if copies > truth.published[id]},
        'out_of_order': overtaken(truth),
        'corrupt': set(),
        'unexpected': set(),
    }
    assert {kind: names_of(found[kind]) for kind in expected} == expected
    assert verdict.judge(found, evidence.plain).exit_status == any(expected.values())
    print(f'{len(attempted):,} attempted, {len(confirmed):,} confirmed, {len(acked):,} acked')


def names_of(found):
    return {name.partition(' ')[0] for name in found}
