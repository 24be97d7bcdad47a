#!/usr/bin/env python3
"""Measure whether the memory of perf_producer.py and perf_consumer.py stays the same over millions of messages.

    $ python bench/memory.py --count 200000

Starts a throwaway RabbitMQ.
"""

import argparse
import subprocess
import sys
import time

import psutil
from harness import ROOT, machine, put, table

import broker

SHARES = (0.1, 0.25, 0.5, 0.75, 1)  # of the run's time
FLAT = 1.1  # how much more than after the first tenth is still called flat


def sample(processes):
    """Return [(s since the start, [MB of each process])] once a second, until one of them ends."""
    samples, began = [], time.monotonic()
    while all(process.poll() is None for process in processes):
        memory = [psutil.Process(process.pid).memory_info().rss / 1e6 for process in processes]
        samples.append((time.monotonic() - began, memory))
        time.sleep(1)
    return samples


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', metavar='N', type=int, default=5_000_000, help='messages (default: %(default)s)')
    parser.add_argument('--write', action='store_true', help='write the section of bench/RESULTS.md')
    args = parser.parse_args(argv)
    conditions = machine()
    names = 'perf_producer.py', 'perf_consumer.py'
    with broker.throwaway() as throwaway:
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        print(f'{args.count:,} messages: some minutes ...', file=sys.stderr)
        processes = [subprocess.Popen([sys.executable, name, '--count', str(args.count), '--quiet', '--url',
                                       throwaway.url], cwd=ROOT) for name in names]
        samples = sample(processes)
        failed = [process.args[1] for process in processes if process.wait()]
    if failed or len(samples) < 10:
        sys.exit(f'failed: {", ".join(failed)}' if failed else 'too short to tell: raise --count')
    rows, end = [], samples[-1][0]
    for number, name in enumerate(names):
        values = [next(memory[number] for at, memory in samples if at >= share * end) for share in SHARES]
        growth = max(memory[number] for at, memory in samples if at >= SHARES[0] * end) / values[0]
        rows.append((name, *(f'{value:.1f}' for value in values), f'{growth:.2f}',
                     'flat' if growth <= FLAT else 'GROWS'))
    lines = [f'{conditions}; one run of {args.count:,} messages in {end:.0f} s. Resident memory in MB after so much of '
             f'the time; highest after the first tenth, by that at the first tenth.', '',
             *table(('', *(f'{share:.0%}' for share in SHARES), 'highest', ''), rows)]
    if args.write:
        put('Scenario 2: memory over a long run', lines)
    else:
        print(*lines, sep='\n')
    return any(row[-1] != 'flat' for row in rows)


if __name__ == '__main__':
    sys.exit(main())
