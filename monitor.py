#!/usr/bin/env python3
"""Keep the history of a virtual host, and report messages that were not picked up.

It asks the management API for the metrics of queues and clients every few seconds.
It consumes the dead letters of siamese.dead (prefetch 20, each is acknowledged once
it is stored). Where the event exchange runs it hears of clients at once. All goes
into one SQLite file, for months. Start it first, and leave it running; --once,
--report and the like can be run beside it.

    $ ./monitor.py --once
    queue         ready  unacked  consumers  oldest  published/s  delivered/s  acked/s
    bert              0        0          0  -               0.0          0.0      0.0
    siamese.dead      0        0          0  -               0.0          0.0      0.0
    no warnings: 2 queues, 0 messages wait, 0 clients

Missing pieces are logged once and skipped: without the management plugin there are
no metrics; without the event exchange, or the permission to read it, clients are
seen only every --interval.

Exit status: 0 done; 1 a warning with --check, access refused by the broker, or some
dead letters not requeued; 2 usage; 3 broker unreachable for --give-up-after, no
management API for --once, nothing to report or to requeue, or a broker that accepts
no messages now.

Examples:
    ./monitor.py                                          # until Ctrl-C
    ./monitor.py --mail-to ops@example.org --smtp smtp://user:password@mail.example.org:587
    ./monitor.py --once --check                           # for cron and Nagios
    ./monitor.py --report month --queue siamese.blocks    # day, month, year
    ./monitor.py --report dead                            # the dead letters
    ./monitor.py --requeue siamese.blocks                 # a queue, all, or '#17', one of them
"""

import argparse
import contextlib
import logging
import os
import socket
import sqlite3
import time
from calendar import timegm
from collections import Counter

import common
from common import Failure
from siamese import flags, script
from siamese.messaging import management_api
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_QUEUE, declare_dead_letters
from siamese.monitoring import (
    collector,
    database,
    dead_letters,
    events,
    mail,
    prometheus,
    raw_properties,
    reports,
    requeue,
)
from siamese.text import printable

