"""Lines that tell of one message each, read as one line that tells of many.

Where a script works message by message, as all did in earlier versions, its ledger has a
line for each event. Those that follow on each other differ in their time and in their
message id only. So the first one is parsed, and the others are compared with it, byte by
byte: what would be parsed is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from siamese import numbered

PLAIN_EVENTS = ('attempted', 'confirmed', 'acked')
WITHIN_S = 0.005  # between the first and the last one: a batch takes as long
MOST = 1000  # lines
MOST_LONGER = 8  # bytes, of lines that are alike: of digits of their times and numbers
AT = b'{"at": '
ID = b'"id": "'

Event = Any  # a ledger.Event


class Gathered:
    """Lines that are alike: `event` is what the first of them holds, None if that is no event.

    Only where the next line may be alike is the first one looked at.
    """

    dues: list[int] | None = None  # of each of them

    def __init__(self, line: bytes, event: Event | None) -> None:
        self.line = line
        self.event = event

    def _begins(self) -> bool:
        """Return whether lines may be like this one: it must be plain."""
        line = self.line
        event = self.event
        if not event or 'id' not in event or not is_plain(event):
            return False
        if not line.startswith(AT) or line.count(ID) != 1 or line.count(b'{') != 1:
            return False
        name = numbered.parts(event['id'] or '')
        if not name or '\\' in name.of:
            return False
        _, self.what, _, self.after = cut(line)
        self.first = event['at']
        self.last = event['at']
        self.of = name.of
        self.head = name.of.encode()
        self.number = name.number
        self.dues = [name.due]
        return True

    def takes(self, line: bytes) -> bool:
        """Take the next line, if it tells the same of the next message."""
        if abs(len(line) - len(self.line)) > MOST_LONGER:
            return False
        if not self.dues and not self._begins():
            return False
        return self._takes(line, self.dues or [])

    def _takes(self, line: bytes, dues: list[int]) -> bool:
        at, what, name, after = cut(line)
        if what != self.what or after != self.after:
            return False
        if not at.replace(b'.', b'', 1).isdigit():
            return False
        now = float(at)
        if not 0 <= now - self.first <= WITHIN_S or len(dues) == MOST:
            return False
        due = self._due_of(name, dues)
        if due is None:
            return False
        self.last = now
        dues.append(due)
        return True

    def _due_of(self, name: bytes, dues: list[int]) -> int | None:
        """Return the due of a message id, None if it is not that of the next message."""
        number = self.number + len(dues)
        if not dues[0]:
            return 0 if name == b'%b%d' % (self.head, number) else None
        due = name[numbered.DUE_AT :]
        if len(due) != numbered.DUE_DIGITS or not due.isdigit():
            return None
        return int(due) if name == numbered.MESSAGE_ID % (self.head, number, int(due)) else None

    def whole(self) -> Event | None:
        """Return one line for all. No message was published before it, or settled after."""
        if not self.event or not self.dues or len(self.dues) == 1:
            return self.event
        count = len(self.dues)
        event = {**self.event, 'of': self.of, 'due': numbered.packed_dues(self.dues)}
        event['numbers'] = [self.number, self.number + count - 1]
        if event['event'] != 'attempted':
            event['at'] = self.last
        del event['id']
        return event


def cut(line: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the time, what is between it and the id, the id, and the rest of a line."""
    before, _, rest = line.partition(ID)
    name, _, after = rest.partition(b'"')
    at, _, what = before.partition(b', ')
    return at[len(AT) :], what, name, after


def gathered(
    lines: Iterable[bytes],
    parse: Callable[[str], Event | None],
) -> Iterator[tuple[int, Event | None]]:
    """Yield events, None for a line that is none, each with the number of its last line."""
    those = None
    number = 0
    for number, line in enumerate(lines, 1):
        if those:
            if those.takes(line):
                continue
            yield number - 1, those.whole()
        those = Gathered(line, parse(line.decode(errors='replace')))
    if those:
        yield number, those.whole()


def is_plain(event: Any) -> bool:
    """Return whether a line tells of messages of which nothing else needs to be known."""
    if event['event'] not in PLAIN_EVENTS or event.get('attempt', 1) != 1:
        return False
    if event.get('redelivered'):
        return False
    return not (event.get('exchange') or event.get('expiration') or event.get('died'))
