#!/usr/bin/env python3
"""How fast is this broker? Both sides of scenario 2 in one terminal, and one summary.

Starts perf_consumer.py and perf_producer.py against the broker at AMQP_URL, or a
throwaway RabbitMQ, in a queue of their own, and shows a line each second for both:
the rates, and the latency from one end to the other. Flags are those of the two
scripts: each gets what it knows. Without --count and --duration it takes 10 s, of
which the first 2 s do not count. See make perf.

Exit status: 0 every message confirmed and delivered, 1 one was not as it should be,
2 usage, 3 could not tell; 130 after a signal.
"""

import sys
from pathlib import Path

if __name__ == '__main__':  # first of all, see siamese/start.py
    folder = Path(__file__).resolve().parent
    sys.path[:0] = [str(folder), str(folder.parent)]  # python -P and -I leave them out
    from siamese import start

    start.begin()

import contextlib
import csv
import json
from typing import Any

import venue
from cast import Cast, perform

import common
from siamese import flags, script, terminal
from siamese.scenarios.rows import Rows
from siamese.scenarios.timing import QUANTILES
from siamese.testbed.guard import Guard, Processes
from siamese.text import table

FOR_BOTH = ('--queue', '--queue-type', '--queue-arg', '--warm-up', '--give-up-after', '--verbose')
FOR_CONSUMER = ('--prefetch', '--ack-every', '--auto-ack')
ENDS = ('--count', '--duration')
USUAL = ('--duration', '10', '--warm-up', '2')
A_DAY_S = 86_400
PRODUCER = 'perf_producer.py'
CONSUMER = 'perf_consumer.py'