PREFETCH = 20  # dead letters in memory at once; a body may be large
MOST_DAYS = 36_500  # a century
RETRY_INTERVAL_S = 5  # until the next collection when one failed
FORGET_INTERVAL_S = 3600
WRITE_TIMEOUT_MS = 5000  # the heartbeat of the connection waits as long
UNREAD_AFTER_S = 300
GOES_WITH = {'check': 'once', 'queue': 'report', 'since': 'report', 'csv': 'report'}
LINE = '{reason}  {queue}  {message_id}  {size:,} bytes  from {sender}'
SUMMARY = (
    '{stored} dead letters stored, {collected} collections, {mails} mails sent;'
    ' {duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(DEAD_LETTER_QUEUE, link.on_delivery, callback=link.on_ready)


# ---- the history, for months


def watch(args):
    """Collect until told to stop; return the exit status."""
    db = open_history(args)
    if args.prometheus:
        prometheus.serve(args.history, args.prometheus)
    end_mails = mail.start_thread(args)
    with connected(args, declare) as link:
        monitor = Monitor(args, db, link)
        monitor.run()
    is_closed = link.is_closed and not link.connection.is_open
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


def open_history(args):
    db = database.open_for_writing(args.history)
    place = common.display_address(args.endpoints[0])
    if not database.take_ownership(db, args.history, place):
        raise Failure(f'another monitor.py writes {args.history}; see --history', 2)
    database.set_facts(db, begun=database.get_fact(db, 'begun', time.time()))
    db.execute(f'PRAGMA busy_timeout = {WRITE_TIMEOUT_MS}')
    return db


class Monitor:
    """Stores what the broker delivers and what the management API knows."""

    def __init__(self, args, db, link):
        self.args = args
        self.db = db
        self.link = link
        self.listener = events.Listener()
        self.counts = Counter()
        self.logged = []  # what the broker lacks
        self.due = 0.0  # when to collect next
        self.is_locked = False  # the history, by another process
        self.calls = {
            id(endpoint): management_api.api(endpoint, args.management_url)
            for endpoint in args.endpoints
        }

    def run(self):
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

    def has_work(self):
        is_due = time.monotonic() >= self.due
        return self.link.inbox or is_due or script.stop_requested()

    def work(self):
        if self.link.inbox:
            self.receive()
        if time.monotonic() >= self.due:
            wait_s = self.args.interval
            if self.poll_once():
                self.counts['collected'] += 1
            else:
                wait_s = min(wait_s, RETRY_INTERVAL_S)
            self.due = time.monotonic() + wait_s

    def log_lock(self):
        if not self.is_locked:
            logging.warning('another process has locked %s, retrying', self.args.history)
        self.is_locked = True

    def session(self):
        """Return the name of the channel over which dead letters are delivered."""
        return f'{self.link.run}-{self.link.epoch}'

    def receive(self):
        """Store what was delivered, and acknowledge it."""
        letters = []
        with database.transaction(self.db):
            # Taken in here, so that whoever reads what was until now has seen all of it.
            now = time.time()
            for delivery in self.link.inbox:
                method, properties, body = delivery.method, delivery.properties, delivery.body
                if method.consumer_tag == events.CONSUMER_TAG:
                    self.hear(method.routing_key, properties.headers or {}, now)
                else:
                    letters.append(raw_properties.parse(method, properties, body, now))
                    last_tag = method.delivery_tag
            new = dead_letters.insert(self.db, letters, self.session(), now)
        self.counts['stored'] += new
        self.link.inbox.clear()
        if letters and self.link.channel.is_open:
            self.link.channel.basic_ack(last_tag, multiple=True)
        if not self.args.quiet:
            for letter in letters:
                show(letter)

    def hear(self, event, headers, now):
        vhost = self.link.endpoint.virtual_host
        self.listener.hear(self.db, event, headers, vhost, now)

    def poll_once(self):
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

    def collect(self):
        endpoint = self.link.endpoint
        return collector.collect_or_explain(
            self.db,
            self.calls[id(endpoint)],
            endpoint.virtual_host,
            closed=self.listener.closed_connections(),
            missing=self.listener.missing,
            logged=self.logged,
        )

    def listen(self):
        """Listen to the event exchange, once for each connection."""
        connection = self.link.connection
        if self.listener.connection is connection or not connection.is_open:
            return
        if database.get_fact(self.db, 'events'):
            self.listener.listen(self.link)

    def forget(self):
        """Delete what is older than --retention, once an hour."""
        now = time.time()
        if database.get_fact(self.db, 'forgot', 0) < now - FORGET_INTERVAL_S:
            before = now - self.args.retention * database.DAY_S
            database.forget(self.db, before, now)
            database.set_facts(self.db, forgot=now)


def show(letter):
    """Print a line for a dead letter."""
    print(
        LINE.format(
            reason=printable(letter['reason']),
            queue=printable(letter['queue'] or '?'),
            message_id=printable(letter['message_id'] or '?'),
            size=len(letter['body']),
            sender=printable(letter['sender'] or '?'),
        )
    )


# ---- flags


def parse_args(argv):
    parser = flags.parser(__doc__)
    add_mode_flags(parser)
    add_report_flags(parser)
    add_history_flags(parser)
    add_mail_flags(parser)
    flags.add_broker_flags(parser)
    management_api.add_flag(parser)
    args = flags.parse(parser, argv)
    check_combinations(parser, args)
    if args.unread_after is None and not args.once:
        args.unread_after = UNREAD_AFTER_S
    try:
        management_api.api(args.endpoints[0], args.management_url)
        mail.server(args.smtp)
        if args.csv:
            flags.writable_or_stdout(args.csv)
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    return args


def add_mode_flags(parser):
    group = parser.add_argument_group('what to do (default: collect until Ctrl-C)')
    modes = group.add_mutually_exclusive_group()
    modes.add_argument('--once', action='store_true', help='print the situation now, and end')
    modes.add_argument(
        '--report',
        choices=('day', 'month', 'year', 'dead'),
        help='print the metrics of each queue by day, month or year, or the dead letters',
    )
    modes.add_argument(
        '--requeue',
        metavar='QUEUE',
        type=queue_name,
        help='requeue the dead letters of a queue, of all queues (all), or one (#17)',
    )


def add_report_flags(parser):
    group = parser.add_argument_group('with --once and --report')
    group.add_argument(
        '--check',
        action='store_true',
        help='with --once: print one Nagios line; exit 1 on a warning (dead letters warn for 24 h)',
    )
    group.add_argument('--queue', type=queue_name, help='with --report: of this queue only')
    group.add_argument(
        '--since',
        type=day,
        metavar='YYYY-MM-DD',
        help='with --report: from this day on'
        ' (default: 31 days by day, two years by month, else everything)',
    )
    group.add_argument(
        '--csv',
        metavar='FILE',
        help='with --report: write it as CSV (- is stdout)',
    )


def add_history_flags(parser):
    group = parser.add_argument_group('history')
    group.add_argument(
        '--history',
        default=database.DEFAULT_FILE,
        metavar='FILE',
        help='the SQLite file (default: %(default)s)',
    )
    group.add_argument(
        '--interval',
        type=flags.number(float, 0.1),
        default=5,
        metavar='S',
        help='seconds between collections (default: %(default)s)',
    )
    group.add_argument(
        '--retention',
        type=flags.number(float, 0.01, MOST_DAYS),
        default=1830,
        metavar='DAYS',
        help='delete what is older (default: %(default)s days)',
    )
    group.add_argument(
        '--prometheus',
        type=flags.number(int, 1, 65535),
        metavar='PORT',
        help='serve the metrics at http://127.0.0.1:PORT/metrics',
    )


def add_mail_flags(parser):
    group = parser.add_argument_group('alerts')
    group.add_argument(
        '--unread-after',
        type=flags.number(float, 0),
        metavar='S',
        help='warn when a queue without consumers holds a message older than S seconds'
        f' (default: {UNREAD_AFTER_S}; with --once 0)',
    )
    group.add_argument(
        '--mail-to',
        type=addresses,
        metavar='ADDRESS[,ADDRESS]',
        help='mail alerts to these addresses',
    )
    group.add_argument(
        '--mail-from',
        type=address,
        default=f'siamese@{socket.gethostname()}',
        metavar='ADDRESS',
        help='the sender (default: %(default)s)',
    )
    group.add_argument(
        '--mail-every',
        type=flags.number(float, 0),
        default=3600,
        metavar='S',
        help='send at most one mail in S seconds (default: %(default)s)',
    )
    group.add_argument(
        '--smtp',
        default=os.environ.get('SMTP_URL') or 'smtp://localhost',
        metavar='URL',
        help='smtp://user:password@host:port (STARTTLS) or smtps://...'
        ' (default: SMTP_URL, else smtp://localhost)',
    )


def check_combinations(parser, args):
    for flag, mode in GOES_WITH.items():
        is_given = getattr(args, flag) not in (None, False)
        if is_given and not getattr(args, mode):
            parser.error(f'--{flag} goes with --{mode}')
    if args.mail_to and (args.once or args.report or args.requeue):
        parser.error('--mail-to does not go with --once, --report or --requeue')
    if args.csv == args.json == '-':
        parser.error('--csv - and --json - are one stdout: choose one of them')


def queue_name(text):
    """An argparse type: the name of a queue, which may hold any characters."""
    if not 0 < len(text.encode()) <= 255:
        raise argparse.ArgumentTypeError('the name of a queue has 1 to 255 bytes')
    return text


def address(text):
    """An argparse type: me@example.org, or with a name: Me <me@example.org>."""
    if not mail.ADDRESS.fullmatch(text) or not text.isprintable():
        raise argparse.ArgumentTypeError('expected addresses, separated by commas')
    return text


def addresses(text):
    """An argparse type: addresses, separated by commas."""
    return [address(part.strip()) for part in text.split(',')]


def day(text):
    """An argparse type: a day as YYYY-MM-DD; return when it begins, in UTC."""
    return timegm(time.strptime(text, '%Y-%m-%d'))


def main(argv=None):
    args = parse_args(argv)
    try:
        return chosen(args)(args)
    except sqlite3.Error as error:
        remedy = 'see --history'
        if 'disk' in str(error):
            remedy = 'is the disk full?'
        raise Failure(f'the history {args.history}: {error}; {remedy}', 3) from None


def chosen(args):
    """Return the function that does what the flags ask for."""
    if args.check:
        return reports.check
    if args.once:
        return reports.once
    if args.report:
        return reports.print_report
    if args.requeue:
        return requeue.requeue
    return watch


if __name__ == '__main__':
    script.run(main)
