#!/usr/bin/env python3
"""Measure whether the memory of perf_producer.py and perf_consumer.py stays the
same over millions of messages.

    $ python bench/memory.py --count 200000

Starts a throwaway RabbitMQ.
"""

import subprocess
import sys
import time

import psutil
from harness import ROOT, bench_parser, log, machine, report, table

from siamese.testbed import rabbitmq

SHARES = (0.1, 0.25, 0.5, 0.75, 1)  # of the run's time
FLAT = 1.1  # how much more than after the first tenth is still called flat
MIN_SAMPLES = 10


def watch(*commands):
    """Run scripts side by side until the first ends, and those with --count too;
    return (rows, s they ran).

    A row is (name, MB after each of SHARES of the time, the highest by the
    first of these, flat or GROWS). Exits when one fails, or was too fast to
    tell.
    """
    processes = [start(command) for command in commands]
    try:
        samples = sample(processes)
        for command, process in zip(commands, processes):
            if '--count' not in command:
                process.terminate()
            process.wait()
    finally:
        for process in processes:
            process.kill()
    check(commands, processes, samples)
    end, _ = samples[-1]
    rows = []
    for number, (name, *_) in enumerate(commands):
        memory = [(at / end, sizes[number]) for at, sizes in samples]
        rows.append((name, *growth(memory)))
    return rows, end


def start(command):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def sample(processes):
    """Return [(s since the start, [MB of each process])], one a second, until a process ends."""
    samples = []
    began = time.monotonic()
    while all(process.poll() is None for process in processes):
        sizes = [psutil.Process(process.pid).memory_info().rss / 1e6 for process in processes]
        samples.append((time.monotonic() - began, sizes))
        time.sleep(1)
    return samples


def check(commands, processes, samples):
    """Exit if a script failed, or was too fast to tell."""
    names = [name for name, *_ in commands]
    failed = [name for name, process in zip(names, processes) if process.returncode]
    if failed:
        sys.exit(f'failed: {", ".join(failed)}')
    if len(samples) < MIN_SAMPLES:
        sys.exit('too short to tell: raise the number of messages')


def growth(memory):
    """Return the cells of a row, from [(share of the time, MB)]."""
    values = [next(size for at, size in memory if at >= share) for share in SHARES]
    highest = max(size for at, size in memory if at >= SHARES[0])
    ratio = highest / values[0]
    verdict = 'flat'
    if ratio > FLAT:
        verdict = 'GROWS'
    return (*(f'{value:.1f}' for value in values), f'{ratio:.2f}', verdict)


def main(argv=None):
    parser = bench_parser(__doc__)
    parser.add_argument(
        '--count', metavar='N', type=int, default=5_000_000, help='messages (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    conditions = machine()
    with rabbitmq.throwaway() as throwaway:
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        log(f'{args.count:,} messages: some minutes ...')
        flags = ['--count', args.count, '--quiet', '--url', throwaway.url]
        rows, end = watch(['perf_producer.py', *flags], ['perf_consumer.py', *flags])
    lines = [
        f'{conditions}; one run of {args.count:,} messages in {end:.0f} s. Resident memory in MB '
        'after so much of the time; highest after the first tenth, by that at the first tenth.',
        '',
        *table(('', *(f'{share:.0%}' for share in SHARES), 'highest', ''), rows),
    ]
    report('Scenario 2: memory over a long run', lines, args.write)
    return any(row[-1] != 'flat' for row in rows)


if __name__ == '__main__':
    sys.exit(main())
