#!/usr/bin/env python3
"""Run all scenarios against each broker, and show side by side how they did.

Starts the real scripts as processes, one check after the other, one broker after the other, on queues and exchanges of
its own (siamese.compare-*; siamese.rpc.* for answers), which are gone at the end, also after Ctrl-C. Nothing else on
the broker is touched, so it may be a shared one. Needs no management API. Takes about a minute for each broker.

    $ ./compare.py --only integrity --only priority
                     RabbitMQ 3.10.8
                     127.0.0.1:29104/%2F
    integrity        pass: 20 blocks
    priority         pass: 30 messages, highest first
    RabbitMQ 3.10.8 at 127.0.0.1:29104/%2F: 2 pass

A cell says pass, FAIL, or not possible: the plan or the rights do not allow it, which is no fault of the broker. Legal
differences between the brokers are named below the table. --budget N: no more than N messages are published on each
broker, over no more than 6 connections at a time, through no more than 20 queues; free plans count them.

Exit status: 0 no check failed, 1 a check failed, 2 usage, 3 could not tell: a broker was away, nothing was possible, or
Ctrl-C.

Examples:
    ./compare.py                                      # is the broker at AMQP_URL all right?
    ./compare.py $OLD $NEW --html brokers.html        # a page with charts to pass on
    ./compare.py $CLOUDAMQP --budget 2000             # a free plan
    ./compare.py $OLD $NEW --only throughput
"""

import itertools
import logging
import os
import signal
import tempfile
import textwrap
import time

import common
from siamese import flags, script
from siamese.messaging import blocking
from siamese.messaging import credentials as tokens
from siamese.messaging import errors as faults
from siamese.testbed import candidate, checks
from siamese.testbed import comparison_page as sheet

WIDTH = 120  # columns
PACE = 15  # s that a check takes at the most, where nothing hangs
ENDING = (signal.SIGINT, signal.SIGTERM)


def warn_of_tokens(brokers, names):
    """Warn of each token in a URL that may expire before its broker has been examined."""
    for number, broker in enumerate(brokers, 1):
        login, needed = broker.endpoint.credentials, number * len(names) * PACE
        if (
            isinstance(login, tokens.Credentials)
            and not login.command
            and login.expires < time.time() + needed
        ):
            logging.warning(
                '%s: the token expires in %d s, and this may take %d s; after that nothing is known, and '
                'nothing can be removed; let %s print fresh ones',
                broker.place,
                max(0, login.expires - time.time()),
                needed,
                tokens.COMMAND,
            )


def examine(broker, names):
    """Run the checks of these names against a Candidate; yield (check, verdict, text, figures) of each."""
    gone = ''
    for name in names:
        began = time.monotonic()
        verdict, text, figures = 'not known', gone, {}
        if not gone:
            try:
                broker.meet()
                text, figures = checks.CHECKS[name](broker)
                verdict = 'pass'
            except candidate.NotPossible as error:
                verdict, text = 'not possible', str(error)
            except candidate.Failed as error:
                verdict, text = 'FAIL', str(error)
            except candidate.Away as error:
                gone = text = str(error)
            except blocking.ERRORS as error:
                gone = text = f'cannot go on ({faults.cause(error)})'
            except candidate.Stopped:
                gone = text = f'stopped by {script.stop_requested()}'
            broker.stop()
            logging.info(
                '%s: %s: %s, %s; %.1f s',
                broker.place,
                name,
                verdict,
                text,
                time.monotonic() - began,
            )
        yield name, verdict, text, figures


def compare(broker, names):
    """Examine a Candidate and leave nothing behind; return a dict that tells all of it."""
    with tempfile.TemporaryDirectory(prefix='siamese-compare-') as broker.folder:
        try:
            cells = {
                name: {'verdict': verdict, 'text': text, 'figures': figures}
                for name, verdict, text, figures in examine(broker, names)
            }
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # nothing shall disturb the cleaning
            broker.stop()
            left = broker.remove()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if left:
        logging.error('%s: these are left, delete them: %s', broker.place, ', '.join(sorted(left)))
    product = (
        ' '.join(str(broker.server.get(key, '')) for key in ('product', 'version')).strip()
        or 'not known'
    )
    return {
        'broker': product,
        'place': broker.place,
        'checks': cells,
        'facts': broker.facts,
        'left': sorted(left),
        'messages': broker.published,
    }


