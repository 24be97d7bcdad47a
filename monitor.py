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
    no warnings: 2 queues, 0 messages wait, 0 clients; counters are up to 5 s old

Missing pieces are logged once and skipped: without the management plugin there are
no metrics; without the event exchange, or the permission to read it, clients are
seen only every --interval.

Exit status: 0 done; 1 a warning with --check; 2 usage, and with --check what is
critical; 3 refused by the broker, broker unreachable for --give-up-after, no management
API for --once, nothing to report or to requeue, some dead letters not requeued, or a
broker that accepts no messages now.

Examples:
    ./monitor.py                                          # until Ctrl-C
    ./monitor.py --mail-to ops@example.org --smtp smtp://user:password@mail.example.org:587
    WEBHOOK_URL=https://hooks.slack.com/... ./monitor.py   # the alerts, into a chat
    ./monitor.py --once --check                           # for cron and Nagios
    ./monitor.py --once --check --critical ready=10000    # more than that is critical
    ./monitor.py --report month --queue siamese.blocks    # hour, day, month, year
    ./monitor.py --report dead                            # the dead letters
    ./monitor.py --requeue siamese.blocks                 # a queue, all, or '#17', one of them
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import argparse
import os
import socket
import time
from calendar import timegm
from urllib.parse import urlsplit

from siamese import flags, script
from siamese.messaging import management_api
from siamese.messaging.topology import DEAD_LETTER_QUEUE, declare_dead_letters
from siamese.monitoring import (
    daemon,
    database,
    dead_letters,
    mail,
    mail_server,
    reports,
    requeue,
    thresholds,
    webhook,
)

MAX_RETENTION_DAYS = 36_500  # a century
UNREAD_AFTER_S = 300
WEBHOOK_EVERY_S = 60
REQUIRED_MODE = {
    'check': 'once',
    'critical': 'once',
    'queue': 'report',
    'since': 'report',
    'csv': 'report',
}


def declare(channel, link):
    declare_dead_letters(channel)
    channel.basic_qos(prefetch_count=dead_letters.PREFETCH)
    channel.basic_consume(
        queue=DEAD_LETTER_QUEUE,
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
    )


def watch(args):
    """Keep the history, for months; return the exit status."""
    return daemon.watch(args, declare)


# ---- flags


def parse_args(argv):
    parser = flags.parser(__doc__)
    add_mode_flags(parser)
    add_report_flags(parser)
    add_history_flags(parser)
    add_mail_flags(parser)
    add_link_flags(parser)
    flags.add_broker_flags(
        parser,
        counted='stored dead letters',
        recorded='when connections open and close',
    )
    management_api.add_flag(parser)
    args = flags.parse(parser, argv)
    check_combinations(parser, args)
    if args.unread_after is None and not args.once:
        args.unread_after = UNREAD_AFTER_S
    try:
        management_api.of_flags(args, args.endpoints[0])
        mail_server.server(args.smtp)
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
        choices=(*database.PERIODS, 'dead'),
        help='print the metrics of each queue by hour, day, month or year, or the dead letters',
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
        help='with --once: print one line for Nagios; exit 1 on a warning (dead letters warn'
        ' for 24 h), 2 if it is critical',
    )
    group.add_argument(
        '--critical',
        type=thresholds.parse,
        metavar='NAME=NUMBER[,...]',
        help='with --once: what is critical above a number, beside alarms and an unavailable'
        f' broker: {", ".join(thresholds.WORDS)} (default: nothing)',
    )
    group.add_argument(
        '--queue',
        type=queue_name,
        help='with --report: of this queue only (default: of all)',
    )
    group.add_argument(
        '--since',
        type=day,
        metavar='YYYY-MM-DD',
        help='with --report: from this day on'
        ' (default: 2 days by hour, 31 by day, two years by month, else everything)',
    )
    group.add_argument(
        '--csv',
        metavar='FILE',
        help='with --report: write it as CSV; - is stdout (default: a table)',
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
        type=flags.number(float, 0.01, MAX_RETENTION_DAYS),
        default=1830,
        metavar='DAYS',
        help='delete what is older (default: %(default)s days)',
    )
    group.add_argument(
        '--prometheus',
        type=flags.number(int, 1, 65535),
        metavar='PORT',
        help='serve the metrics at http://127.0.0.1:PORT/metrics (default: serve none)',
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
        help='mail alerts to these addresses (default: no mail)',
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


def add_link_flags(parser):
    group = parser.add_argument_group('alerts')
    group.add_argument(
        '--webhook',
        type=webhook_url,
        default=os.environ.get('WEBHOOK_URL'),
        metavar='URL',
        help='post alerts as JSON to this https:// URL, for example of Slack'
        ' (default: WEBHOOK_URL, else none)',
    )
    group.add_argument(
        '--webhook-every',
        type=flags.number(float, 0),
        default=WEBHOOK_EVERY_S,
        metavar='S',
        help='post at most once in S seconds (default: %(default)s)',
    )
    group.add_argument(
        '--dashboard-url',
        type=dashboard_url,
        metavar='URL',
        help='where dashboard.py is, for the links in mails and in what is posted'
        ' (default: no links)',
    )


def check_combinations(parser, args):
    for flag, mode in REQUIRED_MODE.items():
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
        raise argparse.ArgumentTypeError('expected an address')
    return text


def addresses(text):
    """An argparse type: addresses, separated by commas."""
    try:
        return [address(part.strip()) for part in text.split(',')]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError('expected addresses, separated by commas') from None


def webhook_url(text):
    """An argparse type: the URL of a webhook; it is never repeated, for it is a secret."""
    try:
        webhook.target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def dashboard_url(text):
    """An argparse type: the URL of a dashboard, which mails may show."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit('')
    is_address = parts.scheme in ('http', 'https') and parts.hostname
    has_more = '@' in parts.netloc or parts.query or parts.fragment
    if not is_address or has_more or not text.isprintable():
        raise argparse.ArgumentTypeError(
            'expected its http:// or https:// address, without a login'
        )
    return text


def day(text):
    """An argparse type: a day as YYYY-MM-DD; return when it begins, in UTC."""
    return timegm(time.strptime(text, '%Y-%m-%d'))


def main(argv=None):
    args = parse_args(argv)
    action = chosen(args)
    try:
        return action(args)
    except database.FAULTS as error:
        raise database.failure_of(error, args.history) from None


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
