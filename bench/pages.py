#!/usr/bin/env python3
"""Measure how fast the pages of dashboard.py answer after years.

    $ python bench/pages.py --queues 50 --years 1

Fills a history with buckets for each queue and hour, and 10,000 dead letters,
starts dashboard.py, and asks for each page ten times, as a browser does: the
answer holds all that the page shows first.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from database import LONGEST_S, fill
from harness import ROOT, machine, put, table

from siamese.monitoring import clients, database, dead_letters, queues

PAGES = {
    'all queues': '/',
    'one queue': '/queue?name=siamese.queue-007',
    'dead letters': '/dead',
    'clients': '/clients',
}
LETTERS, SAMPLES, TIMES = 10_000, 180, 10


def fill_the_rest(db, names):
    """Write what database.fill() leaves out: the last quarter of an hour, dead letters, clients."""
    now = time.time()
    with database.transaction(db):
        for number in range(SAMPLES):
            at = now - 5 * (SAMPLES - number)
            queues.update(
                db,
                at,
                [
                    {
                        'name': f'siamese.queue-{queue:03}',
                        'type': 'classic',
                        'state': 'running',
                        'ready': queue,
                        'unacked': 1,
                        'consumers': queue % 10,
                        **dict.fromkeys(database.RATES, 7.5),
                        **dict.fromkeys(database.COUNTED, number * 37),
                    }
                    for queue in range(names)
                ],
                1e6 + at,
            )
    dead_letters.insert(
        db,
        [
            {
                'at': now,
                'queue': f'siamese.queue-{number % names:03}',
                'reason': 'expired',
                'exchange': '',
                'routing_key': '',
                'sender': 'alice',
                'message_id': f'id-{number}',
                'body': b'x' * 1000,
                'encoded': b'\0\0',
                'properties': {},
                'redelivered': False,
            }
            for number in range(LETTERS)
        ],
        'bench',
        now,
    )
    clients.update(
        db,
        now,
        {
            (f'client {number}', 'guest'): {
                'does': 'publishes',
                'blocked': False,
                'connections': {str(number): (0, 0)},
            }
            for number in range(names)
        },
    )


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--queues', type=int, default=500, help='default: %(default)s')
    parser.add_argument('--years', type=float, default=5, help='default: %(default)s')
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    conditions, found = machine(), []
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(database.open_for_writing(f'{folder}/siamese.db')) as db:
            db.execute('PRAGMA synchronous = OFF')  # only here: nobody would miss it
            rows = fill(db, args.queues, args.years)
            fill_the_rest(db, args.queues)
        server = subprocess.Popen(
            [sys.executable, 'dashboard.py', '--port', '0', '--history', f'{folder}/siamese.db'],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            encoding='utf-8',
        )
        try:
            base = server.stdout.readline().split()[0]
            for name, path in PAGES.items():
                times = []
                for _ in range(TIMES):
                    began = time.perf_counter()
                    with urllib.request.urlopen(base + path) as answer:
                        size = len(answer.read())
                    times.append(time.perf_counter() - began)
                found.append((name, statistics.median(times), max(times), size / 1000))
        finally:
            server.terminate()
            server.wait()
    lines = [
        f'{args.queues} queues, {args.years:g} years of hours ({rows:,} buckets), '
        f'{LETTERS:,} dead letters, '
        f'{args.queues} clients; each page asked for {TIMES} times, one after the other. '
        f'{conditions}.',
        '',
        *table(
            ['page', 'median s', 'longest s', 'kB'],
            [
                [name, f'{median:.3f}', f'{longest:.3f}', f'{kb:.0f}']
                for name, median, longest, kb in found
            ],
        ),
    ]
    if args.write:
        put('The pages of dashboard.py', lines)
    else:
        print(*lines, sep='\n')
    return int(max(median for _, median, _, _ in found) > LONGEST_S)


if __name__ == '__main__':
    sys.exit(main())
