"""Text for people: tables, times, and strangers' text that cannot harm a terminal.

Whatever a broker, a client or a proxy says may stand in a line of the log or of stdout.
Every line is escaped here, once, on its way out: Formatter for the log, terminal.show() for stdout.
"""

from __future__ import annotations

import logging
import re
import string
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

UNKNOWN = '?'  # stands for a figure that nobody knows
FEWEST_FOR_RATE = 100  # events; or what took at least a second
SHORTEST_FOR_RATE_S = 1
GAP = '  '  # between the columns of a table
BELOW = '    '  # before what goes on below
# A noun in a template, with the format of its number and an irregular plural.
NOUN = re.compile(r'(\W*)([a-z][a-z ]+)(?:/([a-z ]+))?')
UNITS_S = (('d', 86400), ('h', 3600), ('min', 60))


def printable(text: object) -> str:
    """Return text on one line, with unprintable characters escaped.

    It cannot move the cursor of a terminal.
    """
    line = str(text)
    if line.isprintable():
        return line
    return ''.join(map(_escaped, line))


class Formatter(logging.Formatter):
    """Makes a record of the log one line, and a traceback lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return '\n'.join(map(printable, lines))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode('unicode_escape').decode()


def readable(value: object) -> str:
    """Return what a stranger sent as text that UTF-8 can hold."""
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    return str(value).encode(errors='replace').decode()


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Any]],
    width: int = 0,
) -> list[str]:
    """Return lines of text: a head, then the rows. Columns of numbers are right-aligned.

    Where a line has more than `width` columns (0: it may), the head and each row go on below.
    """
    cells = [list(heads)]
    cells += [[_cell(value) for value in row] for row in rows]
    columns = range(len(heads))
    widths = [max(len(row[column]) for row in cells) for column in columns]
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in columns]
    bands = _bands(widths, width)
    return [_aligned(row, widths, right, band) for row in cells for band in bands]


def _cell(value: Any) -> str:
    return f'{value:,}' if isinstance(value, int) else printable(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or value in ('', '-', UNKNOWN)


def _bands(widths: list[int], width: int) -> list[list[int]]:
    """Return which columns stand in the first line of a row, in the second one, and so on."""
    bands: list[list[int]] = [[]]
    used = 0
    for column, own in enumerate(widths):
        if width and bands[-1] and used + own > width:
            bands.append([])
            used = len(BELOW)
        bands[-1].append(column)
        used += own + len(GAP)
    return bands


def _aligned(
    row: list[str],
    widths: list[int],
    right: list[bool],
    band: list[int],
) -> str:
    cells = []
    for column in band:
        cell = row[column]
        width = widths[column]
        cells.append(cell.rjust(width) if right[column] else cell.ljust(width))
    start = '' if 0 in band else BELOW
    return (start + GAP.join(cells)).rstrip()


def shorten(text: object, most: int = 60) -> str:
    """Return printable text of at most so many characters; an ellipsis stands for the rest."""
    line = printable(text)
    return line if len(line) <= most else line[: most - 1] + '…'


def count_of(number: int, noun: str, plural: str = '') -> str:
    """Return a number with its noun: '1 message', '1,200 messages'; `plural` if it has no s."""
    if number != 1:
        noun = plural or f'{noun}s'
    return f'{number:,} {noun}'


class Counting(string.Formatter):
    """Formats templates with nouns: '{mined:block} mined' becomes '1 block mined'.

    What stands before a noun formats the number: '{found:,queue}'. A plural without s
    follows it: '{found:policy/policies}'.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format a value; with its noun, if the specification names one."""
        found = NOUN.fullmatch(format_spec)
        if not found:
            return str(super().format_field(value, format_spec))
        number_format, noun, plural = found.groups()
        if value != 1:
            noun = plural or f'{noun}s'
        return f'{value:{number_format}} {noun}'


def rate(count: int, per_s: float, unit: str) -> str:
    """Return a rate as '1,200 blocks/s'; '' where few events in a short time tell of none."""
    is_tiny = count < FEWEST_FOR_RATE and count < per_s * SHORTEST_FOR_RATE_S
    if is_tiny or not per_s:
        return ''
    return f'{per_s:,.0f}{unit}'


def time_and_rate(duration_s: float, rate_text: str) -> str:
    """Return how long a run took, and its rate if there is one: '2.0 s, 1,200 blocks/s'."""
    return ', '.join(filter(None, [f'{duration_s:.1f} s', rate_text]))


def readable_place(place: str) -> str:
    """Return 'host:port/vhost' of a URL for people: the virtual host / would be %2F."""
    where, _, vhost = place.partition('/')
    return printable(f'{where}, virtual host {unquote(vhost)}')


def utc(at: float | None, form: str = '%Y-%m-%d %H:%M:%S') -> str:
    """Return a time (s since 1970) as text in UTC, '-' for None."""
    return '-' if at is None else time.strftime(form, time.gmtime(at))


def duration(seconds: float) -> str:
    """Return a duration as people say it: '12 s', '3 min', '5 h', '2 d'."""
    for unit, size in UNITS_S:
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {unit}'
    return f'{max(0, seconds):.0f} s'
