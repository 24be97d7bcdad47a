"""What a terminal gets beside the text: colour, the progress of a run, lines that fit.

A pipe, a file and the log of a CI job get none of it. NO_COLOR and TERM=dumb switch
colour off; the flag --color goes before both. A `stream` is stdout unless it is given.
"""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from siamese.text import printable, table

WHEN = ('auto', 'always', 'never')  # of --color
BOLD = '1'
RED = '31'
GREEN = '32'
YELLOW = '33'
STATUS_COLOURS = {0: GREEN, 1: RED}  # of a verdict, by its exit status
WORD_COLOURS = {'FAIL': RED, 'wrong:': RED, 'warning:': YELLOW}

USUAL_COLUMNS = 80  # of a terminal that does not say it
NARROWEST = 20  # columns; below that lines are left as they are
PROGRESS_COLUMNS = 20

_when = 'auto'
_has_progress: list[TextIO] = []  # the streams on which a progress line stands
_errors: set[str] = set()  # what was logged as an error on a terminal


def choose(when: str) -> None:
    """Take the value of --color."""
    global _when
    _when = when


def has_colour(stream: TextIO | None = None) -> bool:
    """Return whether colours are written to a stream."""
    if _when != 'auto':
        return _when == 'always'
    stream = stream or sys.stdout
    is_refused = os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb'
    return not is_refused and stream.isatty()


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return text in a colour, where the stream has colours."""
    if not colour or not has_colour(stream):
        return text
    return f'\033[{colour}m{text}\033[0m'


def colour_of(exit_status: int | None) -> str:
    """Return the colour of a summary by its exit status: green, red, or unknown in yellow."""
    if exit_status is None:
        return ''
    return STATUS_COLOURS.get(exit_status, YELLOW)


def with_coloured_words(text: str, stream: TextIO | None = None) -> str:
    """Return text in which FAIL and warnings have their colours."""
    for word, colour in WORD_COLOURS.items():
        text = text.replace(word, coloured(word, colour, stream))
    return text


def show(*lines: object, colour: str = '', indent: int = 2) -> None:
    """Print lines for people to stdout, each with unprintable characters escaped.

    Without a colour FAIL and warnings have theirs. A line that does not fit the terminal
    goes on below, `indent` columns to the right.
    """
    for line in map(printable, lines):
        text = wrapped(line, indent)
        print(coloured(text, colour) if colour else with_coloured_words(text))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table whose lines fit the terminal, see text.table()."""
    width = columns()
    if width < NARROWEST:
        width = 0
    show(*table(heads, rows, width))


# ---- width


def columns(stream: TextIO | None = None) -> int:
    """Return how wide the terminal is to which a stream writes; 0 if it writes to none."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return 0
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS


def wrapped(text: str, indent: int, stream: TextIO | None = None) -> str:
    """Return text whose lines fit the terminal; what goes on below is indented."""
    width = columns(stream)
    if width < NARROWEST:
        return text
    if indent > width // 2:
        indent = 4
    return '\n'.join(_fitting(line, width, indent) for line in text.split('\n'))


def _fitting(line: str, width: int, indent: int) -> str:
    if len(line) <= width:
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=' ' * indent,
        break_long_words=False,  # a URL can still be copied
        break_on_hyphens=False,
    )


def bar(share: float, width: int, stream: TextIO | None = None) -> str:
    """Return a bar of `width` columns, of which a share (0 to 1) is full."""
    full, empty = '#', '.'
    stream = stream or sys.stdout
    if 'utf' in (stream.encoding or '').lower():
        full, empty = '█', '░'
    count = round(min(max(share, 0), 1) * width)
    return full * count + empty * (width - count)


# ---- progress, and the log


def show_progress(text: str, stream: TextIO) -> None:
    """Show a line that the next one replaces."""
    width = columns(stream) or USUAL_COLUMNS
    stream.write('\r' + text[: width - 1].ljust(width - 1) + '\r')
    stream.flush()
    _has_progress[:] = [stream]


def clear_progress() -> None:
    """Remove the progress line, before other text comes."""
    for stream in _has_progress:
        width = columns(stream) or USUAL_COLUMNS
        stream.write('\r' + ' ' * (width - 1) + '\r')
        stream.flush()
    _has_progress.clear()


def has_shown_error(text: str) -> bool:
    """Return whether a terminal shows this text already, as an error in the log."""
    return text in _errors


class LogHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes the log to stderr: on a terminal errors in red, warnings in yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        clear_progress()
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = wrapped(super().format(record), 4, self.stream)
        if record.levelno < logging.WARNING:
            return text
        if record.levelno < logging.ERROR:
            return coloured(text, YELLOW, self.stream)
        if self.stream.isatty():
            _errors.add(record.getMessage())
        return coloured(text, RED, self.stream)
