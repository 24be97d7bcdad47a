#!/usr/bin/env python3
"""Measure what it costs that a message is confirmed: published with and without
confirms, on one node and on three.

    $ python bench/confirm_cost.py --rounds 1

Starts throwaway brokers: one node, then a cluster of three, all on this machine.
"""

import json
import sys
from statistics import median

from harness import bench_parser, log, machine, report, table, weigh

from siamese.testbed import rabbitmq

WAYS = {  # what is promised: (nodes, flags of perf_producer.py)
    'nothing: no confirms, transient': (1, ['--confirm', 0]),
    'the broker has it: confirms, transient': (1, []),
    'it survives a crash of the broker: persistent': (1, ['--persistent']),
    'the same, each confirm awaited': (1, ['--persistent', '--confirm', 1]),
    'it survives the loss of a node: quorum queue of three': (
        3,
        ['--persistent', '--queue-type', 'quorum'],
    ),
}
RATE_KEYS = ('confirmed_per_s', 'published_per_s')


def rate_of(run):
    """Return the messages/s of a summary: confirmed, or else published."""
    return next(run[key] for key in RATE_KEYS if key in run)


def publish(throwaway, queue, seconds, flags):
    """Run perf_producer.py on a fresh queue; return its JSON summary."""
    command = [sys.executable, 'perf_producer.py', '--url', throwaway.url, '--queue', queue]
    command += ['--duration', seconds, '--warm-up', 1, '--json', '-', *flags]
    (out,), *_ = weigh(command)
    throwaway.ctl('delete_queue', queue)
    return json.loads(out)


def measure(rounds, seconds):
    """Return ({way: [summary of each round]}, version of the broker)."""
    found: dict[str, list] = {way: [] for way in WAYS}
    for nodes in (1, 3):
        ways = [way for way, (needed, _) in WAYS.items() if needed == nodes]
        with rabbitmq.throwaway(nodes) as throwaway:
            version = throwaway.ctl('version').strip()
            for number in range(rounds):
                for place, way in enumerate(ways):
                    _, flags = WAYS[way]
                    queue = f'siamese.bench.confirmed.{place}.{number}'
                    summary = publish(throwaway, queue, seconds, flags)
                    found[way].append(summary)
                    log(f'{number + 1}/{rounds} {way}: {rate_of(summary):,.0f}/s')
    return found, version


def row(way, runs):
    """Return the row of a way: what is promised, msg/s, p99 of confirms in ms."""
    rate = median(map(rate_of, runs))
    p99_us = [run['latency_us']['p99'] for run in runs if run['latency_us']]
    if not p99_us:
        return way, f'{rate:,.0f}', ''
    return way, f'{rate:,.0f}', f'{median(p99_us) / 1000:.1f}'


def main(argv=None):
    parser = bench_parser(__doc__, rounds=5)
    parser.add_argument(
        '--seconds', metavar='S', type=int, default=4, help='of each run (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    found, version = measure(args.rounds, args.seconds)
    rows = [row(way, runs) for way, runs in found.items()]
    lines = [
        f'{conditions}, RabbitMQ {version}; {args.rounds} rounds of {args.seconds} s, the first '
        'left out. perf_producer.py alone, 256 bytes, a window of 200 confirms unless it says '
        'otherwise; the three nodes share this machine and its disk.',
        '',
        *table(('what is promised', 'msg/s', 'p99 of confirms, ms'), rows),
    ]
    report('Scenario 6: what "confirmed" costs', lines, args.write)


if __name__ == '__main__':
    main()
