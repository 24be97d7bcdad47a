"""Flags that mean the same in every script, and the types of their values."""

import argparse
import logging
import math
import os
import re
import socket

import common

LONGEST_TTL = 315_360_000  # s: ten years, the most that RabbitMQ takes


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line and never repeat a password."""

    def error(self, message):
        if message.startswith(
            'unrecognized arguments'
        ):  # they may be the pieces of a URL that was not quoted
            message = ' '.join(
                ['unrecognized arguments', *re.findall(r'(?<!\S)--?[a-z][a-z-]*', message)]
            )
        self.exit(
            2, f'{self.prog}: {re.sub(r"//.*@", "//***@", message)}; see {self.prog} --help\n'
        )


def parser(doc, **kind):
    """Return a Parser whose help opens with the docstring `doc` and ends with the part from 'Examples:' on."""
    about, _, examples = doc.partition('Examples:\n')
    return Parser(
        usage=argparse.SUPPRESS,
        description=about,
        epilog='examples:\n' + examples,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **kind,
    )


def add_output_flags(parser, library='pika'):
    parser.add_argument(
        '--json',
        metavar='FILE',
        type=writable_or_stdout,
        help='write the summary as JSON (- is stdout, in place of all lines)',
    )
    parser.add_argument(
        '--quiet', action='store_true', help='no line per message, only the summary'
    )
    parser.add_argument('--verbose', action='store_true', help=f'log what {library} does')


def add_url_flags(parser):
    parser.add_argument(
        '--url',
        default=os.environ.get('AMQP_URL') or common.DEFAULT_URL,
        metavar='URL[,URL]',
        help='broker, or several in failover order (default: AMQP_URL, else guest at localhost)',
    )
    parser.add_argument(
        '--name',
        type=name,
        default=f'{parser.prog}@{socket.gethostname()}:{os.getpid()}',
        help='connection name, also in log and ledger (default: script@host:pid)',
    )


def add_broker_flags(parser, queue=None, types=('classic', 'quorum')):
    """Add the flags that mean the same in every script that moves messages; `queue` is the default of --queue."""
    add_url_flags(parser)
    if queue:
        parser.add_argument('--queue', type=name, default=queue, help='default: %(default)s')
        add_queue_type_flag(parser, types)
    parser.add_argument('--count', type=number(int, 1), metavar='N', help='stop after N messages')
    parser.add_argument(
        '--duration', type=number(float, 0), metavar='S', help='stop after S seconds'
    )
    parser.add_argument(
        '--give-up-after',
        type=number(float, 0),
        metavar='S',
        help='exit 3 when the broker is away for S seconds (default: keep trying)',
    )
    parser.add_argument(
        '--ledger', metavar='FILE', type=writable, help='append the books of this run, for audit.py'
    )
    add_output_flags(parser)


def add_queue_type_flag(parser, types=('classic', 'quorum')):
    parser.add_argument(
        '--queue-type', choices=types, default='classic', help='default: %(default)s'
    )


def add_rate_flag(parser, default=None):
    parser.add_argument(
        '--rate',
        type=number(float, 0.001),
        default=default,
        metavar='R',
        help=f'R messages/s; what is late is made up for (default: {default or "no limit"})',
    )


def add_ttl_flag(parser, default=None):
    parser.add_argument(
        '--ttl',
        type=number(float, 0.001, LONGEST_TTL),
        default=default,
        metavar='S',
        help=f'time to live (default: {default or "for ever"})',
    )


def add_consumer_flags(parser, prefetch):
    parser.add_argument(
        '--prefetch',
        type=number(int, 1, 65535),
        default=prefetch,
        metavar='N',
        help='messages delivered ahead of the work (default: %(default)s)',
    )
    parser.add_argument(
        '--idle',
        type=number(float, 0.001),
        metavar='S',
        help='stop when nothing came for S seconds',
    )


def add_proof_flags(parser):
    parser.add_argument(
        '--difficulty',
        type=number(int, 0, 64),
        default=4,
        metavar='N',
        help='zeros a hash begins with (default: %(default)s)',
    )
    parser.add_argument(
        '--min',
        type=number(int, 2, common.HIGHEST_PROOF),
        default=common.MIN_PROOF,
        metavar='P',
        help='a proof is the next prime after a number from here ... (default: %(default)s)',
    )
    parser.add_argument(
        '--max',
        type=number(int, 2, common.HIGHEST_PROOF),
        default=common.MAX_PROOF,
        metavar='P',
        help='... to here (default: %(default)s)',
    )


def number(kind, low, high=math.inf):
    """Return an argparse type: a number of `kind` (int or float) from `low` to `high`."""

    def parse(text):
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            to = 'up' if high == math.inf else f'to {high}'
            raise argparse.ArgumentTypeError(f'{text} is not from {low} {to}')
        return value

    parse.__name__ = 'whole number' if kind is int else 'number'
    return parse


def name(text):
    """An argparse type: what may name a client or a queue (AMQP short strings hold 255 bytes)."""
    if not text.isprintable() or not 0 < len(text.encode()) <= 200:
        raise argparse.ArgumentTypeError('a name has 1 to 200 printable characters')
    if '://' in text:  # it may hold a password
        raise argparse.ArgumentTypeError('this is a URL and no name; see --url')
    return text


def writable(path):
    """An argparse type: the path of a file that can be appended to."""
    if path == '-':
        raise argparse.ArgumentTypeError('this takes the name of a file')
    try:
        open(path, 'a').close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f'cannot write {path}: {error.strerror}') from None
    return path


def writable_or_stdout(path):
    """An argparse type: the same, or - for stdout."""
    return path if path == '-' else writable(path)


def parse(parser, argv):
    """Parse the flags, set up the log, and turn args.url into args.endpoints; bad ones exit 2 with one line."""
    if (
        '_ARGCOMPLETE' in os.environ
    ):  # the shell asks what may come next, and has argcomplete (docs/answers.md)
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    log_name = getattr(args, 'name', parser.prog).replace('%', '%%')
    logging.basicConfig(
        format=f'%(asctime)s {log_name} %(message)s',
        datefmt='%H:%M:%S',
        force=True,
        level=logging.INFO,
    )
    # To pika even a frame is critical that RabbitMQ sends after it has closed a channel.
    logging.getLogger('pika').setLevel(logging.INFO if args.verbose else logging.CRITICAL + 1)
    args.quiet = args.quiet or args.json == '-'
    if 'max' in args and args.max < args.min:
        parser.error(f'--max {args.max} is below --min {args.min}')
    if 'url' in args:
        try:
            args.endpoints = common.endpoints(args.url, args.name)
        except ValueError as error:
            parser.error(str(error))
    return args
