"""How every script begins: it hears signals before it imports anything that takes time.

A script calls begin() first of all. From then on SIGINT or SIGTERM ends it at
once, in silence and with status 130, since nothing is begun yet: no exception
is raised, for within an import Python may print or swallow it. Once a run has
something to finish, it calls finish_on_signal(): the first signal is noted, and
a second one raises KeyboardInterrupt.

Only modules that Python has read already, or reads in 1 ms, are imported above;
nothing here is newer than Python 3.6, whose users are told what they need.
"""

import atexit
import os
import signal
import sys
import time

OLDEST_PYTHON = (3, 9)
INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

signals = []  # type: list[int]  # the numbers of those that came since finish_on_signal()
first_at = 0.0  # time.monotonic() of the first of them
_has_work = False


def begin():
    # type: () -> None
    """Take signals, end where Python is too old, and do without pika if need be."""
    take_signals()
    atexit.register(ignore_signals)  # the first to register is the last to be called
    atexit.register(forget_what_is_not_taken)
    if sys.version_info < OLDEST_PYTHON:
        script = os.path.basename(sys.argv[0])
        found = '.'.join(map(str, sys.version_info[:2]))
        sys.stderr.write(f'{script}: Python 3.9 or later is needed, this is {found}\n')
        sys.exit(3)
    from siamese.absent import Finder

    sys.meta_path.append(Finder())


def take_signals():
    # type: () -> None
    """Let a signal end the script at once, until finish_on_signal() is called.

    Also one that was held back (script.signals_blocked()): a Python that is still being
    loaded may swallow it, or end with status 1.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def finish_on_signal():
    # type: () -> None
    """From now on the first signal lets the script finish the work in hand."""
    global _has_work
    _has_work = True


def end(status):
    # type: (int) -> None
    """From now on a signal ends the script with the status that it has earned."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(status))


def ignore_signals():
    # type: () -> None
    """Keep the status while Python ends: it would take our handlers away, and die of a signal."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def forget_what_is_not_taken():
    # type: () -> None
    """Keep the status where stdout or stderr is full: Python 3.13 would end with 120."""
    open_ones = [stream for stream in (sys.stdout, sys.stderr) if stream and not stream.closed]
    for stream in open_ones:
        try:
            stream.flush()
        except OSError:  # noqa: PERF203  there are two
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _on_signal(number, _frame):
    # type: (int, object) -> None
    global first_at
    if not _has_work:
        os._exit(INTERRUPTED)
    signals.append(number)
    if len(signals) > 1:
        raise KeyboardInterrupt
    first_at = time.monotonic()
