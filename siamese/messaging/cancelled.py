"""Why the broker cancelled a consumer: basic.cancel does not say it.

A consumer is cancelled when its queue is deleted, or its node is down. RabbitMQ from 4.3
on also cancels the consumer of a quorum queue when a delivery is not acknowledged in
time; before that it closes the channel, and says why. Then the queue is still there.
That is looked for on the next channel: a quorum queue that is being deleted is there for
a moment longer than its consumer.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol

import pika
from pika import frame

from siamese.messaging import framing
from siamese.messaging.reconnect import Reconnector
from siamese.messaging.topology import arguments_of

TIMED_OUT = (
    'its queue %s is still there: an acknowledgement timed out '
    '(or the queue was deleted, and declared again)'
)


class Consumer(Protocol):
    """What a look needs of the session whose consumer was cancelled."""

    topology: list[partial[None]]
    reconnector: Reconnector


class Look:
    """A look for the queue of a cancelled consumer, before it is declared again.

    queue: to look for, '' for none; is_running: whether the broker has yet to answer.
    """

    def __init__(self) -> None:
        self.queue = ''
        self.is_running = False

    def on_cancelled(
        self, session: Consumer, channel: framing.Channel, cancel: frame.Method
    ) -> None:
        """Note which queue it was, and reopen the channel; the callback of basic.cancel."""
        queue = channel.consumed[cancel.method.consumer_tag]
        arguments = arguments_of(queue, session.topology) or {}
        is_quorum = arguments.get('x-queue-type') == 'quorum'
        if is_quorum and session.reconnector.rights.may_look_at(queue):
            self.queue = queue
        session.reconnector.reopen('consumer cancelled')

    def begin(self, channel: pika.channel.Channel) -> None:
        """Look on a new channel, which the broker closes if the queue is gone."""
        queue = self.queue
        self.queue = ''
        self.is_running = bool(queue)
        if queue:
            told = partial(self._on_there, queue)
            channel.queue_declare(queue=queue, passive=True, callback=told)

    def _on_there(self, queue: str, _frame: frame.Method) -> None:
        self.is_running = False
        logging.warning(TIMED_OUT, queue)