def differences(columns):
    """Return [(what, [text of each broker])] of what brokers do differently and may."""
    facts = {name for column in columns for name in column['facts']}
    found = []
    for name in sorted(facts):
        texts = [column['facts'].get(name, 'not known') for column in columns]
        if len(set(texts)) > 1:
            found.append((name, texts))
    return found


def table(columns):
    """Yield the lines of the table for a terminal."""
    label = max(map(len, checks.CHECKS)) + 2
    room = max(24, min(48, (WIDTH - label) // len(columns)))

    def row(name, texts):
        cells = [textwrap.wrap(text, room - 2) or [''] for text in texts]
        for number, parts in enumerate(itertools.zip_longest(*cells, fillvalue='')):
            yield (
                f'{"" if number else name:{label}}' + ''.join(f'{part:{room}}' for part in parts)
            ).rstrip()

    yield from row('', [column['broker'] for column in columns])
    yield from row('', [column['place'] for column in columns])
    for name in columns[0]['checks']:
        cells = [column['checks'][name] for column in columns]
        yield from row(name, [f'{cell["verdict"]}: {cell["text"]}' for cell in cells])
    found = differences(columns)
    if found:
        yield 'differences, all of them legal:'
    for name, texts in found:
        yield f'  {name}: {"; ".join(texts)}'


def judge(columns):
    """Return the verdict over all brokers in words, and the exit status."""
    said = []
    status = 0
    for column in columns:
        verdicts = [cell['verdict'] for cell in column['checks'].values()]
        counts = [
            f'{verdicts.count(verdict)} {verdict}'
            for verdict in ('pass', 'FAIL', 'not possible', 'not known')
            if verdict in verdicts
        ]
        said.append(f'{column["broker"]} at {column["place"]}: {", ".join(counts)}')
        unknown = 'not known' in verdicts or 'pass' not in verdicts or column['left']
        status = 1 if 'FAIL' in verdicts or status == 1 else 3 if unknown else status
    return said, status


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        'urls',
        nargs='*',
        default=[os.environ.get('AMQP_URL') or common.DEFAULT_URL],
        metavar='URL',
        help='a broker; of a cluster all URLs, comma separated: the first that answers counts '
        '(default: AMQP_URL)',
    )
    parser.add_argument(
        '--budget',
        type=flags.number(int, 500),
        default=checks.BUDGET,
        metavar='N',
        help='publish at most N messages on each broker (default: %(default)s)',
    )
    parser.add_argument(
        '--only',
        action='append',
        choices=checks.CHECKS,
        metavar='CHECK',
        help=f'one of: {", ".join(map(repr, checks.CHECKS))}; may be repeated (default: all)',
    )
    parser.add_argument(
        '--html', metavar='FILE', type=flags.writable, help='write a page with charts'
    )
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    try:
        args.brokers = [candidate.Candidate(url, args.budget) for url in args.urls]
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv=None):
    args = parse_args(argv)
    names = [name for name in checks.CHECKS if name in (args.only or checks.CHECKS)]
    warn_of_tokens(args.brokers, names)
    columns = [compare(broker, names) for broker in args.brokers]
    verdicts, status = judge(columns)
    if not args.quiet:
        print('\n'.join(table(columns)))
    if args.html:
        with open(args.html, 'w', encoding='utf-8') as file:
            file.write(sheet.html(columns, differences(columns), verdicts))
    script.report(
        args,
        '{verdict}',
        {
            'verdict': '\n'.join(verdicts),
            'exit_status': status,
            'brokers': columns,
            'differences': dict(differences(columns)),
        },
    )
    return status


if __name__ == '__main__':
    script.run(main)
