"""The ledger of a run: JSON lines in which each script notes what it did, for audit.py.

Each line is one event, with the keys at (s since 1970), by (name of the client), run,
epoch (number of its channel) and event, and those of KEYS. A line that holds `of` tells
of many messages, with the keys of KEYS_OF_MANY: first attempts, their confirms, or first
deliveries (numbered.py). docs/reference/audit.md has all fields.
"""

from __future__ import annotations

import glob
import gzip
import heapq
import json
import math
import os
import select
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import le
from typing import IO, Any, TypedDict

from siamese import clocks, numbered, script
from siamese.gathered import gathered


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
    vhost: str
    clock: str
    uptime: float
    consumes: bool
    flags_redelivered: bool
    arguments: dict[str, Any]
    policy: dict[str, Any]
    messages: int  # how many are in a queue
    id: Any  # str, or None: a consumer got a message without message_id
    attempt: int
    digest: str
    bytes: int
    redelivered: bool
    expiration: str
    priority: int
    died: bool  # whether a delivery has the header x-death
    reason: Any
    of: str
    numbers: list[int]  # first, last, first, last ...
    each: list[int]
    due: list[int]  # due, how many, due, how many ...
    digests: list[str]  # of each
    sizes: list[int]  # of each, in bytes


TYPES: dict[str, Any] = {
    'at': (int, float),
    'by': str,
    'run': str,
    'epoch': int,
    'broker': str,
    'queue': str,
    'queue_type': str,
    'exchange': str,
    'vhost': str,
    'clock': str,
    'uptime': (int, float),
    'consumes': bool,
    'flags_redelivered': bool,
    'arguments': dict,
    'policy': dict,
    'messages': int,
    'id': (str, type(None)),
    'attempt': int,
    'digest': str,
    'bytes': int,
    'redelivered': bool,
    'expiration': str,
    'priority': int,
    'died': bool,
    'of': str,
    'numbers': list,
    'each': list,
    'due': list,
    'digests': list,
    'sizes': list,
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
    'dead_lettered': {'id', 'digest', 'queue', 'reason'},
    'queue': {'queue', 'policy'},
}
KEYS_OF_MANY = {name: {'of', 'due'} for name in ('attempted', 'confirmed', 'acked')}
OF_EACH = {'digests': 'digest', 'sizes': 'bytes'}  # lists, and what one message has for them
OF_MANY = ('of', 'numbers', 'each', 'due', *OF_EACH)
MOST_OF_MANY = 1_000_000  # messages in one line
STDIN = '-'
PIPE_BYTES = 1 << 16  # that a pipe of Linux holds
BEGIN = '{"at": '  # of each line
POLL_S = 0.1  # between looks for a signal while a pipe is silent
LEDGERS = ('*.jsonl', '*.jsonl.gz')  # of a folder
MOST_SHAPES = 1000
# Keys and types of lines that were found sound: most lines are alike.
sound_shapes: set[tuple[object, ...]] = set()
encode = json.JSONEncoder(default=repr).encode
SIMPLE: dict[type, Callable[[Any], str]] = {  # the same for most facts
    str: json.encoder.encode_basestring_ascii,
    int: repr,
    bool: {True: 'true', False: 'false'}.__getitem__,
}
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def private(path: str, mode: int) -> int:
    """Open a file that only its owner may read, if it is new. The opener of open()."""
    return os.open(path, mode, 0o600)


