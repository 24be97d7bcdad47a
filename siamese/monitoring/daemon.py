"""What monitor.py does for months: it stores what it hears of a broker.

Dead letters are delivered by the broker, and acknowledged once they are stored. The
metrics of queues and clients are asked for every --interval.
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
    collector,
    database,
    dead_letters,
    events,
    mail,
    prometheus,
    raw_properties,
)
from siamese.monitoring.raw_properties import DeadLetter
from siamese.text import printable

RETRY_INTERVAL_S = 5  # until the next collection when one failed
FORGET_INTERVAL_S = 3600
WRITE_TIMEOUT_MS = 5000  # the heartbeat of the connection waits as long
LINE = '{reason}  {queue}  {message_id}  {size:,} bytes  from {sender}'
SUMMARY = (
    '{stored} dead letters stored, {collected} collections, {mails} mails sent;'
    ' {duration_s:.1f} s; stopped: {stopped}'
)


def watch(args: argparse.Namespace, declare: Callable[[Channel, Link], None]) -> int:
    """Collect until told to stop; return the exit status.

    `declare` is called on each new channel, and consumes siamese.dead.
    """
    db = open_history(args)
    if args.prometheus:
        prometheus.serve(args.history, args.prometheus)
    end_mails = mail.start_thread(args)
    with connected(args, declare) as link:
        monitor = Monitor(args, db, link)
        monitor.run()
    is_closed = link.is_closed_by_us
    if is_closed:  # so the broker has every acknowledgement
        # If this cannot be noted, a dead letter is only compared once more.
        with contextlib.suppress(sqlite3.OperationalError):
            dead_letters.settle(db, monitor.session(), time.time() + 1)
    counts = {
        'stored': monitor.counts['stored'],
        'collected': monitor.counts['collected'],
        'mails': end_mails(),
    }
    script.report(args, SUMMARY, {**link.summary(), **counts})
    return link.exit_status


def open_history(args: argparse.Namespace) -> Connection:
    db = database.open_for_writing(args.history)
    place = common.display_address(args.endpoints[0])
    if not database.take_ownership(db, args.history, place):
        raise Failure(f'another monitor.py writes {args.history}; see --history', 2)
    database.set_facts(db, begun=database.get_fact(db, 'begun', time.time()))
    db.execute(f'PRAGMA busy_timeout = {WRITE_TIMEOUT_MS}')
    return db


class Monitor:
    """Stores what the broker delivers and what the management API knows."""

    def __init__(self, args: argparse.Namespace, db: Connection, link: Link) -> None:
        self.args = args
        self.db = db
        self.link = link
        self.listener = events.Listener()
        self.counts: Counter[str] = Counter()
        self.logged_gaps: list[str] = []  # what the broker lacks
        self.due = 0.0  # when to collect next
        self.is_locked = False  # the history, by another process
        self.apis = {
            id(endpoint): management_api.api(endpoint, args.management_url)
            for endpoint in args.endpoints
        }

    def run(self) -> None:
        """Store and collect until the run is over."""
        link = self.link
        while link.keep_running(self.counts['stored']):
            link.wait_until(self.has_work)
            try:
                self.work()
                self.is_locked = False
            except sqlite3.OperationalError as error:
                if 'locked' not in str(error):
                    raise
                self.log_lock()
            if self.args.duration is not None:
                self.due = min(self.due, link.started + self.args.duration)

    def has_work(self) -> object:
        is_due = time.monotonic() >= self.due
        return self.link.inbox or is_due or script.stop_requested()

    def work(self) -> None:
        if self.link.inbox:
            self.receive()
        if time.monotonic() >= self.due:
            wait_s = self.args.interval
            if self.poll_once():
                self.counts['collected'] += 1
            else:
                wait_s = min(wait_s, RETRY_INTERVAL_S)
            self.due = time.monotonic() + wait_s

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
        last_tag = 0
        with database.transaction(self.db):
            # Taken in here, so that whoever reads what was until now has seen all of it.
            now = time.time()
            for delivery in self.link.inbox:
                if delivery.method.consumer_tag == events.CONSUMER_TAG:
                    self.hear(delivery, now)
                else:
                    found.append(raw_properties.parse(delivery, now))
                    last_tag = delivery.method.delivery_tag
            new = dead_letters.insert(self.db, found, self.session(), now)
        self.counts['stored'] += new
        self.link.inbox.clear()
        if found and self.link.channel.is_open:
            self.link.channel.basic_ack(delivery_tag=last_tag, multiple=True)
        if not self.args.quiet:
            for dead_letter in found:
                print_dead_letter(dead_letter)

    def hear(self, delivery: Delivery, now: float) -> None:
        self.listener.hear(
            self.db,
            event=delivery.method.routing_key,
            facts=delivery.properties.headers or {},
            vhost=self.link.endpoint.virtual_host,
            now=now,
        )

    def poll_once(self) -> bool:
        """Store what can be seen of the broker; return whether there were metrics."""
        collected = False
        collector.note_state(self.db, self.link, self.args.interval)
        if self.link.is_ready:
            collected = self.collect()
            self.listen()
            settled = time.time() - dead_letters.SETTLE_AFTER_S
            dead_letters.settle(self.db, self.session(), settled)
        self.forget()
        return collected

    def collect(self) -> bool:
        endpoint = self.link.endpoint
        return collector.collect_or_explain(
            self.db,
            self.apis[id(endpoint)],
            endpoint.virtual_host,
            closed=self.listener.closed_connections(),
            missing=self.listener.missing,
            logged_gaps=self.logged_gaps,
        )

    def listen(self) -> None:
        """Listen to the event exchange, once for each connection."""
        connection = self.link.connection
        if self.listener.connection is connection or not connection.is_open:
            return
        if database.get_fact(self.db, 'events'):
            self.listener.listen(self.link)

    def forget(self) -> None:
        """Delete what is older than --retention, once an hour."""
        now = time.time()
        if database.get_fact(self.db, 'forgot', 0) < now - FORGET_INTERVAL_S:
            before = now - self.args.retention * database.DAY_S
            database.forget(self.db, before, now)
            database.set_facts(self.db, forgot=now)


def print_dead_letter(dead_letter: DeadLetter) -> None:
    """Print a line for a dead letter."""
    print(
        LINE.format(
            reason=printable(dead_letter['reason']),
            queue=printable(dead_letter['queue'] or '?'),
            message_id=printable(dead_letter['message_id'] or '?'),
            size=len(dead_letter['body']),
            sender=printable(dead_letter['sender'] or '?'),
        )
    )
