#!/usr/bin/env python3
"""Inject random faults into a broker, and prove that no message gets lost.

Two producers and two consumers each of scenarios 1 and 2 are at work while faults
come one after another. Without --url they work on their own RabbitMQ cluster (three
nodes on loopback, quorum queues), whose nodes are killed, stopped, frozen and
isolated too. With --url they work on your broker, and only clients suffer: a proxy
in between (not with amqps://) cuts, holds or refuses their connections, and they are
killed and started again. A fault is over when a message of each producer that was
published after it has been delivered and checked. The audit follows the ledger, and
tells what is corrupt, duplicated or out of order once that is proven; --stop-on-fault
ends the run then. At the end the queues are drained and removed: only then it is known
what is lost. The same --seed injects the same faults in the same order.

    $ ./soak.py --minutes 0.4 --seed 7
    seed 7, 24 s of faults on its own cluster
         0 s  kill a node               flowing again after 0.3 s
         6 s  kill a script             flowing again after 0.2 s
         8 s  cut connections           flowing again after 0.3 s
        22 s  kill two nodes            flowing again after 0.1 s
        37 s  black hole                flowing again after 0.1 s
    fault                    times  median     max
    kill a node                  1   0.3 s   0.3 s
    kill a script                1   0.2 s   0.2 s
    cut connections              1   0.3 s   0.3 s
    kill two nodes               1   0.1 s   0.1 s
    black hole                   1   0.1 s   0.1 s
    all                          5   0.2 s   0.3 s
    3,154 attempted, 3,154 confirmed, 3,154 ok
    61 redelivered, 0 ack lost, 0 republished, 0 recovered, 0 in doubt
    valid: every confirmed message was delivered unaltered, and every copy is explained

Ctrl-C ends the faults early; a second one stops immediately. The queues on your
broker are removed in both cases. Exit status: 0 valid, 1 invalid, a script that
failed or messages that no longer got through, 2 usage, 3 no RabbitMQ, no broker at
--url or refused by it, or the audit could not tell.

Examples:
    ./soak.py --minutes 30
    ./soak.py --minutes 600 --stop-on-fault
    ./soak.py --url amqp://user:password@host/vhost --queue-type classic
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
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import common
from siamese import absent, flags, script, start, verdict
from siamese.evidence import Evidence
from siamese.messaging import blocking
from siamese.monitoring.verdicts import store_verdict
from siamese.testbed import faults
from siamese.testbed.guard import NoFolder
from siamese.testbed.product import DidNotStart, NotInstalled
from siamese.testbed.workload import (
    Workload,
    at_work,
    ended_early,
    ledger_in,
    wait_until_flowing,
)
from siamese.watching import Watch

LINE = '{at:6.0f} s  {fault:24}  flowing again after {took:.1f} s'
ROW = '{:24} {:>5}  {:>6}  {:>6}'
COUNTED = (  # of what the audit finds
    'attempted',
    'confirmed',
    'ok',
    'redelivered',
    'ack_lost',
    'republished',
    'recovered',
    'in_doubt',
)
SUMMARY = (
    '{attempted:,} attempted, {confirmed:,} confirmed, {ok:,} ok\n'
    '{redelivered:,} redelivered, {ack_lost:,} ack lost, {republished:,} republished, '
    '{recovered:,} recovered, {in_doubt:,} in doubt\n'
    '{verdict}'
)


class Injected(NamedTuple):
    """A fault, and after how many s messages got through again."""

    fault: str
    took_s: float


class Soaked(NamedTuple):
    """A run: its faults, what its ledger says, and which consumers say that it is wrong."""

    injected: list[Injected]
    evidence: Evidence
    complaining: list[str]


def soak(args: argparse.Namespace, folder: str, watch: Watch) -> Soaked:
    """Inject faults for --minutes, then drain the queues."""

    def why_over() -> str:
        if args.stop_on_fault and watch.told:
            return 'a fault is proven'
        return script.stop_requested()

    watch.start()
    with at_work(args.broker_url, args.queue_type, folder, args.seed, why_over) as workload:
        injected = list(inject(args, workload))
        why = why_over()
        if why:
            logging.info('%s: draining the queues; a second signal stops immediately', why)
        complaining = workload.drain()
    return Soaked(injected, watch.finish(), complaining)


def inject(args: argparse.Namespace, workload: Workload) -> Iterator[Injected]:
    """Inject faults until the time is over, a signal comes, or a fault ends the run."""
    possible = faults.possible(workload)
    with open(workload.ledger) as file:
        wait_until_flowing(workload, file, time.time())
        started = time.monotonic()
        deadline = started + args.minutes * 60
        while time.monotonic() < deadline and not workload.why_over():
            fault = workload.random.choice(possible)
            steps = fault(workload)
            next(steps)
            took_s = wait_until_flowing(workload, file, time.time())
            if not workload.why_over():
                one = Injected(faults.name_of(fault), took_s)
                if not args.quiet:
                    at = time.monotonic() - started
                    print(LINE.format(at=at, fault=one.fault, took=took_s))
                yield one
            next(steps, None)
            workload.wait(workload.random.uniform(0, 2))


def summary_of(args: argparse.Namespace, soaked: Soaked, watch: Watch) -> dict[str, Any]:
    """Return what --json writes."""
    plain = soaked.evidence.plain
    found = verdict.judge_all(soaked.evidence)
    judged = verdict.judge(found, plain)
    numbers = verdict.counts(found, plain)
    return {
        'seed': args.seed,
        'faults': soaked.injected,
        'proven': [*watch.told],
        'verdict': judged.text,
        'exit_status': judged.exit_status,
        **{kind: numbers[kind] for kind in COUNTED},
    }


def outage_table(injected: Sequence[Injected]) -> Iterator[str]:
    """Yield a row for each fault: how often, and how long the outages were."""
    yield ROW.format('fault', 'times', 'median', 'max')
    for fault in dict.fromkeys(one.fault for one in injected):
        times = [one.took_s for one in injected if one.fault == fault]
        yield row(fault, times)
    if injected:
        yield row('all', [one.took_s for one in injected])


def row(fault: str, times: Sequence[float]) -> str:
    """Return a row of the table."""
    median = f'{statistics.median(times):.1f} s'
    longest = f'{max(times):.1f} s'
    return ROW.format(fault, len(times), median, longest)


def add_flags(parser: flags.Parser) -> None:
    add_broker_flags(parser)
    scenario = parser.group(flags.SCENARIO)
    scenario.add_argument(
        '--seed',
        type=flags.number(int, 0),
        default=secrets.randbelow(10**6),
        metavar='N',
        help='inject the faults of this seed (default: a new one)',
    )
    limits = parser.group(flags.STOP)
    limits.add_argument(
        '--minutes',
        type=flags.number(float, 0.01),
        default=10,
        metavar='M',
        help='inject faults for M minutes (default: 10)',
    )
    limits.add_argument(
        '--stop-on-fault',
        action='store_true',
        help='end when the ledger proves a fault of the broker (default: only tell it)',
    )
    parser.group(flags.OUTPUT).add_argument(
        '--folder',
        metavar='DIR',
        help='keep ledger and logs in this folder '
        '(default: a temporary one, removed if the run is valid)',
    )
    flags.add_output_flags(parser)
    flags.add_verdict_flag(parser)


def add_broker_flags(parser: flags.Parser) -> None:
    broker = parser.group(flags.BROKER)
    broker.add_argument(
        '--url',
        # Not args.url: flags.parse() takes that one to be given always, beside --name.
        dest='broker_url',
        metavar='URL[,URL]',
        help='your broker (default: its own cluster, whatever AMQP_URL says)',
    )
    broker.add_argument(
        '--queue-type',
        choices=('classic', 'quorum'),
        default='quorum',
        help='type of the queues (default: quorum)',
    )


def parse_args(argv: 'Sequence[str] | None') -> argparse.Namespace:
    parser = flags.parser(__doc__)
    add_flags(parser)
    args = flags.parse(parser, argv)
    if args.broker_url is not None:
        try:
            args.endpoints = common.endpoints(args.broker_url, 'soak.py')
        except ValueError as error:
            parser.error(str(error))
    return args


def run(args: argparse.Namespace, folder: str, watch: Watch) -> Soaked:
    """Run soak(); name the folder in each failure."""
    try:
        return soak(args, folder, watch)
    except (NotInstalled, DidNotStart, NoFolder) as error:
        if not args.folder and not os.path.getsize(ledger_in(folder)):
            shutil.rmtree(folder)
        raise common.Failure(str(error), 3) from None
    except common.Failure as failure:
        message = f'{failure}; see {folder}'
        raise common.Failure(message, failure.status) from None
    except KeyboardInterrupt:
        logging.error('interrupted; see %s', folder)
        raise


def main(argv: 'Sequence[str] | None' = None) -> int:
    args = parse_args(argv)
    absent.require_pika()
    start.finish_on_signal()
    if args.broker_url:
        # The scripts would wait for a broker that is unavailable, or not that of the URL.
        blocking.first_reachable(args.endpoints)
    folder = args.folder or tempfile.mkdtemp(prefix='siamese-soak-')
    os.makedirs(folder, exist_ok=True)
    open(ledger_in(folder), 'x').close()
    place = where = 'its own cluster'
    if args.broker_url:
        where = 'your broker'
        place = common.display_address(args.endpoints[0])
    has_lines = args.json != '-'
    if has_lines:
        seconds = f'{args.minutes * 60:g} s'
        print(f'seed {args.seed}, {seconds} of faults on {where}')
    watch = Watch([ledger_in(folder)])
    soaked = run(args, folder, watch)
    if has_lines:
        print(*outage_table(soaked.injected), sep='\n')
    summary = summary_of(args, soaked, watch)
    if soaked.complaining and not summary['exit_status']:
        failure = ended_early(soaked.complaining[0], 1)
        raise common.Failure(f'{failure}; see {folder}', 1)
    script.report(args, SUMMARY, summary)
    store_verdict(args, summary, place, {'--seed': args.seed})
    if not summary['exit_status'] and not args.folder:
        shutil.rmtree(folder)
    return summary['exit_status']


if __name__ == '__main__':
    script.run(main)
