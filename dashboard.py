#!/usr/bin/env python3
"""Show in a browser what monitor.py has found out: queues, their history, dead letters, clients, alarms.

Reads only the SQLite file that monitor.py writes, so start that first; works without internet. Pages: queues with live
rates; each queue's sent, received and errors by hour, day, month and year; dead letters with their bodies, which an
administrator can send back; clients and their interruptions.

    $ ./dashboard.py --port 0 --duration 1
    http://127.0.0.1:36817 shows siamese.db
    0 logins, 0 refused; up for 1 s; stopped: 1 s are over

At a loopback address whoever is on this machine may look; sending back takes the login of an administrator. With
--login, and always at another address, looking takes a login too: a user of the broker with the tag monitoring or
administrator (the management API is asked), or a token as the password. Such an address needs TLS: --certfile and
--keyfile, or --no-tls where a proxy does it.

Exit status: 0 stopped by --duration, Ctrl-C or SIGTERM; 2 usage; 3 the port is taken, or NiceGUI is not installed.

Examples:
    ./dashboard.py --history /var/lib/siamese/siamese.db
    ./dashboard.py --host 0.0.0.0 --certfile server.pem --keyfile server.key
    ./dashboard.py --login --session 900
"""

import asyncio
import time

from common import Failure
from siamese import flags, script
from siamese.messaging import management_api as management
from siamese.monitoring import database as history
from siamese.web import server as listener

SESSION = 8 * 3600  # s
SUMMARY = '{logins} logins, {refused} refused; up for {duration_s:.0f} s; stopped: {stopped}'


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--history',
        default=history.DEFAULT_FILE,
        metavar='FILE',
        help='what monitor.py writes (default: %(default)s)',
    )
    listener.add_flags(parser, 8080)
    parser.add_argument(
        '--login', action='store_true', help='demand a login at a loopback address too'
    )
    parser.add_argument(
        '--session',
        type=flags.number(float, 1),
        default=SESSION,
        metavar='S',
        help='seconds until one has to log in again (default: %(default)s)',
    )
    parser.add_argument(
        '--unread-after',
        type=flags.number(float, 0),
        default=300,
        metavar='S',
        help='warn of messages that wait for S seconds without a consumer (default: %(default)s)',
    )
    management.add_flag(parser)
    flags.add_url_flags(parser)
    flags.add_output_flags(parser, 'uvicorn')
    args = flags.parse(parser, argv)
    try:
        management.api(args.endpoints[0], args.management_url)
    except ValueError as error:
        parser.error(str(error))
    listener.check(parser, args, 'passwords')
    args.login = args.login or not listener.is_loopback(args.host)
    return args


async def serve(args, listening, site, gate):
    """Let the ASGI application `site` answer at a socket until it is told to stop; return what the Gate counted."""
    guarded = gate(site, args)  # here, for its semaphore belongs to the loop in Python 3.9
    await listener.serve(args, listening, guarded)
    return guarded.counts


def main(argv=None):
    args = parse_args(argv)
    try:
        from siamese.web import login
        from siamese.web import site as views
    except ModuleNotFoundError as error:
        raise Failure(
            f'{error.name} is not installed: pip install -r requirements/dashboard.txt', 3
        ) from None
    listening, place = listener.listen(args)
    args.cookie = f'siamese-{listening.getsockname()[1]}'  # the browser does not tell cookies of different ports apart
    if not args.quiet:
        print(f'{place} shows {args.history}')
    began = time.monotonic()
    counts = asyncio.run(serve(args, listening, views.site(args), login.Gate))
    script.report(
        args,
        SUMMARY,
        {
            **counts,
            'duration_s': time.monotonic() - began,
            'stopped': script.stop_requested() or f'{args.duration:g} s are over',
        },
    )
    return 0


if __name__ == '__main__':
    script.run(main)
