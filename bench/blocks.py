#!/usr/bin/env python3
"""Measure what scenario 1 promises, each figure beside its limit, and write its section of bench/RESULTS.md.

    $ make bench

Everything is measured in one run on one machine, rounds alternate, medians are shown: read the ratios, the absolute
figures are those of the machine. Starts a throwaway RabbitMQ.
"""

import hashlib
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

from harness import machine, put, table, weigh

import common
from siamese.scenarios import mining
from siamese.testbed import rabbitmq as broker

ROUNDS = 5
SECONDS = 2  # of each mining measurement
BLOCKS = 30_000  # in the queue that is validated


def obvious_loop():
    """Mine as one writes it down first; return attempts/s."""
    import sympy

    attempts, previous, end = 0, common.GENESIS, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        proof = sympy.nextprime(random.randint(mining.MIN_PROOF, mining.MAX_PROOF))
        digest = hashlib.sha256(
            f'{previous["hash"]}{previous["proof"]}{proof}'.encode()
        ).hexdigest()
        attempts += 1
        if digest.startswith('0000'):
            pass  # a block; the loop goes on, so that all rounds last as long
    return attempts / SECONDS


def our_miner():
    """Mine a chain with mining.mine at four zeros; return attempts/s."""
    attempts, block, start = 0, common.GENESIS, time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        block, tries = mining.mine(block, 4)
        attempts += tries
    return attempts / (time.perf_counter() - start)


def bare_sha256(prepared):
    """Hash prepared bytes and do nothing else: the limit of one core; return attempts/s."""
    sha256, attempts, start = hashlib.sha256, 0, time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        for data in prepared:
            sha256(data).digest()
        attempts += len(prepared)
    return attempts / (time.perf_counter() - start)


def script(name, *flags):
    """Run a script to its end; return its JSON summary and its peak memory in MB."""
    (out,), _, peak, _ = weigh([sys.executable, name, '--quiet', '--json', '-', *flags])
    return json.loads(out), peak


def mining():
    """Return the rows of the mining table."""
    prepared = [
        b'0' * 64 + b'909451%d' % proof for proof in mining.odd_primes(10_000_001, 10_400_000)
    ]
    our_miner()  # sieves the range once, as a producer's first second does
    rounds = [(obvious_loop(), our_miner(), bare_sha256(prepared)) for _ in range(ROUNDS)]
    obvious, ours, bare = map(statistics.median, zip(*rounds))
    return [
        ('the obvious loop: sympy.nextprime(randint), sha256 of the text', obvious, 1.0),
        ('mining.mine, as producer.py calls it', ours, ours / obvious),
        ('bare sha256 over prepared bytes, the limit', bare, bare / obvious),
    ]


def validation():
    """Return (blocks/s without ledger, with ledger, peak MB of validate.py, peak MB of producer.py), medians."""
    plain, booked, memory, miner = [], [], [], []
    with broker.throwaway() as throwaway:
        os.environ['AMQP_URL'] = throwaway.url
        ledger = Path(os.environ.get('TMPDIR', '/tmp')) / f'siamese-bench-{os.getpid()}.jsonl'
        for _ in range(ROUNDS):
            for rates, flags in ((plain, ()), (booked, ('--ledger', ledger))):
                miner.append(script('producer.py', '--difficulty', 1, '--count', BLOCKS)[1])
                summary, peak = script('validate.py', '--difficulty', 1, '--count', BLOCKS, *flags)
                assert summary['valid'] == BLOCKS
                rates.append(summary['blocks_per_s'])
                memory.append(peak)
                ledger.unlink(missing_ok=True)
        miner.append(script('producer.py', '--count', 50)[1])
        version = throwaway.ctl('version').strip()
    return statistics.median(plain), statistics.median(booked), max(memory), max(miner), version


def main():
    conditions = machine()
    # A child's peak memory begins with that of its parent, so the scripts run while this process is small.
    print(f'validating: {2 * ROUNDS} rounds of {BLOCKS} blocks ...', file=sys.stderr)
    plain, booked, memory, miner, version = validation()
    print(f'mining: {ROUNDS} rounds of {3 * SECONDS} s ...', file=sys.stderr)
    mined = mining()
    mined = [(name, f'{rate:,.0f}', f'{ratio:.1f}') for name, rate, ratio in mined]
    put(
        'Scenario 1: blocks',
        [
            f'{conditions}, RabbitMQ {version} on the same machine; {ROUNDS} rounds.',
            '',
            f'Mining: one core, four zeros, proofs from {mining.MIN_PROOF:,} to {mining.MAX_PROOF:,}, {SECONDS} s a round.',
            '',
            *table(('', 'attempts/s', 'ratio'), mined),
            '',
            f'Validating: validate.py on a queue filled with {BLOCKS:,} blocks (one zero, so that filling is fast; the '
            'checks are the same), every check on, prefetch 200, acknowledged in batches of up to 50, classic queue, '
            'persistent.',
            '',
            *table(
                ('', 'blocks/s'),
                [('without ledger', f'{plain:,.0f}'), ('with --ledger', f'{booked:,.0f}')],
            ),
            '',
            'Peak memory:',
            '',
            *table(('', 'MB'), [('producer.py', f'{miner:.0f}'), ('validate.py', f'{memory:.0f}')]),
        ],
    )


if __name__ == '__main__':
    main()
