#!/usr/bin/env python3
"""Let everything go wrong around monitor.py at random, and compare its history with the truth.

    python bench/monitor_faults.py --minutes 30 --seed 7

Starts a RabbitMQ, a mail server, and proxies in front of AMQP and of the management API, and
publishes dead letters of four kinds while faults happen: monitor.py and the broker are killed
and stopped, connections are cut, the API is slow or lies, the clock jumps, mail is refused,
the history is moved away. At the end every letter must be in the history, none twice unless
it is marked as a possible copy, counters within the stated bound, and monitor.py must never
have shown a traceback. Exit status: 0 all of that holds, 1 it does not, 3 could not tell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pika
import psutil
from aiosmtpd.controller import Controller
from harness import ROOT

sys.path.append(str(ROOT / 'tests'))
from support import api_proxy
from support.clock import Clock

from common import Failure
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.monitoring import database, dead_letters
from siamese.start import INTERRUPTED
from siamese.testbed import proxy
from siamese.testbed.guard import Guard, Processes
from siamese.testbed.rabbitmq import RabbitMQ, free_ports, throwaway

QUEUE = 'faults.work'
KINDS = ('named', 'plain', 'equal', 'odd')
Letter = tuple[str, bytes]  # message_id and body
LETTERS = (5, 60)  # published at a time
INTERVAL_S = 1  # of the collections
# The broker updates its counters every 5 s, and is late where the machine is busy.
BROKER_INTERVAL_S = 10
JUMPS_S = (-7200, -3600, -30, 30, 3600, 7200)
LIES = [
    (200, {}, b'{"error": "not_authorised"}'),
    (200, {}, b'[]'),
    (200, {}, b'null'),
    (200, {}, b'[{"name": null, "messages_ready": []}]'),
    (200, {'Content-Type': 'text/html'}, b'<html>Sign in</html>'),
    (500, {}, b'{"error": "Internal Server Error", "reason": "\\u001b[2J"}'),
    (302, {'Location': 'http://127.0.0.1:1/'}, b''),
]
MAX_MEMORY_MB = 150
MAX_DESCRIPTORS = 60
PATIENCE_S = 120


class Wrong(Exception):
    """monitor.py did not do its part, or something else that the trial needs failed."""


class Mailbox:
    """A mail server that takes mails, or refuses them."""

    def __init__(self) -> None:
        self.taken = 0
        self.refuses = False

    async def handle_DATA(self, *_: object) -> str:
        if self.refuses:
            return '451 try again later'
        self.taken += 1
        return '250 OK'


class Letters:
    """The dead letters that were published: the truth."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.url = url
        self.rng = rng
        self.published: Counter[Letter] = Counter()
        self.messages = 0  # published to QUEUE
        self.message_times: list[float] = []  # time.monotonic() of each

    def publish(self, count: int) -> None:
        """Publish letters of all kinds, and as many messages, until the broker confirms them."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.url))) as client:
            channel = client.channel()
            channel.confirm_delivery()
            declare_dead_letters(channel)
            channel.queue_declare(QUEUE, durable=True, arguments={'x-max-length': 10})
            for _ in range(count):
                self._publish_letter(channel)
                channel.basic_publish('', QUEUE, b'traffic', mandatory=True)
                self.message_times.append(time.monotonic())

    def _publish_letter(self, channel: Any) -> None:
        number = sum(self.published.values())
        kind = self.rng.choice(KINDS)
        message_id = None
        if kind in ('named', 'odd'):
            message_id = f'{kind}-{number}'
        body = b'21.5 degrees'
        if kind != 'equal':
            body = b'letter %d' % number
        headers: dict[str, Any] = {'x-death': [death()]}
        if kind == 'odd':
            headers['\x1b[2J'] = ['=1+1', {'a': [None, '\u202e']}]
        properties = pika.BasicProperties(
            message_id=message_id, headers=headers, delivery_mode=2, content_type='text/plain'
        )
        channel.basic_publish(DEAD_LETTER_EXCHANGE, '', body, properties, mandatory=True)
        self.published[(message_id or '', body)] += 1


def death() -> dict[str, Any]:
    """Return what the broker writes when it dead-letters a message."""
    return {
        'count': 1,
        'reason': 'expired',
        'queue': QUEUE,
        'exchange': '',
        'routing-keys': [QUEUE],
    }


class Bed:
    """monitor.py, and all that it talks to."""

    def __init__(
        self,
        broker: RabbitMQ,
        folder: Path,
        seed: int,
    ) -> None:
        self.rng = random.Random(seed)
        self.broker = broker
        self.history = folder / 'history' / 'siamese.db'
        self.history.parent.mkdir()
        self.log = folder / 'log'
        self.clock = Clock(folder)
        self.mailbox = Mailbox()
        self.letters = Letters(broker.url, self.rng)
        self.processes = Processes(Guard('monitor'))
        self.breaks = 0  # of monitor.py's channel
        self.lost_messages = 0  # at most so many the broker forgot to count
        self.collected_at = 0.0  # time.monotonic() before the last figures that were awaited
        self.faults: Counter[str] = Counter()
        self.peak = (0.0, 0)  # MB, descriptors

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Start the proxies, the mail server and monitor.py; end them all."""
        with contextlib.ExitStack() as stack:
            self.amqp = stack.enter_context(proxy.in_front_of(self.broker.url))
            self.api = stack.enter_context(api_proxy.in_front_of(self.broker.management_url))
            mail = Controller(self.mailbox, hostname='127.0.0.1', port=free_ports(1)[0])
            self.smtp = f'smtp://127.0.0.1:{mail.port}'
            mail.start()
            stack.callback(mail.stop)
            stack.callback(self.processes.close)
            self.start_monitor()
            yield

    # ---- monitor.py

    def start_monitor(self) -> None:
        command = [sys.executable, str(ROOT / 'monitor.py'), '--history', str(self.history)]
        command += ['--interval', str(INTERVAL_S), '--url', self.amqp.url]
        command += ['--management-url', self.api.url, '--smtp', self.smtp]
        command += ['--mail-to', 'ops@example.org', '--mail-every', '1']
        with open(self.log, 'ab') as log:
            environment = {**os.environ, **self.clock.env}
            self.monitor = self.processes.start('monitor', command, log, env=environment)

    def end_monitor(self, number: int) -> int:
        """Send monitor.py a signal; return its exit status."""
        self.breaks += 1
        self.processes.signal('monitor', number)
        return self.status()

    def status(self) -> int:
        """Return the exit status of monitor.py once it has ended."""
        try:
            return self.monitor.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Wrong(f'monitor.py has not ended within {PATIENCE_S} s') from None

    def look(self) -> None:
        """Note what monitor.py takes, and raise Wrong if it has ended by itself."""
        if self.monitor.poll() is not None:
            raise Wrong(f'monitor.py has ended with status {self.monitor.returncode}')
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.monitor.pid)
            memory = process.memory_info().rss / 1e6
            self.peak = (max(self.peak[0], memory), max(self.peak[1], process.num_fds()))

    def wait(self, seconds: float) -> None:
        """Let things go on for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(0.1)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Look until something is so; raise Wrong after PATIENCE_S."""
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.look()
            if time.monotonic() > until:
                raise Wrong(f'not within {PATIENCE_S} s: {what}')
            time.sleep(0.1)

    def opened(self) -> Connection | None:
        """Return the history, open for reading; None if there is none yet."""
        with contextlib.suppress(Failure):
            return database.open_for_reading(str(self.history))
        return None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield the history, once there is one."""
        self.wait_until(self.opened, 'a history')
        with contextlib.closing(database.open_for_reading(str(self.history))) as db:
            yield db

    def has_collected(self) -> None:
        """Wait until monitor.py has stored figures that it has asked for since now.

        Those that it stores first it may have asked for before.
        """
        self.collected_at = time.monotonic()
        with self.reading() as db:
            for _ in range(2):
                self.next_collection(db)

    def next_collection(self, db: Connection) -> None:
        """Wait until monitor.py has stored figures once more."""
        before = database.get_fact(db, 'collected')
        self.wait_until(lambda: database.get_fact(db, 'collected') != before, 'a collection')


class Faults(Bed):
    """What goes wrong, one after the other, and the end."""

    def kill_monitor(self) -> None:
        self.end_monitor(signal.SIGKILL)
        self.start_monitor()

    def stop_monitor(self) -> None:
        status = self.end_monitor(signal.SIGTERM)
        if status not in (0, 3, INTERRUPTED):  # the last one if it had only just started
            raise Wrong(f'monitor.py ended with status {status} after SIGTERM')
        self.start_monitor()

    def cut(self) -> None:
        self.breaks += 1
        self.amqp.cut(reset=self.rng.random() < 0.5)

    def hold(self) -> None:
        self.amqp.hold()
        self.wait(self.rng.uniform(1, 4))
        self.amqp.release()

    def slow_api(self) -> None:
        self.api.delay_s = self.rng.uniform(1, 10)
        self.wait(self.rng.uniform(5, 15))
        self.api.delay_s = 0

    def lying_api(self) -> None:
        where = self.rng.choice(['', 'overview', 'nodes', 'queues', 'connections', 'channels'])
        self.api.lies = {where: self.rng.choice(LIES)}
        self.wait(self.rng.uniform(2, 5))
        self.api.lies = {}

    def clock_jumps(self) -> None:
        self.clock.set(self.rng.choice(JUMPS_S))
        self.wait(self.rng.uniform(2, 5))
        self.clock.set(0)

    def mail_is_refused(self) -> None:
        self.mailbox.refuses = not self.mailbox.refuses

    def broker_is_away(self) -> None:
        self.breaks += 1
        self.has_collected()
        since = self.collected_at - BROKER_INTERVAL_S
        self.lost_messages += sum(at > since for at in self.letters.message_times)
        end = self.rng.choice([self.broker.stop, self.broker.kill])
        end()
        self.wait(self.rng.uniform(0, 3))
        self.broker.start()

    def history_is_moved(self) -> None:
        self.has_collected()  # so it has opened it
        away = self.history.parent.with_name('away')
        self.history.parent.rename(away)
        self.history.parent.mkdir()
        status = self.status()
        if status != 3:
            raise Wrong(f'monitor.py ended with status {status} when its history was moved')
        self.breaks += 1
        shutil.rmtree(self.history.parent)
        away.rename(self.history.parent)
        self.start_monitor()

    def one_fault(self) -> None:
        fault = self.rng.choice(self.possible_faults())
        self.faults[fault.__name__] += 1
        print(f'{time.strftime("%X")} {fault.__name__}', flush=True)
        self.letters.publish(self.rng.randint(*LETTERS))
        fault()

    def possible_faults(self) -> list[Callable[[], None]]:
        return [
            self.kill_monitor,
            self.stop_monitor,
            self.cut,
            self.cut,
            self.hold,
            self.slow_api,
            self.lying_api,
            self.clock_jumps,
            self.mail_is_refused,
            self.broker_is_away,
            self.history_is_moved,
        ]

    # ---- the end

    def settle(self) -> None:
        """Let monitor.py store all that is left, and end it."""
        self.mailbox.refuses = False
        total = sum(self.letters.published.values())
        with self.reading() as db:
            self.wait_until(lambda: dead_letters.find(db, limit=0)[1] >= total, f'{total} letters')
        with contextlib.suppress(Wrong):  # verdict() tells it
            self.wait_until(self.is_counted, 'all counted')
        status = self.end_monitor(signal.SIGTERM)
        if status:
            raise Wrong(f'monitor.py ended with status {status}')

    def counted(self) -> int:
        """Return how many messages the history has counted."""
        with contextlib.closing(database.open_for_reading(str(self.history))) as db:
            rows = database.by_period(db, 'year', queue=QUEUE)
        return sum(row['published'] for row in rows)

    def is_counted(self) -> bool:
        """Return whether all messages are counted that the broker has not forgotten."""
        return self.counted() >= len(self.letters.message_times) - self.lost_messages

    def verdict(self) -> list[str]:
        """Return what is wrong with the history."""
        with contextlib.closing(database.open_for_reading(str(self.history))) as db:
            rows = dead_letters.find(db, limit=-1)[0]
            whole = [row for row in (dead_letters.get(db, row['id']) for row in rows) if row]
            stored = Counter((row['message_id'], row['body']) for row in whole)
            marked = Counter((row['message_id'], row['body']) for row in whole if row['copy'])
        wrong = letters_wrong(self.letters.published, stored, marked, self.breaks)
        wrong += count_wrong(
            self.counted(),
            len(self.letters.message_times),
            self.lost_messages,
        )
        if 'Traceback' in self.log.read_text(errors='replace'):
            wrong.append(f'a traceback in {self.log}')
        memory, descriptors = self.peak
        if memory > MAX_MEMORY_MB or descriptors > MAX_DESCRIPTORS:
            wrong.append(f'monitor.py took {memory:.0f} MB and {descriptors} descriptors')
        return wrong


def letters_wrong(
    published: Counter[Letter],
    stored: Counter[Letter],
    marked: Counter[Letter],
    breaks: int,
) -> list[str]:
    """Return what is wrong with the letters in a history.

    Those `marked` may be copies; `breaks` is how often acknowledgements were lost.
    """
    wrong = []
    missing = published - stored
    if missing:
        wrong.append(f'{sum(missing.values())} letters are missing, such as {min(missing)}')
    surplus = stored - published
    unmarked = surplus - marked
    if unmarked:
        count = sum(unmarked.values())
        wrong.append(f'{count} letters too many are not marked, such as {min(unmarked)}')
    count = sum(surplus.values())
    if count > breaks * dead_letters.PREFETCH:
        wrong.append(f'{count} letters too many after {breaks} breaks')
    return wrong


def count_wrong(counted: int, published: int, lost: int) -> list[str]:
    """Return what is wrong with a counter, of which the broker may have lost so many."""
    if published - lost <= counted <= published:
        return []
    return [f'{counted} counted of {published} published, of which {lost} may be lost']


def run(minutes: float, seed: int) -> list[str]:
    """Run the trial; return what is wrong."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(throwaway(management=True))
        bed = Faults(broker, folder, seed)
        with bed.at_work():
            try:
                bed.has_collected()  # what was counted before is left out
                until = time.monotonic() + minutes * 60
                while time.monotonic() < until:
                    bed.one_fault()
                    bed.wait(bed.rng.uniform(0, 3))
                bed.settle()
            except Wrong as error:
                print(bed.log.read_text(errors='replace')[-3000:], file=sys.stderr)
                return [str(error)]
        total = sum(bed.letters.published.values())
        memory, descriptors = bed.peak
        print(
            f'{sum(bed.faults.values())} faults ({dict(bed.faults)}), {total} letters,'
            f' {bed.mailbox.taken} mails; monitor.py took at most {memory:.0f} MB'
            f' and {descriptors} descriptors'
        )
        return bed.verdict()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=30, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=random.randrange(10**6))
    args = parser.parse_args(argv)
    print(f'seed {args.seed}')
    wrong = run(args.minutes, args.seed)
    for line in wrong:
        print(f'wrong: {line}')
    if wrong:
        return 1
    print('the history is right')
    return 0


if __name__ == '__main__':
    sys.exit(main())
