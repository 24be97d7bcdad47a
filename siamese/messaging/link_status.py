"""What scripts ask of a link: how many messages wait, what is wrong, the summary."""

from __future__ import annotations

import time
from typing import Any

from common import Failure
from siamese import script
from siamese.messaging.session import Session
from siamese.text import count_of

FREE_WITHOUT_CONFIRMS = 100  # messages at a time: nothing limits them, but signals must be seen


class LinkStatus(Session):
    """A session that answers the questions of scripts."""

    @property
    def free_window(self) -> int:
        """How many messages publish() takes now without waiting."""
        return (self.outbox.window or FREE_WITHOUT_CONFIRMS) - len(self.outbox)

    @property
    def unconfirmed_count(self) -> int:
        """How many published messages are not confirmed yet."""
        return len(self.outbox)

    @property
    def waits_for_confirm(self) -> bool:
        """Whether the broker has not answered yet to a message that was sent."""
        return bool(self.outbox.unconfirmed)

    @property
    def oldest_wait_s(self) -> float | None:
        """How long the oldest message that was sent has waited for its confirm, if one waits."""
        return self.outbox.unconfirmed.oldest_wait_s()

    @property
    def unroutable(self) -> bool:
        """Whether the latest message was returned, without retry_returned."""
        return self.outbox.unroutable

    @unroutable.setter
    def unroutable(self, value: bool) -> None:
        self.outbox.unroutable = value

    @property
    def flags_redelivered(self) -> bool:
        """Whether the broker flags what it delivers again, as far as we know."""
        return self.flag_probe.answer is not False

    @property
    def invalid_count(self) -> int:
        """How many deliveries were rejected as invalid."""
        return sum(self.rejections.values())

    @property
    def problem(self) -> str:
        """What keeps messages from flowing, with its duration, or ''."""
        alarm = self.reconnector.alarm
        if alarm.since:
            return alarm.text()
        if self.is_ready:
            return ''
        awaited, _ = self.connection.awaited()
        why = f' (no answer to {awaited})' if awaited else ''
        return f'broker unavailable{why}, {time.monotonic() - self.unavailable_since:.0f} s'

    @property
    def blocked_s(self) -> float:
        """How long the broker has blocked publishers in this run."""
        return self.reconnector.alarm.lasted_s

    @property
    def unavailable_since(self) -> float:
        """The time.monotonic() since which the broker is unavailable, if it is."""
        return self.reconnector.unavailable_since

    @property
    def is_closed_by_us(self) -> bool:
        """Whether the broker has answered to the close of the connection, at the end."""
        return self.reconnector.is_closed_by_us

    def work_in_hand(self) -> str:
        """Return what a run finishes after a signal, and what keeps it from that."""
        if not self.unconfirmed_count or not self.problem:
            return 'the work in hand'
        count = count_of(self.unconfirmed_count, 'message')
        limit = f'at most {self.stop_timeout_s:g} s'
        return f'the work in hand ({count} not confirmed, waiting {limit}: {self.problem})'

    def unfinished(self, what: str, why: str) -> Failure:
        """Return the Failure of a run that waited --stop-timeout in vain.

        `why` is said unless there is a problem of the connection.
        """
        waited = f'{self.stop_timeout_s:g} s after {asked_by()}'
        return Failure(f'{what} {waited}: {self.problem or why}; see --stop-timeout', 3)

    def check_connected(self) -> None:
        """Raise Failure if a run ends before it could begin: it could not tell."""
        if not self.counts['connections'] and not self.exit_status:
            raise Failure(f'{asked_by()} before it began: {self.problem}', 3)

    def check_set_aside(self) -> None:
        """Raise Failure if messages were set aside."""
        count = self.counts['set_aside']
        if count:
            refused = count_of(count, 'message')
            raise Failure(f'the broker refuses {refused}, see above', 1)

    def summary(self) -> dict[str, Any]:
        """Return what every summary holds."""
        return {
            'name': self.args.name,
            'run': self.run,
            'connections': self.counts['connections'],
            'duration_s': round(time.monotonic() - self.started, 3),
            'stopped': self.stop_reason,
            'exit_status': self.exit_status,
        }


def asked_by() -> str:
    """Return what asked a run to end: the name of a signal, or a flag."""
    return script.stop_requested() or '--duration'
