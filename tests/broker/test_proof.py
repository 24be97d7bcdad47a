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
from support.books import ids_in
from support.processes import TEST_TIMEOUT_S, Running, wait_until
from support.queues import kill_broker, waiting
from support.wiretap import CONFIRM, PUBLISH, Wiretap

from siamese import ledger, numbered, verdict
from siamese.sieve import evidence_of
from siamese.testbed import rabbitmq

KILLS = int(os.environ.get('SIAMESE_KILLS', '12'))
SEED = os.environ.get('SIAMESE_SEED') or secrets.token_hex(4)
ROLES = ('producer', 'consumer')
PAIRS = {
    'perf': {
        'producer': ('perf_producer.py', '--persistent', '--size', 256),
        'consumer': ('perf_consumer.py',),
    },
    'blocks': {
        'producer': ('producer.py', '--difficulty', 1),
        'consumer': ('validate.py', '--difficulty', 1),
    },
    'ack': {
        'producer': ('ack_producer.py', '--rate', 1_000_000),
        'consumer': ('ack_consumer.py', '--ack', 100),
    },
}
VICTIMS = (*ROLES, 'broker')
each_pair = pytest.mark.parametrize('pair', PAIRS)
IMMEDIATE_KILLS = 4
IDLE_S = 5
LEAST_BYTES, MOST_BYTES = 1_000, 60_000  # of a ledger until the next moment


class FullSpeed:
    """A pair at work through a wiretap, with a ledger each."""

    def __init__(self, pair, broker, tap, folder):
        self.commands = PAIRS[pair]
        self.broker = broker
        self.tap = tap
        self.paths = {role: folder / f'{role}.jsonl' for role in ROLES}
        self.running = {}
        for role in ROLES:
            self.paths[role].touch()
            self.start(role)

    def script(self, role, *flags):
        who_and_where = ('--name', role, '--queue', 'q', '--ledger', self.paths[role])
        command = (*self.commands[role], '--quiet', *who_and_where, *flags)
        return Running(*command, env={'AMQP_URL': self.tap.url})

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
        assert self.script('consumer', '--idle', IDLE_S).end(TEST_TIMEOUT_S).status in (0, 3)


def overtaken(truth):
    """Return the ids that came after a later one of the same run, over one connection."""
    found = set()
    for copies in truth.deliveries:
        latest = Counter()
        for one in copies:
            name = numbered.parts(one.id)
            if not one.redelivered and truth.published[one.id] == 1:
                if name.number < latest[name.of]:
                    found.add(one.id)
                latest[name.of] = max(latest[name.of], name.number)
    return found


VERBS = {'producer': PUBLISH, 'consumer': CONFIRM}


@each_pair
@pytest.mark.parametrize('role', ROLES)
def test_books_are_written_before_the_act_however_soon_the_script_is_killed(role, pair, tmp_path):
    """It is killed as soon as the relay sees a basic.publish, or a basic.ack, of it."""
    killed = threading.Event()

    def kill_who_acts(data):
        if VERBS[role] in data and not killed.is_set():
            run.running[role].send(signal.SIGKILL)
            killed.set()

    with rabbitmq.throwaway() as broker:
        tap = Wiretap(broker.url)
        with contextlib.closing(FullSpeed(pair, broker, tap, tmp_path)) as run:
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


@each_pair
@pytest.mark.pair
def test_after_kill_9_at_any_moment_the_books_say_what_the_wire_says(pair, tmp_path):
    print(f'SIAMESE_SEED={SEED} SIAMESE_KILLS={KILLS}')
    chance = random.Random(SEED)
    with rabbitmq.throwaway() as broker:
        tap = Wiretap(broker.url)
        with contextlib.closing(FullSpeed(pair, broker, tap, tmp_path)) as run:
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
