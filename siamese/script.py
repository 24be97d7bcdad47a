"""The frame of every script: its flags, its log, its signals, its summary and its exit status.

Exit status: 0 done and right, 1 the check failed, 2 usage, 3 could not tell, 130 interrupted twice.
"""

import json
import logging
import os
import signal
import sys

import common


def tally(done, count):
    """Return 'done of count' for people, or 'done' where there is no count."""
    return f'{done} of {count}' if count else str(done)


def show_progress(done, elapsed, args):
    """Show how far a bounded run is, on a terminal that shows no line per message."""
    if (
        sys.stderr.isatty()
        and (args.quiet or not sys.stdout.isatty())
        and (args.count or args.duration)
    ):
        print(
            f'\r{tally(done, args.count)} in {elapsed:.0f} s\033[K',
            end='\r',
            file=sys.stderr,
            flush=True,
        )


def report(args, template, summary):
    """End a run: print the dict `summary` on stdout as `template` shows it, and as JSON where --json says."""
    if args.json == '-':
        print(json.dumps(summary))
        return
    print(template.format_map(summary))
    if args.json:
        with open(args.json, 'w') as file:
            print(json.dumps(summary), file=file)


_signals = []


def stop_requested():
    """Return the name of the signal that asks this script to stop, or '' while there is none."""
    return signal.Signals(_signals[0]).name if _signals else ''


def run(main):
    """Run a script: SIGINT or SIGTERM once lets it finish what is in hand, twice ends it at once (exit status 130)."""

    def on_signal(number, _frame):
        _signals.append(number)
        if len(_signals) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    sys.stdout = sys.stdout or open(os.devnull, 'w')  # None if it was closed: >&-
    sys.stderr = sys.stderr or open(os.devnull, 'w')
    # Each line in one piece, also where PYTHONUNBUFFERED is set: scripts share terminals.
    sys.stdout.reconfigure(line_buffering=True, write_through=False, errors='backslashreplace')
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # | head
        status = 141
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except common.Failure as failure:
        logging.error('%s', failure)
        status = failure.status
    except OSError as error:
        logging.error(
            '%s', error if error.filename else f'cannot write the output: {error.strerror}'
        )
        status = 3
    sys.exit(status)
