#!/usr/bin/env python3
"""Measure how fast the history of monitor.py answers after years, how large it is,
and what collecting costs.

    $ python bench/database.py --queues 50 --years 1

Fills a history with buckets for each queue and hour, asks it, then starts a
throwaway RabbitMQ with many queues and weighs a monitor.py that collects from
it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time

import pika
import psutil
from harness import ROOT, machine, put, table

from siamese.monitoring import database, queues
from siamese.testbed import rabbitmq

END = 1_795_521_600  # 2026-11-24 12:00 UTC, the last hour
# What scenario 7 promises: of an answer, of a core, of memory.
LONGEST_S = 1.0
SHARE_PERCENT = 5
LARGEST_MB = 60


def fill(db, names, years):
    """Write the buckets of so many queues and years, with something in each
    hour of each queue; return how many.
    """
    db.executemany(
        'INSERT INTO queue (id, name, state) VALUES (?, ?, ?)',
        [(number + 1, f'siamese.queue-{number:03}', 'running') for number in range(names)],
    )
    rows, step = 0, (3600, 86400)
    columns = 'period', 'queue', 'start', *database.METRICS
    for period in (0, 1, 2):
        starts = sorted(
            {
                database.start_of(database.PERIODS[period], at)
                for at in range(END - round(years * 365.25 * 86400), END, step[min(period, 1)])
            }
        )
        with database.transaction(db):
            db.executemany(
                f'INSERT INTO bucket ({", ".join(columns)}) VALUES (?{", ?" * (len(columns) - 1)})',
                (
                    (
                        period,
                        queue,
                        start,
                        3600 + start % 977,
                        3600,
                        3590,
                        10,
                        start % 7,
                        3,
                        1,
                        250 + queue,
                        100,
                    )
                    for start in starts
                    for queue in range(names + 1)
                ),
            )
        rows += len(starts) * (names + 1)
    return rows


def answers(db):
    """Return [(question, s)] of what report and page ask."""
    questions = {
        'by day, one queue, all years': lambda: database.by_period(db, 'day', 'siamese.queue-007'),
        'by month, one queue, all years': lambda: database.by_period(
            db, 'month', 'siamese.queue-007'
        ),
        'by hour, one queue, the last week': lambda: database.by_period(
            db, 'hour', 'siamese.queue-007', END - 7 * 86400
        ),
        'by day, each queue, the last 31 days': lambda: database.by_period(
            db, 'day', since=END - 31 * 86400
        ),
        'by month, each queue, all years': lambda: database.by_period(db, 'month'),
        'by year, each queue, all years': lambda: database.by_period(db, 'year'),
        'by day, all queues together, all years': lambda: database.by_period(db, 'day', total=True),
        'all queues as they are now': lambda: queues.rows(db),
    }
    found = []
    for name, ask in questions.items():
        began = time.perf_counter()
        assert ask(), name
        found.append((name, time.perf_counter() - began))
    return found


def weigh_collector(names, seconds):
    """Return (% of a core, MB) of a monitor.py that collects every 5 s from a
    broker with so many queues.
    """
    with rabbitmq.throwaway(management=True) as throwaway, tempfile.TemporaryDirectory() as folder:
        connection = pika.BlockingConnection(pika.URLParameters(throwaway.url))
        channel = connection.channel()
        for number in range(names):
            channel.queue_declare(f'bench.{number}', durable=True)
            channel.basic_publish('', f'bench.{number}', b'Hello world')
            channel.basic_ack(channel.basic_get(f'bench.{number}')[0].delivery_tag)
            channel.basic_publish('', f'bench.{number}', b'Hello world')
        monitor = subprocess.Popen(
            [
                sys.executable,
                'monitor.py',
                '--history',
                f'{folder}/siamese.db',
                '--duration',
                str(seconds + 60),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                'AMQP_URL': throwaway.url,
                'MANAGEMENT_URL': throwaway.management_url,
            },
        )
        try:
            process = psutil.Process(monitor.pid)
            time.sleep(15)  # it has started, and collected some times
            before, began = sum(process.cpu_times()[:2]), time.monotonic()
            while time.monotonic() < began + seconds:
                connection.process_data_events(1)
            share = 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
            return share, process.memory_info().rss / 1e6
        finally:
            monitor.terminate()
            monitor.wait()


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--queues', type=int, default=500, help='default: %(default)s')
    parser.add_argument('--years', type=float, default=5, help='default: %(default)s')
    parser.add_argument(
        '--collected', type=int, default=100, help='queues to collect from (default: %(default)s)'
    )
    parser.add_argument(
        '--seconds', type=int, default=60, help='of weighing the collector (default: %(default)s)'
    )
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/siamese.db'
        with contextlib.closing(database.open_for_writing(path)) as db:
            db.execute('PRAGMA synchronous = OFF')  # only here: nobody would miss it
            rows = fill(db, args.queues, args.years)
        with contextlib.closing(database.open_for_reading(path)) as db:
            asked = answers(db)
        size = os.path.getsize(path) / 1e6
    share, memory = weigh_collector(args.collected, args.seconds)
    lines = [
        f'{args.queues} queues with something in each hour of {args.years:g} years: '
        f'{rows:,} buckets, '
        f'{size:,.0f} MB, {size * 1e6 / rows:.0f} bytes a bucket. {conditions}.',
        '',
        *table(['question', 'answered in s'], [[name, f'{took:.3f}'] for name, took in asked]),
        '',
        f'Collecting from {args.collected} queues every 5 s takes {share:.1f} % of a core '
        f'and {memory:.0f} MB.',
    ]
    if args.write:
        put('The history of monitor.py', lines)
    else:
        print(*lines, sep='\n')
    return int(
        max(took for _, took in asked) > LONGEST_S or share > SHARE_PERCENT or memory > LARGEST_MB
    )


if __name__ == '__main__':
    sys.exit(main())
