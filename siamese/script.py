"""The frame of every script: signals, summary and exit status.

Exit status: 0 done and right, 1 the check failed, 2 usage, 3 could not tell,
130 interrupted twice.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import common

INTERRUPTED = 130
BROKEN_PIPE = 141

_signals: list[int] = []


def tally(done: int, count: int | None) -> str:
    """Return 'DONE of COUNT', or 'DONE' without a count."""
    return f'{done} of {count}' if count else str(done)


def show_progress(done: int, elapsed_s: float, args: argparse.Namespace) -> None:
    """Show how far a bounded run is, on a terminal that shows no line per message."""
    is_bounded = args.count or args.duration
    shows_lines = sys.stdout.isatty() and not args.quiet
    if is_bounded and not shows_lines and sys.stderr.isatty():
        line = f'\r{tally(done, args.count)} in {elapsed_s:.0f} s\033[K'
        print(line, end='\r', file=sys.stderr, flush=True)


def report(args: argparse.Namespace, template: str, summary: Mapping[str, Any]) -> None:
    """End a run: print the summary as `template` shows it, and as JSON where --json says."""
    if args.json == '-':
        print(json.dumps(summary))
        return
    print(template.format_map(summary))
    if args.json:
        with open(args.json, 'w') as file:
            print(json.dumps(summary), file=file)


def stop_requested() -> str:
    """Return the name of the signal that asks this script to stop, or ''."""
    return signal.Signals(_signals[0]).name if _signals else ''


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script, and exit with its status.

    SIGINT or SIGTERM once lets it finish the work in hand, twice stops it immediately.
    """
    take_signals()
    keep_lines_whole()
    try:
        status = main()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # | head
        status = BROKEN_PIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except common.Failure as failure:
        logging.error('%s', failure)
        status = failure.status
    except OSError as error:
        cause = error if error.filename else f'cannot write the output: {error.strerror}'
        logging.error('%s', cause)
        status = 3
    sys.exit(status)


def take_signals() -> None:
    """Note the first SIGINT or SIGTERM; raise KeyboardInterrupt at the second."""

    def on_signal(number: int, _frame: object) -> None:
        _signals.append(number)
        if len(_signals) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)


def keep_lines_whole() -> None:
    """Write each line in one piece, also with PYTHONUNBUFFERED: scripts share terminals."""
    sys.stdout = sys.stdout or open(os.devnull, 'w')  # None if it was closed: >&-
    sys.stderr = sys.stderr or open(os.devnull, 'w')
    sys.stdout.reconfigure(  # type: ignore[union-attr]
        line_buffering=True, write_through=False, errors='backslashreplace'
    )
