#!/usr/bin/env python3
"""Measure what it costs that a message is accepted: published with and without
confirms, on one node and on three.

    $ python bench/confirm_cost.py --rounds 1

Starts throwaway brokers: one node, then a cluster of three, all on this machine.
"""

import argparse
import json
import sys
from statistics import median

from harness import machine, put, table, weigh

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


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', metavar='N', type=int, default=5, help='default: %(default)s')
    parser.add_argument(
        '--seconds', metavar='S', type=int, default=4, help='of each run (default: %(default)s)'
    )
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    conditions, found = machine(), {way: [] for way in WAYS}
    for nodes in (1, 3):
        with rabbitmq.throwaway(nodes) as throwaway:
            version = throwaway.ctl('version').strip()
            for number in range(args.rounds):
                for place, (way, (needed, flags)) in enumerate(WAYS.items()):
                    if needed == nodes:
                        queue = f'siamese.bench.accepted.{place}.{number}'
                        (out,), *_ = weigh(
                            [
                                sys.executable,
                                'perf_producer.py',
                                '--url',
                                throwaway.url,
                                '--queue',
                                queue,
                                '--duration',
                                args.seconds,
                                '--warm-up',
                                1,
                                '--json',
                                '-',
                                *flags,
                            ]
                        )
                        found[way].append(json.loads(out))
                        throwaway.ctl('delete_queue', queue)
                        print(
                            f'{number + 1}/{args.rounds} {way}: {rate_of(json.loads(out)):,.0f}/s',
                            file=sys.stderr,
                        )
    rows = []
    for way, runs in found.items():
        rate = median(map(rate_of, runs))
        p99 = [run['latency_us']['p99'] for run in runs if run['latency_us']]
        rows.append((way, f'{rate:,.0f}', f'{median(p99) / 1000:.1f}' if p99 else ''))
    lines = [
        f'{conditions}, RabbitMQ {version}; {args.rounds} rounds of {args.seconds} s, the '
        'first left out. '
        'perf_producer.py alone, 256 bytes, a window of 200 confirms unless it says '
        'otherwise; the three nodes '
        'share this machine and its disk.',
        '',
        *table(('what is promised', 'msg/s', 'p99 of confirms, ms'), rows),
    ]
    if args.write:
        put('Scenario 6: what "confirmed" costs', lines)
    else:
        print(*lines, sep='\n')


if __name__ == '__main__':
    main()
