"""The workload of soak.py: producers and consumers at work on a broker."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import pika

import common
from common import Failure
from siamese import ROOT, script, start
from siamese.ledger import Event, singly
from siamese.messaging import blocking
from siamese.testbed.guard import Guard, Processes
from siamese.testbed.proxy import Proxy, in_front_of
from siamese.testbed.rabbitmq import RabbitMQ, throwaway

# Messages that do not get through, or a script that does not end, are a failure
# after this time.
FLOW_TIMEOUT_S = 120
POLL_INTERVAL_S = 0.02
WAIT_STEP_S = 0.1
NODES = 3
# Exit status of workers that are stopped. 1: a consumer found something wrong. 3: there
# was no message for it, or a worker was not connected yet. The audit says what is in doubt.
OF_CONSUMERS = (0, 1, 3)
OF_PRODUCERS = (0, 3)


class Worker(NamedTuple):
    """A script of the workload, its flags, and the last part of its queue."""

    script: str
    flags: tuple[str, ...]
    queue: str


MINER = Worker('producer.py', ('--difficulty', '2', '--rate', '20'), 'blocks')
VALIDATOR = Worker('validate.py', ('--difficulty', '2'), 'blocks')
WRITER = Worker('perf_producer.py', ('--persistent', '--rate', '20'), 'texts')
READER = Worker('perf_consumer.py', (), 'texts')
PRODUCERS = {'alice': MINER, 'bob': MINER, 'erin': WRITER, 'frank': WRITER}
CONSUMERS = {
    'carol': VALIDATOR,
    'dave': VALIDATOR,
    'grace': READER,
    'heidi': READER,
}
# The order belongs to the faults of a seed, and decides who meets which node.
NAMES = ('alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi')
WORKERS = {**PRODUCERS, **CONSUMERS}


class Workload:
    """Scripts at work on a broker, and what faults do to them.

    cluster: our own broker, or None. proxies: the ways to its nodes; none with
    TLS. urls: the same as URLs. random: decides over the faults. ledger: the
    path of the ledger. why_over: says why the run ends now, or ''.
    """

    def __init__(
        self,
        cluster: RabbitMQ | None,
        urls: Sequence[str],
        proxies: Sequence[Proxy],
        queue_type: str,
        folder: str,
        seed: int,
        why_over: Callable[[], str],
    ) -> None:
        self.cluster = cluster
        self.proxies = proxies
        self.urls = list(urls)
        if proxies:
            self.urls = [proxy.url for proxy in proxies]
        self.queue_type = queue_type
        self.folder = folder
        self.ledger = ledger_in(folder)
        self.prefix = f'siamese.soak-{secrets.token_hex(4)}'
        self.random = random.Random(seed)
        self.why_over = why_over
        self.processes = Processes(Guard('soak'))
        self.running = self.processes.started

    @property
    def broker(self) -> RabbitMQ:
        """Our own broker, for faults of nodes."""
        assert self.cluster
        return self.cluster

    def queue(self, suffix: str) -> str:
        """Return the name of a queue."""
        return f'{self.prefix}.{suffix}'

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return [self.queue(suffix) for suffix in ('blocks', 'texts')]

    def start(self, name: str, *flags: str) -> None:
        """Start a worker."""
        worker = WORKERS[name]
        command = [
            *(sys.executable, f'{ROOT}/{worker.script}'),
            *worker.flags,
            *flags,
            *('--name', name),
            '--quiet',
            *('--queue', self.queue(worker.queue)),
            *('--queue-type', self.queue_type),
            *('--ledger', self.ledger),
        ]
        # Each worker begins with another URL, so that every node has clients.
        first = NAMES.index(name) % len(self.urls)
        urls = self.urls[first:] + self.urls[:first]
        with open(f'{self.folder}/{name}.log', 'ab') as log:
            environment = {**os.environ, 'AMQP_URL': ','.join(urls)}
            with script.signals_blocked():
                self.processes.start(name, command, output=log, env=environment)

    def kill(self, name: str) -> None:
        """Kill a worker with SIGKILL, and wait until it has ended."""
        self.processes.kill(name)

    def wait(self, seconds: float) -> None:
        """Wait; the end of the run ends that early."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.why_over():
                return
            time.sleep(WAIT_STEP_S)

    def check_running(self) -> None:
        """Raise Failure if a worker has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                status = process.returncode
                raise ended_early(name, status)

    def stop(self, names: Iterable[str], expected: Collection[int] = (0,)) -> list[str]:
        """Let workers finish, as finish() does; a worker may not have begun yet."""
        for name in names:
            self.running[name].send_signal(signal.SIGINT)
        return self.finish(names, (*expected, start.INTERRUPTED))

    def finish(
        self,
        names: Iterable[str],
        expected: Collection[int] = (0,),
    ) -> list[str]:
        """Wait for the end of workers; return those whose exit status is 1.

        Raises Failure if one does not end, or with a status that is not expected.
        """
        complaining = []
        for name in names:
            try:
                status = self.running[name].wait(FLOW_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                problem = f'{name} did not end within {FLOW_TIMEOUT_S} s'
                raise Failure(problem, 1) from None
            if status not in expected:
                raise ended_early(name, status)
            if status == 1:
                complaining.append(name)
        return complaining

    def drain(self) -> list[str]:
        """Stop the workers, and take the last messages out of the queues.

        Returns the consumers that found something wrong: what it is stands in the ledger.
        """
        self.stop(PRODUCERS, expected=OF_PRODUCERS)
        complaining = self.stop(CONSUMERS, expected=OF_CONSUMERS)
        for name in CONSUMERS:
            self.start(name, '--idle', '5')
        return complaining + self.finish(CONSUMERS, expected=OF_CONSUMERS)

    def close(self) -> None:
        """Kill all workers."""
        self.processes.close()


@contextlib.contextmanager
def at_work(
    url: str | None,
    queue_type: str,
    folder: str,
    seed: int,
    why_over: Callable[[], str],
) -> Iterator[Workload]:
    """Yield a Workload with all workers; at the end nothing is left of it.

    `url`: a broker, or several URLs; None for our own cluster. `why_over`: see there.
    """
    with contextlib.ExitStack() as stack:
        cluster = None
        if url is None:
            cluster = stack.enter_context(throwaway(nodes=NODES))
            urls = cluster.urls
        else:
            urls = url.replace(',', ' ').split()
        proxies = []
        if all(each.startswith('amqp:') for each in urls):
            proxies = [stack.enter_context(in_front_of(each)) for each in urls]
        workload = Workload(cluster, urls, proxies, queue_type, folder, seed, why_over)
        try:
            for name in NAMES:
                workload.start(name)
            yield workload
        finally:
            workload.close()
            if url is not None:
                endpoints = common.endpoints(url, 'soak.py')
                remove(endpoints, workload.queues())


def ledger_in(folder: str) -> str:
    """Return the path of the ledger in the folder of a workload."""
    return f'{folder}/run.jsonl'


def remove(
    endpoints: Sequence[pika.ConnectionParameters],
    queues: Sequence[str],
) -> None:
    """Delete queues; log those that are left."""
    try:
        endpoint = blocking.first_reachable(endpoints)
        with blocking.connected(endpoint) as connection:
            for queue in queues:
                connection.channel().queue_delete(queue=queue)
    except Failure as failure:
        names = ' '.join(queues)
        logging.error('%s; queues are left, ./cleanup.py --delete %s deletes them', failure, names)


def new_events(ledger: IO[str]) -> Iterator[Event]:
    """Yield the events that were appended to an open ledger since last time, one a message."""
    while True:
        position = ledger.tell()
        line = ledger.readline()
        if not line.endswith('\n'):  # it is still being written
            ledger.seek(position)
            return
        yield from singly(json.loads(line))


def wait_until_flowing(
    workload: Workload,
    ledger: IO[str],
    since: float,
) -> float:
    """Wait until each producer got a message through; return the seconds.

    Messages published after `since`, in seconds since 1970, count when they are
    acknowledged. The end of the run ends that early. Raises Failure.
    """
    waiting = set(PRODUCERS)
    producer_of: dict[str, str] = {}  # by message id
    last = since
    while waiting and not workload.why_over():
        for event in new_events(ledger):
            message_id: str = event.get('id', '')
            if event['event'] == 'attempted' and event['at'] > since:
                producer_of[message_id] = event['by']
            if event['event'] == 'acked':
                producer = producer_of.get(message_id)
                if producer in waiting:
                    waiting.remove(producer)
                    last = event['at']
        workload.check_running()
        if time.time() - since > FLOW_TIMEOUT_S:
            names = ', '.join(sorted(waiting))
            raise Failure(f'no message of {names} got through for {FLOW_TIMEOUT_S} s', 1)
        time.sleep(POLL_INTERVAL_S)
    return last - since


def ended_early(name: str, status: int) -> Failure:
    """Return the Failure of a run in which a worker ended.

    Its status is 3 if the worker could not tell, or was interrupted before its work began.
    """
    ours = 3 if status in (3, start.INTERRUPTED) else 1
    return Failure(f'{name} ended with status {status}', ours)
