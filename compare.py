#!/usr/bin/env python3
"""Run all scenarios against each broker, and compare the results side by side.

Starts the real scripts as processes, on queues and exchanges with names of their own
(siamese.compare-*; siamese.rpc.* for answers). They are removed at the end, also after
Ctrl-C. Nothing else on the broker is touched, so it may be a shared one. Needs no
management API. Takes two to three minutes for each broker.

    $ ./compare.py --only integrity --only priority
                     RabbitMQ 3.10.8
                     127.0.0.1:29104/%2F
    integrity        pass: 20 blocks
    priority         pass: 30 messages, highest first
    RabbitMQ 3.10.8 at 127.0.0.1:29104/%2F: 2 pass

Throughput and latency are measured in --rounds, all brokers in each round. A cell has the
median, and between what half of the rounds lie. Below the table stands which broker is
faster, or that there is no difference beyond noise. Which test tells that:
docs/explanation/compare.md.
What other processes of this machine do meanwhile is looked at, and said.

A cell says pass, FAIL, not possible: the plan, the permissions or the broker do not
offer it, which is no fault; or not known. Legal differences between the brokers are
named below the table, which is printed however the run ends. --budget N: at most N
messages are published on each broker, over at most 6 connections at a time, through
at most 28 queues; free plans count them.

Exit status: 0 no check failed, 1 a check failed, 2 usage, 3 could not tell: a
broker was unavailable, nothing was possible, something of ours failed, or Ctrl-C.

Examples:
    ./compare.py                                      # is the broker at AMQP_URL all right?
    ./compare.py $OLD $NEW --html runs/brokers.html   # a page with charts to pass on
    ./compare.py $CLOUDAMQP --budget 2000 --rounds 5  # a free plan
    ./compare.py $OLD $NEW --only throughput
    ./compare.py --junit runs/compare.xml             # for CI, see docs/how-to/run-it-in-ci.md
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import common
from siamese import flags, script, start, terminal
from siamese.messaging import credentials
from siamese.monitoring.verdicts import store_verdict
from siamese.redacted import redacted
from siamese.testbed import checks, comparison, comparison_page, junit, machine, measured
from siamese.testbed.candidate import Candidate
from siamese.testbed.comparison import Cell, Column
from siamese.testbed.examination import examine_all
from siamese.testbed.machine import Load
from siamese.text import utc

LONGEST_CHECK_S = 15  # the most that a check takes where nothing hangs
LONGEST_FLOW_S = 5  # ... and a figure in one round
EXPIRING = (
    '%s: the token expires in %d s, and this may take %d s; after that nothing is '
    'known, and nothing can be removed; let %s print fresh ones'
)


def warn_of_expiring_tokens(brokers: Sequence[Candidate], needed_s: int) -> None:
    """Warn of tokens that may expire before all brokers have been examined."""
    for broker in brokers:
        login = broker.endpoint.credentials
        if not isinstance(login, credentials.TokenCredentials) or login.command:
            continue
        left_s = login.expires - time.time()
        if left_s < needed_s:
            logging.warning(
                EXPIRING,
                broker.address,
                max(0, left_s),
                needed_s,
                credentials.COMMAND,
            )


def longest_run_s(names: Sequence[str], rounds: int) -> int:
    """Return how long these checks may take on one broker."""
    in_rounds = len(measured.MEASURED.keys() & set(names))
    others = len(names) - in_rounds
    return others * LONGEST_CHECK_S + in_rounds * rounds * LONGEST_FLOW_S


def column_of(broker: Candidate, cells: dict[str, Cell]) -> Column:
    """Return what was found out about a broker; say so if something is left there."""
    left = broker.names.left()
    if left:
        logging.error(
            '%s: some queues and exchanges are left; ./cleanup.py --delete %s deletes them',
            broker.address,
            ' '.join(left),
        )
    return Column(
        broker=product_of(broker),
        address=broker.address,
        checks=cells,
        facts=broker.facts,
        left=left,
        messages=broker.published,
    )


def product_of(broker: Candidate) -> str:
    """Return product and version of a broker, or 'not known'."""
    product = broker.server.get('product', '')
    version = broker.server.get('version', '')
    return f'{product} {version}'.strip() or 'not known'


def add_scenario_flags(parser: flags.Parser) -> None:
    parser.add_argument(
        '--budget',
        type=flags.number(int, 500),
        default=checks.DEFAULT_BUDGET,
        metavar='N',
        help=f'publish at most N messages on each broker (default: {checks.DEFAULT_BUDGET:,})',
    )
    parser.add_argument(
        '--only',
        action='append',
        choices=checks.MEANINGS,
        metavar='CHECK',
        help=f'one of: {", ".join(map(repr, checks.MEANINGS))}; may be repeated (default: all)',
    )
    parser.add_argument(
        '--rounds',
        type=flags.number(int, measured.FEWEST_ROUNDS, 200),
        default=measured.DEFAULT_ROUNDS,
        metavar='N',
        help='measure throughput and latency in N rounds, every broker in each (default: '
        f'{measured.DEFAULT_ROUNDS})',
    )


def add_output_flags(parser: flags.Parser) -> None:
    flags.add_output_flags(parser)
    flags.add_verdict_flag(parser)
    group = parser.group(flags.OUTPUT)
    group.add_argument(
        '--html',
        metavar='FILE',
        type=flags.writable,
        help='write a page with charts (default: none)',
    )
    group.add_argument(
        '--junit',
        metavar='FILE',
        type=flags.writable,
        help='write a test case for each check, as CI systems read them (default: none)',
    )


def parse_args(argv: 'Sequence[str] | None') -> argparse.Namespace:
    parser = flags.parser(__doc__)
    parser.add_argument(
        'urls',
        nargs='*',
        default=[os.environ.get('AMQP_URL') or common.DEFAULT_URL],
        metavar='URL',
        help='a broker; of a cluster all URLs, comma separated: the first that '
        f'answers is used (default: AMQP_URL, else {common.DEFAULT_URL})'.replace('%', '%%'),
    )
    add_scenario_flags(parser)
    add_output_flags(parser)
    args = flags.parse(parser, argv)
    args.began = time.time()
    args.command = ['./compare.py', *(argv or sys.argv[1:])]
    least = args.rounds * measured.LEAST_BUDGET
    if args.budget < least:
        parser.error(f'--rounds {args.rounds} takes a --budget of {least:,} messages or more')
    try:
        args.brokers = [Candidate(url, args.budget) for url in args.urls]
    except ValueError as error:
        parser.error(str(error))
    return args


def about(args: argparse.Namespace, names: Sequence[str], load: Load) -> dict[str, Any]:
    """Return what has to be known about the run to judge its results."""
    return {
        'date': utc(args.began, '%Y-%m-%dT%H:%M:%SZ'),
        'took_s': round(time.time() - args.began, 1),
        'command': shlex.join(map(shown, args.command)),
        'settings': {
            'rounds': args.rounds,
            'budget': args.budget,
            'checks': names,
            'not_tried': [name for name in checks.MEANINGS if name not in names],
            **measured.SETTINGS,
        },
        'machine': machine.description(),
        'load': load.document(),
    }


def shown(word: str) -> str:
    """Return a word of the command, without user and password."""
    return redacted(word).replace('***@', '')


def show(columns: Sequence[Column], load: Load) -> None:
    """Print the table, and what there is to say about it."""
    width = terminal.columns()
    terminal.show(*comparison.comparison_table(columns, width))
    terminal.show(*comparison.notes(columns), indent=4)
    if load.before is not None or load.looks:
        word = 'warning: ' if load.spoils else ''
        terminal.show(f'{word}{load.text}', indent=4)


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def main(argv: 'Sequence[str] | None' = None) -> int:
    args = parse_args(argv)
    start.finish_on_signal()
    only = args.only or checks.MEANINGS
    names = [name for name in checks.MEANINGS if name in only]
    load = Load()
    needed_s = len(args.brokers) * longest_run_s(names, args.rounds)
    warn_of_expiring_tokens(args.brokers, needed_s)
    cells = examine_all(args.brokers, names, args.rounds, load)
    columns = list(map(column_of, args.brokers, cells))
    if not args.quiet:
        show(columns, load)
    status = comparison.exit_status(columns)
    if len(start.signals) > 1:
        status = start.INTERRUPTED
    document = comparison.document(columns, status, **about(args, names, load))
    if args.html:
        write(args.html, comparison_page.html(document))
    if args.junit:
        write(args.junit, junit.document(document))
    # A line for each.
    lines = [f'{{verdicts[{number}]}}' for number in range(len(columns))]
    script.report(args, '\n'.join(lines), document)
    store_verdict(args, document, ', '.join(broker.address for broker in args.brokers))
    return status


if __name__ == '__main__':
    script.run(main)
