#!/usr/bin/env python3
"""Measure what the proof costs: the perf pair with and without ledgers, and audit.py.

    $ python bench/proof.py --rounds 1 --count 50000 --messages 1000000

Starts a throwaway broker for the pair, whose runs with and without ledgers take turns.
The ledgers of --messages are made up: batches of 100, and of the second ones 1 % was
redelivered, and 1 % published again.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import bench_parser, log, machine, report, rotated, table, weigh

from siamese import ledger
from siamese.testbed import rabbitmq

BATCH = 100  # messages of a line that is made up
DUE = 1_795_457_556_000_000
DIGEST = 'd' * 64
OLD_BYTES = 2929  # that the audit took for a message before it had a sieve
WAYS = {  # how many consumers, and whether there are ledgers
    'one consumer': (1, False),
    'one consumer, ledgers': (1, True),
    'two consumers, ledgers': (2, True),
}


# ---- the pair


def pair(url, queue, count, consumers, folder):
    """Return the commands of a run; with a folder each of them keeps its ledger there."""
    common = ['--url', url, '--queue', queue, '--quiet', '--json', '-']
    # Together they take all: each ends when nothing comes any more.
    limits = ['--count', count] if consumers == 1 else ['--idle', 3]
    scripts = [['perf_consumer.py', *limits]] * consumers
    scripts += [['perf_producer.py', '--count', count]]
    commands = []
    for number, script in enumerate(scripts):
        books = ['--ledger', f'{folder}/{number}.jsonl'] if folder else []
        commands.append([sys.executable, *script, *common, *books])
    return commands


def run_pair(throwaway, way, number, count):
    """Return (messages/s, ledger bytes a message, messages/s of the audit in CPU time)."""
    consumers, has_ledgers = WAYS[way]
    queue = f'siamese.bench.proof.{number}.{len(way)}'
    with tempfile.TemporaryDirectory() as folder:
        commands = pair(throwaway.url, queue, count, consumers, folder if has_ledgers else '')
        outputs, *_ = weigh(*commands)
        throwaway.ctl('delete_queue', queue)
        rate = json.loads(outputs[-1])['confirmed_per_s']
        paths = sorted(Path(folder).iterdir())
        if not paths:
            return rate, 0, 0
        size = sum(path.stat().st_size for path in paths)
        cpu_s, _ = audit(paths)
        return rate, size / count, count / cpu_s


def audit(paths):
    """Return the CPU s and the peak MB of audit.py, which must find nothing wrong."""
    _, cpu_s, peak, _ = weigh([sys.executable, 'audit.py', '--quiet', *paths])
    return cpu_s, peak


def pair_rows(rounds, count):
    """Yield what the table says of the pair: (what, measured in each round, wanted)."""
    found: dict[str, list] = {way: [] for way in WAYS}
    with rabbitmq.throwaway() as throwaway:
        for number in range(rounds):
            for way in rotated(found, number):
                found[way].append(run_pair(throwaway, way, number, count))
                log(f'{number + 1}/{rounds} {way}: {found[way][-1][0]:,.0f} msg/s')
    without, one, two = (found[way] for way in WAYS)
    ratios = [run[0] / other[0] for run, other in zip(one, without)]
    yield 'rate of the pair with ledgers, of that without', ratios, '≥ 0.90'
    for way, runs, limit in (('one', one, '≤ 20'), ('two', two, '≤ 40')):
        sizes = [size for _, size, _ in runs]
        yield f'ledger bytes a message, consumers: {way}', sizes, limit
        ratios = [audited / rate for rate, _, audited in runs]
        yield f'audit of such ledgers, times the rate of the pair, {way}', ratios, '≥ 20'


# ---- ledgers that are made up


def event(by, name, **facts):
    return {
        'at': time.time(),
        'by': by,
        'run': f'cafe000{by[0]}',
        'epoch': 1,
        'event': name,
        **facts,
    }


def many(first, due):
    """Yield the lines of a batch that goes plainly."""
    names = {'of': 'cafe000a', 'numbers': [first, first + BATCH - 1], 'due': [due, BATCH]}
    yield event('alice', 'attempted', **names, digest=DIGEST, bytes=256, priority=0)
    yield event('alice', 'confirmed', **names)
    yield event('carol', 'acked', **names, digest=DIGEST)


def trouble(first, due):
    """Yield what happens to two messages of a batch: one comes again, one is sent again."""
    ids = [f'cafe000a-{number:010d}-{due:016d}' for number in (first, first + 1)]
    delivery = {'redelivered': True, 'digest': DIGEST}
    yield event('dave', 'acked', id=ids[0], attempt=1, **delivery)
    yield event('alice', 'in_doubt', id=ids[1], attempt=1)
    yield event('alice', 'attempted', id=ids[1], attempt=2, digest=DIGEST)
    yield event('carol', 'acked', id=ids[1], attempt=2, **{**delivery, 'redelivered': False})


def by_line(line):
    """Yield a line for each message, as earlier versions wrote them: 25 us apart."""
    for number, one in enumerate(ledger.singly(line)):
        at = round(line['at'] + number * 25e-6, 6)
        facts = {key: fact for key, fact in one.items() if key != 'at'}
        yield {'at': at, **facts}


def write(path, messages, has_trouble=False, singly=False):
    """Write the ledger of a run."""
    with open(path, 'w') as file:
        for by in ('alice', 'carol', 'dave'):
            facts = {'broker': 'b', 'queue': 'q', 'queue_type': 'classic'}
            print(json.dumps(event(by, 'connected', **facts)), file=file)
        for first in range(1, messages + 1, BATCH):
            lines = [*many(first, DUE + first)]
            if has_trouble:
                lines += trouble(first, DUE + first)
            if singly:
                lines = [one for line in lines for one in by_line(line)]
            for line in lines:
                print(json.dumps(line), file=file)


def audited(folder, name, *how, **more):
    """Write a ledger, and return its path and what its audit took: CPU s, peak MB."""
    path = os.path.join(folder, name)
    write(path, *how, **more)
    cpu_s, peak = audit([path])
    log(f'{name}: {cpu_s:.1f} s, {peak:.0f} MB')
    return path, cpu_s, peak


def json_loads_s(path):
    """Return the CPU s that json.loads takes for the lines of a file."""
    begin = time.process_time()
    with open(path) as file:
        for line in file:
            json.loads(line)
    return time.process_time() - begin


def audit_rows(messages, count):
    """Yield what the table says of made-up ledgers."""
    with tempfile.TemporaryDirectory() as folder:
        path, _, peak = audited(folder, 'plain', messages)
        os.remove(path)
        yield f'audit of {messages:,} messages, peak MB', [peak], '≤ 100'
        path, _, peak = audited(folder, 'trouble', messages, has_trouble=True)
        os.remove(path)
        yield 'the same, 1 % redelivered and 1 % sent again, peak MB', [peak], '≤ 1000'
        path, cpu_s, peak = audited(folder, 'singly', count, singly=True)
        yield 'audit of a line an event, times json.loads', [cpu_s / json_loads_s(path)], '≤ 2.5'
        was = count * OLD_BYTES / 1024**2
        yield f'the same, {count:,} messages, peak MB of 2.9 kB a message', [peak / was], '≤ 0.10'


def cells(what, values, wanted):
    spread = ''
    if len(values) > 1:
        spread = f'{shown(min(values))} – {shown(max(values))}'
    return shown(median(values)), spread, wanted, what


def shown(value):
    return f'{value:.2f}' if value < 100 else f'{value:,.0f}'


def parse_args(argv):
    parser = bench_parser(__doc__, rounds=3)
    for name, default in (('count', 1_000_000), ('messages', 100_000_000)):
        parser.add_argument(
            f'--{name}', type=int, metavar='N', default=default, help='default: %(default)s'
        )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    conditions = machine()
    rows = [*audit_rows(args.messages, args.count), *pair_rows(args.rounds, args.count)]
    lines = [
        f'{conditions}; medians of {args.rounds} rounds in changing order, {args.count:,} messages '
        'each; ratios within each round; audit.py in CPU time.',
        '',
        *table(('measured', 'lowest – highest', 'wanted', 'what'), [cells(*row) for row in rows]),
    ]
    report('What the proof costs', lines, args.write)
    return 0


if __name__ == '__main__':
    sys.exit(main())
