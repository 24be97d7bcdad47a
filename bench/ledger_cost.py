#!/usr/bin/env python3
"""Measure what --ledger costs each script: its rate with a ledger, and without.

    $ python bench/ledger_cost.py --rounds 1 --count 5000

Starts a throwaway RabbitMQ. Producers fill a queue, consumers empty it, one script at
work at a time; of RPC both sides are. What the perf pair pays is in proof.py.
"""

import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import bench_parser, log, machine, report, rotated, table, weigh
from small_scenarios import running

from siamese.testbed import rabbitmq

LEAST = 0.9  # of the rate without a ledger
FAST = ('--rate', 10**6)
WINDOW = 64
RATES = ('blocks_per_s', 'answers_per_s')  # without the time to connect
WAYS = (False, True)  # with a ledger?
SCRIPTS = {  # in the order of their work: what one publishes the next one takes
    'producer.py': ('--difficulty', 1),
    'validate.py': ('--difficulty', 1),
    'ack_producer.py': FAST,
    'ack_consumer.py': ('--ack', 100),
    'fanout_producer.py': ('--ttl', 3600, *FAST),
    'fanout_consumer.py': ('bench',),
}
RPC = 'rpc_client.py and rpc_server.py'
BOTH = f'{RPC}, window {WINDOW}'


def rate_of(script, flags, count, url):
    """Run a script to its end; return its messages/s."""
    command = [sys.executable, script, '--quiet', '--json', '-', '--url', url]
    (output,), *_ = weigh([*command, '--count', count, *flags])
    summary = json.loads(output)
    by_script = [summary[key] for key in RATES if key in summary]
    return by_script[0] if by_script else count / summary['duration_s']


def books(folder, name):
    """Return the flag for a new ledger, none without a folder."""
    return ['--ledger', Path(folder) / f'{name}.jsonl'] if folder else []


def run_script(script, url, count, folder):
    """Return the messages/s of one script; with a folder it keeps its ledger there."""
    return rate_of(script, (*SCRIPTS[script], *books(folder, script)), count, url)


def run_rpc(url, count, folder):
    """Return the questions/s of a client and a server."""
    server = ['rpc_server.py', '--quiet', '--url', url]
    with running(*server, *books(folder, 'server')):
        flags = ('--window', WINDOW, *books(folder, 'client'))
        return rate_of('rpc_client.py', flags, count // 4, url)


WORK = {**{name: partial(run_script, name) for name in SCRIPTS}, BOTH: run_rpc}


def both_ways(work, url, count, first):
    """Return the messages/s without and with a ledger; `first` is the way to begin with."""
    rates = {}
    for has_ledger in rotated(WAYS, first):
        with tempfile.TemporaryDirectory() as folder:
            rates[has_ledger] = work(url, count, folder if has_ledger else '')
    return rates[False], rates[True]


def rows_of(found):
    """Return the rows of the table."""
    rows = []
    for name, pairs in found.items():
        ratios = [slower / faster for faster, slower in pairs]
        medians = map(statistics.median, zip(*pairs))
        rates = (f'{rate:,.0f}' for rate in medians)
        spread = f'{min(ratios):.2f} – {max(ratios):.2f}'
        ratio = f'{statistics.median(ratios):.2f}'
        rows.append((name, *rates, ratio, spread, f'≥ {LEAST}'))
    return rows


def main(argv=None):
    parser = bench_parser(__doc__, rounds=5)
    parser.add_argument(
        '--count', type=int, metavar='N', default=30_000, help='messages (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    found: dict[str, list] = {name: [] for name in WORK}
    with rabbitmq.throwaway() as throwaway:
        url = throwaway.url
        with running('fanout_consumer.py', 'bench', '--url', url):  # makes the queue
            pass
        for number in range(args.rounds):
            for name, work in WORK.items():
                found[name].append(both_ways(work, url, args.count, number))
                log(f'{number + 1}/{args.rounds} {name}')
        version = throwaway.ctl('version').strip()
    lines = [
        f'{conditions}, RabbitMQ {version} on the same machine; {args.rounds} rounds, in '
        f'each of which a script runs without and with a ledger, one right after the other in '
        f'changing order; {args.count:,} messages each, a quarter of that for RPC; the ratio is '
        'the median of those within a round.',
        '',
        *table(
            ('', 'messages/s', 'with --ledger', 'ratio', 'lowest – highest', 'wanted'),
            rows_of(found),
        ),
    ]
    report('What a ledger costs each script', lines, args.write)
    return 0


if __name__ == '__main__':
    sys.exit(main())
