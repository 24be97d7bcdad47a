"""What monitor.py does for months: it stores what it hears of a broker.

Dead letters are delivered by the broker, and acknowledged once they are stored. The
metrics of queues and clients are asked for every --interval, apart from the connection:
however slow the management API is, dead letters flow and heartbeats go on.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from sqlite3 import Connection

from pika.channel import Channel

import common
from common import Failure
from siamese import script
from siamese.messaging import management_api
from siamese.messaging.deliveries import Delivery
from siamese.messaging.link import Link, connected
from siamese.monitoring import (
    clock,
    collector,
    database,
    dead_letters,
    events,
    mail,
    notices,
    prometheus,
    raw_properties,
    webhook,
)
from siamese.monitoring.raw_properties import DeadLetter
from siamese.terminal import show
from siamese.text import count_of, shorten

RETRY_INTERVAL_S = 5  # until the next collection when one failed
LAST_ANSWER_S = 1  # that a run waits for at its end
FORGET_INTERVAL_S = 3600
SHOWN = 255  # characters of a name: a queue has no longer one
WRITE_TIMEOUT_MS = 5000  # the heartbeat of the connection waits as long
LINE = '{reason}  {queue}  {message_id}  {size:,} bytes  from {sender}'
SUMMARY = (
    '{stored:dead letter} stored{doubt}, {collected:collection}, {mails:mail} sent{calls};'
    ' {duration_s:.1f} s; stopped: {stopped}'
)


def watch(args: argparse.Namespace, declare: Callable[[Channel, Link], None]) -> int:
    """Collect until told to stop; return the exit status.

    `declare` is called on each new channel, and consumes siamese.dead.
    """
    db = open_history(args)
    if args.prometheus:
        prometheus.serve(args.history, args.prometheus)
    end_mails = notices.start_thread(args, 'mail', args.mail_to and mail.Mailer)
    end_calls = notices.start_thread(args, 'webhook', args.webhook and webhook.Caller)
    with connected(args, declare) as link:
        monitor = Monitor(args, db, link)
        monitor.run()
    # If this cannot be noted, a dead letter is only compared once more.
    with contextlib.suppress(sqlite3.OperationalError):
        monitor.settle()
    counts = {
        'stored': monitor.counts['stored'],
        'copies': monitor.counts['copies'],
        'collected': monitor.counts['collected'],
        'mails': end_mails(),
        'webhook_calls': end_calls(),
    }
    doubt = dead_letters.may_be_copies(monitor.counts['copies'])
    calls = ''
    if args.webhook:
        calls = f', {count_of(counts["webhook_calls"], "webhook call")}'
    words = {'doubt': doubt, 'calls': calls}
    script.report(args, SUMMARY, {**link.summary(), **counts}, **words)
    return link.exit_status


def open_history(args: argparse.Namespace) -> Connection:
    db = database.open_for_writing(args.history)
    if not database.is_free(args.history):
        raise Failure(f'another monitor.py writes {args.history}; see --history', 2)
    database.set_facts(db, begun=database.get_fact(db, 'begun', time.time()))
    db.execute(f'PRAGMA busy_timeout = {WRITE_TIMEOUT_MS}')
    return db


class Monitor:
    """Stores what the broker delivers and what the management API knows."""

    def __init__(
        self,
        args: argparse.Namespace,
        db: Connection,
        link: Link,
    ) -> None:
        self.args = args
        self.db = db
        self.link = link
        self.listener = events.Listener()
        self.asker = collector.Asker()
        self.asked_at_epoch = 0  # of our channel
        self.counts: Counter[str] = Counter()
        self.logged_gaps: list[str] = []  # what the broker lacks
        self.due = 0.0  # when to collect next
        self.forget_due = 0.0  # when to delete next what is too old
        self.is_locked = False  # the history, by another process
        self.is_claimed = False  # the history, for the broker that was reached
        self.acked = ('', 0)  # over which channel, up to which delivery tag
        self.files = database.files(args.history)
        self.apis = {
            id(endpoint): management_api.of_flags(args, endpoint) for endpoint in args.endpoints
        }

    def run(self) -> None:
        """Store and collect until the run is over."""
        link = self.link
        while link.keep_running(self.counts['stored']):
            link.wait_until(self.has_work)
            self.try_to_work()
            if self.args.duration is not None:
                self.due = min(self.due, link.started + self.args.duration)
        self.finish()

    def finish(self) -> None:
        """Store the answers that come in a moment."""
        deadline = time.monotonic() + LAST_ANSWER_S
        while self.asker.is_asking() and time.monotonic() < deadline:
            self.link.wait_until(lambda: self.has_answers() or time.monotonic() > deadline)
            self.try_to_work()

    def try_to_work(self) -> None:
        """Do what there is to do; wait for a history that another process has locked."""
        try:
            self.work()
            self.is_locked = False
        except sqlite3.OperationalError as error:
            if 'locked' not in str(error):
                raise
            self.log_lock()

    def has_work(self) -> object:
        is_due = time.monotonic() >= self.due
        return self.link.inbox or is_due or self.has_answers() or script.stop_requested()

    def has_answers(self) -> bool:
        return self.asker.is_done()

    def work(self) -> None:
        self.check_files()
        if self.link.is_ready and not self.is_claimed:
            self.claim()
        if self.link.inbox:
            self.receive()
        if self.has_answers():
            self.store_answers()
        if time.monotonic() >= self.due:
            self.look()
            self.due = time.monotonic() + self.args.interval

    def claim(self) -> None:
        """Take the history for the broker that was reached; raise Failure if it is another's."""
        places = map(common.display_address, self.args.endpoints)
        place = common.display_address(self.link.endpoint)
        database.claim(self.db, self.args.history, place, places)
        self.is_claimed = True

    def check_files(self) -> None:
        """Raise Failure if the history is no longer where we, and others, look for it."""
        if database.files(self.args.history) != self.files:
            text = f'the history {self.args.history} was removed, moved or replaced'
            raise Failure(f'{text}; start again, see --history', 3)

    def log_lock(self) -> None:
        if not self.is_locked:
            logging.warning('another process has locked %s, retrying', self.args.history)
        self.is_locked = True

    def session(self) -> str:
        """Return the name of the channel over which dead letters are delivered."""
        return f'{self.link.run}-{self.link.epoch}'

    def receive(self) -> None:
        """Store what was delivered, and acknowledge it."""
        found = []
        tag = 0
        with database.transaction(self.db):
            # Taken in here, so that whoever reads what was until now has seen all of it.
            now = time.time()
            for delivery in self.link.inbox:
                if delivery.method.consumer_tag == events.CONSUMER_TAG:
                    self.hear(delivery, now)
                else:
                    found.append(raw_properties.parse(delivery, now))
                    tag = delivery.method.delivery_tag
            stored = dead_letters.insert(self.db, found, self.session(), now)
            dead_letters.settle(self.db, self.session(), up_to=tag - dead_letters.PREFETCH)
        self.counts['stored'] += stored.new
        self.counts['copies'] += stored.copies
        self.link.inbox.clear()
        self.check_files()
        if found and self.link.channel.is_open:
            self.link.channel.basic_ack(delivery_tag=tag, multiple=True)
            self.acked = (self.session(), tag)
        if not self.args.quiet:
            for dead_letter in found:
                print_dead_letter(dead_letter)

    def settle(self) -> None:
        """Note what the broker has acknowledgements of, at the end.

        It has read all that was sent over the latest channel if it agreed to close the
        connection. What was stored may lack its acknowledgement: the file was gone.
        """
        session, tag = self.acked
        if self.link.is_closed_by_us and session == self.session():
            dead_letters.settle(self.db, session, tag)

    def hear(self, delivery: Delivery, now: float) -> None:
        self.listener.hear(
            self.db,
            event=delivery.method.routing_key,
            facts=delivery.properties.headers or {},
            vhost=self.link.endpoint.virtual_host,
            now=now,
        )

    def look(self) -> None:
        """Store what can be seen of the broker, and ask for metrics."""
        clock.pull_back(self.db, time.time())
        collector.note_state(self.db, self.link, self.args.interval)
        if self.link.is_ready:
            if not self.asker.is_asking():
                self.ask()
            self.listen()
        self.forget()

    def ask(self) -> None:
        endpoint = self.link.endpoint
        self.asked_at_epoch = self.link.epoch
        self.asker.ask(self.apis[id(endpoint)], endpoint.virtual_host)

    def store_answers(self) -> None:
        """Store what the management API has answered, unless the broker is lost meanwhile.

        Counters of the node as it is now and the uptime of the one before do not go together.
        """
        outcome = self.asker.take()
        if not outcome or not self.link.is_ready or self.link.epoch != self.asked_at_epoch:
            self.due = min(self.due, time.monotonic() + RETRY_INTERVAL_S)
            return
        outcome = collector.believed(outcome)
        self.listener.keep_closed_s = events.KEEP_CLOSED_S + outcome.took_s
        collected = collector.store_outcome(
            self.db,
            outcome,
            closed=self.listener.closed_connections(),
            missing=self.listener.missing,
        )
        collector.log_gaps(self.db, self.logged_gaps)
        if collected:
            self.counts['collected'] += 1
        else:
            retry_at = time.monotonic() + RETRY_INTERVAL_S
            self.due = min(self.due, retry_at)
        self.listen()

    def listen(self) -> None:
        """Listen to the event exchange, once for each connection."""
        connection = self.link.connection
        if self.listener.connection is connection or not connection.is_open:
            return
        if database.get_fact(self.db, 'events'):
            self.listener.listen(self.link)

    def forget(self) -> None:
        """Delete what is older than --retention, once an hour."""
        if time.monotonic() < self.forget_due:
            return
        forget_outdated(self.db, self.args.retention * database.DAY_S, time.time())
        self.forget_due = time.monotonic() + FORGET_INTERVAL_S


def forget_outdated(db: Connection, retention_s: float, now: float) -> None:
    """Delete what is older than that, and was the last time as well.

    Once deleted it is gone, and the clock may be ahead this time.
    """
    before = now - retention_s
    outdated = database.get_fact(db, 'outdated')
    database.set_facts(db, outdated=before)
    if outdated is not None:
        before = min(before, outdated)
        database.forget(db, before, before + retention_s)


def print_dead_letter(dead_letter: DeadLetter) -> None:
    """Print a line for a dead letter."""
    show(
        LINE.format(
            reason=shorten(dead_letter['reason'], SHOWN),
            queue=shorten(dead_letter['queue'] or '?', SHOWN),
            message_id=shorten(dead_letter['message_id'] or '?', SHOWN),
            size=len(dead_letter['body']),
            sender=shorten(dead_letter['sender'] or '?', SHOWN),
        )
    )