class Writer:
    """Appends events to a ledger: note() collects their lines, flush() writes them.

    Without a path it does nothing. `who` are facts that each line holds. Lines of several
    processes may share a file: those of a flush are one write() to a file opened for
    appending. They are not synced to the disk: they survive kill -9 of the script, not a
    power cut. The times are those of the machine when the script began, and run on whatever
    its clock is set to. Raises OSError.
    """

    def __init__(self, path: str | None, **who: str) -> None:
        self.file = open(path, 'ab', buffering=0, opener=private) if path else None
        self.who = members(who)
        self.lines: list[str] = []
        self.started = time.time() - clocks.steady()
        self.clock = clocks.own_clock() if path else ''

    def note(self, event: str, **facts: Any) -> None:
        """Make a line of an event with its facts."""
        if not self.file:
            return
        uptime = clocks.steady()
        if event == 'connected':
            facts.update(clock=self.clock, uptime=round(uptime, 6))
        at = self.started + uptime
        line = f'{{"at": {at:.6f}{self.who}, "event": "{event}"{members(facts)}}}\n'
        self.lines.append(line)

    def flush(self) -> None:
        """Write what was collected."""
        if self.file and self.lines:
            data = ''.join(self.lines).encode()
            self.lines.clear()
            while data:
                data = data[self.file.write(data) :]


def members(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON within an object, in half of the time that json.dumps takes."""
    texts = [f', "{name}": {SIMPLE.get(type(fact), encode)(fact)}' for name, fact in facts.items()]
    return ''.join(texts)


def read(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Event]:
    """Yield the lines of ledgers as Files does; raise OSError."""
    return iter(Files(paths))


class Files:
    """Ledgers that are read side by side, in the order of their times.

    Their names may end with .gz, be those of pipes, or - for stdin; a folder stands for all
    LEDGERS in it. A signal ends the waiting for a pipe (script.stop_requested()).
    In place of a line that is no event comes {'event': 'unreadable', 'where': 'FILE:LINE'}.
    Raises OSError.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        each = (name for path in paths for name in in_folder(os.fspath(path)))
        self.files = {path: opened(path) for path in distinct(each)}
        self.lines = dict.fromkeys(self.files, 0)  # read so far
        self.bytes = sum(os.fstat(file.fileno()).st_size for file in self.files.values())

    def lines_read(self) -> int:
        """Return how many lines are read."""
        return sum(self.lines.values())

    def bytes_read(self) -> int:
        """Return how much of the files is read; 0 where that is not known."""
        return sum(file.tell() for file in self.files.values() if file.seekable())

    def __iter__(self) -> Iterator[Event]:
        streams = [self._events_in(path) for path in self.files]
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=time_of)

    def _events_in(self, path: str) -> Iterator[Event]:
        """Yield the lines of one ledger; those that are alike as one (gathered.py)."""
        file = self.files[path]
        lines: Iterable[bytes] = file
        if path.endswith('.gz'):
            lines = unpacked(file)
        elif not file.seekable():
            lines = arriving(file)
        for number, event in gathered(lines, parse):
            self.lines[path] = number
            yield from as_told(event or {'event': 'unreadable', 'where': f'{path}:{number}'})


def unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a compressed file; where it is cut off, or none, one that is no event."""
    try:
        yield from gzip.open(file)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield b''


def arriving(pipe: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a pipe as they come, until it ends or a signal comes."""
    rest = b''
    while not script.stop_requested():
        if not select.select([pipe], [], [], POLL_S)[0]:
            continue
        data = os.read(pipe.fileno(), PIPE_BYTES)
        if not data:
            break
        *lines, rest = (rest + data).split(b'\n')
        yield from (line + b'\n' for line in lines)
    if rest:
        yield rest


def distinct(paths: Iterable[str]) -> Iterable[str]:
    """Return paths without those that lead to a file again."""
    by_file: dict[str, str] = {}
    for path in paths:
        by_file.setdefault(path if path == STDIN else os.path.realpath(path), path)
    return by_file.values()


def in_folder(path: str) -> list[str]:
    """Return the ledgers in a folder, or the path if it is none."""
    if not os.path.isdir(path):
        return [path]
    folder = glob.escape(path)
    return [name for kind in LEDGERS for name in glob.glob(os.path.join(folder, kind))]


def opened(path: str) -> IO[bytes]:
    if path == STDIN:
        return sys.stdin.buffer
    return open(path, 'rb')


def time_of(event: Event) -> float:
    return event.get('at', 0.0)


