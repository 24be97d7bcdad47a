"""What compare.py found out about brokers, and its table for a terminal."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from siamese.testbed.checks import CHECKS

TABLE_COLUMNS = 120
CELL_COLUMNS = (24, 48)  # of one broker: at least, at most
VERDICTS = ('pass', 'FAIL', 'not possible', 'not known')


@dataclass
class Cell:
    """How one check went on one broker: a verdict of VERDICTS, and why."""

    verdict: str
    text: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class Column:
    """How all checks went on one broker.

    broker: product and version. facts: what it allows, by name. left: queues
    and exchanges that could not be removed. messages: how many were published.
    """

    broker: str
    address: str
    checks: dict[str, Cell]
    facts: dict[str, str]
    left: list[str]
    messages: int

    def summary(self) -> str:
        """Return a line that counts the verdicts."""
        counts = Counter(cell.verdict for cell in self.checks.values())
        words = [f'{counts[verdict]} {verdict}' for verdict in VERDICTS if counts[verdict]]
        return f'{self.broker} at {self.address}: {", ".join(words)}'

    def exit_status(self) -> int:
        """Return 1 if a check failed, 3 if something is not known, else 0."""
        verdicts = {cell.verdict for cell in self.checks.values()}
        if 'FAIL' in verdicts:
            return 1
        if 'not known' in verdicts or 'pass' not in verdicts or self.left:
            return 3
        return 0


@dataclass
class Difference:
    """What brokers do differently and may: a text for each of them."""

    name: str
    texts: list[str]


def exit_status(columns: Sequence[Column]) -> int:
    """Return the exit status over all brokers: 1 goes before 3, 3 before 0."""
    statuses = {column.exit_status() for column in columns}
    for status in (1, 3):
        if status in statuses:
            return status
    return 0


def differences(columns: Sequence[Column]) -> list[Difference]:
    """Return the facts in which the brokers differ."""
    names = set().union(*(column.facts for column in columns))
    found = []
    for name in sorted(names):
        texts = [column.facts.get(name, 'not known') for column in columns]
        if len(set(texts)) > 1:
            found.append(Difference(name, texts))
    return found


def comparison_table(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    names = list(columns[0].checks)
    label = max(map(len, CHECKS)) + 2
    least, most = CELL_COLUMNS
    room = (TABLE_COLUMNS - label) // len(columns)
    room = max(least, min(most, room))
    yield from row('', [column.broker for column in columns], label, room)
    yield from row('', [column.address for column in columns], label, room)
    for name in names:
        cells = [column.checks[name] for column in columns]
        texts = [f'{cell.verdict}: {cell.text}' for cell in cells]
        yield from row(name, texts, label, room)
    found = differences(columns)
    if found:
        yield 'differences, all of them legal:'
    for difference in found:
        yield f'  {difference.name}: {"; ".join(difference.texts)}'


def row(
    name: str,
    texts: Sequence[str],
    label: int,
    room: int,
) -> Iterator[str]:
    """Yield the lines of one row: `label` and `room` are widths in columns."""
    cells = [textwrap.wrap(text, room - 2) or [''] for text in texts]
    for parts in itertools.zip_longest(*cells, fillvalue=''):
        line = f'{name:{label}}'
        for part in parts:
            line += f'{part:{room}}'
        yield line.rstrip()
        name = ''  # only in the first line
