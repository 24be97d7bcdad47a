"""The processes of a demo, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import common
from siamese import ROOT, start
from siamese.testbed import product
from siamese.testbed.guard import NoFolder, Processes

LOOK_S = 0.1
LONG_S = 60  # a busy machine is slow
WORK_S = LONG_S + product.TIMEOUT_S  # a broker that does not start says so, and why
LONGEST_CLEANUP_S = 10
USAGE = 2  # exit statuses
COULD_NOT_TELL = 3
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal asks the demo to end."""


def perform(demo: Callable[[], int]) -> int:
    """Return the exit status of a demo: a signal ends it, once it has cleaned up."""
    try:
        return demo()
    except Stopped:
        return start.INTERRUPTED
    except NoFolder as error:
        raise common.Failure(str(error), COULD_NOT_TELL) from None


class Cast:
    """Scripts by the name of who plays them; on_look() is called while the demo waits."""

    def __init__(self, processes: Processes, on_look: Callable[[], None]) -> None:
        self.processes = processes
        self.folder = processes.guard.folder
        self.on_look = on_look
        self.signals: list[int] = []
        for number in STOP_SIGNALS:
            signal.signal(number, lambda number, _frame: self.signals.append(number))

    # ---- processes

    def begin(self, name: str, program: str, *flags: object, **variables: str) -> None:
        """Start a script, its output in a file."""
        command = [sys.executable, program, *map(str, flags)]
        with open(f'{self.folder}/{name}.log', 'wb') as log:
            self.processes.start(
                name, command, output=log, env={**os.environ, **variables}, cwd=str(ROOT)
            )

    def run(self, *command: str) -> int:
        """Run a script that prints for the audience; return its exit status."""
        self.processes.start('run', [sys.executable, *command], cwd=str(ROOT))
        self.until_ended('run')
        return self.status_of('run')

    def ask_to_end(self, *names: str) -> None:
        """Have scripts finish their work, and wait for their end."""
        for name in names:
            self.processes.signal(name, signal.SIGTERM)
        self.until_ended(*names)

    def is_running(self, name: str) -> bool:
        return self.processes.is_running(name)

    def status_of(self, name: str) -> int:
        """Return the exit status of a script that has ended."""
        return self.processes.started[name].returncode

    def last_line_of(self, name: str) -> str:
        """Return the last line that a script has printed."""
        with open(f'{self.folder}/{name}.log', encoding='utf-8', errors='replace') as log:
            *_, last = ['it said nothing', *log.read().splitlines()]
        return last

    def check(self, names: Iterable[str]) -> None:
        """Raise Failure if one of the scripts has ended, and not with 0."""
        for name in names:
            if not self.is_running(name) and self.status_of(name):
                status = self.status_of(name)
                what = f'{name} ended with status {status}: {self.last_line_of(name)}'
                raise common.Failure(what, USAGE if status == USAGE else COULD_NOT_TELL)

    # ---- waiting

    def until(
        self,
        condition: Callable[[], Any],
        running: Iterable[str] = (),
        within_s: float = LONG_S,
    ) -> None:
        """Wait for a condition; raise Stopped or Failure.

        The scripts `running` should not fail meanwhile.
        """
        deadline = time.monotonic() + within_s
        while not condition():
            if self.signals:
                signal.alarm(LONGEST_CLEANUP_S)  # ends us where the cleanup does not
                raise Stopped
            self.check(running)
            if time.monotonic() > deadline:
                raise common.Failure(f'the demo stands still for {within_s:g} s', COULD_NOT_TELL)
            time.sleep(LOOK_S)
            self.on_look()

    def until_ended(self, *names: str) -> None:
        """Wait until scripts have ended."""
        self.until(lambda: not any(map(self.is_running, names)))

    def wait_for(self, future: Future[Any]) -> None:
        """Wait for work in the background; raise what it raises."""
        self.until(future.done, within_s=WORK_S)
        future.result()

    def pause(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over)
