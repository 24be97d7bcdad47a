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
import ipaddress
import socket
import ssl
import time

import history
import management
import script
from common import Failure

SESSION = 8 * 3600  # s
SUMMARY = '{logins} logins, {refused} refused; up for {duration_s:.0f} s; stopped: {stopped}'


def parse_args(argv):
    parser = script.parser(__doc__)
    parser.add_argument('--history', default=history.DEFAULT_FILE, metavar='FILE',
                        help='what monitor.py writes (default: %(default)s)')
    parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS', help='default: %(default)s')
    parser.add_argument('--port', type=script.number(int, 0, 65535), default=8080, metavar='N',
                        help='0 is a free one (default: %(default)s)')
    parser.add_argument('--certfile', metavar='FILE', help='certificate of this server: https')
    parser.add_argument('--keyfile', metavar='FILE', help='its key, if it is not in the same file')
    parser.add_argument('--no-tls', action='store_true', help='http also beyond loopback: a proxy does TLS')
    parser.add_argument('--login', action='store_true', help='demand a login at a loopback address too')
    parser.add_argument('--session', type=script.number(float, 1), default=SESSION, metavar='S',
                        help='seconds until one has to log in again (default: %(default)s)')
    parser.add_argument('--duration', type=script.number(float, 0), metavar='S', help='stop after S seconds')
    parser.add_argument('--unread-after', type=script.number(float, 0), default=300, metavar='S',
                        help='warn of messages that wait for S seconds without a consumer (default: %(default)s)')
    management.add_flag(parser)
    script.add_url_flags(parser)
    script.add_output_flags(parser)
    args = script.parse(parser, argv)
    try:
        management.api(args.endpoints[0], args.management_url)
        if args.certfile:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(args.certfile, args.keyfile)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f'cannot use --certfile and --keyfile: {error}')
    if not is_loopback(args.host):
        args.login = True
        if not args.certfile and not args.no_tls:
            parser.error(f'at {args.host} passwords would cross the network in clear: give --certfile and --keyfile, '
                         'or --no-tls if a proxy does TLS')
    return args


def is_loopback(host):
    """Return whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def listen(host, port):
    """Return a socket that listens there, so that whoever reads our first line can connect; raise Failure."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Failure(f'cannot listen at {host}, port {port}: {error.strerror}; see --host and --port', 3) from None


async def serve(args, listening, site, gate):
    """Let the ASGI application `site` answer at a socket until it is told to stop; return what the Gate counted."""
    import uvicorn
    guarded = gate(site, args)
    server = uvicorn.Server(uvicorn.Config(
        guarded, log_config=None, log_level='info' if args.verbose else 'warning', ssl_certfile=args.certfile,
        ssl_keyfile=args.keyfile, timeout_graceful_shutdown=2))

    def stop():
        server.should_exit = True
    if args.duration is not None:
        asyncio.get_running_loop().call_later(args.duration, stop)
    await server.serve(sockets=[listening])
    return guarded.counts


def main(argv=None):
    args = parse_args(argv)
    try:
        import login
        import views
    except ModuleNotFoundError as error:
        raise Failure(f'{error.name} is not installed: pip install -r requirements-dashboard.txt', 3) from None
    listening = listen(args.host, args.port)
    port = listening.getsockname()[1]
    args.cookie = f'siamese-{port}'  # the browser does not tell cookies of different ports apart
    if not args.quiet:
        host = f'[{args.host}]' if ':' in args.host else args.host
        print(f'{"https" if args.certfile else "http"}://{host}:{port} shows {args.history}')
    began = time.monotonic()
    counts = asyncio.run(serve(args, listening, views.site(args), login.Gate))
    script.report(args, SUMMARY, {**counts, 'duration_s': time.monotonic() - began,
                                  'stopped': script.stop_requested() or f'{args.duration:g} s are over'})
    return 0


if __name__ == '__main__':
    script.run(main)
