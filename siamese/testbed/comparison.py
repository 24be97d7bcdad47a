"""What compare.py found out about brokers: for programs, and as a table for a terminal."""

from __future__ import annotations

import itertools
import platform
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika

from siamese.testbed import rounds
from siamese.testbed.checks import MEANINGS
from siamese.testbed.figures import Comparison, Figure

TABLE_COLUMNS = 120  # where there is no terminal
CELL_COLUMNS = (24, 48)  # of one of several brokers: at least, at most
LABEL_COLUMNS = max(map(len, MEANINGS)) + 2
VERDICTS = ('pass', 'FAIL', 'not possible', 'not known')


@dataclass
class Cell:
    """How one check went on one broker: a verdict of VERDICTS, why, and what was measured."""

    verdict: str
    text: str
    figures: dict[str, Figure] = field(default_factory=dict)
    took_s: float = 0

    def document(self) -> dict[str, Any]:
        """Return it for --json."""
        figures = {name: figure.document() for name, figure in self.figures.items()}
        return {**vars(self), 'took_s': round(self.took_s, 3), 'figures': figures}


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

    def document(self, label: str) -> dict[str, Any]:
        """Return it for --json."""
        cells = {name: cell.document() for name, cell in self.checks.items()}
        return {**vars(self), 'label': label, 'checks': cells}


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


def labels(columns: Sequence[Column]) -> list[str]:
    """Return what to call each broker: its name, and more if others have the same."""
    names = [column.broker for column in columns]
    addresses = [f'{column.broker} at {column.address}' for column in columns]
    for unique in (names, addresses):
        if len(set(unique)) == len(columns):
            return unique
    return [f'{name} (no. {number})' for number, name in enumerate(names, 1)]


def differences(columns: Sequence[Column]) -> list[Difference]:
    """Return the facts in which the brokers differ."""
    names = set().union(*(column.facts for column in columns))
    found = []
    for name in sorted(names):
        texts = [column.facts.get(name, 'not known') for column in columns]
        if len(set(texts)) > 1:
            found.append(Difference(name, texts))
    return found


# ---- what was measured in rounds, compared


def comparisons(columns: Sequence[Column]) -> list[Comparison]:
    """Return how each two brokers differ in each figure that was measured in rounds."""
    pairs = list(comparable(columns))
    least = rounds.least_rounds(max(1, len(pairs)))
    found = []
    for check, name, first, second in pairs:
        figures = [columns[place].checks[check].figures[name] for place in (first, second)]
        ratio = rounds.ratio(figures[0].rounds, figures[1].rounds, len(pairs))
        better = figures[0].better
        found.append(Comparison(check, name, first, second, ratio, better, least))
    return found


def comparable(columns: Sequence[Column]) -> Iterator[tuple[str, str, int, int]]:
    """Yield check, figure, and the places of two brokers that both have it."""
    for check in columns[0].checks:
        for first, second in itertools.combinations(range(len(columns)), 2):
            own = columns[first].checks[check].figures
            others = columns[second].checks[check].figures
            for name in own:
                if name in others and max(len(own[name].rounds), len(others[name].rounds)) > 1:
                    yield check, name, first, second


# ---- for programs


def document(
    columns: Sequence[Column],
    status: int,
    **about: Any,
) -> dict[str, Any]:
    """Return all of it for --json and for the page; `about` is what there is about the run."""
    names = labels(columns)
    verdicts = [column.summary() for column in columns]
    return {
        'verdict': '\n'.join(verdicts),
        'verdicts': verdicts,
        'exit_status': status,
        **about,
        'versions': {'python': platform.python_version(), 'pika': pika.__version__},
        'meanings': MEANINGS,
        'brokers': [column.document(label) for column, label in zip(columns, names)],
        'differences': {found.name: found.texts for found in differences(columns)},
        'comparisons': [found.document(names) for found in comparisons(columns)],
    }


# ---- for a terminal


def comparison_table(columns: Sequence[Column], width: int = 0) -> Iterator[str]:
    """Yield the lines of the table; `width` is that of the terminal, 0 without one."""
    room = ((width or TABLE_COLUMNS) - LABEL_COLUMNS) // len(columns)
    least, most = CELL_COLUMNS
    if room < least:
        yield from list_of_cells(columns, width)
        return
    if len(columns) > 1:
        room = min(most, room)
    yield from row('', [column.broker for column in columns], room)
    yield from row('', [column.address for column in columns], room)
    for name in columns[0].checks:
        cells = [column.checks[name] for column in columns]
        yield from row(name, [f'{cell.verdict}: {cell.text}' for cell in cells], room)


def row(name: str, texts: Sequence[str], room: int) -> Iterator[str]:
    """Yield the lines of one row: `room` is the width of a cell in columns."""
    cells = [textwrap.wrap(text, room - 2) or [''] for text in texts]
    for parts in itertools.zip_longest(*cells, fillvalue=''):
        line = f'{name:{LABEL_COLUMNS}}'
        for part in parts:
            line += f'{part:{room}}'
        yield line.rstrip()
        name = ''  # only in the first line


def list_of_cells(columns: Sequence[Column], width: int) -> Iterator[str]:
    """Yield the cells one below the other, for a terminal too narrow for a table."""
    names = labels(columns)
    for check in columns[0].checks:
        yield check
        for name, column in zip(names, columns):
            cell = column.checks[check]
            text = f'{name}: {cell.verdict}: {cell.text}'
            yield from textwrap.wrap(
                text,
                max(width, CELL_COLUMNS[0]),
                initial_indent='  ',
                subsequent_indent='    ',
            )


def notes(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines below the table: legal differences, and how what was measured differs."""
    found = differences(columns)
    if found:
        yield 'differences, all of them legal:'
    for difference in found:
        yield f'  {difference.name}: {"; ".join(difference.texts)}'
    compared = comparisons(columns)
    if compared:
        yield 'compared, round by round:'
    names = labels(columns)
    for each in compared:
        yield f'  {each.check}, {each.figure}: {each.text(names)}'
