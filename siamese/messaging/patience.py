"""How long a session waits for its broker: until it is there, answers, confirms."""

from __future__ import annotations

import argparse
import logging
import time

from common import Failure, display_address
from siamese.messaging.messages import longest_wait_s
from siamese.messaging.outbox import Outbox
from siamese.messaging.reconnect import Reconnector
from siamese.messaging.silence import LIMITED, Silence
from siamese.text import count_of

# Above it a confirm may never come (rabbitmq-server#14589): the channel is opened anew.
CONFIRM_TIMEOUT_S = 60


class Patience:
    """The limits of one session; its owner calls check() 10 times a second."""

    def __init__(
        self,
        args: argparse.Namespace,
        outbox: Outbox,
        reconnector: Reconnector,
    ) -> None:
        self.limit_s: float | None = args.give_up_after
        self.guess = ''
        if getattr(args, 'queue_type', '') == 'quorum':
            self.guess = ' (a quorum queue without majority?)'
        self.outbox = outbox
        self.reconnector = reconnector

    def check(self) -> None:
        """Drop what waits too long for an answer; end the run after --give-up-after."""
        reconnector = self.reconnector
        if self.limit_s is not None and not reconnector.failure:
            reconnector.failure = self._failure(self.limit_s)
        if not reconnector.alarm.since:
            self._check_answers()
            self._check_confirms()

    def _failure(self, limit_s: float) -> Failure | None:
        """Return the Failure of a run that gives up, if it is time for that."""
        where = display_address(self.reconnector.endpoint)
        count = len(self.outbox)
        if not self.reconnector.is_ready:
            if time.monotonic() - self.reconnector.unavailable_since <= limit_s:
                return None
            return unreachable(where, limit_s, self._why_unavailable(), count)
        if self.reconnector.alarm.since or self._unanswered_s() <= limit_s:
            return None
        what = f'{count_of(count, "message")} not confirmed'
        why = f'{where} has left one unanswered for {limit_s:g} s{self.guess}'
        return Failure(f'{what}: {why}; see --give-up-after', 3)

    def _unanswered_s(self) -> float:
        outbox = self.outbox
        return longest_wait_s([*outbox.unconfirmed.values(), *outbox.backlog])

    def _why_unavailable(self) -> str:
        awaited, _ = self.reconnector.connection.awaited()
        return f'no answer to {awaited}' if awaited else self.reconnector.loss_reason

    def _check_answers(self) -> None:
        """Drop the connection if the broker does not answer what a channel begins with."""
        connection = self.reconnector.connection
        awaited, waited_s = connection.awaited()
        limit_s = self.reconnector.offer.answer_timeout_s(awaited)
        if awaited in LIMITED and waited_s > limit_s:
            connection.abort(Silence(f'no answer to {awaited} for {waited_s:.0f} s'))

    def _check_confirms(self) -> None:
        """Open a new channel, or a new connection, where the oldest confirm is overdue."""
        waited_s = self.outbox.unconfirmed.oldest_wait_s()
        channel = self.reconnector.channel
        connection = self.reconnector.connection
        if waited_s is None or not channel:
            return
        if waited_s > CONFIRM_TIMEOUT_S and channel.is_open:
            logging.warning('no confirm for %.0f s%s, trying a new channel', waited_s, self.guess)
            self.reconnector.reopen('no confirm')
        elif waited_s > 2 * CONFIRM_TIMEOUT_S and connection.is_open:
            connection.abort(Silence('a channel cannot be closed'))


def unreachable(
    where: str,
    limit_s: float,
    loss_reason: str,
    unconfirmed_count: int,
) -> Failure:
    """Return the Failure of a run that gives up on a broker that is unavailable."""
    why = f' ({loss_reason})' if loss_reason else ''
    return Failure(
        f'broker unreachable at {where} for {limit_s:g} s{why}, '
        f'{unconfirmed_count} not confirmed; is it running, is AMQP_URL right?',
        3,
    )
