"""Messages by their numbers: what one line said of many is kept once.

What stands here has done nothing yet that is worth a second look: it was attempted once,
and after that perhaps confirmed once, and acknowledged once, as it was published. All
methods take a whole range of numbers, and change nothing if that does not hold for each
of them. Of each message there is a state, and where it came; all else is told by the line
of its attempt. A page on which all is plain is put away: compressed.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Union

SIZE = 1 << 16  # messages of a page
MOST_GAP = 4096  # numbers between two that follow on each other

# What is known of a message, each as a bit of its state.
ATTEMPTED = 1
CONFIRMED = 2
ARRIVED = 4
PLAIN = ATTEMPTED | CONFIRMED | ARRIVED
SUSPECT = 8  # it is looked at by itself, and no longer here
NOTHING = 0  # no attempt is known
FINAL = bytes([NOTHING, PLAIN, SUSPECT])  # where nothing more is expected

ATTEMPT = bytes([ATTEMPTED])
NO_PLACE = bytes(array('I').itemsize)

# bytes.translate() tests and sets the states of a range at the speed of C.
BEFORE_CONFIRM = bytes([ATTEMPTED, ATTEMPTED | ARRIVED])
BEFORE_ARRIVAL = bytes([ATTEMPTED, ATTEMPTED | CONFIRMED])
SET = {bit: bytes(state | bit for state in range(256)) for bit in (CONFIRMED, ARRIVED)}
KEPT = ('states', 'places', 'starts', 'dues', 'marks', 'senders')  # if a page is put away

Column = Any  # a bytearray, or an array
Where = Union[range, 'list[int]']  # the places of messages on a page: two or more in a list


def picked(states: bytearray, where: Where) -> bytearray:
    """Return the states of some messages."""
    if isinstance(where, range):
        return states[where.start : where.stop : where.step]
    return bytearray(itemgetter(*where)(states))


def put(column: Column, where: Where, values: Sequence[int]) -> None:
    """Let a column say something of some messages."""
    if isinstance(where, range):
        column[where.start : where.stop : where.step] = values
        return
    for at, value in zip(where, values):
        column[at] = value


def is_all(values: array[int], value: int) -> bool:
    """Return whether all values are this one."""
    return values.count(value) == len(values)


class Row(NamedTuple):
    """What is known of one message; `sender` and `place` are those that the caller gave."""

    state: int
    mark: int  # of the digest
    due: int
    sender: int
    at: float  # s since 1970: when it was attempted
    number: int  # among the attempts of its sender
    place: int


class Page:
    """Messages whose numbers follow on each other."""

    def __init__(self) -> None:
        self.states = bytearray()
        self.places = array('I')  # where it was delivered
        # What the lines of attempts say, each from one message on to the next line.
        self.starts = array('I')
        self.dues = array('Q')
        self.marks = array('q')
        self.senders = array('I')
        self.times = array('d')
        self.order = array('Q')  # of the first message
        self.plain = 0
        self.final = 0  # whose state is FINAL
        self.shelf: dict[str, bytes] = {}

    def has_room(self, begin: int) -> bool:
        """Return whether messages from `begin` on are new, and no hole is before them."""
        return len(self.states) <= begin <= len(self.states) + MOST_GAP

    def attempt(
        self,
        begin: int,
        dues: Sequence[int],
        mark: int,
        sender: int,
        at: float,
        number: int,
    ) -> None:
        """Note new messages, of which the first is the attempt `number` of its sender.

        `dues` are due, how many, due, how many ...
        """
        self._skip(begin - len(self.states))
        for due, count in zip(dues[::2], dues[1::2]):
            self.starts.append(len(self.states))
            self.dues.append(due)
            self.marks.append(mark)
            self.senders.append(sender)
            self.times.append(at)
            self.order.append(number)
            self.states += ATTEMPT * count
            self.places.frombytes(NO_PLACE * count)
            number += count

    def _skip(self, count: int) -> None:
        """Leave room for messages of which no attempt is known."""
        self.final += count
        self.states += bytes(count)
        self.places.frombytes(NO_PLACE * count)

    def knows(self, where: Where) -> bool:
        """Return whether a line may have told of all of these; their states say if it did."""
        return bool(self.starts) and self.starts[0] <= where[0] and where[-1] < len(self.states)

    def line_of(self, at: int) -> int:
        """Return the line that told of the attempt of a message."""
        return bisect_right(self.starts, at) - 1

    def order_of(self, at: int) -> int:
        """Return which attempt of its sender a message was; 0 if that is not known."""
        return self.order_in(self.line_of(at), at)

    def order_in(self, line: int, at: int) -> int:
        """The same of a message whose line is known."""
        number = self.order[line]
        return number and number + at - self.starts[line]

    def lines_of(self, where: Where) -> slice:
        """Return the lines that told of messages from the first of these to the last."""
        return slice(self.line_of(where[0]), self.line_of(where[-1]) + 1)

    def confirm(self, where: Where, dues: Sequence[int]) -> bool:
        """Note that messages were confirmed."""
        before = picked(self.states, where)
        lines = self.lines_of(where)
        if before.translate(None, BEFORE_CONFIRM) or not self._are_due(where, lines, dues):
            return False
        self._set(where, before.translate(SET[CONFIRMED]))
        return True

    def arrive(
        self,
        where: Where,
        lines: slice,
        dues: Sequence[int],
        mark: int,
        place: int,
    ) -> bool:
        """Note that messages, of which these lines told, were delivered and acknowledged."""
        before = picked(self.states, where)
        if before.translate(None, BEFORE_ARRIVAL) or not self._are_due(where, lines, dues):
            return False
        if not is_all(self.marks[lines], mark):
            return False
        put(self.places, where, array('I', [place]) * len(before))
        self._set(where, before.translate(SET[ARRIVED]))
        return True

    def _are_due(self, where: Where, lines: slice, dues: Sequence[int]) -> bool:
        if len(dues) == 2:  # most are
            return is_all(self.dues[lines], dues[0])
        begin = 0
        for due, count in zip(dues[::2], dues[1::2]):
            lines = self.lines_of(where[begin : begin + count])
            if not is_all(self.dues[lines], due):
                return False
            begin += count
        return True

    def _set(self, where: Where, states: bytearray) -> None:
        put(self.states, where, states)
        plain = states.count(PLAIN)
        self.plain += plain
        self.final += plain

    def waiting_since(self) -> Iterator[tuple[int, float]]:
        """Yield the sender of each message that is confirmed and has not come, and when."""
        waiting = ATTEMPTED | CONFIRMED
        at = self.states.find(waiting)
        while at >= 0:
            line = self.line_of(at)
            yield self.senders[line], self.times[line]
            at = self.states.find(waiting, at + 1)

    def row(self, at: int) -> Row:
        """Return what is known of one message."""
        line = self.line_of(at)
        return Row(
            self.states[at],
            self.marks[line],
            self.dues[line],
            self.senders[line],
            self.times[line],
            self.order_of(at),
            self.places[at],
        )

    def take_out(self, at: int) -> Row:
        """Return what is known of a message, which is a suspect from now on."""
        row = self.row(at)
        self.plain -= row.state == PLAIN
        self.final += row.state not in FINAL
        self.states[at] = SUSPECT
        return row

    def is_over(self) -> bool:
        """Return whether nothing more is expected of its messages."""
        return self.final == SIZE

    def put_away(self) -> None:
        """Compress the page. The times are gone: they matter only for what does not come."""
        for name in KEPT:
            self.shelf[name] = zlib.compress(getattr(self, name), 1)
        for name in (*KEPT, 'times', 'order'):
            setattr(self, name, getattr(self, name)[:0])

    def take_up(self) -> None:
        """Undo put_away()."""
        for name, packed in self.shelf.items():
            column = getattr(self, name)
            if isinstance(column, bytearray):
                column += zlib.decompress(packed)
            else:
                column.frombytes(zlib.decompress(packed))
        self.shelf.clear()
        self.times = array('d', [0.0]) * len(self.starts)
        self.order = array('Q', [0]) * len(self.starts)
