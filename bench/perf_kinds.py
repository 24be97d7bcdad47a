#!/usr/bin/env python3
"""Measure perf_producer.py and perf_consumer.py beside rabbitmq-c with other messages and queues.

    $ python bench/perf_kinds.py --rounds 1

The work and the measuring are those of bench/perf_peers.py, at full speed.
"""

import sys
from argparse import Namespace
from collections import defaultdict, namedtuple
from statistics import median

from harness import RunFailed, bench_parser, log, machine, report, rotated, table
from perf_peers import CONTENDERS, Observer, full_speed, show, version

from siamese.testbed import rabbitmq

Kind = namedtuple('Kind', 'title kind size count')
KINDS = [
    Kind('256 bytes, transient', 'transient', 256, 200_000),
    Kind('1 kB, transient', 'transient', 1024, 200_000),
    Kind('16 kB, transient', 'transient', 16_384, 50_000),
    Kind('256 bytes, persistent', 'persistent', 256, 200_000),
    Kind('256 bytes, persistent, quorum queue', 'quorum', 256, 100_000),
]
NAMES = ['siamese', 'rabbitmq-c', 'rabbitmq-c-tuned']
MEASURES = ['rate', 'cpu']


def measure(observers, url, kind, rounds):
    """Return {contender: {measure: [value of each round]}} for one kind."""
    results: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in NAMES}
    observer = observers['quorum' if kind.kind == 'quorum' else 'classic']
    args = Namespace(url=url, size=kind.size, count=kind.count)
    for number in range(rounds):
        for name in rotated(results, number):
            queue = f'siamese.bench.{name}.{kind.kind}.{kind.size}.{number}'
            measured = full_speed(observer, CONTENDERS[name], queue, args, kind.kind)
            log(f'{kind.title} {number + 1}/{rounds} {name}: {show(measured["rate"])} msg/s')
            for measure in MEASURES:
                results[name][measure].append(measured[measure])
    return results


def row(kind, results):
    """Return what the table says of one kind: rates, ratios, CPU."""
    rates = {name: median(measured['rate']) for name, measured in results.items()}
    cpu = {name: median(measured['cpu']) for name, measured in results.items()}
    ours = results['siamese']['rate']
    return (
        kind.title,
        *(show(rates[name]) for name in NAMES),
        f'{rates["siamese"] / rates["rabbitmq-c"]:.2f}',
        f'{cpu["siamese"] / cpu["rabbitmq-c"]:.2f}',
        f'{show(min(ours))} – {show(max(ours))}',
    )


def main(argv=None):
    args = bench_parser(__doc__, rounds=3).parse_args(argv)
    for name in NAMES:
        _, why = version(name)
        if why:
            log(why)
            return 1
    conditions = machine()
    with rabbitmq.throwaway() as throwaway:
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        observers = {kind: Observer(throwaway, kind) for kind in ('classic', 'quorum')}
        try:
            rows = [
                row(kind, measure(observers, throwaway.url, kind, args.rounds)) for kind in KINDS
            ]
        except RunFailed as failure:
            log(str(failure))
            return 1
    titles = ('msg/s of', *NAMES, 'ratio to rabbitmq-c', 'its CPU', 'siamese lowest – highest')
    lines = [
        f'{conditions}; medians of {args.rounds} rounds in changing order; the work is that of '
        'the section above.',
        '',
        *table(titles, rows),
    ]
    report('Scenario 2: other messages and queues', lines, args.write)
    return 0


if __name__ == '__main__':
    sys.exit(main())
