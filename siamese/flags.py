"""Flags that mean the same in every script, and the types of their values."""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import common
from siamese import VERSION, ledger, terminal
from siamese.redacted import holds_login, redacted
from siamese.text import Formatter

LONGEST_TTL_S = 315_360_000  # ten years, the most that RabbitMQ takes
LONGEST_NAME = 200  # bytes; AMQP short strings hold 255, and some names get a suffix
STOP_TIMEOUT_S = 10
QUEUE_TYPES = ('classic', 'quorum')

SCENARIO = 'scenario'
STOP = 'when to stop'
BROKER = 'broker'
OUTPUT = 'output'
LAST_GROUPS = (STOP, BROKER, OUTPUT)  # the help shows them in this order, after the script's own


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with groups of flags, whose errors never repeat a password.

    Errors take one line.
    """

    def __init__(self, **options: Any) -> None:
        self.groups: dict[str, argparse._ArgumentGroup] = {}
        super().__init__(**options)
        self.built_in_groups = list(self._action_groups)  # of positional arguments and of --help

    def group(self, title: str) -> argparse._ArgumentGroup:
        """Return the group of flags with this title; add it if there is none."""
        if title not in self.groups:
            self.groups[title] = super().add_argument_group(title)
        return self.groups[title]

    def add_argument_group(self, title: str, **_options: Any) -> argparse._ArgumentGroup:  # type: ignore[override]
        """The same, so that no title stands twice in the help."""
        return self.group(title)

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add a flag of the script itself, or a positional argument."""
        if names[0].startswith('-') and names[-1] not in ('--help', '--version'):
            return self.group(SCENARIO).add_argument(*names, **options)
        return super().add_argument(*names, **options)

    def format_help(self) -> str:
        """Return the help, with the groups in the same order for every script."""
        self._action_groups.sort(key=self._place_in_help)
        return super().format_help()

    def _place_in_help(self, group: argparse._ArgumentGroup) -> int:
        if group in self.built_in_groups:
            return 0
        if group.title == SCENARIO:
            return 1
        if group.title in LAST_GROUPS:
            return 3 + LAST_GROUPS.index(group.title)
        return 2

    def error(self, message: str) -> Any:
        """End with one line, in which no URL keeps its password."""
        if message.startswith('unrecognized arguments'):
            # They may be the pieces of a URL that was not quoted.
            flags = re.findall(r'(?<!\S)--?[a-z][a-z-]*', message)
            message = ' '.join(['unrecognized arguments', *flags])
        self.exit(2, f'{self.prog}: {redacted(message)}; see {self.prog} --help\n')


