"""pika's loop, turn by turn, with waits to the microsecond and any number of descriptors."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop, PollEvents, SelectPoller


class Poller(SelectPoller):
    """Waits with select: epoll and poll wait to the next millisecond.

    Where a descriptor is beyond what select can take (1,024), it is poll all the same.
    """

    until = math.inf  # time.monotonic() at which to return at the latest

    def poll(self) -> None:
        """Wait for what happens on a descriptor, and call its handler."""
        wait_s = max(0, min(self._get_max_wait(), self.until - time.monotonic()))
        try:
            events = self._select(wait_s)
        except ValueError:
            events = self._poll(wait_s)
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
        interest = self._fd_events
        poll = select.poll()
        for descriptor in interest[PollEvents.READ] | interest[PollEvents.WRITE]:
            wanted = 0
            for kind in (PollEvents.READ, PollEvents.WRITE):
                if descriptor in interest[kind]:
                    wanted |= kind
            poll.register(descriptor, wanted)
        return dict(poll.poll(math.ceil(wait_s * 1000)))


class Loop(IOLoop):
    """A loop that its owner turns."""

    def __init__(self) -> None:
        super().__init__()
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
