"""Where a script answers over HTTP: at loopback, elsewhere only with TLS."""

import asyncio
import ipaddress
import socket
import ssl

from common import Failure
from siamese import flags


def add_flags(parser, port):
    """Add the flags; `port` is the default of --port."""
    parser.add_argument(
        '--host', default='127.0.0.1', metavar='ADDRESS', help='default: %(default)s'
    )
    parser.add_argument(
        '--port',
        type=flags.number(int, 0, 65535),
        default=port,
        metavar='N',
        help='0 is a free one (default: %(default)s)',
    )
    parser.add_argument('--certfile', metavar='FILE', help='certificate of this server: https')
    parser.add_argument('--keyfile', metavar='FILE', help='its key, if it is not in the same file')
    parser.add_argument(
        '--no-tls', action='store_true', help='http also beyond loopback: a proxy does TLS'
    )
    parser.add_argument(
        '--duration', type=flags.number(float, 0), metavar='S', help='stop after S seconds'
    )


def check(parser, args, secrets):
    """End with exit status 2 where `secrets` (passwords, say) would cross the network in clear, or TLS cannot work."""
    try:
        if args.certfile:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                args.certfile, args.keyfile
            )
    except OSError as error:
        parser.error(f'cannot use --certfile and --keyfile: {error}')
    if not is_loopback(args.host) and not args.certfile and not args.no_tls:
        parser.error(
            f'at {args.host} {secrets} would cross the network in clear: give --certfile and --keyfile, '
            'or --no-tls if a proxy does TLS'
        )


def is_loopback(host):
    """Return whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def listen(args):
    """Return a socket that listens there, so that whoever reads our first line can connect, and its URL; or raise
    Failure."""
    try:
        family = socket.getaddrinfo(args.host, args.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((args.host, args.port), family=family)
    except OSError as error:
        raise Failure(
            f'cannot listen at {args.host}, port {args.port}: {error.strerror}; see --host and --port',
            3,
        ) from None
    host = f'[{args.host}]' if ':' in args.host else args.host
    return (
        listening,
        f'{"https" if args.certfile else "http"}://{host}:{listening.getsockname()[1]}',
    )


async def serve(args, listening, site, **settings):
    """Let the ASGI application `site` answer at a socket until --duration is over or a signal comes.

    `settings` are more of uvicorn's.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            site,
            log_config=None,
            log_level='info' if args.verbose else 'warning',
            ssl_certfile=args.certfile,
            ssl_keyfile=args.keyfile,
            timeout_graceful_shutdown=2,
            **settings,
        )
    )

    def stop():
        server.should_exit = True

    def on_signal(
        number, frame
    ):  # uvicorn raises all of them again when it has ended, and script.run() wants one
        server.__class__.handle_exit(server, number, frame)
        del server._captured_signals[1:]

    server.handle_exit = on_signal
    if args.duration is not None:
        asyncio.get_running_loop().call_later(args.duration, stop)
    await server.serve(sockets=[listening])
