"""The frame of every script: signals, summary and exit status.

Exit status: 0 done and right, 1 the check failed, 2 usage, 3 could not tell,
130 interrupted: by a second signal, or by the first one before there was work to
finish (start.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import common
from siamese import absent, start, terminal
from siamese.text import Counting, duration

BROKEN_PIPE = 141


def tally(done: int, count: int | None) -> str:
    """Return 'DONE of COUNT', or 'DONE' without a count."""
    return f'{done} of {count}' if count else str(done)


def show_progress(done: int, elapsed_s: float, args: argparse.Namespace) -> None:
    """Show how far a bounded run is, on a terminal that shows no line per message.

    `has_rows` says that a script shows a line each second only.
    """
    is_bounded = args.count or args.duration
    has_rows = getattr(args, 'has_rows', False)
    shows_lines = sys.stdout.isatty() and not args.quiet and not has_rows
    if is_bounded and not shows_lines and sys.stderr.isatty():
        line = progress_line(done, elapsed_s, args.count, args.duration)
        terminal.show_progress(line, sys.stderr)


def progress_line(
    done: int,
    elapsed_s: float,
    count: int | None,
    duration_s: float | None,
) -> str:
    """Return how far a run is that ends with a count, a duration or both, and the time left."""
    share = 0.0
    left_s = math.inf
    if duration_s:
        share = elapsed_s / duration_s
        left_s = duration_s - elapsed_s
    if count:
        share = max(share, done / count)
    if count and done:
        left_s = min(left_s, elapsed_s / done * (count - done))
    bar = terminal.bar(share, terminal.PROGRESS_COLUMNS, sys.stderr)
    left = ''
    if left_s < math.inf:
        left = f', {duration(left_s)} left'
    return f'{bar}  {tally(done, count)} in {elapsed_s:.0f} s{left}'


def report(
    args: argparse.Namespace,
    template: str,
    summary: Mapping[str, Any],
    **words: str,
) -> None:
    """End a run: print the summary as `template` shows it, and as JSON where --json says.

    The template may name nouns, see Counting. `words` are for the template only.
    """
    terminal.clear_progress()
    if args.json == '-':
        print(json.dumps(summary))
        return
    shown = {**summary, **words}
    if sys.stdout.isatty() and terminal.has_shown_error(shown.get('stopped', '')):
        shown['stopped'] = 'see above'
    counting = Counting()
    lines = [counting.vformat(line, (), shown) for line in template.split('\n')]
    terminal.show(*lines, colour=terminal.colour_of(summary.get('exit_status')))
    if args.json:
        with open(args.json, 'w') as file:
            print(json.dumps(summary), file=file)


def stop_requested() -> str:
    """Return the name of the signal that asks this script to stop, or ''."""
    if not start.signals:
        return ''
    return signal.Signals(start.signals[0]).name


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold signals back until the block has finished.

    A process that is started in the block holds them back too; our scripts do so until
    they can take them (start.take_signals()).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, start.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script, and exit with its status.

    After start.finish_on_signal() SIGINT or SIGTERM once lets it finish the work in
    hand, twice stops it immediately. Before that the first one does.
    """
    start.take_signals()
    keep_lines_whole()
    status: int | None = start.INTERRUPTED
    with contextlib.suppress(KeyboardInterrupt):
        status = status_of(main)
    start.end(status or 0)
    sys.exit(status)


def status_of(main: Callable[[], int | None]) -> int | None:
    """Return the exit status of `main()`; log what it raises, as one line."""
    try:
        return main()
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except common.Failure as failure:
        logging.error('%s', failure)
        return failure.status
    except ModuleNotFoundError as error:
        logging.error('%s', absent.failure(str(error.name)))
        return 3
    except OSError as error:
        where = error.filename or 'cannot write the output'
        logging.error('%s: %s', where, error.strerror)
        return 3


def keep_lines_whole() -> None:
    """Write each line in one piece, also with PYTHONUNBUFFERED: scripts share terminals."""
    sys.stdout = sys.stdout or open(os.devnull, 'w')  # None if it was closed: >&-
    sys.stderr = sys.stderr or open(os.devnull, 'w')
    sys.stdout.reconfigure(  # type: ignore[union-attr]
        line_buffering=True, write_through=False, errors='backslashreplace'
    )