def parser(doc: str | None) -> Parser:
    """Return a Parser whose help has the docstring `doc`.

    It ends with the part of the docstring from 'Examples:' on.
    """
    about, _, examples = (doc or '').partition('Examples:\n')
    made = Parser(
        description=about,
        epilog='examples:\n' + examples,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version_flag(made)
    return made


def add_version_flag(parser: argparse.ArgumentParser) -> None:
    """Add --version."""
    parser.add_argument(
        '--version',
        action='version',
        version=f'{parser.prog} of siamese {VERSION}',
        help='print the version of this collection and exit',
    )


def add_output_flags(parser: Parser, library: str = 'pika') -> None:
    """Add --json, --quiet and --verbose, which logs what `library` does."""
    group = parser.group(OUTPUT)
    group.add_argument(
        '--json',
        metavar='FILE',
        type=writable_or_stdout,
        help='write the summary as JSON to FILE; - is stdout, in place of all lines '
        '(default: none)',
    )
    group.add_argument(
        '--quiet',
        action='store_true',
        help='print only the summary (default: other lines too)',
    )
    group.add_argument(
        '--verbose',
        action='store_true',
        help=f'log what {library} does (default: only what it means for the run)',
    )
    add_color_flag(parser)


def add_verdict_flag(parser: Parser) -> None:
    """Add --history, for store_verdict()."""
    parser.group(OUTPUT).add_argument(
        '--history',
        metavar='FILE',
        type=private,
        help='store the verdict in the history of monitor.py, for dashboard.py (default: none)',
    )


def add_color_flag(parser: Parser) -> None:
    """Add --color."""
    parser.group(OUTPUT).add_argument(
        '--color',
        choices=terminal.WHEN,
        default='auto',
        help='colours; auto: on a terminal, unless NO_COLOR is set (default: auto)',
    )


def add_url_flags(parser: Parser) -> None:
    """Add --url and --name."""
    group = parser.group(BROKER)
    group.add_argument(
        '--url',
        default=os.environ.get('AMQP_URL') or common.DEFAULT_URL,
        metavar='URL[,URL]',
        help='broker, or several in failover order '
        f'(default: AMQP_URL, or else {common.DEFAULT_URL.replace("%", "%%")})',
    )
    group.add_argument(
        '--name',
        type=name,
        default=f'{parser.prog}@{socket.gethostname()}:{os.getpid()}',
        help='connection name, also in log and ledger (default: script@host:pid)',
    )


def add_broker_flags(
    parser: Parser,
    queue: str | None = None,
    types: Sequence[str] = QUEUE_TYPES,
    counted: str = 'messages',
    recorded: str = 'what this run does',
) -> None:
    """Add the flags of every script that moves messages.

    `queue` is the default of --queue. The help says what --count counts, and what
    --ledger records.
    """
    if queue:
        add_queue_flag(parser, queue)
        add_queue_type_flag(parser, types)
    add_stop_flags(parser, counted)
    add_url_flags(parser)
    parser.group(BROKER).add_argument(
        '--give-up-after',
        type=number(float, 0),
        metavar='S',
        help='exit with status 3 when the broker is unavailable, or answers no '
        'message, for S seconds (default: keep trying)',
    )
    parser.group(OUTPUT).add_argument(
        '--ledger',
        metavar='FILE',
        type=private,
        help=f'append {recorded} to FILE, for audit.py (default: none)',
    )
    add_output_flags(parser)


def add_stop_flags(parser: Parser, counted: str = 'messages') -> None:
    """Add --count and --duration."""
    group = parser.group(STOP)
    group.add_argument(
        '--count',
        type=number(int, 1),
        metavar='N',
        help=f'stop after N {counted} (default: unlimited)',
    )
    group.add_argument(
        '--duration',
        type=number(float, 0),
        metavar='S',
        help='stop after S seconds (default: unlimited)',
    )


def add_stop_timeout_flag(parser: Parser, awaited: str) -> None:
    """Add --stop-timeout; the help says what is `awaited`."""
    parser.group(STOP).add_argument(
        '--stop-timeout',
        type=number(float, 0),
        default=STOP_TIMEOUT_S,
        metavar='S',
        help=f'after a signal or --duration, wait at most S seconds for {awaited} '
        '(default: %(default)s)',
    )


def add_queue_flag(parser: Parser, default: str) -> None:
    """Add --queue."""
    parser.add_argument(
        '--queue', type=name, default=default, help='name of the queue (default: %(default)s)'
    )


def add_queue_type_flag(parser: Parser, types: Sequence[str] = QUEUE_TYPES) -> None:
    """Add --queue-type."""
    parser.add_argument(
        '--queue-type',
        choices=types,
        default='classic',
        help='type of the queue (default: %(default)s)',
    )


def add_rate_flag(parser: Parser, default: float | None = None) -> None:
    """Add --rate."""
    parser.add_argument(
        '--rate',
        type=number(float, 0.001),
        default=default,
        metavar='R',
        help='publish R messages per second, catching up after a delay '
        f'(default: {default or "unlimited"})',
    )


def add_ttl_flag(parser: Parser, default: float | None = None) -> None:
    """Add --ttl."""
    parser.add_argument(
        '--ttl',
        type=number(float, 0.001, LONGEST_TTL_S),
        default=default,
        metavar='S',
        help=f'messages expire after S seconds (default: {default or "never"})',
    )


def add_consumer_flags(parser: Parser, prefetch: int) -> None:
    """Add --prefetch and --idle."""
    parser.add_argument(
        '--prefetch',
        type=number(int, 1, 65535),
        default=prefetch,
        metavar='N',
        help='messages that the broker delivers ahead of their acknowledgement '
        '(default: %(default)s)',
    )
    parser.group(STOP).add_argument(
        '--idle',
        type=number(float, 0.001),
        metavar='S',
        help='stop when the broker delivers nothing for S seconds (default: wait)',
    )


# ---- types of values


def number(kind: type, low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return an argparse type: a number of `kind` (int or float) from `low` to `high`."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            limits = f'at least {low}'
            if high != math.inf:
                limits = f'from {low} to {high}'
            raise argparse.ArgumentTypeError(f'must be {limits}, not {text}')
        return value

    parse.__name__ = 'whole number' if kind is int else 'number'
    return parse


def name(text: str) -> str:
    """An argparse type: the name of a client, an exchange or a queue."""
    if not text.isprintable() or not 0 < len(text.encode()) <= LONGEST_NAME:
        raise argparse.ArgumentTypeError('a name has 1 to 200 printable characters')
    if '://' in text:  # it may hold a password
        raise argparse.ArgumentTypeError('this is a URL, not a name; see --url')
    return text


def writable(path: str) -> str:
    """An argparse type: the path of a file that can be appended to."""
    if path == '-':
        raise argparse.ArgumentTypeError('this takes the name of a file')
    try:
        open(path, 'a').close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f'cannot write {path}: {error.strerror}') from None
    return path


def private(path: str) -> str:
    """An argparse type: the same; a new file can be read by its owner only."""
    if path != '-':
        with suppress(OSError):
            open(path, 'a', opener=ledger.private).close()
    return writable(path)


def writable_or_stdout(path: str) -> str:
    """An argparse type: the same, or - for stdout."""
    return path if path == '-' else writable(path)


# ---- parsing


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags, set up the log, and turn args.url into args.endpoints.

    Bad flags end the script with status 2 and one line.
    """
    complete(parser)
    args = parser.parse_args(argv)
    refuse_urls_elsewhere(parser, args)
    terminal.choose(args.color)
    set_up_log(getattr(args, 'name', parser.prog), args.verbose)
    args.quiet = args.quiet or args.json == '-'
    if 'url' in args:
        try:
            args.endpoints = common.endpoints(args.url, args.name)
        except ValueError as error:
            parser.error(str(error))
    return args


def refuse_urls_elsewhere(parser: Parser, args: argparse.Namespace) -> None:
    """End with status 2 where a flag that takes no URL got one with a password.

    It would be shown as the name of a file, say.
    """
    for action in parser._actions:
        takes_urls = 'URL' in str(action.metavar)
        if not takes_urls and holds_login(getattr(args, action.dest, None)):
            name = '/'.join(action.option_strings) or action.metavar or action.dest
            parser.error(f'argument {name}: this takes no URL; see --url')


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks what may come next, where argcomplete is installed."""
    if '_ARGCOMPLETE' in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def set_up_log(name: str, verbose: bool) -> None:
    """Log to stderr, as HH:MM:SS NAME message."""
    escaped = name.replace('%', '%%')
    handler = terminal.LogHandler()
    handler.setFormatter(Formatter(f'%(asctime)s {escaped} %(message)s', '%H:%M:%S'))
    logging.basicConfig(handlers=[handler], force=True, level=logging.INFO)
    # To pika even a frame is critical that RabbitMQ sends after it has closed a channel.
    silent = logging.CRITICAL + 1
    logging.getLogger('pika').setLevel(logging.INFO if verbose else silent)
