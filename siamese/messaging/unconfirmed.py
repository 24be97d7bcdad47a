"""The messages that the broker has not confirmed yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count, takewhile

from pika.spec import Basic

from siamese.messaging.fast_path import AckRun
from siamese.messaging.messages import Message


class Unconfirmed(dict[int, Message]):
    """The unconfirmed messages of one channel by their delivery tag, oldest first."""

    last_tag = 0

    def add(self, messages: Sequence[Message]) -> None:
        """Note messages in the order in which they are published."""
        self.update(zip(count(self.last_tag + 1), messages))
        self.last_tag += len(messages)

    def take(self, answer: Basic.Ack | Basic.Nack) -> list[Message]:
        """Take out and return what the broker answers, oldest first."""
        if isinstance(answer, AckRun):
            return [message for ack in answer.acks for message in self._take(*ack)]
        return self._take(answer.delivery_tag, answer.multiple)

    def _take(self, tag: int, multiple: bool) -> list[Message]:
        if multiple:
            tags = list(takewhile(tag.__ge__, self))
            return [self.pop(answered) for answered in tags]
        if tag in self:
            return [self.pop(tag)]
        return []

    def mark_returned(self, message_id: str, why: str) -> bool:
        """Note that the broker returned a message, and why; return whether it is among these.

        basic.return has no delivery tag, and comes before the confirm.
        """
        found = False
        for message in self.values():
            if message.properties.message_id == message_id:
                message.returned = why
                found = True
        return found

    def oldest_wait_s(self) -> float | None:
        """Return how long the oldest message has waited for its confirm; None if none waits."""
        oldest = next(iter(self.values()), None)
        if not oldest:
            return None
        return time.monotonic() - oldest.sent_at

    def restart_clocks(self) -> None:
        """Let the wait for each confirm begin only now: the broker blocked publishers."""
        now = time.monotonic()
        for message in self.values():
            message.sent_at = now
            message.unanswered_since = 0.0

    def forget(self) -> None:
        """Drop all, for the channel is gone; the next one counts its tags from 1."""
        self.clear()
        self.last_tag = 0
