#!/usr/bin/env python3
"""Measure whether the memory of perf_producer.py and perf_consumer.py stays the
same over millions of messages.

    $ python bench/memory.py --count 200000

Starts a throwaway RabbitMQ.
"""

import argparse
import subprocess
import sys
import time

import psutil
from harness import ROOT, machine, put, table

from siamese.testbed import rabbitmq

SHARES = (0.1, 0.25, 0.5, 0.75, 1)  # of the run's time
FLAT = 1.1  # how much more than after the first tenth is still called flat


def watch(*commands):
    """Run scripts side by side until the first ends, and those with --count too;
    return (rows, s they ran).

    A row is (name, MB after each of SHARES of the time, the highest by the
    first of these, flat or GROWS). Exits when one fails, or was too fast to
    tell.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for command in commands
    ]
    samples, began = [], time.monotonic()
    try:
        while all(process.poll() is None for process in processes):
            memory = [psutil.Process(process.pid).memory_info().rss / 1e6 for process in processes]
            samples.append((time.monotonic() - began, memory))
            time.sleep(1)
        for command, process in zip(commands, processes):
            if '--count' not in command:
                process.terminate()
            process.wait()
    finally:
        for process in processes:
            process.kill()
    if failed := [
        command[0] for command, process in zip(commands, processes) if process.returncode
    ]:
        sys.exit(f'failed: {", ".join(failed)}')
    if len(samples) < 10:
        sys.exit('too short to tell: raise the number of messages')
    rows, end = [], samples[-1][0]
    for number, (name, *_) in enumerate(commands):
        values = [
            next(memory[number] for at, memory in samples if at >= share * end) for share in SHARES
        ]
        growth = max(memory[number] for at, memory in samples if at >= SHARES[0] * end) / values[0]
        rows.append(
            (
                name,
                *(f'{value:.1f}' for value in values),
                f'{growth:.2f}',
                'flat' if growth <= FLAT else 'GROWS',
            )
        )
    return rows, end


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--count', metavar='N', type=int, default=5_000_000, help='messages (default: %(default)s)'
    )
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    with rabbitmq.throwaway() as throwaway:
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        print(f'{args.count:,} messages: some minutes ...', file=sys.stderr)
        rows, end = watch(
            *(
                [name, '--count', args.count, '--quiet', '--url', throwaway.url]
                for name in ('perf_producer.py', 'perf_consumer.py')
            )
        )
    lines = [
        f'{conditions}; one run of {args.count:,} messages in {end:.0f} s. Resident '
        'memory in MB after so much of '
        f'the time; highest after the first tenth, by that at the first tenth.',
        '',
        *table(('', *(f'{share:.0%}' for share in SHARES), 'highest', ''), rows),
    ]
    if args.write:
        put('Scenario 2: memory over a long run', lines)
    else:
        print(*lines, sep='\n')
    return any(row[-1] != 'flat' for row in rows)


if __name__ == '__main__':
    sys.exit(main())
