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
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import common
from siamese import absent, start

BROKEN_PIPE = 141


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
    if not start.signals:
        return ''
    return signal.Signals(start.signals[0]).name


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
        cause = error if error.filename else f'cannot write the output: {error.strerror}'
        logging.error('%s', cause)
        return 3


def keep_lines_whole() -> None:
    """Write each line in one piece, also with PYTHONUNBUFFERED: scripts share terminals."""
    sys.stdout = sys.stdout or open(os.devnull, 'w')  # None if it was closed: >&-
    sys.stderr = sys.stderr or open(os.devnull, 'w')
    sys.stdout.reconfigure(  # type: ignore[union-attr]
        line_buffering=True, write_through=False, errors='backslashreplace'
    )
