"""The queues and exchanges that are ours on a broker, and how they are removed."""

from __future__ import annotations

import contextlib
import copy
import time
from collections import deque

import pika
from pika.exceptions import ChannelClosedByBroker

from common import Failure
from siamese.messaging import blocking

# A broker that freezes, or never answers, does not hold up the end of a run.
REMOVE_TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 5
RETRY_INTERVAL_S = 0.2


class Names:
    """Names of queues and exchanges, each as (kind, name), until they are removed."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, str]] = deque()

    def queue(self, name: str) -> str:
        return self._add('queue', name)

    def exchange(self, name: str) -> str:
        return self._add('exchange', name)

    def _add(self, kind: str, name: str) -> str:
        if (kind, name) not in self.waiting:
            self.waiting.append((kind, name))
        return name

    def left(self) -> list[str]:
        """Return the names that are not removed."""
        return sorted({name for _, name in self.waiting})

    def remove(self, endpoint: pika.ConnectionParameters) -> None:
        """Delete all of them, as far as the broker answers.

        Takes little more than REMOVE_TIMEOUT_S at most.
        """
        endpoint = copy.copy(endpoint)
        endpoint.socket_timeout = endpoint.stack_timeout = ANSWER_TIMEOUT_S
        waiting = self.waiting
        deadline = time.monotonic() + REMOVE_TIMEOUT_S
        while waiting and time.monotonic() < deadline:
            with contextlib.suppress(Failure):
                delete(endpoint, waiting, deadline)
            if waiting:
                waiting.rotate(-1)  # the broker may not answer to this one
                time.sleep(RETRY_INTERVAL_S)


def delete(
    endpoint: pika.ConnectionParameters,
    waiting: deque[tuple[str, str]],
    deadline: float,
) -> None:
    """Delete queues and exchanges; take each from `waiting` once it is gone. Raises Failure.

    If the broker closes the channel we lack the permission, or it is not there: so
    nothing of this name can be ours.
    """
    with blocking.connected(endpoint, ANSWER_TIMEOUT_S) as connection:
        while waiting and time.monotonic() < deadline:
            kind, name = waiting[0]
            with contextlib.suppress(ChannelClosedByBroker), connection.channel() as channel:
                if kind == 'queue':
                    channel.queue_delete(queue=name)
                else:
                    channel.exchange_delete(exchange=name)
            waiting.popleft()
