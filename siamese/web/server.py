"""Where a script answers over HTTP: at loopback, elsewhere only with TLS."""

from __future__ import annotations

import argparse
import asyncio
import functools
import ipaddress
import socket
import ssl
from types import FrameType
from typing import TYPE_CHECKING, Any

from common import Failure
from siamese import flags, refusals, script, start
from siamese.hosts import is_loopback
from siamese.web.door import Door

if TYPE_CHECKING:  # both take long to import, for --help
    import uvicorn
    from starlette.types import ASGIApp

SHUTDOWN_TIMEOUT_S = 2
MAX_WEBSOCKET_MESSAGE_BYTES = 1 << 20


def add_flags(parser: flags.Parser, port: int) -> None:
    """Add the flags in a group; `port` is the default of --port."""
    group = parser.add_argument_group('server')
    group.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='listen at this address (default: %(default)s)',
    )
    group.add_argument(
        '--port',
        type=flags.number(int, 0, 65535),
        default=port,
        metavar='N',
        help='listen at this port; 0 picks a free one (default: %(default)s)',
    )
    add_tls_flags(group)
    stopping = parser.group(flags.STOP)
    stopping.add_argument(
        '--duration',
        type=flags.number(float, 0),
        metavar='S',
        help='stop after S seconds (default: run until Ctrl-C)',
    )


def add_tls_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--certfile',
        metavar='FILE',
        help='certificate of this server; it then uses https (default: http)',
    )
    group.add_argument(
        '--keyfile',
        metavar='FILE',
        help='private key of the certificate (default: it is in --certfile)',
    )
    group.add_argument(
        '--no-tls',
        action='store_true',
        help='allow http beyond loopback, behind a proxy that does TLS',
    )
    group.add_argument(
        '--proxy',
        type=ip_address,
        metavar='ADDRESS',
        help='requests come from a proxy at this IP address, which does TLS: take the '
        'address of the client from its X-Forwarded-For (default: no proxy is believed)',
    )


def check(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    secrets: str,
) -> None:
    """End with exit status 2 where secrets would travel unencrypted.

    `secrets` names them for the error, such as 'passwords'. A certificate
    that cannot be used is an error too.
    """
    try:
        if args.certfile:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(args.certfile, args.keyfile)
    except OSError as error:
        parser.error(f'cannot use --certfile and --keyfile: {error}')
    if is_loopback(args.host) or args.certfile or args.no_tls:
        return
    parser.error(
        f'at {args.host} {secrets} would cross the network in clear: '
        'give --certfile and --keyfile, or --no-tls if a proxy does TLS'
    )


def ip_address(text: str) -> str:
    """An argparse type: an IP address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError('this takes an IP address') from None


def is_behind_tls(args: argparse.Namespace) -> bool:
    """Return whether clients reach this server over TLS."""
    return bool(args.certfile or args.no_tls or args.proxy)


def listen(args: argparse.Namespace) -> tuple[socket.socket, str]:
    """Return a listening socket and its URL.

    It listens already, so that a program that reads the URL can connect at
    once; a signal is answered by serve(). Raises Failure.
    """
    start.finish_on_signal()
    address = (args.host, args.port)
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        family = found[0][0]
        listening = socket.create_server(address, family=family)
    except OSError as error:
        raise Failure(
            f'cannot listen at {args.host}, port {args.port}: '
            f'{error.strerror}; see --host and --port',
            3,
        ) from None
    return listening, url_of(args, listening)


def url_of(args: argparse.Namespace, listening: socket.socket) -> str:
    scheme = 'http'
    if args.certfile:
        scheme = 'https'
    host = args.host
    if ':' in host:  # IPv6
        host = f'[{host}]'
    port = listening.getsockname()[1]
    return f'{scheme}://{host}:{port}'


def stop_reason() -> str:
    """Return why serve() has ended."""
    return script.stop_requested() or 'duration over'


async def serve(
    args: argparse.Namespace,
    listening: socket.socket,
    site: ASGIApp,
    **settings: Any,
) -> None:
    """Serve an ASGI application until --duration is over or a signal comes.

    `settings` are more of uvicorn's.
    """
    door = Door(listening, bool(args.certfile), args.proxy)
    server = make_server(args, site, door, settings)

    def stop() -> None:
        server.should_exit = True

    def on_signal(sig: int, frame: FrameType | None) -> None:
        type(server).handle_exit(server, sig, frame)
        # uvicorn raises all captured signals again when it has ended, but
        # script.run() takes a second one as the demand to stop immediately.
        del server._captured_signals[1:]

    def stop_if_requested() -> None:
        if script.stop_requested():
            stop()

    server.handle_exit = on_signal  # type: ignore[method-assign]
    # A signal may have come before uvicorn took over the handlers; when the
    # loop calls this, it has.
    asyncio.get_running_loop().call_soon(stop_if_requested)
    if args.duration is not None:
        asyncio.get_running_loop().call_later(args.duration, stop)
    await server.serve(sockets=[door])


def make_server(
    args: argparse.Namespace,
    site: ASGIApp,
    door: Door,
    settings: dict[str, Any],
) -> uvicorn.Server:
    import uvicorn

    from siamese.web.connection import Connection

    refusals.log_rarely('uvicorn.error')
    level = 'warning'
    if args.verbose:
        level = 'info'
    config = uvicorn.Config(
        site,
        log_config=None,
        log_level=level,
        ssl_certfile=args.certfile,
        ssl_keyfile=args.keyfile,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        http=functools.partial(Connection, door),  # type: ignore[arg-type]
        ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
        proxy_headers=bool(args.proxy),
        forwarded_allow_ips=args.proxy or '',
        **settings,
    )
    return uvicorn.Server(config)
