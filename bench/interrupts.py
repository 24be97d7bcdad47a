#!/usr/bin/env python3
"""Send SIGINT or SIGTERM to each script at random moments, and see how it ends.

    python bench/interrupts.py --moments 300 --within 1 --broker there

A script must print no traceback of its own, and end in time. What Python itself
prints before it has read the first line of a script is counted apart: no program
can prevent it. Exit status: 0 all ended well, 1 one did not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness import ROOT

from siamese.testbed.rabbitmq import RabbitMQ, throwaway

NOBODY = 'amqp://127.0.0.1:1'
HANGS_S = 60
LIMIT_S = 3
# These clean up on the broker first, and drain their queues.
LIMITS_S = {'soak.py': 60, 'compare.py': 20, 'roles.py': 20}
STOP_TIMEOUT = ('--stop-timeout', '1')
FLAGS = {
    'ack_consumer.py': (),
    'ack_producer.py': STOP_TIMEOUT,
    'audit.py': ('{folder}/ledger',),
    'broker.py': (),
    'cleanup.py': (),
    'compare.py': ('{url}', '--only', 'RPC'),
    'dashboard.py': ('--port', '0', '--history', '{folder}/siamese.db'),
    'fanout_consumer.py': (),
    'fanout_producer.py': STOP_TIMEOUT,
    'monitor.py': ('--history', ':memory:'),
    'perf_consumer.py': (),
    'perf_producer.py': (*STOP_TIMEOUT, '--rate', '100'),
    'producer.py': (*STOP_TIMEOUT, '--difficulty', '3'),
    'roles.py': ('--check',),
    'rpc_client.py': STOP_TIMEOUT,
    'rpc_server.py': (),
    'soak.py': ('--url', '{url}', '--queue-type', 'classic'),
    'token_server.py': ('--new-key', '--keys', '{folder}/keys'),
    'validate.py': (),
}
# A traceback whose last file of ours is in the lines before start.begin() has returned,
# or that has none: there was no handler yet.
OUR_FILES = re.compile(r'File "' + re.escape(str(ROOT)) + r'/([^"]+)", line (\d+)')


class End(NamedTuple):
    """How a script ended: after how many s, with which status, and its stderr."""

    at_s: float
    took_s: float
    status: int | str
    log: str


def interrupt(
    command: list[str],
    environment: dict[str, str],
    within_s: float,
) -> End:
    """Start a script, send it a signal at a random moment, and return how it ended."""
    at_s = random.uniform(0, within_s)
    number = random.choice([signal.SIGINT, signal.SIGTERM])
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding='utf-8',
        env=environment,
    ) as process:
        time.sleep(at_s)
        process.send_signal(number)
        sent = time.monotonic()
        status: int | str = 'hangs'
        try:
            _, log = process.communicate(timeout=HANGS_S)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            _, log = process.communicate()
    return End(at_s, time.monotonic() - sent, status, log)


def is_of_python(log: str) -> bool:
    """Return whether a traceback comes from before a script took signals."""
    files = OUR_FILES.findall(log)
    return all(file in ('siamese/__init__.py', 'siamese/start.py') for file, _ in files[1:])


def judge(name: str, ends: list[End]) -> bool:
    """Print a line for a script, and one for each bad end; return whether there is none."""
    with_traceback = [end for end in ends if 'Traceback' in end.log]
    early = [end for end in with_traceback if is_of_python(end.log)]
    limit_s = LIMITS_S.get(name, LIMIT_S)
    bad = [end for end in with_traceback if end not in early]
    bad += [end for end in ends if end.status == 'hangs' or end.took_s > limit_s]
    statuses = Counter(end.status for end in ends)
    latest = max((end.at_s for end in early), default=0)
    print(
        f'{name:20}  {len(ends)} moments, {len(bad)} bad; longest end '
        f'{max(end.took_s for end in ends):.2f} s; of Python itself: {len(early)}, '
        f'the last at {latest * 1000:.0f} ms; statuses {dict(statuses.most_common())}',
        flush=True,
    )
    for end in bad:
        print(f'  at {end.at_s:.3f} s, {end.took_s:.1f} s, status {end.status}: {end.log[-800:]}')
    return not bad


@contextlib.contextmanager
def url_of(state: str) -> Iterator[dict[str, str]]:
    """Yield the environment that names a broker which is there, away or stopped (SIGSTOP).

    Or it is stopped and continued in turns.
    """
    if state == 'away':
        yield {'AMQP_URL': NOBODY, 'MANAGEMENT_URL': 'http://127.0.0.1:1'}
        return
    with throwaway(management=True) as broker:
        if state == 'stopped':
            broker.pause()
        with contextlib.ExitStack() as stack:
            if state == 'in-turns':
                stack.enter_context(stopped_in_turns(broker))
            yield {'AMQP_URL': broker.url, 'MANAGEMENT_URL': str(broker.management_url)}


@contextlib.contextmanager
def stopped_in_turns(broker: RabbitMQ) -> Iterator[None]:
    """Stop the broker for half of each second."""
    over = threading.Event()

    def stop_and_continue() -> None:
        while not over.wait(0.5):
            broker.pause()
            over.wait(0.5)
            broker.resume()

    turns = threading.Thread(target=stop_and_continue)
    turns.start()
    try:
        yield
    finally:
        over.set()
        turns.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('scripts', nargs='*', default=list(FLAGS))
    parser.add_argument('--moments', type=int, default=300)
    parser.add_argument('--within', type=float, default=1, metavar='S')
    parser.add_argument(
        '--broker', choices=('there', 'away', 'stopped', 'in-turns'), default='there'
    )
    parser.add_argument('--at-once', type=int, default=4, metavar='N')
    args = parser.parse_args()
    all_well = True
    with tempfile.TemporaryDirectory() as folder, url_of(args.broker) as urls:
        open(f'{folder}/ledger', 'w').close()
        environment = {**os.environ, 'TMPDIR': folder, **urls}
        with ThreadPoolExecutor(args.at_once) as pool:
            for name in args.scripts:
                flags = [flag.format(folder=folder, url=urls['AMQP_URL']) for flag in FLAGS[name]]
                command = [sys.executable, str(ROOT / name), *flags]
                tries = [
                    pool.submit(interrupt, command, environment, args.within)
                    for _ in range(args.moments)
                ]
                all_well &= judge(name, [each.result() for each in tries])
    return 0 if all_well else 1


if __name__ == '__main__':
    sys.exit(main())