def parse(line: str) -> Event | None:
    """Return the event that a line holds, if all of its keys are there and of their types.

    A process that is killed while it writes (on Linux: between two pages) leaves the beginning
    of a line, and has not done what that tells. What another one wrote behind it is read.
    """
    event = event_in(line)
    if event:
        return event
    at = line.rfind(BEGIN)
    is_cut_off = at > 0 and BEGIN.startswith(line[: min(at, len(BEGIN))])
    return event_in(line[at:]) if is_cut_off else None


def event_in(line: str) -> Event | None:
    """Return the event that a whole line holds, None if it is no event."""
    try:
        event = json.loads(line)
        shape = (event['event'], *event, *map(type, event.values()))
        readable = shape in sound_shapes or has_sound_shape(event)
        readable = readable and math.isfinite(event['at'])
        if readable and 'of' in event:
            readable = is_sound(event)
    except MALFORMED:
        return None
    if readable and len(sound_shapes) < MOST_SHAPES:
        sound_shapes.add(shape)
    return event if readable else None


def has_sound_shape(event: dict[str, Any]) -> bool:
    """Return whether all keys of a line are there and of their types."""
    if 'of' not in event and not event.keys().isdisjoint(OF_MANY):
        return False
    keys = KEYS_OF_MANY if 'of' in event else KEYS
    if not event.keys() >= COMMON_KEYS | keys[event['event']]:
        return False
    return all(isinstance(event[key], TYPES[key]) for key in event.keys() & TYPES)


# ---- lines that tell of many messages


def is_sound(event: Event) -> bool:
    """Return whether a line names as many messages as it says when they were due."""
    ranges = event.get('numbers', [])
    due = event['due']
    each = event.get('each', [])
    if ('numbers' in event) == ('each' in event) or len(ranges) % 2 or len(due) % 2:
        return False
    if not are_numbers([*ranges, *each, *due]):
        return False
    count = len(each) + sum(ranges[1::2]) - sum(ranges[::2]) + len(ranges) // 2
    is_rising = all(map(le, ranges, ranges[1:]))
    is_counted = sum(due[1::2]) == count and 0 < count <= MOST_OF_MANY
    return is_rising and is_counted and has_sound_bodies(event, count)


def has_sound_bodies(event: Event, count: int) -> bool:
    """Return whether a line has one digest for all messages, or one for each."""
    if event['event'] != 'confirmed' and ('digest' in event) == ('digests' in event):
        return False
    digests = event.get('digests')
    sizes = event.get('sizes')
    if digests is not None and (len(digests) != count or {*map(type, digests)} != {str}):
        return False
    return sizes is None or (len(sizes) == count and are_numbers(sizes))


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are whole numbers of at most 63 bits."""
    if {*map(type, values)} != {int}:
        return False
    return min(values) >= 0 and max(values) < 2**63


def singly(event: Event) -> Iterator[Event]:
    """Yield a line for each message of which a line tells."""
    if 'of' not in event:
        yield event
        return
    names = zip(numbered.unpacked_numbers(event), numbered.unpacked_dues(event['due']))
    lists = {name: event[key] for key, name in OF_EACH.items() if key in event}  # type: ignore[literal-required]
    for at, (number, due) in enumerate(names):
        one: Any = one_of(event, number, due)
        one.update((name, values[at]) for name, values in lists.items())
        yield one


def as_told(event: Event) -> Iterable[Event]:
    """Return a line as it is, or a line for each message if their bodies differ."""
    if 'digests' in event or 'sizes' in event:
        return singly(event)
    return (event,)


def one_of(event: Event, number: int, due: int) -> Event:
    """Return the line for one of the messages of which a line tells."""
    if 'of' not in event:
        return event
    one: Any = {'attempt': 1, 'redelivered': False}
    one.update((key, value) for key, value in event.items() if key not in OF_MANY)
    one['id'] = numbered.name_of(event['of'], number, due)
    return Event(**one)
