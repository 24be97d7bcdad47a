#!/usr/bin/env python3
"""Run a command with its own broker, and leave no trace of it.

Starts the RabbitMQ that is installed here, as any user, on free ports of
127.0.0.1, with its own data, settings and epmd. A RabbitMQ that runs already is
left alone. The command finds the new one in AMQP_URL (with --nodes 3: three URLs,
comma separated) and, with --management, its HTTP API in MANAGEMENT_URL. Without a
command it runs until Ctrl-C and prints both for other terminals. With --oauth2 it
also accepts tokens as passwords. --product qpid starts Apache Qpid Broker-J, as
strict as it is by default. Pairs with every script here, and comes first.

    $ ./broker.py sh -c 'echo the broker is at $AMQP_URL'
    18:21:07 broker.py@vm:4711 starting RabbitMQ
    18:21:12 broker.py@vm:4711 RabbitMQ is up after 4.9 s
    the broker is at amqp://guest:guest@127.0.0.1:29117/%2F

Exit status: the command's (128+n if signal n killed it, 127 if there is no such
command); 0 after Ctrl-C without a command; 2 usage; 3 the broker is not installed or
did not start.

Examples:
    ./broker.py ./producer.py --count 3
    ./broker.py --nodes 3 --management bash
    ./broker.py --oauth2 public.pem bash              # tokens work as passwords
    RABBITMQ_HOME=.rabbitmq4 ./broker.py bash         # RabbitMQ 4.x, see make rabbitmq4
    ./broker.py --product qpid bash                   # Apache Qpid Broker-J, see make qpid
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

# Standard library only: it also runs before pika is installed. So it has its own
# log(), Parser and completion in place of those of siamese/flags.py.
import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import FrameType
from typing import NoReturn

from siamese import VERSION
from siamese.redacted import redacted
from siamese.start import STOP_SIGNALS
from siamese.testbed import qpid, rabbitmq
from siamese.testbed.product import DidNotStart, NotInstalled, Product

PRODUCTS = {'rabbitmq': 'RabbitMQ', 'qpid': 'Qpid'}
PRODUCT = 'BROKER_PRODUCT'  # environment variable


def log(message: object) -> None:
    """Log a line on stderr."""
    now = time.strftime('%H:%M:%S')
    name = f'broker.py@{socket.gethostname()}:{os.getpid()}'
    print(now, name, redacted(message), file=sys.stderr, flush=True)


def wait_for_signal(variables: dict[str, str]) -> int:
    """Print the variables to export, wait for Ctrl-C or SIGTERM.

    Returns the exit status.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for name, value in variables.items():
        print(f'export {name}={value}', flush=True)
    signal.sigwait(STOP_SIGNALS)
    return 0


def run(command: Sequence[str], variables: dict[str, str], broker: Product) -> int:
    """Run the command to its end; return its exit status.

    SIGTERM is passed on to it; Ctrl-C reaches it anyway.
    """
    # Signals are taken one by one: handlers would be nested where many come at
    # once. None of them disturbs the cleanup.
    awaited = (*STOP_SIGNALS, signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        child = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        )
    except OSError as error:
        log(f'{command[0]}: {error.strerror}')
        return 126
    broker.tell_guard(child.pid)
    # A signal may have come before the command was there.
    for number in signal.sigpending() & {*STOP_SIGNALS}:
        child.send_signal(signal.sigwait([number]))
    while child.poll() is None:
        if signal.sigwait(awaited) == signal.SIGTERM:
            child.send_signal(signal.SIGTERM)
    broker.tell_guard()
    if child.returncode < 0:
        return 128 - child.returncode
    return child.returncode


