"""Requeue dead letters: publish them into the queues they were dead-lettered from."""

from __future__ import annotations

import argparse
import logging
import re
import time
from collections import Counter
from sqlite3 import Connection
from typing import Any

from pika.channel import Channel

from common import Failure
from siamese import script
from siamese.messaging.link import Link, connected
from siamese.monitoring import database, dead_letters
from siamese.monitoring.dead_letters import WholeDeadLetter
from siamese.monitoring.raw_properties import original_properties
from siamese.terminal import show
from siamese.text import count_of, printable

# A queue is full after so many nacks. A quorum queue that elects its leader nacks as
# well, but not for long.
NACKS_OF_A_FULL_QUEUE = 4
CONFIRM_TIMEOUT_S = 5
LONGEST_NAME_BYTES = 255  # of a queue: a short string of AMQP
SUMMARY = (
    '{requeued} of {found:dead letter} requeued, {unroutable} unroutable,'
    ' {unknown} from no known queue; {duration_s:.1f} s; stopped: {stopped}'
)


def can_be_a_queue(name: str) -> bool:
    """Return whether a queue may have this name: a stranger may forge the header x-death."""
    return 0 < len(name.encode(errors='replace')) <= LONGEST_NAME_BYTES


def declare(channel: Channel, link: Link) -> None:
    channel.confirm_delivery(ack_nack_callback=link.on_confirm, callback=link.on_ready)


def requeue(args: argparse.Namespace) -> int:
    """Requeue the dead letters that --requeue names; return the exit status."""
    db = database.open_for_reading(args.history)
    numbers = dead_letters.ids(db, args.requeue)
    # A URL may stand there by mistake.
    which = re.sub('//.*@', '//***@', printable(args.requeue))
    if not numbers:
        raise Failure(f'no dead letter of {which} waits in {args.history} to be requeued', 3)
    if not database.lock(f'{args.history}-requeue'):
        text = f'another process is requeueing dead letters of {args.history}'
        raise Failure(f'{text}; try again when it has ended', 3)
    if args.json != '-':
        doubt = dead_letters.may_be_copies(dead_letters.copies_among(db, args.requeue))
        show(f'{count_of(len(numbers), "dead letter")} of {which} to requeue{doubt}')
    db = database.open_for_writing(args.history)
    with connected(args, declare, retry_returned=False) as link:
        job = Requeuer(link, db, len(numbers))
        job.requeue_all(numbers)
    job.mark_confirmed()  # what was confirmed while the connection was closed
    script.report(args, SUMMARY, job.summary())
    if link.exit_status or job.requeued == job.found:
        return link.exit_status
    return 3


class Requeuer:
    """Requeues dead letters one by one; counts those that were, and that could not be."""

    def __init__(self, link: Link, db: Connection, found: int) -> None:
        self.link = link
        self.db = db
        self.found = found
        self.requeued = 0
        self.unknown = 0  # dead letters whose queue is not known, or cannot exist
        self.full: Counter[str] = Counter()  # dead letters by full queue
        self.current = 0  # the id of the dead letter that is being published
        self.confirmed: list[Any] = []
        link.on_confirmed = self.confirmed.extend

    def requeue_all(self, numbers: list[int]) -> None:
        """Requeue the dead letters with these ids, until the run is over."""
        for done, number in enumerate(numbers):
            if not self.link.keep_running(done):
                break
            self.current = number
            letter = dead_letters.get(self.db, number)
            if letter and not letter['requeued']:  # another process may have been faster
                self.requeue_one(letter, left=self.found - done)
                self.mark_confirmed()
        else:
            self.link.stop_reason = 'all are published'
        if self.full:
            kept = count_of(sum(self.full.values()), 'dead letter')
            queues = ', '.join(map(printable, self.full))
            text = f'{kept} not requeued: no room in {queues}; make room, and try again'
            self.link.fail(Failure(text, 3))

    def requeue_one(self, letter: WholeDeadLetter, left: int) -> None:
        queue = letter['queue']
        if not can_be_a_queue(queue):
            self.unknown += 1
            text = 'dead letter #%d is not requeued: no queue can have the name %.100r'
            if queue:
                logging.warning(text, letter['id'], printable(queue))
        elif queue in self.full or not self.publish(letter, left):
            self.full[queue] += 1

    def publish(self, letter: WholeDeadLetter, left: int) -> bool:
        """Publish a dead letter; return False if its queue is full.

        Raises Failure, which says that so many are `left`, if the broker does not
        answer.
        """
        link = self.link
        user = link.endpoint.credentials.username
        full_at = link.counts['nacked'] + NACKS_OF_A_FULL_QUEUE
        link.publish(
            exchange='',
            routing_key=letter['queue'],
            body=letter['body'],
            properties=original_properties(letter['encoded'], user),
        )
        link.wait_until(lambda: self._is_answered(full_at))
        if link.waits_for_confirm:
            why = link.problem or f'no confirm for {CONFIRM_TIMEOUT_S} s'
            kept = f'{count_of(left, "dead letter")} not requeued'
            link.give_up(Failure(f'{kept}: {why}; try again later', 3))
        is_nacked = link.withdraw()
        return not is_nacked or bool(script.stop_requested())

    def _is_answered(self, full_at: int) -> bool:
        """Return whether there is nothing more to wait for."""
        link = self.link
        if not link.unconfirmed_count or link.counts['nacked'] >= full_at:
            return True
        waited_s = link.oldest_wait_s
        if waited_s is None:
            return bool(script.stop_requested())
        return waited_s > CONFIRM_TIMEOUT_S

    def mark_confirmed(self) -> None:
        """Mark the dead letter that was published, if the broker has confirmed it."""
        if self.confirmed:
            dead_letters.mark_requeued(self.db, [self.current], time.time())
            self.requeued += 1
            self.confirmed.clear()

    def summary(self) -> dict[str, Any]:
        return {
            **self.link.summary(),
            'requeued': self.requeued,
            'found': self.found,
            'unknown': self.unknown,
            'unroutable': self.link.counts['returned'],
        }
