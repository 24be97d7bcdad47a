"""The ledger of a run: JSON lines in which each script notes what it did, for audit.py.

Each line is one event, with the keys at (s since 1970), by (name of the client), run,
epoch (number of its channel) and event, and those of KEYS.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict


class Event(TypedDict, total=False):
    """One line of a ledger; `where` is that of a line that cannot be read."""

    at: float
    by: str
    run: str
    epoch: int
    event: str
    where: str
    broker: str
    queue: str
    queue_type: str
    exchange: str
    id: Any  # str, or None: a consumer got a message without message_id
    attempt: int
    digest: str
    redelivered: bool
    expiration: str


TYPES: dict[str, Any] = {
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
COMMON_KEYS = {'at', 'by', 'run', 'epoch'}
ATTEMPT = {'id', 'attempt'}
DELIVERY = {'id', 'attempt', 'digest', 'redelivered'}
KEYS: dict[str, set[str]] = {
    'connected': {'broker'},
    'disconnected': set(),
    'closed': set(),
    'attempted': {'id', 'attempt', 'digest'},
    'confirmed': ATTEMPT,
    'nacked': ATTEMPT,
    'returned': ATTEMPT,
    'in_doubt': ATTEMPT,
    'set_aside': ATTEMPT,
    'acked': DELIVERY,
    'invalid': DELIVERY,
    'rejected': DELIVERY,
    'unacked': DELIVERY,
    'delivery_limit': DELIVERY,
}
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def private(path: str, mode: int) -> int:
    """Open a file that only its owner may read, if it is new. The opener of open()."""
    return os.open(path, mode, 0o600)


def writer(path: str | None, **who: str) -> Callable[..., None]:
    """Return a function that appends an event with its facts to the ledger `path`.

    Without a path it writes nothing. `who` are facts that each line holds. Lines of
    several processes may share a file: each is one write() to a file opened for
    appending. They are not synced to the disk: they survive kill -9 of the script, not a
    power cut. Both functions raise OSError.
    """
    if not path:
        return lambda event, **facts: None
    file = open(path, 'ab', buffering=0, opener=private)

    def write(event: str, **facts: Any) -> None:
        line = {'at': round(time.time(), 6), **who, 'event': event, **facts}
        file.write(json.dumps(line, default=repr).encode() + b'\n')

    return write


def read(paths: Iterable[str]) -> Iterator[Event]:
    """Yield the lines of ledgers; raise OSError.

    In place of a line that is no event comes {'event': 'unreadable', 'where': 'FILE:LINE'}.
    """
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        with open(path, encoding='utf-8', errors='replace') as file:
            for number, line in enumerate(file, 1):
                event = parse(line)
                yield event or {'event': 'unreadable', 'where': f'{path}:{number}'}


def parse(line: str) -> Event | None:
    """Return the event that a line holds, if all of its keys are there and of their types."""
    try:
        event = json.loads(line)
        needed = COMMON_KEYS | KEYS[event['event']]
        typed = all(isinstance(event[key], TYPES[key]) for key in event.keys() & TYPES)
        readable = needed <= event.keys() and typed and math.isfinite(event['at'])
    except MALFORMED:
        return None
    return event if readable else None
