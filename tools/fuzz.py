#!/usr/bin/env python3
"""Look for streams of bytes that our frame parser reads otherwise than pika's.

    $ python tools/fuzz.py --minutes 0.01
    1,536 streams, all read alike

Each stream is made from a seed. The first one that is read otherwise ends this with
status 1, and is shown with its seed; tests/support/fuzzing.py says how they are made.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from support import fuzzing  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=60, help='(default: %(default)s)')
    parser.add_argument('--seed', type=int, help='look at the stream of this seed only')
    args = parser.parse_args()
    if args.seed is not None:
        fuzzing.compare(args.seed)
        return 0
    end = time.monotonic() + 60 * args.minutes
    count = 0
    while time.monotonic() < end:
        seed = random.getrandbits(60)
        try:
            fuzzing.compare(seed)
        except AssertionError as difference:
            print(f'read otherwise: {difference}; again: tools/fuzz.py --seed {seed}')
            return 1
        count += 1
    print(f'{count:,} streams, all read alike')
    return 0


if __name__ == '__main__':
    sys.exit(main())
