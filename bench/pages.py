#!/usr/bin/env python3
"""Measure how fast the pages of dashboard.py answer after years.

    $ python bench/pages.py --queues 50 --years 1

Fills a history with buckets for each queue and hour, 10,000 dead letters and 1,000
verdicts, starts dashboard.py, and asks for each page ten times, as a browser does: the
answer holds all that the page shows first.
"""

import contextlib
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request

from database import LONGEST_S, add_history_flags, fill
from harness import bench_parser, machine, report, running, table

from siamese.monitoring import clients, database, dead_letters, queues, verdicts

PAGES = {
    'all queues': '/',
    'one queue': '/queue?name=siamese.queue-007',
    'one queue, a day': '/queue?name=siamese.queue-007&span=1+day',
    'history': '/history',
    'history by hour': '/history?period=hour',
    'history by year': '/history?period=year',
    'dead letters': '/dead',
    'clients': '/clients',
    'verdicts': '/verdicts',
}
LETTERS = 10_000
SAMPLES = 180
VERDICTS = 1_000
TIMES = 10  # that a page is asked for
TOO_MANY = 503


def fill_the_rest(db, names):
    """Write what database.fill() leaves out: the last quarter of an hour, dead letters, clients."""
    now = time.time()
    with database.transaction(db):
        for number in range(SAMPLES):
            at = now - 5 * (SAMPLES - number)
            rows = [queue_row(queue, number) for queue in range(names)]
            queues.update(db, at, rows, 1e6 + at)
    letters = [dead_letter(number, names, now) for number in range(LETTERS)]
    dead_letters.insert(db, letters, 'bench', now)
    for number in range(VERDICTS):
        summary = {'verdict': 'valid', 'exit_status': 0, 'attempted': number}
        verdicts.insert(db, summary, '', './audit.py runs/run.jsonl', now)
    present = {(f'client {number}', 'guest'): client(number) for number in range(names)}
    clients.update(db, now, present)


def queue_row(queue, number):
    """Return what the collector sees of a queue in the sample of this number."""
    return {
        'name': f'siamese.queue-{queue:03}',
        'type': 'classic',
        'state': 'running',
        'ready': queue,
        'unacked': 1,
        'consumers': queue % 10,
        **dict.fromkeys(database.RATES, 7.5),
        **dict.fromkeys(database.COUNTED, number * 37),
    }


def dead_letter(number, names, now):
    return {
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
        'tag': 1,
    }


def client(number):
    return {
        'does': 'publishes',
        'blocked': False,
        'connections': {str(number): (0, 0)},
    }


def time_page(url):
    """Ask for a page TIMES times; return (median s, longest s, kB)."""
    times = []
    for _ in range(TIMES):
        began, body = ask(url)
        times.append(time.perf_counter() - began)
        size = len(body)
    return statistics.median(times), max(times), size / 1000


def ask(url):
    """Return when a page was asked for, and its bytes; an address gets 5 pages a second."""
    while True:
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(url) as answer:
                return began, answer.read()
        except urllib.error.HTTPError as error:
            if error.code != TOO_MANY:
                raise
            time.sleep(0.1)


def main(argv=None):
    parser = bench_parser(__doc__)
    add_history_flags(parser)
    args = parser.parse_args(argv)
    conditions = machine()
    with tempfile.TemporaryDirectory() as folder:
        file = f'{folder}/siamese.db'
        with contextlib.closing(database.open_for_writing(file)) as db:
            db.execute('PRAGMA synchronous = OFF')  # only here: nobody would miss it
            buckets = fill(db, args.queues, args.years)
            fill_the_rest(db, args.queues)
        with running('dashboard.py', '--port', '0', '--history', file) as server:
            base = server.stdout.readline().split()[0]
            timed = {name: time_page(base + path) for name, path in PAGES.items()}
    rows = [
        [name, f'{median:.3f}', f'{longest:.3f}', f'{kb:.0f}']
        for name, (median, longest, kb) in timed.items()
    ]
    lines = [
        f'{args.queues} queues, {args.years:g} years of hours ({buckets:,} buckets), '
        f'{LETTERS:,} dead letters, {VERDICTS:,} verdicts, {args.queues} clients; '
        f'each page asked for {TIMES} times, one after the other. {conditions}.',
        '',
        *table(['page', 'median s', 'longest s', 'kB'], rows),
    ]
    report('The pages of dashboard.py', lines, args.write)
    return int(max(median for median, _, _ in timed.values()) > LONGEST_S)


if __name__ == '__main__':
    sys.exit(main())