Summary = dict[str, Any]


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the flags of the producer, and those of the consumer."""
    producer: list[str] = []
    consumer: list[str] = []
    takers = [producer]
    for word in argv:
        if word.startswith('--'):
            name = word.partition('=')[0]
            takers = [producer]
            if name in FOR_CONSUMER:
                takers = [consumer]
            elif name in FOR_BOTH:
                takers = [producer, consumer]
        for taker in takers:
            taker.append(word)
    return producer, consumer


def with_end(argv: list[str]) -> list[str]:
    """Return the flags, with an end of the run."""
    names = {word.partition('=')[0] for word in argv}
    if names.isdisjoint(ENDS):
        return [*USUAL, *argv]
    return argv


class Side:
    """One of the two scripts: what it measures each second, and its summary."""

    def __init__(self, cast: Cast, program: str) -> None:
        self.cast = cast
        self.program = program
        self.csv = f'{cast.folder}/{program}.csv'
        self.json = f'{cast.folder}/{program}.json'

    def begin(self, url: str, argv: list[str]) -> None:
        ours = ['--quiet', '--csv', self.csv, '--json', self.json]
        variables = {'AMQP_URL': url, 'DEAD_LETTER_PREFIX': venue.PREFIX}
        queue = ['--queue', venue.QUEUE]
        self.cast.begin(self.program, self.program, *queue, *argv, *ours, **variables)

    def is_ready(self) -> bool:
        """Return whether it has said so."""
        with open(f'{self.cast.folder}/{self.program}.log', encoding='utf-8') as log:
            return ' ready: ' in log.read()

    def rows(self) -> list[dict[str, str]]:
        """Return what it has measured so far, a row each second."""
        try:
            with open(self.csv, encoding='utf-8') as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []

    def summary(self) -> Summary:
        with open(self.json, encoding='utf-8') as file:
            summary: Summary = json.load(file)
        return summary


class Measurement:
    """Both sides at work."""

    def __init__(self, processes: Processes, argv: list[str]) -> None:
        self.cast = Cast(processes, self.show)
        self.producer = Side(self.cast, PRODUCER)
        self.consumer = Side(self.cast, CONSUMER)
        self.flags = split(with_end(argv))
        self.shown = 0
        self.lines: Rows | None = None

    def run(self, url: str) -> None:
        """Run until the producer is done, and the consumer has got what it published."""
        producer_flags, consumer_flags = self.flags
        self.consumer.begin(url, consumer_flags)
        self.cast.until(self.consumer.is_ready, [CONSUMER])
        self.producer.begin(url, producer_flags)
        self.cast.until(self.is_over, [CONSUMER], within_s=A_DAY_S)
        self.cast.check([PRODUCER])
        with contextlib.suppress(common.Failure):  # nothing came at all: the summary tells
            self.cast.until(self.has_all)
        self.cast.ask_to_end(CONSUMER)

    def is_over(self) -> bool:
        return not self.cast.is_running(PRODUCER)

    def has_all(self) -> bool:
        """Return whether nothing more comes: for a whole second nothing was delivered."""
        rows = self.consumer.rows()
        return bool(rows) and float(rows[-1]['delivered_per_s']) == 0

    def show(self) -> None:
        """Print a line for each second that both sides have measured."""
        sent = self.producer.rows()
        got = self.consumer.rows()
        for row, other in zip(sent[self.shown :], got[self.shown :]):
            rates = {name: float(row[name]) for name in row if name.endswith('_per_s')}
            rates['delivered_per_s'] = float(other['delivered_per_s'])
            if not self.lines:
                self.lines = Rows([name.replace('_per_s', '') for name in rates])
            times = {name: int(other[f'{name}_us'] or 0) for name in QUANTILES}
            self.lines.show(float(row['time_s']), list(rates.values()), times, '')
            self.shown += 1

    def report(self) -> int:
        """Print the summary of both sides; return the exit status."""
        producer = self.producer.summary()
        consumer = self.consumer.summary()
        print()
        for line in summary_table(producer, consumer, terminal.columns()):
            print(line)
        text, status = verdict(producer, consumer)
        terminal.show(text, colour=terminal.colour_of(status))
        return status


def summary_table(producer: Summary, consumer: Summary, width: int = 0) -> list[str]:
    """Return a line for each side: messages, rate, latencies."""
    rows = [side_cells(producer, 'confirmed'), side_cells(consumer, 'delivered')]
    if 'confirmed_per_s' not in producer:  # --confirm 0
        rows[0] = side_cells(producer, 'published')
    heads = ('', 'messages', 'msg/s', *QUANTILES)
    return [*table(heads, rows, width), f'{", ".join(QUANTILES)}: latency in ms']


def side_cells(summary: Summary, name: str) -> list[Any]:
    times = summary['latency_us']
    cells = [milliseconds(times[quantile]) if times else '-' for quantile in QUANTILES]
    return [name, summary[name], round(summary[f'{name}_per_s']), *cells]


def milliseconds(microseconds: int) -> float:
    """Return a latency in ms, with so many digits as it deserves."""
    if microseconds < 10_000:
        return round(microseconds / 1000, 2)
    return round(microseconds / 1000)


def verdict(producer: Summary, consumer: Summary) -> tuple[str, int]:
    """Return what the run has shown in one line, and the exit status."""
    published = producer['published']
    delivered = consumer['delivered']
    spoiled = [*producer['spoiled'], *consumer['spoiled']]
    if consumer['invalid']:
        return f'{consumer["invalid"]:,} of {delivered:,} messages were altered', 1
    if not published or delivered < published:
        return f'{delivered:,} of {published:,} published messages were delivered', 3
    text = f'all {published:,} messages arrived, and every byte was right'
    if spoiled:
        text += f'; spoiled by {", ".join(spoiled)}'
    return text, 0


def main(argv: 'list[str] | None' = None) -> int:
    parser = flags.parser(__doc__)
    flags.add_color_flag(parser)
    args, others = parser.parse_known_args(argv)
    terminal.choose(args.color)
    flags.set_up_log('make perf', verbose=False)
    return perform(lambda: measure(others))


def measure(argv: list[str]) -> int:
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(venue.chosen())
        processes = stack.enter_context(contextlib.closing(Processes(Guard('perf'))))
        measurement = Measurement(processes, argv)
        print(broker.what)
        measurement.cast.wait_for(venue.in_background(broker.open))
        measurement.run(broker.direct_url)
        return measurement.report()


if __name__ == '__main__':
    script.run(main)
