"""pika's loop, turn by turn, with waits to the microsecond and any number of descriptors."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop, PollEvents, SelectPoller

# select takes only descriptors below this number (FD_SETSIZE).
SELECT_LIMIT = 1024


class Poller(SelectPoller):
    """Waits by select, which wakes to the microsecond.

    A process with very many descriptors waits by poll, which wakes to the next millisecond.
    """

    until = math.inf  # time.monotonic() at which to return at the latest
    is_beyond_select = False

    def poll(self) -> None:
        """Wait for what happens on a descriptor, and call its handler."""
        wait_s = max(0, min(self._get_max_wait(), self.until - time.monotonic()))
        wait = self._select
        if self.is_beyond_select:
            wait = self._poll
        events = wait(wait_s)
        if events:
            self._dispatch_fd_events(events)

    def _select(self, wait_s: float) -> dict[int, int]:
        """Return the events of each descriptor."""
        interest = self._fd_events
        readable, writable, broken = select.select(
            interest[PollEvents.READ],
            interest[PollEvents.WRITE],
            interest[PollEvents.ERROR],
            wait_s,
        )
        events = dict.fromkeys(readable, PollEvents.READ)
        for descriptor in writable:
            events[descriptor] = events.get(descriptor, 0) | PollEvents.WRITE
        for descriptor in broken:
            events[descriptor] = events.get(descriptor, 0) | PollEvents.ERROR
        return events

    def _poll(self, wait_s: float) -> dict[int, int]:
        poller = select.poll()
        for fileno in self._fd_handlers:
            events = [event for event, filenos in self._fd_events.items() if fileno in filenos]
            poller.register(fileno, sum(events))
        return dict(poller.poll(wait_s * 1000))

    def _register_fd(self, fileno: int, events: int) -> None:
        self.is_beyond_select = max(self._fd_handlers) >= SELECT_LIMIT


def nothing() -> None:
    """Do nothing."""


class Loop(IOLoop):
    """A loop that its owner turns.

    before_sending() is called before anything that was collected goes to a socket.
    """

    before_sending: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.before_sending = nothing
        self.activate_poller()

    @staticmethod
    def _get_poller(
        get_wait_seconds: Callable[[], float | None],
        process_timeouts: Callable[[], None],
    ) -> Any:
        return Poller(get_wait_seconds, process_timeouts)

    def turn(self, until: float) -> None:
        """Serve sockets and timers until something happens, or time.monotonic() is `until`."""
        self._poller.until = until
        self._poller.poll()
        self.process_timeouts()
