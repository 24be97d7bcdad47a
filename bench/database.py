#!/usr/bin/env python3
"""Measure how fast the history of monitor.py answers after years, how large it is,
and what collecting costs.

    $ python bench/database.py --queues 50 --years 1

Fills a history with buckets for each queue and hour, asks it, then starts a
throwaway RabbitMQ with many queues and weighs a monitor.py that collects from
it.
"""

import contextlib
import os
import sys
import tempfile
import time

import pika
import psutil
from harness import bench_parser, machine, report, running, table

from siamese.monitoring import database, queues
from siamese.testbed import rabbitmq

END = 1_795_521_600  # 2026-11-24 12:00 UTC, the last hour
HOUR_S = 3600
DAY_S = 86400
FILLED_PERIODS = (0, 1, 2)  # places in database.PERIODS: hour, day, month
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
    columns = ('period', 'queue', 'start', *database.METRICS)
    places = ', '.join('?' * len(columns))
    statement = f'INSERT INTO bucket ({", ".join(columns)}) VALUES ({places})'
    count = 0
    for period in FILLED_PERIODS:
        starts = starts_of(period, years)
        buckets = (bucket(period, queue, start) for start in starts for queue in range(names + 1))
        with database.transaction(db):
            db.executemany(statement, buckets)
        count += len(starts) * (names + 1)
    return count


def starts_of(period, years):
    """Return when the buckets of a period start, up to END."""
    first = END - round(years * 365.25 * DAY_S)
    step = DAY_S
    if database.PERIODS[period] == 'hour':
        step = HOUR_S
    times = range(first, END, step)
    return sorted({database.start_of(database.PERIODS[period], at) for at in times})


def bucket(period, queue, start):
    """Return the values of a bucket, in the order of its columns."""
    return (
        period,
        queue,
        start,
        3600 + start % 977,  # published
        3600,  # delivered
        3590,  # acked
        10,  # redelivered
        start % 7,  # expired
        3,  # rejected
        1,  # other
        0,  # copies
        250 + queue,  # ready_high
        100,  # unacked_high
    )


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


def fill_queues(channel, names):
    """Declare so many queues; of each, one message is acknowledged, and one waits."""
    for number in range(names):
        queue = f'bench.{number}'
        channel.queue_declare(queue=queue, durable=True)
        channel.basic_publish(exchange='', routing_key=queue, body=b'Hello world')
        method, _, _ = channel.basic_get(queue=queue)
        channel.basic_ack(delivery_tag=method.delivery_tag)
        channel.basic_publish(exchange='', routing_key=queue, body=b'Hello world')


def cpu_s(process):
    times = process.cpu_times()
    return times.user + times.system


def weigh_collector(names, seconds):
    """Return (% of a core, MB) of a monitor.py that collects every 5 s from a
    broker with so many queues.
    """
    with rabbitmq.throwaway(management=True) as throwaway, tempfile.TemporaryDirectory() as folder:
        connection = pika.BlockingConnection(pika.URLParameters(throwaway.url))
        fill_queues(connection.channel(), names)
        env = {'AMQP_URL': throwaway.url, 'MANAGEMENT_URL': throwaway.management_url}
        command = ['monitor.py', '--quiet', '--history', f'{folder}/siamese.db']
        command += ['--duration', str(seconds + 60)]
        with running(*command, **env) as monitor:
            process = psutil.Process(monitor.pid)
            time.sleep(15)  # it has started, and collected some times
            before = cpu_s(process)
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                connection.process_data_events(1)
            share = 100 * (cpu_s(process) - before) / (time.monotonic() - began)
            return share, process.memory_info().rss / 1e6


def add_history_flags(parser):
    """Add what fill() takes."""
    parser.add_argument('--queues', type=int, default=500, help='default: %(default)s')
    parser.add_argument('--years', type=float, default=5, help='default: %(default)s')


def main(argv=None):
    parser = bench_parser(__doc__)
    add_history_flags(parser)
    parser.add_argument(
        '--collected', type=int, default=100, help='queues to collect from (default: %(default)s)'
    )
    parser.add_argument(
        '--seconds', type=int, default=60, help='of weighing the collector (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/siamese.db'
        with contextlib.closing(database.open_for_writing(path)) as db:
            db.execute('PRAGMA synchronous = OFF')  # only here: nobody would miss it
            buckets = fill(db, args.queues, args.years)
        with contextlib.closing(database.open_for_reading(path)) as db:
            asked = answers(db)
        size = os.path.getsize(path)
    share, memory = weigh_collector(args.collected, args.seconds)
    rows = [[name, f'{took:.3f}'] for name, took in asked]
    lines = [
        f'{args.queues} queues with something in each hour of {args.years:g} years: '
        f'{buckets:,} buckets, {size / 1e6:,.0f} MB, {size / buckets:.0f} bytes a bucket. '
        f'{conditions}.',
        '',
        *table(['question', 'answered in s'], rows),
        '',
        f'Collecting from {args.collected} queues every 5 s takes {share:.1f} % of a core '
        f'and {memory:.0f} MB.',
    ]
    report('The history of monitor.py', lines, args.write)
    slowest = max(took for _, took in asked)
    return int(slowest > LONGEST_S or share > SHARE_PERCENT or memory > LARGEST_MB)


if __name__ == '__main__':
    sys.exit(main())
