"""Text for people: tables, times, and strangers' text that cannot harm a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

UNITS_S = (('d', 86400), ('h', 3600), ('min', 60))


def printable(text: object) -> str:
    """Return text on one line, with unprintable characters escaped.

    It cannot move the cursor of a terminal.
    """
    return ''.join(map(_escaped, str(text)))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode('unicode_escape').decode()


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return lines of text: a head, then the rows. Columns of numbers are right-aligned."""
    cells = [list(heads)]
    cells += [[_cell(value) for value in row] for row in rows]
    columns = range(len(heads))
    widths = [max(len(row[column]) for row in cells) for column in columns]
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in columns]
    return [_aligned(row, widths, right) for row in cells]


def _cell(value: Any) -> str:
    return f'{value:,}' if isinstance(value, int) else printable(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or value in ('', '-')


def _aligned(row: list[str], widths: list[int], right: list[bool]) -> str:
    cells = []
    for cell, width, to_right in zip(row, widths, right):
        cells.append(cell.rjust(width) if to_right else cell.ljust(width))
    return '  '.join(cells).rstrip()


def shorten(text: object, most: int = 60) -> str:
    """Return printable text of at most so many characters; an ellipsis stands for the rest."""
    line = printable(text)
    return line if len(line) <= most else line[: most - 1] + '…'


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: '1 message', '1,200 messages'."""
    plural = '' if number == 1 else 's'
    return f'{number:,} {noun}{plural}'


def utc(at: float | None, form: str = '%Y-%m-%d %H:%M:%S') -> str:
    """Return a time (s since 1970) as text in UTC, '-' for None."""
    return '-' if at is None else time.strftime(form, time.gmtime(at))


def duration(seconds: float) -> str:
    """Return a duration as people say it: '12 s', '3 min', '5 h', '2 d'."""
    for unit, size in UNITS_S:
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {unit}'
    return f'{max(0, seconds):.0f} s'
