"""What perf_producer.py and perf_consumer.py share: the fixed body, latencies in bounded memory, a line a second."""

import argparse
import csv
import json
import math
import re
import time
from collections import Counter

from siamese import flags
from siamese.text import count_of

TEXT = {
    'testdict': {'مفتاح': 'قيمة', '键': '值', 'キー': '値', '𝄞𠮷': '🐇'}
}  # the wiki's, and two beyond 16 bits
PADDING = 'áßمفتاح键キー🐇'
ENCODINGS = {
    'utf-8': 'utf-8',
    'utf-16': 'utf-16-le',
}  # with a byte order mark, so that json.loads() knows it
CONTENT_TYPES = {f'application/json; charset={encoding}': encoding for encoding in ENCODINGS}
LEAST_SIZE = 256  # bytes: in UTF-16 the text takes 186
QUANTILES = {'min': 0, 'median': 0.5, 'p75': 0.75, 'p95': 0.95, 'p99': 0.99, 'max': 1}


def body_of(encoding, size):
    """Return the fixed body as (bytes, text): JSON that says how large it is, filled up to `size` bytes.

    Raises ValueError if that is impossible.
    """

    def encode(padding):
        text = json.dumps({**TEXT, 'size': size, 'padding': padding}, ensure_ascii=False)
        return ('\ufeff' * (encoding == 'utf-16') + text).encode(ENCODINGS[encoding])

    room, blank = size - len(encode('')), len(' '.encode(ENCODINGS[encoding]))
    if room < 0 or room % blank:
        raise ValueError(f'{size} bytes do not hold the text in {encoding}')
    times, rest = divmod(room, len(PADDING.encode(ENCODINGS[encoding])))
    body = encode(PADDING * times + ' ' * (rest // blank))
    return body, body.decode(ENCODINGS[encoding])


def add_flags(parser):
    parser.add_argument(
        '--warm-up',
        type=flags.number(float, 0),
        default=0,
        metavar='S',
        help='leave the first S seconds out of the figures',
    )
    parser.add_argument(
        '--csv', metavar='FILE', type=flags.writable, help='write a row each second'
    )
    parser.add_argument(
        '--queue-arg',
        action='append',
        default=[],
        type=queue_arg,
        metavar='K=V',
        help='argument of the queue, x-max-length=1000 say; may be repeated',
    )


def queue_arg(text):
    """An argparse type: 'key=value' as (key, value), an int or a bool where it looks like one."""
    key, equals, value = text.partition('=')
    if not equals or not text.isprintable() or not 0 < len(key.encode()) <= 255:
        raise argparse.ArgumentTypeError(f'{text!a:.50} is not KEY=VALUE')
    if value.lower() in ('true', 'false'):
        return key, value.lower() == 'true'
    return key, int(value) if re.fullmatch(r'-?\d{1,18}', value) else value


def message_id(run, number, due):
    """Return the message_id of a run's message, always of the same length; `due` is in seconds since 1970."""
    return f'{run}-{number:010}-{int(due * 1e6):016}'


def due_of(message_id):
    """Return the microseconds since 1970 at which a message was due; None for the message_id of a stranger."""
    ours = (
        isinstance(message_id, str)
        and len(message_id) == 36
        and message_id[8] == message_id[19] == '-'
        and message_id.isascii()
        and message_id[20:].isdigit()
    )  # a regular expression takes twice as long
    return int(message_id[20:]) if ours else None


class Latencies:
    """Latencies in whole microseconds, kept as counts in at most 8,000 classes, each less than 1 % wide."""

    def __init__(self):
        self.counts = Counter()

    def add(self, microseconds):
        """Count a latency."""
        shift = max(0, microseconds.bit_length() - 8)
        self.counts[microseconds >> shift << shift] += 1

    def update(self, other):
        """Count all those of another."""
        self.counts.update(other.counts)

    def percentiles(self):
        """Return {'min': microseconds, ... 'max': microseconds}, or {} if there is none; nearest rank."""
        found, seen, values = {}, 0, sorted(self.counts)
        ranks = {
            name: max(1, math.ceil(q * sum(self.counts.values()))) for name, q in QUANTILES.items()
        }
        for value in values:
            seen += self.counts[value]
            for name, rank in ranks.items():
                if seen >= rank:
                    found.setdefault(name, value)
        return found


def shown(percentiles):
    """Return percentiles for people: '0.31/1.2/1.9/3.1/5.0/12 ms'."""
    return (
        '/'.join(f'{value / 1000:.{2 if value < 10_000 else 0}f}' for value in percentiles.values())
        + ' ms'
    )


class Meter:
    """What a run counts: a line for each second, and the whole without the first seconds, --warm-up.

    Scripts add to `counts` (of the `names`) and to `latencies`, and call at(), first when the time begins to count.
    """

    def __init__(self, args, link, names, latency):
        self.args, self.link, self.names, self.latency = args, link, names, latency
        self.counts, self.latencies = Counter(), Latencies()
        self.all_counts, self.all_latencies = Counter(), Latencies()
        self.began = self.since = self.row_began = self.last = None
        self.rows, self.is_warm = 0, not args.warm_up
        self.table = csv.writer(open(args.csv, 'w', newline='', buffering=1)) if args.csv else None
        if self.table:
            self.table.writerow(
                ['time_s', *(f'{name}_per_s' for name in names), *(f'{q}_us' for q in QUANTILES)]
            )
        link.on_tick = self.tick

    def announce(self, template, **more):
        """Print the settings of the run as `template` shows them, and those that are not usual: the flags, and `more`."""
        flags = vars(self.args)
        unusual = [
            f'{name.replace("_", "-")} {flags[name]:g}{unit}'
            for name, unit in (('priority', ''), ('ttl', ' s'), ('warm_up', ' s'))
            if flags.get(name)
        ]
        unusual += [f'{key}={value}' for key, value in self.args.queue_arg]
        self.settings = ', '.join([template.format(**flags, **more), *unusual])
        if not self.args.quiet:
            print(self.settings)

    def at(self, now):
        """Note that it is time.monotonic() `now`, and that what was counted belongs to the time until then."""
        if self.last is None:
            self.began = self.since = self.row_began = now
        self.last = now

    def tick(self):
        """End the row if a second has passed; the link calls it 10 times a second, also while it waits."""
        now = time.monotonic()
        if self.last is None or now - self.began < self.rows + 1:
            return
        length, elapsed = now - self.row_began, now - self.began
        self.rows = int(elapsed)
        rates = [round(self.counts[name] / length, 1) for name in self.names]
        percentiles = self.latencies.percentiles()
        if not self.args.quiet:
            trouble = f'  {self.link.problem}' if self.link.problem else ''
            line = '  '.join(f'{name} {rate:,.0f} msg/s' for name, rate in zip(self.names, rates))
            latency = f'  {self.latency} {shown(percentiles)}' if percentiles else ''
            print(f'{elapsed:4.0f} s  {line}{latency}{trouble}')
        if self.table:
            self.table.writerow(
                [round(elapsed, 3), *rates, *(percentiles.get(q, '') for q in QUANTILES)]
            )
        if not self.is_warm:
            self.counts, self.latencies, self.since = Counter(), Latencies(), now
            self.is_warm = elapsed >= self.args.warm_up
        self._merge(now)

    def _merge(self, now):
        self.all_counts.update(self.counts)
        self.all_latencies.update(self.latencies)
        self.counts, self.latencies, self.row_began = Counter(), Latencies(), now

    def summary(self):
        """Return the whole as a dict: settings, rates, latency percentiles, what spoiled it, and `figures` in words."""
        if self.is_warm and self.last:
            self._merge(self.last)
        took = max(0, self.last - self.since) if self.is_warm and self.last else 0
        rates = {
            f'{name}_per_s': round(self.all_counts[name] / took, 1) if took else 0
            for name in self.names
        }
        percentiles, counts, blocked_s = (
            self.all_latencies.percentiles(),
            self.link.counts,
            self.link.blocked_s,
        )
        spoiled = [
            count_of(counts[what], what[:-1].replace('_', ' '))
            for what in ('lost_connections', 'lost_channels')
            if counts[what]
        ]
        spoiled += [f'{counts[what]:,} {what}' for what in ('nacked', 'returned') if counts[what]]
        spoiled += [f'{blocked_s:.1f} s blocked by the broker'] if blocked_s else []
        figures = f'{rates[f"{self.names[-1]}_per_s"]:,.0f} msg/s'
        if not self.is_warm:
            figures = f'no figures: it ended before the warm-up of {self.args.warm_up:g} s was over'
        if percentiles:
            figures += f', {self.latency} {"/".join(QUANTILES)} {shown(percentiles)}'
        if spoiled:
            figures += f'; spoiled by {", ".join(spoiled)}'
        return {
            'settings': self.settings,
            **rates,
            'latency_us': percentiles,
            'measured_s': round(took, 3),
            'spoiled': spoiled,
            'figures': figures,
        }
