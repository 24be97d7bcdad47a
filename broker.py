#!/usr/bin/env python3
"""Run a command with a RabbitMQ of its own, which afterwards is gone without a trace.

Starts the RabbitMQ that is installed here, as any user, on free ports of 127.0.0.1, with its own data,
settings and epmd; one that runs already is left alone. The command finds it in AMQP_URL (with --nodes 3:
three URLs, comma separated) and, with --management, its HTTP API in MANAGEMENT_URL. Without a command it
stays up until Ctrl-C and prints both for other terminals. With --oauth2 it also takes tokens for passwords.
Pairs with every script here, and comes first.

    $ ./broker.py sh -c 'echo the broker is at $AMQP_URL'
    18:21:07 broker.py@vm:4711 starting RabbitMQ
    18:21:12 broker.py@vm:4711 RabbitMQ is up after 4.9 s
    the broker is at amqp://guest:guest@127.0.0.1:29117/%2F

Exit status: the command's (128+n if signal n killed it, 127 if there is no such command); 0 after Ctrl-C
without a command; 2 usage; 3 RabbitMQ is not installed or did not start.

Examples:
    ./broker.py ./producer.py --count 3
    ./broker.py --nodes 3 --management bash
    ./broker.py --oauth2 public.pem bash              # tokens (JWT) work as passwords, see docs/access.md
    RABBITMQ_HOME=.rabbitmq4 ./broker.py bash         # RabbitMQ 4.x, see make rabbitmq4
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from siamese.testbed.rabbitmq import DidNotStart, NotInstalled, throwaway

ENDING = (signal.SIGINT, signal.SIGTERM)


def say(message):
    """Log `message` on stderr."""
    name = f'broker.py@{socket.gethostname()}:{os.getpid()}'
    print(time.strftime('%H:%M:%S'), name, message, file=sys.stderr, flush=True)


def stay(variables):
    """Print the variables to export, wait for Ctrl-C or SIGTERM, return the exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for name, value in variables.items():
        print(f'export {name}={value}', flush=True)
    signal.sigwait(ENDING)
    return 0


def run(command, variables, broker):
    """Run the command to its end, return its exit status; pass SIGTERM on (Ctrl-C reaches it without us)."""
    # Signals are taken one by one: handlers would be nested where many come at once. None disturbs the cleaning.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*ENDING, signal.SIGCHLD])
    try:
        child = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
    except OSError as error:
        say(f'{command[0]}: {error.strerror}')
        return 126
    broker.tell_guard(child.pid)
    for number in signal.sigpending() & {*ENDING}:  # it may have come before the command was there
        child.send_signal(signal.sigwait([number]))
    while child.poll() is None:
        if signal.sigwait([*ENDING, signal.SIGCHLD]) == signal.SIGTERM:
            child.send_signal(signal.SIGTERM)
    broker.tell_guard()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end_early(number, _):
    """Clean up, undisturbed by further signals, and exit."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    sys.exit(128 + number)


def public_key(path):
    """An argparse type: the file of a public key; returns its text."""
    try:
        with open(path, encoding='ascii') as file:
            text = file.read()
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(
            f'cannot read {path}: {getattr(error, "strerror", "no PEM file")}'
        ) from None
    if '-----BEGIN PUBLIC KEY-----' not in text:
        raise argparse.ArgumentTypeError(
            f'{path} holds no PUBLIC KEY; openssl pkey -pubout makes it of a private one'
        )
    return text


def main(argv=None):
    about, _, examples = __doc__.partition('Examples:')
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
        description=about,
        epilog=f'examples:{examples}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--nodes', type=int, choices=(1, 3), default=1, help='3: a cluster (default: 1)'
    )
    parser.add_argument(
        '--management', action='store_true', help='with the management plugin (HTTP API)'
    )
    parser.add_argument(
        '--oauth2',
        type=public_key,
        action='append',
        default=[],
        metavar='PUBLIC_KEY.pem',
        help='take tokens that are signed RS256 with this key, kid k1 (again: k2 ...)',
    )
    parser.add_argument('command', nargs=argparse.REMAINDER, help='what to run, with its own flags')
    if '_ARGCOMPLETE' in os.environ:  # the shell asks what may come next, and has argcomplete
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    command = args.command[args.command[:1] == ['--'] :]
    if command and not shutil.which(command[0]):
        say(f'{command[0]}: no such command')
        return 127
    for number in ENDING:
        signal.signal(number, end_early)
    say('starting RabbitMQ' + (f', {args.nodes} nodes' if args.nodes > 1 else ''))
    began = time.monotonic()
    try:
        with throwaway(args.nodes, args.management, oauth2=args.oauth2) as broker:
            say(f'RabbitMQ is up after {time.monotonic() - began:.1f} s')
            variables = {'AMQP_URL': broker.url}
            if broker.management_url:
                variables['MANAGEMENT_URL'] = broker.management_url
            return run(command, variables, broker) if command else stay(variables)
    except (NotInstalled, DidNotStart) as error:
        say(error)
        return 3


if __name__ == '__main__':
    sys.exit(main())
