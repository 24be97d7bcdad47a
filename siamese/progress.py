"""How far the reading of ledgers is: a line on a terminal, and an end when a signal asks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from siamese import script, terminal
from siamese.ledger import Event, Files
from siamese.text import duration

QUIET_S = 2  # what takes longer shows how far it is
EVERY_S = 0.5


class Progress:
    """Watches the reading; `interrupted` tells how far it was when a signal ended it."""

    interrupted = ''

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.next_at = self.started + QUIET_S

    def watch(self, files: Files) -> Iterator[Event]:
        """Yield the lines of ledgers until a signal comes."""
        for event in files:
            yield event
            if script.stop_requested():
                break
            self._show(files)
        terminal.clear_progress()
        if script.stop_requested():
            self.interrupted = f'{files.lines_read():,} lines{share_in_words(files)}'

    def _show(self, files: Files) -> None:
        now = time.monotonic()
        if now < self.next_at:
            return
        self.next_at = now + EVERY_S
        if sys.stderr.isatty():
            line = progress_line(files.lines_read(), files, now - self.started)
            terminal.show_progress(line, sys.stderr)


def share_of(files: Files) -> float:
    """Return how much of the ledgers is read, 0 if that is unknown."""
    return files.bytes_read() / max(files.bytes, 1)


def share_in_words(files: Files) -> str:
    share = share_of(files)
    return f', {share:.0%} of the ledgers' if share else ''


def progress_line(count: int, files: Files, elapsed_s: float) -> str:
    """Return how far the reading is, with its rate, and what is left by that."""
    rate = f'{count:,} lines, {count / elapsed_s:,.0f}/s'
    share = share_of(files)
    if not share:
        return rate
    bar = terminal.bar(share, terminal.PROGRESS_COLUMNS, sys.stderr)
    left = duration(elapsed_s / share - elapsed_s)
    return f'{bar}  {rate}, {left} left'
