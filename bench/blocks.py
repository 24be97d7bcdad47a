#!/usr/bin/env python3
"""Measure what scenario 1 promises, each figure beside its limit.

    $ python bench/blocks.py --rounds 1 --blocks 1000

Everything is measured in one run on one machine, rounds alternate, medians are
shown: read the ratios, the absolute figures are those of the machine. Starts a
throwaway RabbitMQ.
"""

import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from harness import bench_parser, log, machine, report, table, weigh

import common
from siamese.scenarios import mining
from siamese.testbed import rabbitmq

SECONDS = 2  # of each mining measurement


def obvious_loop():
    """Mine as one writes it down first; return attempts/s."""
    import sympy

    previous = common.GENESIS
    attempts = 0
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        proof = sympy.nextprime(random.randint(mining.MIN_PROOF, mining.MAX_PROOF))
        text = f'{previous["hash"]}{previous["proof"]}{proof}'
        digest = hashlib.sha256(text.encode()).hexdigest()
        attempts += 1
        if digest.startswith('0000'):
            pass  # a block; the loop goes on, so that all rounds last as long
    return attempts / SECONDS


def our_miner():
    """Mine a chain with mining.mine at four zeros; return attempts/s."""
    block: dict = common.GENESIS
    attempts = 0
    start = time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        found, tried = mining.mine(block, 4)
        assert found  # there is none only if mine() was told to stop
        block = found
        attempts += tried
    return attempts / (time.perf_counter() - start)


def bare_sha256(prepared):
    """Hash prepared bytes and do nothing else: the limit of one core; return attempts/s."""
    sha256 = hashlib.sha256
    attempts = 0
    start = time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        for data in prepared:
            sha256(data).digest()
        attempts += len(prepared)
    return attempts / (time.perf_counter() - start)


def script(name, *flags):
    """Run a script to its end; return its JSON summary and its peak memory in MB."""
    (out,), _, peak, _ = weigh([sys.executable, name, '--quiet', '--json', '-', *flags])
    return json.loads(out), peak


def mining_rows(rounds):
    """Return the rows of the mining table."""
    proofs = mining.odd_primes(10_000_001, 10_400_000)
    prepared = [b'0' * 64 + b'909451%d' % proof for proof in proofs]
    our_miner()  # sieves the range once, as a producer's first second does
    rates = [(obvious_loop(), our_miner(), bare_sha256(prepared)) for _ in range(rounds)]
    obvious, ours, bare = map(statistics.median, zip(*rates))
    medians = {
        'the obvious loop: sympy.nextprime(randint), sha256 of the text': obvious,
        'mining.mine, as producer.py calls it': ours,
        'bare sha256 over prepared bytes, the limit': bare,
    }
    return [(name, f'{rate:,.0f}', f'{rate / obvious:.1f}') for name, rate in medians.items()]


class Validation(NamedTuple):
    """The medians of blocks/s, and the highest peaks in MB."""

    without_ledger: float
    with_ledger: float
    validator_mb: float
    producer_mb: float
    broker_version: str


def validate(blocks, *more):
    """Fill a queue with so many blocks, and validate them; return (blocks/s, MB of
    validate.py, MB of producer.py).
    """
    work = ['--difficulty', 1, '--count', blocks]
    _, producer_mb = script('producer.py', *work)
    summary, validator_mb = script('validate.py', *work, *more)
    assert summary['valid'] == blocks
    return summary['blocks_per_s'], validator_mb, producer_mb


def validation(rounds, blocks):
    """Run the rounds against a throwaway RabbitMQ; return a Validation."""
    without_ledger = []
    with_ledger = []
    ledger = Path(tempfile.gettempdir()) / f'siamese-bench-{os.getpid()}.jsonl'
    with rabbitmq.throwaway() as throwaway:
        os.environ['AMQP_URL'] = throwaway.url
        for _ in range(rounds):
            without_ledger.append(validate(blocks))
            with_ledger.append(validate(blocks, '--ledger', ledger))
            ledger.unlink(missing_ok=True)
        _, producer_mb = script('producer.py', '--count', 50)
        version = throwaway.ctl('version').strip()
    runs = [*without_ledger, *with_ledger]
    return Validation(
        statistics.median(rate for rate, _, _ in without_ledger),
        statistics.median(rate for rate, _, _ in with_ledger),
        max(validator for _, validator, _ in runs),
        max(producer_mb, *(producer for _, _, producer in runs)),
        version,
    )


def section(conditions, found, mined, args):
    """Return the lines of RESULTS.md, from a Validation and the rows of mining."""
    rates = [
        ('without ledger', f'{found.without_ledger:,.0f}'),
        ('with --ledger', f'{found.with_ledger:,.0f}'),
    ]
    peaks = [
        ('producer.py', f'{found.producer_mb:.0f}'),
        ('validate.py', f'{found.validator_mb:.0f}'),
    ]
    return [
        f'{conditions}, RabbitMQ {found.broker_version} on the same machine; {args.rounds} rounds.',
        '',
        f'Mining: one core, four zeros, proofs from {mining.MIN_PROOF:,} to '
        f'{mining.MAX_PROOF:,}, {SECONDS} s a round.',
        '',
        *table(('', 'attempts/s', 'ratio'), mined),
        '',
        f'Validating: validate.py on a queue filled with {args.blocks:,} blocks (one zero, so that '
        'filling is fast; the checks are the same), every check on, prefetch 200, acknowledged '
        'in batches of up to 50, classic queue, persistent.',
        '',
        *table(('', 'blocks/s'), rates),
        '',
        'Peak memory:',
        '',
        *table(('', 'MB'), peaks),
    ]


def main(argv=None):
    parser = bench_parser(__doc__, rounds=5)
    parser.add_argument(
        '--blocks',
        metavar='N',
        type=int,
        default=30_000,
        help='in the queue that is validated (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    conditions = machine()
    # A child's peak memory begins with that of its parent, so the scripts run
    # while this process is small.
    log(f'validating: {2 * args.rounds} rounds of {args.blocks} blocks ...')
    found = validation(args.rounds, args.blocks)
    log(f'mining: {args.rounds} rounds of {3 * SECONDS} s ...')
    mined = mining_rows(args.rounds)
    report('Scenario 1: blocks', section(conditions, found, mined, args), args.write)


if __name__ == '__main__':
    main()
