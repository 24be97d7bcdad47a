"""When a run ends, and with which exit status: --count, --duration, signals, failures."""

from __future__ import annotations

import argparse
import logging
import time

from common import Failure
from siamese import flags, script, start

FIRST_TRY_S = 5  # that a run has to connect and declare, even with --duration 0


class RunLimits:
    """The limits of one run.

    done: how many messages it has dealt with; stop_reason: why it ended, or '';
    exit_status: so far.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.started = time.monotonic()
        self.done = 0
        self.stop_reason = ''
        self.exit_status = 0
        self.signal_logged = False
        # Scripts that wait for nothing lack the flag.
        self.stop_timeout_s = getattr(args, 'stop_timeout', flags.STOP_TIMEOUT_S)

    def in_time(self, at_least: float = 0) -> bool:
        """Return whether --duration, or `at_least` seconds, are not over."""
        if self.args.duration is None:
            return True
        return time.monotonic() < self.started + max(self.args.duration, at_least)

    def reason_to_stop(self) -> str:
        """Return why the run is over, or ''."""
        if script.stop_requested():
            return script.stop_requested()
        if self.args.count and self.done >= self.args.count:
            return 'count reached'
        return '' if self.in_time() else 'duration over'

    def asked_to_stop_at(self) -> float | None:
        """Return the time.monotonic() at which a signal or --duration asked the run to stop."""
        if start.signals:
            return start.first_at
        if self.args.duration is not None and not self.in_time():
            return self.started + self.args.duration
        return None

    def is_overdue(self) -> bool:
        """Return whether the run was asked to stop longer than --stop-timeout ago."""
        asked_at = self.asked_to_stop_at()
        return asked_at is not None and time.monotonic() > asked_at + self.stop_timeout_s

    def work_in_hand(self) -> str:
        """Return what a run finishes after a signal."""
        return 'the work in hand'

    def fail(self, failure: Failure) -> None:
        """Log why the run ended early; it becomes the stop reason and the exit status."""
        logging.error('%s', failure)
        self.exit_status = failure.status
        self.stop_reason = str(failure)

    def set_exit_status(self, done: int, invalid: int) -> None:
        """Set the exit status of a run that handled `done` messages, `invalid` of them invalid."""
        # A refusal (1) or an interruption (130) stays. After 3, could not tell, an invalid
        # message does tell.
        if self.exit_status not in (0, 3):
            return
        if invalid:
            self.exit_status = 1
        elif done < (self.args.count or 1):
            self.exit_status = 3

    def log_signal_and_progress(self) -> None:
        """Log the first signal once, and show the progress; called 10 times a second."""
        if script.stop_requested() and not self.signal_logged:
            self.signal_logged = True
            logging.info(
                '%s: finishing %s; a second signal stops immediately',
                script.stop_requested(),
                self.work_in_hand(),
            )
        script.show_progress(self.done, time.monotonic() - self.started, self.args)
