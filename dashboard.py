#!/usr/bin/env python3
"""Show in a browser what monitor.py has stored: queues, dead letters, clients.

Reads the SQLite file that monitor.py writes, so start monitor.py first; works
without internet. Pages: queues with live rates, and what waits over time; every
queue's published, delivered and failed messages by hour, day, month and year, also
as CSV; dead letters with their bodies, which an administrator can requeue; clients
and their interruptions; the verdicts of audit.py, compare.py and soak.py; alarms on
top. With --ledger the page of verdicts shows what ledgers prove while they grow.

    $ ./dashboard.py --port 0 --duration 1
    http://127.0.0.1:36817 shows siamese.db
    0 logins, 0 refused; up for 1 s; stopped: duration over

At a loopback address every user of this machine may look; requeuing takes the
login of an administrator. With --login, and always at another address, looking
takes a login too: a user of the broker with the tag monitoring or administrator
(the management API is asked), or a token as the password. Such an address needs
TLS: --certfile and --keyfile, or --no-tls where a proxy does it.

Exit status: 0 stopped by --duration, Ctrl-C or SIGTERM; 2 usage; 3 the port is
taken, a ledger cannot be read, or NiceGUI is not installed.

Examples:
    ./dashboard.py --history /var/lib/siamese/siamese.db
    ./dashboard.py --host 0.0.0.0 --certfile server.pem --keyfile server.key
    ./dashboard.py --login --session 900
    ./dashboard.py --ledger runs/
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import asyncio
import logging
import time

from common import Failure
from siamese import flags, script
from siamese.following import can_grow
from siamese.messaging import management_api
from siamese.monitoring import database
from siamese.watching import Watch
from siamese.web import server

DEFAULT_PORT = 8080
SESSION_S = 8 * 3600
SUMMARY = '{logins:login}, {refused} refused; up for {duration_s:.0f} s; stopped: {stopped}'


def parse_args(argv):
    parser = flags.parser(__doc__)
    group = parser.add_argument_group('dashboard')
    group.add_argument(
        '--history',
        default=database.DEFAULT_FILE,
        metavar='FILE',
        help='the file that monitor.py writes (default: %(default)s)',
    )
    group.add_argument(
        '--unread-after',
        type=flags.number(float, 0),
        default=300,
        metavar='S',
        help='warn when a queue without consumers holds a message older than '
        'S seconds (default: %(default)s)',
    )
    group.add_argument(
        '--ledger',
        nargs='+',
        default=[],
        metavar='FILE',
        help='follow these ledgers, and those in a folder: the page of verdicts shows what '
        'they prove so far, and up to when (default: none)',
    )
    add_login_flags(parser)
    server.add_flags(parser, DEFAULT_PORT)
    flags.add_url_flags(parser)
    management_api.add_flag(parser)
    flags.add_output_flags(parser, 'uvicorn')
    args = flags.parse(parser, argv)
    try:
        management_api.of_flags(args, args.endpoints[0])
    except ValueError as error:
        parser.error(str(error))
    if not all(map(can_grow, args.ledger)):
        parser.error('--ledger needs files that are not compressed')
    server.check(parser, args, 'passwords')
    args.login = args.login or not server.is_loopback(args.host)
    return args


def add_login_flags(parser):
    group = parser.add_argument_group('login')
    group.add_argument(
        '--login',
        action='store_true',
        help='demand a login at a loopback address too (default: only elsewhere)',
    )
    group.add_argument(
        '--session',
        type=flags.number(float, 1),
        default=SESSION_S,
        metavar='S',
        help='end a login after S seconds (default: %(default)s)',
    )


async def serve(args, listening, site):
    """Serve `site` behind a Gate until told to stop; return its counts."""
    from siamese.web.login import Gate

    # The gate is made here: in Python 3.9 its semaphore belongs to the loop.
    gate = Gate(site, args)
    await server.serve(args, listening, gate)
    return gate.counts


def main(argv=None):
    args = parse_args(argv)
    try:
        from siamese.web.site import site
    except ModuleNotFoundError as error:
        raise Failure(
            f'{error.name} is not installed: pip install -r requirements/dashboard.txt',
            3,
        ) from None
    args.watch = args.ledger and Watch(args.ledger, tell=logging.warning)
    listening, url = server.listen(args)
    # Browsers send a cookie to every port of a host.
    port = listening.getsockname()[1]
    args.cookie = f'siamese-{port}'
    if not args.quiet:
        print(f'{url} shows {args.history}')
    if args.watch:
        args.watch.start()
    began = time.monotonic()
    counts = asyncio.run(serve(args, listening, site(args)))
    summary = {
        **counts,
        'duration_s': time.monotonic() - began,
        'stopped': server.stop_reason(),
    }
    script.report(args, SUMMARY, summary)
    return 0


if __name__ == '__main__':
    script.run(main)
