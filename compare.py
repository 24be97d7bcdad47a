#!/usr/bin/env python3
"""Run all scenarios against each broker, and compare the results side by side.

Starts the real scripts as processes, one check after the other, one broker after
the other, on queues and exchanges with names of their own (siamese.compare-*;
siamese.rpc.* for answers). They are removed at the end, also after Ctrl-C. Nothing
else on the broker is touched, so it may be a shared one. Needs no management API.
Takes about a minute for each broker.

    $ ./compare.py --only integrity --only priority
                     RabbitMQ 3.10.8
                     127.0.0.1:29104/%2F
    integrity        pass: 20 blocks
    priority         pass: 30 messages, highest first
    RabbitMQ 3.10.8 at 127.0.0.1:29104/%2F: 2 pass

A cell says pass, FAIL, not possible: the plan or the permissions do not allow
it, which is not a fault of the broker; or not known. Legal differences between the brokers are
named below the table. --budget N: at most N messages are published on each broker,
over at most 6 connections at a time, through at most 20 queues; free plans count
them.

Exit status: 0 no check failed, 1 a check failed, 2 usage, 3 could not tell: a
broker was unavailable, nothing was possible, something of ours failed, or Ctrl-C.

Examples:
    ./compare.py                                      # is the broker at AMQP_URL all right?
    ./compare.py $OLD $NEW --html runs/brokers.html   # a page with charts to pass on
    ./compare.py $CLOUDAMQP --budget 2000             # a free plan
    ./compare.py $OLD $NEW --only throughput
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import argparse
import dataclasses
import logging
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Sequence

import common
from siamese import flags, script, start
from siamese.messaging import blocking, credentials, errors
from siamese.testbed import STOP_SIGNALS, checks, comparison, comparison_page
from siamese.testbed.candidate import (
    Candidate,
    Failed,
    NotPossible,
    Stopped,
    Unavailable,
)
from siamese.testbed.comparison import Cell, Column

LONGEST_CHECK_S = 15  # the most that a check takes where nothing hangs
EXPIRING = (
    '%s: the token expires in %d s, and this may take %d s; after that nothing is '
    'known, and nothing can be removed; let %s print fresh ones'
)


def warn_of_expiring_token(broker: Candidate, needed_s: int) -> None:
    """Warn of a token that may expire before its broker has been examined."""
    login = broker.endpoint.credentials
    if not isinstance(login, credentials.TokenCredentials) or login.command:
        return
    left_s = login.expires - time.time()
    if left_s < needed_s:
        logging.warning(
            EXPIRING,
            broker.address,
            max(0, left_s),
            needed_s,
            credentials.COMMAND,
        )


def run_check(broker: Candidate, name: str) -> Cell:
    """Run a check; return how it went, 'not known' if the broker is gone."""
    try:
        broker.connect()
        result = checks.CHECKS[name](broker)
    except NotPossible as error:
        return Cell('not possible', str(error))
    except Failed as error:
        return Cell('FAIL', str(error))
    except Unavailable as error:
        return Cell('not known', str(error))
    except (*blocking.ERRORS, sqlite3.Error) as error:
        cause = errors.cause(error)
        return Cell('not known', f'cannot go on ({cause})')
    except Stopped:
        return Cell('not known', f'stopped by {script.stop_requested()}')
    return Cell('pass', result.text, result.metrics)


def examine(broker: Candidate, names: Sequence[str]) -> dict[str, Cell]:
    """Run checks, until a signal comes or the broker is gone; then nothing more is known."""
    cells: dict[str, Cell] = {}
    gone = None
    for name in names:
        if gone:
            cells[name] = gone
            continue
        began = time.monotonic()
        cell = run_check(broker, name)
        broker.stop()
        logging.info(
            '%s: %s: %s, %s; %.1f s',
            broker.address,
            name,
            cell.verdict,
            cell.text,
            time.monotonic() - began,
        )
        cells[name] = cell
        if cell.verdict == 'not known' and is_over(broker):
            gone = cell
    return cells


def is_over(broker: Candidate) -> bool:
    """Return whether nothing more can be told: after a signal, or if the broker is gone."""
    if script.stop_requested():
        return True
    try:
        broker.connect()
    except Unavailable:
        return True
    return False


def examine_and_clean_up(broker: Candidate, names: Sequence[str]) -> Column:
    """Examine a broker, and leave nothing behind on it."""
    with tempfile.TemporaryDirectory(prefix='siamese-compare-') as folder:
        broker.folder = folder
        try:
            cells = examine(broker, names)
        finally:
            # Nothing may interrupt the cleanup.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            broker.stop()
            left = sorted(broker.remove())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
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
        choices=checks.CHECKS,
        metavar='CHECK',
        help=f'one of: {", ".join(map(repr, checks.CHECKS))}; may be repeated (default: all)',
    )
    flags.add_output_flags(parser)
    parser.group(flags.OUTPUT).add_argument(
        '--html',
        metavar='FILE',
        type=flags.writable,
        help='write a page with charts (default: none)',
    )
    args = flags.parse(parser, argv)
    try:
        args.brokers = [Candidate(url, args.budget) for url in args.urls]
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv: 'Sequence[str] | None' = None) -> int:
    args = parse_args(argv)
    start.finish_on_signal()
    only = args.only or checks.CHECKS
    names = [name for name in checks.CHECKS if name in only]
    for number, broker in enumerate(args.brokers, 1):
        warn_of_expiring_token(broker, number * len(names) * LONGEST_CHECK_S)
    columns = [examine_and_clean_up(broker, names) for broker in args.brokers]
    verdicts = [column.summary() for column in columns]
    differences = comparison.differences(columns)
    if not args.quiet:
        print('\n'.join(comparison.comparison_table(columns)))
    if args.html:
        page = comparison_page.html(columns, differences, verdicts)
        with open(args.html, 'w', encoding='utf-8') as file:
            file.write(page)
    status = comparison.exit_status(columns)
    summary = {
        'verdict': '\n'.join(verdicts),
        'exit_status': status,
        'brokers': list(map(dataclasses.asdict, columns)),
        'differences': {difference.name: difference.texts for difference in differences},
    }
    script.report(args, '{verdict}', summary)
    return status


if __name__ == '__main__':
    script.run(main)
