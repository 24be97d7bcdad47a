"""Serving the connection while a script works or waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property

from siamese import script
from siamese.messaging.link_status import LinkStatus
from siamese.messaging.run_limits import FIRST_TRY_S

SPIN_S = 0.0001  # a process that sleeps wakes up so much too late, measured on Linux
# Where this many deliveries or confirms come in one turn of the loop, the next ones are
# let come together for REST_S: at full speed a third less CPU for each (bench/perf_peers.py).
# After RESTS a turn without one shows whether they still come fast: at a fixed rate a stall
# must not make rests that go on by themselves.
BUSY = 10
REST_S = 0.0015
RESTS = 4
# What one script publishes within this time after a turn of the loop is sent together.
TOGETHER_S = 0.001


class Serving(LinkStatus):
    """A session that goes on until the run is over.

    taken: how many messages came by the run, or were confirmed of a batch, since the
    last turn of the loop.
    """

    taken = 0
    rests = 0  # in a row
    turned_at = 0.0  # time.monotonic() after the last turn of the loop

    def keep_running(self, done: int, due: float = 0.0) -> bool:
        """Serve the connection until time.monotonic() is `due`.

        Return whether the run goes on after `done` messages. If it does not, return at
        once; self.stop_reason says why.
        """
        self.done = done
        self._let_it_try()
        self._pump(until=due - SPIN_S)
        while time.monotonic() < due - SPIN_S and not self.reason_to_stop():
            self._pump(until=due - SPIN_S)
        while time.monotonic() < due and not self.reason_to_stop():
            pass  # what sleeps is woken too late
        return self._goes_on()

    def keep_publishing(self, done: int, due: float) -> bool:
        """Do what keep_running() does, unless that was done within TOGETHER_S and it is due."""
        if due <= time.monotonic() < self.turned_at + TOGETHER_S:
            self.done = done
            return self._goes_on()
        return self.keep_running(done, due)

    def keep_consuming(self) -> bool:
        """Serve the connection until something happens, unless deliveries wait already.

        Return whether the run goes on.
        """
        self._let_it_try()
        is_waiting = self.inbox or self.stop_reason or self.reason_to_stop()
        self._pump(until=0 if is_waiting else math.inf)
        return self._goes_on()

    def _goes_on(self) -> bool:
        self.stop_reason = self.reason_to_stop() or self.stop_reason
        return not self.stop_reason

    def _let_it_try(self) -> None:
        if not self.done:  # the first try to connect comes before the work
            self.wait_until(self._tried_once)

    def _pump(self, until: float = math.inf) -> None:
        self._rest(until)
        super()._pump(until)
        self.turned_at = time.monotonic()

    def _rest(self, until: float) -> None:
        """Let messages come together where they come fast by the run.

        Not if a quarter of all that may be under way came at once: the broker would wait. Nor
        if more is there already.
        """
        is_busy = BUSY <= self.taken < self.under_way // 4 and not self.connection.has_more
        self.taken = 0
        if is_busy and self.rests < RESTS and until > time.monotonic() + REST_S:
            self.rests += 1
            time.sleep(REST_S)
        else:
            self.rests = 0

    @cached_property
    def under_way(self) -> int:
        """How many messages may be unconfirmed, or unacknowledged."""
        return max(self.outbox.window, getattr(self.args, 'prefetch', 0))

    def _tried_once(self) -> object:
        tried = self.is_ready or self.reconnector.failures
        return tried or script.stop_requested() or not self.in_time(at_least=FIRST_TRY_S)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Serve the connection until `condition()` is true."""
        while not condition():
            self._pump()

    def process_events(self) -> bool:
        """Serve the connection without waiting; return False after --duration or --stop-timeout.

        Heartbeats, confirms and reconnecting go on.
        """
        self._pump(until=0)
        return self.in_time() and not self.is_overdue()
