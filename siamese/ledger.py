"""The ledger of a run: JSON lines in which each script notes what it did, for audit.py to judge."""

import json
import math
import os
import time

TYPES = {
    'at': (int, float),
    'by': str,
    'run': str,
    'epoch': int,
    'broker': str,
    'queue': str,
    'queue_type': str,
    'exchange': str,
    'id': (str, type(None)),
    'attempt': int,
    'digest': str,
    'redelivered': bool,
    'expiration': str,
}
KEYS = {  # of the events a ledger holds; every one also has at, by, run and epoch
    'connected': ('broker',),
    'lost': (),
    'closed': (),
    'attempted': ('id', 'attempt', 'digest'),
    'confirmed': ('id', 'attempt'),
    'nacked': ('id', 'attempt'),
    'returned': ('id', 'attempt'),
    'in_doubt': ('id', 'attempt'),
    'set_aside': ('id', 'attempt'),
    'acked': ('id', 'attempt', 'digest', 'redelivered'),
    'invalid': ('id', 'attempt', 'digest', 'redelivered'),
    'rejected': ('id', 'attempt', 'digest', 'redelivered'),
    'unsettled': ('id', 'attempt', 'digest', 'redelivered'),
    'delivery_limit': ('id', 'attempt', 'digest', 'redelivered'),
}


def writer(path, **who):
    """Return a function that appends an event with its facts as one JSON line to the file `path` (None: nowhere).

    `who` are facts that each line holds. Lines of several processes may share a file: each is one write() to a file
    opened for appending. They are not synced to the disk: they survive kill -9 of the script, not a power cut. Both
    functions raise OSError.
    """
    if not path:
        return lambda event, **facts: None
    file = open(path, 'ab', buffering=0)

    def write(event, **facts):
        line = json.dumps(
            {'at': round(time.time(), 6), **who, 'event': event, **facts}, default=repr
        )
        file.write(line.encode() + b'\n')

    return write


def read(paths):
    """Yield the lines of ledger files as dicts; {'event': 'unreadable', 'where': 'FILE:LINE'} for one that is none.

    Raises OSError.
    """
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        with open(path, encoding='utf-8', errors='replace') as file:
            for number, line in enumerate(file, 1):
                try:
                    event = json.loads(line)
                    readable = (
                        {'at', 'by', 'run', 'epoch', *KEYS[event['event']]} <= event.keys()
                        and all(isinstance(event[key], TYPES[key]) for key in event.keys() & TYPES)
                        and math.isfinite(event['at'])
                    )
                except (
                    ValueError,
                    TypeError,
                    KeyError,
                    AttributeError,
                    RecursionError,
                    OverflowError,
                ):
                    readable = False
                yield event if readable else {'event': 'unreadable', 'where': f'{path}:{number}'}
