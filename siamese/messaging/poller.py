"""pika's IOLoop with a poller that waits to the microsecond, for any descriptor."""

from __future__ import annotations

import select
from collections.abc import Callable

from pika.adapters import select_connection
from pika.adapters.select_connection import SelectPoller

# select takes only descriptors below this number (FD_SETSIZE).
SELECT_LIMIT = 1024


class Poller(SelectPoller):
    """Waits by select, which wakes to the microsecond.

    A process with very many descriptors waits by poll, which wakes to the next millisecond.
    """

    is_beyond_select = False

    def poll(self) -> None:
        if self.is_beyond_select:
            self._poll_any()
        else:
            super().poll()

    def _poll_any(self) -> None:
        poller = select.poll()
        for fileno in self._fd_handlers:
            events = [event for event, filenos in self._fd_events.items() if fileno in filenos]
            poller.register(fileno, sum(events))
        self._dispatch_fd_events(dict(poller.poll(self._get_max_wait() * 1000)))

    def _register_fd(self, fileno: int, events: int) -> None:
        self.is_beyond_select = max(self._fd_handlers) >= SELECT_LIMIT


class IOLoop(select_connection.IOLoop):
    """An IOLoop with such a poller, ready for use."""

    def __init__(self) -> None:
        super().__init__()
        self.activate_poller()

    @staticmethod
    def _get_poller(
        get_wait_seconds: Callable[[], float | None],
        process_timeouts: Callable[[], None],
    ) -> Poller:
        return Poller(get_wait_seconds, process_timeouts)
