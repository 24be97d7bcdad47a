"""Proof of work: blocks whose hash begins with zeros, and the primes tried for that.

The sieve finds primes 37 times as fast as asking sympy for one after the other
(bench/RESULTS.md).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, compress, takewhile
from typing import Any, NamedTuple

from common import Failure
from siamese import flags

MIN_PROOF = 100_000
# About 1.5 million primes lie below: at four zeros a block without a solution is a chance
# of 1 in 10**10. Below 999,999, the obvious bound, it would be one block in three, and a
# search there would never end.
MAX_PROOF = 25_000_000
HIGHEST_PROOF = 10**12  # above it the sieve would need more memory than a script should take
WINDOW_SIZE = 1 << 20  # numbers sieved at a time: half a megabyte, 0.05 s of mining
UNSOLVABLE = 1e-6  # the chance of a block without a solution that is worth a warning
ENOUGH_PRIMES = 20  # for each hash that begins with the zeros; e**-20: one block in 500 million

Block = dict[str, Any]  # {'hash': str, 'proof': int}


class Mined(NamedTuple):
    """A block, None if the search was ended, and how many proofs were tried."""

    block: Block | None
    attempts: int


def add_proof_flags(parser: flags.Parser) -> None:
    """Add --difficulty, --min and --max."""
    parser.add_argument(
        '--difficulty',
        type=flags.number(int, 0, 64),
        default=4,
        metavar='N',
        help='a hash begins with N zeros (default: %(default)s)',
    )
    parser.add_argument(
        '--min',
        type=flags.number(int, 2, HIGHEST_PROOF),
        default=MIN_PROOF,
        metavar='P',
        help='a proof is a prime above P (default: %(default)s)',
    )
    parser.add_argument(
        '--max',
        type=flags.number(int, 2, HIGHEST_PROOF),
        default=MAX_PROOF,
        metavar='P',
        help='a proof is at most the next prime after P (default: %(default)s)',
    )


def check_range(parser: flags.Parser, args: argparse.Namespace) -> None:
    """End with exit status 2 if no proof is within --min and --max."""
    if args.max < args.min:
        parser.error(f'--max {args.max} is below --min {args.min}')


def next_prime(number: int) -> int:
    """Return the smallest prime above `number`. sympy takes 0.3 s and 30 MB to import."""
    from sympy import nextprime

    return nextprime(number)


def mine(
    previous: Block,
    zeros: int,
    low: int = MIN_PROOF,
    high: int = MAX_PROOF,
    keep_going: Callable[[], bool] = lambda: True,
) -> Mined:
    """Find the block after `previous`, whose hash begins with `zeros` zeros.

    Its proof is the first prime that gives such a hash after a random number between `low`
    and `high`; the search goes round the range. `keep_going` is called every 0.1 s or so,
    and may send heartbeats; when it returns False the search ends. Raises Failure when
    every prime of the range was tried.
    """
    prefix = hashlib.sha256(f'{previous["hash"]}{previous["proof"]}'.encode())
    highest = bytes.fromhex('0' * zeros + 'f' * (64 - zeros))
    start = random.randint(low, high)
    attempts = 0
    for first, stop in chain(_windows(start + 1, high + 1), _windows(low + 1, start + 1)):
        proofs = odd_primes(first, stop)
        for tried, proof in enumerate(proofs, 1):
            attempt = prefix.copy()
            attempt.update(b'%d' % proof)
            if attempt.digest() <= highest:
                block = {'hash': attempt.hexdigest(), 'proof': proof}
                return Mined(block, attempts + tried)
        attempts += len(proofs)
        if not keep_going():
            return Mined(None, attempts)
    raise _no_solution(zeros, low, high, attempts)


def unsolvable_warning(zeros: int, low: int, high: int) -> str:
    """Return a warning if blocks without a solution are likely in this range, else ''."""
    chance = math.exp(-_prime_count(low, high) / 16**zeros)
    if chance <= UNSOLVABLE:
        return ''
    return (
        f'one block in {1 / chance:,.0f} has no solution with {zeros} zeros and a proof '
        f'between {low} and {high}; {_remedy(zeros, low)}'
    )


def _no_solution(zeros: int, low: int, high: int, attempts: int) -> Failure:
    if not attempts:
        return Failure(f'no prime lies between {low} and {high}; use a larger --max', 2)
    return Failure(
        f'none of the {attempts} primes between {low} and {high} gives a hash with '
        f'{zeros} zeros; {_remedy(zeros, low)}',
        2,
    )


def _remedy(zeros: int, low: int) -> str:
    high = 2 * low
    while _prime_count(low, high) < ENOUGH_PRIMES * 16**zeros:
        high *= 2
    if high > HIGHEST_PROOF:
        return 'use a smaller --difficulty'
    return f'use --max {high}'


def _prime_count(low: int, high: int) -> float:
    return _primes_below(high) - _primes_below(low)


def _primes_below(number: int) -> float:
    return number / max(1, math.log(number) - 1)  # prime number theorem


def _windows(first: int, stop: int) -> Iterator[tuple[int, int]]:
    while first < stop:
        end = min(stop, (first // WINDOW_SIZE + 1) * WINDOW_SIZE)
        yield first, end
        first = end


def odd_primes(first: int, stop: int) -> array[int]:
    """Return the odd primes from `first` up to, but without, `stop`, both in one window."""
    found = _sieve(first // WINDOW_SIZE * WINDOW_SIZE)
    return found[bisect_left(found, first) : bisect_left(found, stop)]


@lru_cache(maxsize=32)  # 16 MB, and the default range is sieved only once
def _sieve(base: int) -> array[int]:
    """Return the odd primes of the window that begins at `base`: sieve of Eratosthenes."""
    is_prime = bytearray([1]) * (WINDOW_SIZE // 2)  # of base + 1, base + 3, ...
    root = math.isqrt(base + WINDOW_SIZE)
    for prime in takewhile(root.__ge__, _small_odd_primes(1 << root.bit_length())):
        multiple = max(prime * prime, -(-base // prime) * prime)
        if multiple % 2 == 0:
            multiple += prime
        first = (multiple - base) // 2
        is_prime[first::prime] = bytes(len(range(first, len(is_prime), prime)))
    is_prime[0] &= base > 0  # 1 is not a prime
    return array('Q', compress(range(base + 1, base + WINDOW_SIZE, 2), is_prime))


@lru_cache(maxsize=1)
def _small_odd_primes(stop: int) -> Iterable[int]:
    is_prime = bytearray([1]) * stop
    for number in range(3, math.isqrt(stop) + 1, 2):
        if is_prime[number]:
            square = number * number
            is_prime[square::number] = bytes(len(range(square, stop, number)))
    return list(compress(range(3, stop, 2), is_prime[3::2]))
