#!/usr/bin/env python3
"""Keep the history of a virtual host, and see what nobody picked up.

Every few seconds it asks the management API for the figures of queues and clients; it consumes the dead letters of
siamese.dead (prefetch 20, each acknowledged once it is stored), and where the event exchange runs it hears of clients
at once. All goes into one SQLite file, for months. Start it first, and leave it running; --once, --report and the
like can be run beside it.

    $ ./monitor.py --once
    queue         ready  unacked  consumers  oldest  in/s  out/s  acked/s
    bert              0        0          0  -        0.0    0.0      0.0
    siamese.dead      0        0          0  -        0.0    0.0      0.0
    no warnings: 2 queues, 0 messages wait, 0 clients

What is not there it says once, and does without: the management plugin (no figures), the event exchange, or the right
to it (clients are seen every --interval only). Exit status: 0 done, 1 a warning with --check, refused by the broker, or
not all letters sent back, 2 usage, 3 no broker within --give-up-after, no management API for --once, nothing to report
or to send back, or a broker that takes nothing now.

Examples:
    ./monitor.py                                          # until Ctrl-C
    ./monitor.py --mail-to ops@example.org --smtp smtp://user:password@mail.example.org:587
    ./monitor.py --once --check                           # for cron and Nagios
    ./monitor.py --report month --queue siamese.blocks    # day, month, year
    ./monitor.py --report dead                            # which messages nobody picked up
    ./monitor.py --requeue-dead siamese.blocks            # a queue, all, or '#17', one of them
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
from types import SimpleNamespace

import common
from common import Failure
from siamese import flags, script
from siamese.messaging import errors as faults
from siamese.messaging import link as delivery
from siamese.messaging import management_api as management
from siamese.messaging import topology
from siamese.monitoring import clients, queues, reports, requeue
from siamese.monitoring import collector as figures
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.monitoring import mail as mailer
from siamese.monitoring import prometheus as metrics
from siamese.monitoring import raw_properties as letters
from siamese.text import printable

PREFETCH = 20  # dead letters in memory at once; a body may be large
DAY = 86400  # s
LONGEST = 36_500  # days: a century
SOON = 5  # s until the next look when one failed
NO_RIGHT = (
    f'no right to have a queue siamese.events-* and to read {figures.EVENTS}: clients are seen at each '
    'collection only; rabbitmqctl set_permissions'
)
GOES_WITH = {'check': 'once', 'queue': 'report', 'since': 'report', 'csv': 'report'}
LINE = '{reason}  {queue}  {message_id}  {size:,} bytes  from {sender}'
SUMMARY = (
    '{stored} dead letters stored, {collected} collections, {mails} mails sent; {duration_s:.1f} s; '
    'stopped: {stopped}'
)


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(topology.DEAD_LETTER_QUEUE, link.on_delivery, callback=link.on_ready)


def listen(link, heard):
    """Consume what the event exchange tells of connections, over a channel of its own: its end harms nothing else."""
    heard.connection, heard.is_open, queue = (
        link.connection,
        True,
        f'siamese.events-{link.run}-{link.epoch}',
    )

    def on_open(channel):
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        channel.queue_bind(queue, figures.EVENTS, 'connection.*')
        channel.basic_consume(
            queue,
            link.on_delivery,
            auto_ack=True,
            consumer_tag='events',
            callback=lambda _frame: heard.missing.clear(),
        )

    def on_close(_channel, reason):
        heard.is_open = False
        heard.missing = (
            [NO_RIGHT] if faults.permission_denied(reason, link.endpoint.credentials) else []
        )

    link.connection.channel(on_open_callback=on_open).add_on_close_callback(on_close)


# ------------------------------------------------------------------------------------ the history, for months


def watch(args):
    """Collect until told to stop; return the exit status."""
    db = history.open_for_writing(args.history)
    if not history.take_ownership(db, args.history, common.display_address(args.endpoints[0])):
        raise Failure(f'another monitor.py writes {args.history}; see --history', 2)
    history.set_facts(db, begun=history.get_fact(db, 'begun', time.time()))
    db.execute('PRAGMA busy_timeout = 5000')  # ms; the heartbeat of the connection waits as long
    if args.prometheus:
        metrics.serve(args.history, args.prometheus)
    books, due, is_locked, end_mails = Counter(), 0.0, False, mailer.start_thread(args)
    calls = {
        id(endpoint): management.api(endpoint, args.management_url) for endpoint in args.endpoints
    }
    # Of the event exchange: over which connection we listen, why that cannot be, which connections are closed.
    heard = SimpleNamespace(connection=None, is_open=False, missing=[], closed={})
    with delivery.connected(args, declare) as link:
        while link.keep_running(books['stored']):
            link.wait_until(
                lambda due=due: link.inbox or time.monotonic() >= due or script.stop_requested()
            )
            try:
                if link.inbox:
                    books['stored'] += receive(db, link, heard, args)
                if time.monotonic() >= due:
                    looked = look(db, calls, link, heard, args)
                    books['collected'] += looked
                    due = time.monotonic() + (args.interval if looked else min(args.interval, SOON))
                is_locked = False
            except sqlite3.OperationalError as error:
                if 'locked' not in str(error):
                    raise
                if not is_locked:
                    logging.warning('another process has locked %s, trying again', args.history)
                is_locked = True
            if args.duration is not None:
                due = min(due, link.started + args.duration)
    if (
        not link.connection.is_open and link.is_down
    ):  # closed in good order: the broker has every acknowledgement
        with contextlib.suppress(sqlite3.OperationalError):  # what is not noted costs nothing
            dead.settle(db, session(link), time.time() + 1)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'stored': books['stored'],
            'collected': books['collected'],
            'mails': end_mails(),
        },
    )
    return link.exit_status


def session(link):
    return f'{link.run}-{link.epoch}'


def receive(db, link, heard, args):
    """Store what was delivered, and acknowledge it; return how many dead letters are new."""
    found, new = [], 0
    with history.transaction(db):
        now = time.time()  # in here: who tells what was until now has seen all of it
        for delivered in link.inbox:
            method, properties, body = delivered.method, delivered.properties, delivered.body
            if method.consumer_tag == 'events':
                hear(
                    db,
                    method.routing_key,
                    properties.headers or {},
                    heard.closed,
                    now,
                    link.endpoint.virtual_host,
                )
            else:
                found.append(letters.read(method, properties, body, now))
                tag = method.delivery_tag
        if found:
            new = dead.insert(db, found, session(link), now)
    link.inbox.clear()
    if found and link.channel.is_open:
        link.channel.basic_ack(tag, multiple=True)
    if not args.quiet:
        for letter in found:
            print(
                LINE.format(
                    **{
                        key: printable(value or '?')
                        for key, value in letter.items()
                        if key != 'body'
                    },
                    size=len(letter['body']),
                )
            )
    return new


def look(db, calls, link, heard, args):
    """Store what is to be seen of the broker, and forget what is over; return whether there were figures."""
    looked = False
    note_state(db, link, args)
    if link.is_ready:
        looked = collect(db, calls[id(link.endpoint)], link, heard)
        if (
            heard.connection is not link.connection
            and history.get_fact(db, 'events')
            and link.connection.is_open
        ):
            listen(link, heard)
        dead.settle(db, session(link), time.time() - dead.UNSETTLED)
    now = time.time()
    if history.get_fact(db, 'forgot', 0) < now - 3600:
        history.forget(db, now - args.retention * DAY, now)
        history.set_facts(db, forgot=now)
    return looked


def note_state(db, link, args):
    """Store whether the broker is there."""
    state = 'up' if link.is_ready else 'away'
    with history.transaction(db):
        now = time.time()
        if history.get_fact(db, 'state') != state:
            queues.stand_still(db)
            history.set_facts(
                db,
                state=state,
                since=now - (0 if link.is_ready else time.monotonic() - link.away_since),
            )
        history.set_facts(db, monitor={'name': args.name, 'seen': now, 'interval': args.interval})


def hear(db, event, facts, closed, now, vhost):
    """Store what the event exchange tells of a connection."""
    id, user = facts.get('name'), facts.get('user')
    if event == 'connection.closed':
        closed[id] = now
        clients.disconnected(db, now, id)
    elif event == 'connection.created' and facts.get('vhost') == vhost and id and user:
        clients.connected(db, now, facts.get('user_provided_name') or id, user, id)
    for id in [id for id, at in closed.items() if at < now - 60]:
        del closed[id]


def collect(db, call, link, heard):
    """Collect once; return whether that was possible. What is missing is logged when it begins to be."""
    before = history.get_fact(db, 'missing')
    try:
        figures.collect(
            db,
            call,
            link.endpoint.virtual_host,
            heard.closed if heard.is_open else None,
            heard.missing,
        )
    except management.Refused as refused:
        if refused.status == 503:  # it starts
            return False
        queues.stand_still(db)
        history.set_facts(
            db,
            events=False,
            missing=[
                f'no figures of queues and clients: {refused}; rabbitmq-plugins enable rabbitmq_management, give the user '
                'the tag monitoring, or see --management-url'
            ],
        )
    missing = history.get_fact(db, 'missing', [])
    if missing != before or link.counts['collections'] == 0:
        for text in missing:
            logging.warning('%s', text)
    link.counts['collections'] += 1
    return not any(text.startswith('no figures') for text in missing)


# --------------------------------------------------------------------------------------------------- flags


def parse_args(argv):
    parser = flags.parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--once', action='store_true', help='print the situation now, and end')
    what.add_argument(
        '--report',
        choices=('day', 'month', 'year', 'dead'),
        help='print what was received and sent per queue, or the dead letters',
    )
    what.add_argument(
        '--requeue-dead',
        metavar='QUEUE',
        type=queue_name,
        help="send dead letters back where they came from: of a queue, 'all', or one ('#17')",
    )
    parser.add_argument(
        '--history', default=history.DEFAULT_FILE, metavar='FILE', help='default: %(default)s'
    )
    parser.add_argument(
        '--interval',
        type=flags.number(float, 0.1),
        default=5,
        metavar='S',
        help='seconds between collections (default: %(default)s)',
    )
    parser.add_argument(
        '--retention',
        type=flags.number(float, 0.01, LONGEST),
        default=1830,
        metavar='DAYS',
        help='delete what is older (default: %(default)s days)',
    )
    management.add_flag(parser)
    parser.add_argument(
        '--check',
        action='store_true',
        help='with --once: one line as Nagios wants it; exit 1 if there is a warning; that of a dead '
        'letter ends after 24 h',
    )
    parser.add_argument('--queue', type=queue_name, help='with --report: of this queue only')
    parser.add_argument(
        '--since',
        type=day,
        metavar='YYYY-MM-DD',
        help='with --report: from this day on (default: a month of days, two years of months)',
    )
    parser.add_argument(
        '--csv', metavar='FILE', help='with --report: write it as CSV (- is stdout)'
    )
    parser.add_argument(
        '--unread-after',
        type=flags.number(float, 0),
        metavar='S',
        help='warn when a message waits so long and there is no consumer (default: 0; for mails 300)',
    )
    parser.add_argument(
        '--mail-to', type=addresses, metavar='ADDRESS[,ADDRESS]', help='mail what was not picked up'
    )
    parser.add_argument(
        '--mail-from',
        type=address,
        default=f'siamese@{socket.gethostname()}',
        metavar='ADDRESS',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--mail-every',
        type=flags.number(float, 0),
        default=3600,
        metavar='S',
        help='at most one mail in so many seconds (default: %(default)s)',
    )
    parser.add_argument(
        '--smtp',
        default=os.environ.get('SMTP_URL') or 'smtp://localhost',
        metavar='URL',
        help='smtp://user:password@host:port (STARTTLS) or smtps://... '
        '(default: SMTP_URL, else smtp://localhost)',
    )
    parser.add_argument(
        '--prometheus',
        type=flags.number(int, 1, 65535),
        metavar='PORT',
        help='serve the figures at http://127.0.0.1:PORT/metrics',
    )
    flags.add_broker_flags(parser)
    args = flags.parse(parser, argv)
    for flag, mode in GOES_WITH.items():
        if getattr(args, flag) not in (None, False) and not getattr(args, mode):
            parser.error(f'--{flag} goes with --{mode}')
    if args.mail_to and (args.once or args.report or args.requeue_dead):
        parser.error('--mail-to does not go with --once, --report or --requeue-dead')
    if args.csv == args.json == '-':
        parser.error('--csv - and --json - are one stdout: choose one of them')
    if args.unread_after is None and not args.once:
        args.unread_after = 300
    try:
        management.api(args.endpoints[0], args.management_url)
        mailer.server(args.smtp)
        if args.csv:
            flags.writable_or_stdout(args.csv)
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    return args


def queue_name(text):
    """An argparse type: the name of a queue, in which anything may be."""
    if not 0 < len(text.encode()) <= 255:
        raise argparse.ArgumentTypeError('the name of a queue has 1 to 255 bytes')
    return text


def address(text):
    """An argparse type: an address for mails: me@example.org, or with a name: Me <me@example.org>."""
    if not mailer.ADDRESS.fullmatch(text) or not text.isprintable():
        raise argparse.ArgumentTypeError('expected addresses, separated by commas')
    return text


def addresses(text):
    """An argparse type: where mails go, separated by commas."""
    return [address(part.strip()) for part in text.split(',')]


def day(text):
    """An argparse type: a day as YYYY-MM-DD; return when it begins, in s since 1970 UTC."""
    return timegm(time.strptime(text, '%Y-%m-%d'))


def main(argv=None):
    args = parse_args(argv)
    try:
        if args.once:
            return (reports.check if args.check else reports.once)(args)
        return (
            reports.report if args.report else requeue.send_back if args.requeue_dead else watch
        )(args)
    except sqlite3.Error as error:
        remedy = 'is the disk full?' if 'disk' in str(error) else 'see --history'
        raise Failure(f'the history {args.history}: {error}; {remedy}', 3) from None


if __name__ == '__main__':
    script.run(main)