def exit_on_signal(number: int, _frame: 'FrameType | None') -> None:
    """Clean up, undisturbed by further signals, and exit."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    sys.exit(128 + number)


def public_key(path: str) -> str:
    """An argparse type: the file of a public key; returns its text."""
    try:
        with open(path, encoding='ascii') as file:
            text = file.read()
    except OSError as error:
        raise argparse.ArgumentTypeError(f'cannot read {path}: {error.strerror}') from None
    except UnicodeError:
        raise argparse.ArgumentTypeError(f'cannot read {path}: no PEM file') from None
    if '-----BEGIN PUBLIC KEY-----' not in text:
        raise argparse.ArgumentTypeError(
            f'{path} holds no PUBLIC KEY; openssl pkey -pubout makes it of a private one'
        )
    return text


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line, in which no URL keeps its password."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: error: {redacted(message)}\n')


def add_broker_flags(parser: argparse.ArgumentParser) -> None:
    broker = parser.add_argument_group('broker')
    broker.add_argument(
        '--product',
        choices=PRODUCTS,
        default=os.environ.get(PRODUCT) or 'rabbitmq',
        help=f'which broker to start (default: {PRODUCT}, else rabbitmq)',
    )
    broker.add_argument(
        '--nodes',
        type=int,
        choices=(1, 3),
        default=1,
        help='number of nodes; 3 make a cluster (default: 1)',
    )
    broker.add_argument(
        '--management',
        action='store_true',
        help='enable the management plugin (HTTP API)',
    )
    broker.add_argument(
        '--oauth2',
        type=public_key,
        action='append',
        default=[],
        metavar='PUBLIC_KEY.pem',
        help='accept tokens that are signed RS256 with this key, kid k1; '
        'may be repeated (kid k2 ...)',
    )
    broker.add_argument(
        '--lenient',
        action='store_true',
        help='qpid: ignore x-arguments instead of refusing them',
    )


def check_product(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a usage error where the product has no such flag."""
    if args.product not in PRODUCTS:
        parser.error(f'{PRODUCT}={args.product}: choose from {", ".join(PRODUCTS)}')
    if args.product == 'qpid' and (args.nodes > 1 or args.management or args.oauth2):
        parser.error('--product qpid has one node, no management API and no tokens')
    if args.product != 'qpid' and args.lenient:
        parser.error('--lenient belongs to --product qpid')


def parse_args(argv: 'Sequence[str] | None') -> argparse.Namespace:
    about, _, examples = (__doc__ or '').partition('Examples:')
    parser = Parser(
        usage='broker.py [flags] [COMMAND [ARGUMENT ...]]',
        allow_abbrev=False,
        description=about,
        epilog=f'examples:{examples}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--version',
        action='version',
        version=f'broker.py of siamese {VERSION}',
        help='print the version of this collection and exit',
    )
    add_broker_flags(parser)
    parser.add_argument(
        'command',
        nargs=argparse.REMAINDER,
        help='command to run, with its own flags (default: wait for Ctrl-C)',
    )
    # The shell asks for completions, and has argcomplete.
    if '_ARGCOMPLETE' in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    if args.command[:1] == ['--']:
        del args.command[0]
    check_product(parser, args)
    return args


def throwaway(args: argparse.Namespace) -> AbstractContextManager[Product]:
    """Return the broker that the flags ask for; the with-block starts and removes it."""
    if args.product == 'qpid':
        return qpid.throwaway(args.lenient)
    return rabbitmq.throwaway(args.nodes, args.management, oauth2=args.oauth2)


def serve(args: argparse.Namespace) -> int:
    """Start the broker, and run the command; return the exit status."""
    cluster = ''
    if args.nodes > 1:
        cluster = f', {args.nodes} nodes'
    name = PRODUCTS[args.product]
    log(f'starting {name}{cluster}')
    began = time.monotonic()
    with throwaway(args) as broker:
        log(f'{name} is up after {time.monotonic() - began:.1f} s')
        variables = {'AMQP_URL': broker.url}
        if broker.management_url:
            variables['MANAGEMENT_URL'] = broker.management_url
        if args.command:
            return run(args.command, variables, broker)
        return wait_for_signal(variables)


def main(argv: 'Sequence[str] | None' = None) -> int:
    args = parse_args(argv)
    if args.command and not shutil.which(args.command[0]):
        log(f'{args.command[0]}: no such command')
        return 127
    for number in STOP_SIGNALS:
        signal.signal(number, exit_on_signal)
    try:
        return serve(args)
    except (NotInstalled, DidNotStart) as error:
        log(error)
        return 3


if __name__ == '__main__':
    sys.exit(main())
