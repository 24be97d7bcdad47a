"""What perf_producer.py and perf_consumer.py share.

The fixed body, the load, a line each second.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import pika

from siamese import flags, terminal
from siamese.messaging.fast_path import Template
from siamese.messaging.link import Link
from siamese.messaging.messages import Message
from siamese.messaging.topology import expiration
from siamese.numbered import (
    DUE_PART,
    MESSAGE_ID_BYTES,
    are_ours,
    message_id,
    message_ids,
)
from siamese.scenarios.rows import Rows
from siamese.scenarios.timing import QUANTILES, Clock, Latencies, format_percentiles
from siamese.text import count_of, rate

# The wiki's text, and two characters beyond 16 bits.
TEXT = {'testdict': {'مفتاح': 'قيمة', '键': '值', 'キー': '値', '𝄞𠮷': '🐇'}}
PADDING = 'áßمفتاح键キー🐇'
ENCODINGS = {  # name -> Python's codec
    'utf-8': 'utf-8',
    'utf-16': 'utf-16-le',  # with a byte order mark, so that json.loads() recognizes it
}
CONTENT_TYPES = {f'application/json; charset={encoding}': encoding for encoding in ENCODINGS}
LEAST_SIZE = 256  # bytes: in UTF-16 the text takes 186
SHOWN_IF_GIVEN = {'priority': '', 'ttl': ' s', 'warm_up': ' s'}  # flag -> unit
CLOCK_WAS_SET_S = 0.05  # what no clock drifts in a run
QUEUE_TYPES = ('classic', 'quorum', 'stream')


def body_of(encoding: str, size: int) -> tuple[bytes, str]:
    """Return the fixed body as (bytes, text): JSON that names its size, of `size` bytes.

    Raises ValueError if that is impossible.
    """
    codec = ENCODINGS[encoding]

    def encode(padding: str) -> bytes:
        text = json.dumps({**TEXT, 'size': size, 'padding': padding}, ensure_ascii=False)
        if encoding == 'utf-16':
            text = '\ufeff' + text
        return text.encode(codec)

    room = size - len(encode(''))
    blank = len(' '.encode(codec))
    if room < 0 or room % blank:
        raise ValueError(f'{size} bytes do not hold the text in {encoding}')
    times, rest = divmod(room, len(PADDING.encode(codec)))
    body = encode(PADDING * times + ' ' * (rest // blank))
    return body, body.decode(codec)


def add_flags(parser: flags.Parser) -> None:
    parser.set_defaults(has_rows=True)
    group = parser.group('measuring')
    group.add_argument(
        '--warm-up',
        type=flags.number(float, 0),
        default=0,
        metavar='S',
        help='leave the first S seconds out of the summary (default: 0)',
    )
    group.add_argument(
        '--csv',
        metavar='FILE',
        type=flags.writable,
        help='write a row each second (default: none)',
    )
    parser.add_argument(
        '--queue-arg',
        action='append',
        default=[],
        type=queue_arg,
        metavar='K=V',
        help='argument of the queue, for example x-max-length=1000; may be repeated '
        '(default: none)',
    )


def queue_arg(text: str) -> tuple[str, Any]:
    """An argparse type: 'key=value' as (key, value), an int or a bool where it looks like one."""
    key, equals, value = text.partition('=')
    if not equals or not text.isprintable() or not 0 < len(key.encode()) <= 255:
        raise argparse.ArgumentTypeError(f'{text!a:.50} is not KEY=VALUE')
    if value.lower() in ('true', 'false'):
        return key, value.lower() == 'true'
    if re.fullmatch(r'-?\d{1,18}', value):
        return key, int(value)
    return key, value


def dues_of(message_ids: Sequence[bytes]) -> Counter[int]:
    """Return the microseconds since 1970 at which messages were due, and how many at each.

    The message_ids are of one length. If message_id() did not make one of them, they
    tell nothing.
    """
    if not are_ours(message_ids):
        return Counter()
    texts = Counter(map(DUE_PART, message_ids))
    return Counter({int(text): times for text, times in texts.items()})


class Load:
    """The messages of perf_producer.py, each published when it is due."""

    def __init__(self, args: argparse.Namespace, link: Link, meter: Meter) -> None:
        self.args = args
        self.link = link
        self.meter = meter
        self.published = 0
        # All messages are alike but for their message_id, so they are published in batches.
        self.template = Template(
            exchange='',
            routing_key=args.queue,
            body=args.body,
            properties=pika.BasicProperties(
                content_type=f'application/json; charset={args.encoding}',
                app_id=args.name,
                priority=args.priority,
                delivery_mode=delivery_mode(args.persistent),
                expiration=expiration(args.ttl),
            ),
            id_bytes=MESSAGE_ID_BYTES,
        )
        link.on_confirmed = self._on_confirmed

    def publish(self) -> None:
        """Publish until the run is over."""
        link = self.link
        link.wait_until(lambda: link.is_ready or link.reason_to_stop())
        self.started = time.monotonic()
        self.since_1970 = self.meter.clock.since_1970
        self.meter.measured_until(self.started)
        while link.keep_running(self.published, self._due_at(self.published)):
            first = self.published
            self.published = self._due_until_now()
            if self.published > first:
                self._publish_numbers(range(first + 1, self.published + 1))
            self.meter.counts['published'] += self.published - first
            self.meter.measured_until(time.monotonic())

    def _due_at(self, number: int) -> float:
        if not self.args.rate:
            return self.started
        return self.started + number / self.args.rate

    def _due_until_now(self) -> int:
        """Return how many messages are due, as far as the window and --count allow."""
        limits: list[float] = [self.published + self.link.free_window]
        if self.args.count:
            limits.append(self.args.count)
        if self.args.rate:
            limits.append(1 + int((time.monotonic() - self.started) * self.args.rate))
        return max(self.published, int(min(limits)))

    def _publish_numbers(self, numbers: range) -> None:
        if self.args.rate:
            self._publish_paced(numbers)
            return
        now = time.monotonic()
        ids = message_ids(self.link.run, numbers, self.since_1970 + now)
        self.link.publish_batch(self.template, ids, repeat(now, len(ids)))

    def _publish_paced(self, numbers: range) -> None:
        dues = [self._due_at(number - 1) for number in numbers]
        ids = [
            message_id(self.link.run, number, self.since_1970 + due)
            for number, due in zip(numbers, dues)
        ]
        self.link.publish_batch(self.template, ids, dues)

    def _on_confirmed(self, messages: list[Message]) -> None:
        now = time.monotonic()
        self.meter.measured_until(now)
        self.meter.counts['confirmed'] += len(messages)
        self.link.taken += len(messages)
        for due, times in Counter(message.due for message in messages).items():
            self.meter.latencies.add(int((now - due) * 1e6), times)

    def finish(self) -> None:
        """End the measured time: when the next message would have been due.

        Or now, if messages still wait for their confirm.
        """
        if not self.published:
            return
        self.meter.measured_until(max(self.meter.last, self._due_at(self.published)))
        if self.link.unconfirmed_count:
            self.meter.measured_until(max(self.meter.last, time.monotonic()))


def delivery_mode(is_persistent: bool) -> int:
    if is_persistent:
        return pika.DeliveryMode.Persistent.value
    return pika.DeliveryMode.Transient.value


class Meter:
    """What a run counts: a line for each second, and the whole without --warm-up.

    Scripts add to `counts` (of the `names`) and to `latencies`, and call
    measured_until(), for the first time when the time begins to count.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        link: Link,
        names: Iterable[str],
        latency_name: str,
    ) -> None:
        self.args = args
        self.link = link
        self.names = tuple(names)
        self.latency_name = latency_name
        self.settings = ''
        self.counts: Counter[str] = Counter()  # since the last row
        self.latencies = Latencies()
        self.all_counts: Counter[str] = Counter()  # of all rows after the warm-up
        self.all_latencies = Latencies()
        self.began = 0.0  # time.monotonic()
        self.since = 0.0  # ... when the warm-up was over
        self.row_began = 0.0
        self.last = 0.0  # ... until which something was counted; 0 before the first time
        self.rows = 0
        self.is_warm = not args.warm_up
        self.clock = Clock()
        self.table = open_table(args.csv, self.names)
        self.shown_rows = Rows(self.names)
        link.tick_callbacks.append(self.end_row_if_due)

    def announce(self, template: str, **more: object) -> None:
        """Print the settings of the run: the flags, and `more`, as `template` shows them.

        After them come the settings that are not usual.
        """
        given = vars(self.args)
        settings = [template.format(**given, **more)]
        for name, unit in SHOWN_IF_GIVEN.items():
            if given.get(name):
                settings.append(f'{name.replace("_", "-")} {given[name]:g}{unit}')
        settings += [f'{key}={value}' for key, value in self.args.queue_arg]
        self.settings = ', '.join(settings)
        if not self.args.quiet:
            terminal.show(self.settings)

    def measured_until(self, now: float) -> None:
        """Note that it is time.monotonic() `now`, until which all counts so far belong."""
        if not self.last:
            self.began = now
            self.since = now
            self.row_began = now
        self.last = now

    def end_row_if_due(self) -> None:
        """End the row if a second has passed.

        The link calls it 10 times a second, also while it waits.
        """
        now = time.monotonic()
        if not self.last or now - self.began < self.rows + 1:
            return
        elapsed = now - self.began
        self.rows = int(elapsed)
        self._show_row(elapsed, now - self.row_began)
        if not self.is_warm:
            self.counts.clear()
            self.latencies = Latencies()
            self.since = now
            self.is_warm = elapsed >= self.args.warm_up
        self._merge(now)

    def _show_row(self, elapsed: float, length: float) -> None:
        """Print and write the row that took the last `length` seconds."""
        rates = [round(self.counts[name] / length, 1) for name in self.names]
        percentiles = self.latencies.percentiles()
        if not self.args.quiet:
            self.shown_rows.show(elapsed, rates, percentiles, self.link.problem)
        if self.table:
            quantiles = [percentiles.get(name, '') for name in QUANTILES]
            self.table.writerow([round(elapsed, 3), *rates, *quantiles])

    def _merge(self, now: float) -> None:
        self.all_counts.update(self.counts)
        self.all_latencies.update(self.latencies)
        self.counts = Counter()
        self.latencies = Latencies()
        self.row_began = now

    def summary(self) -> dict[str, Any]:
        """Return the whole: settings, rates, percentiles, what spoiled it, `result` in words."""
        measured_s = 0.0
        if self.is_warm and self.last:
            self._merge(self.last)
            measured_s = max(0, self.last - self.since)
        rates = {f'{name}_per_s': self._rate(name, measured_s) for name in self.names}
        percentiles = self.all_latencies.percentiles()
        return {
            'settings': self.settings,
            **rates,
            'latency_us': percentiles,
            'measured_s': round(measured_s, 3),
            'spoiled': self._spoiled(),
            'result': self._result(rates[f'{self.names[-1]}_per_s'], percentiles),
        }

    def _rate(self, name: str, measured_s: float) -> float:
        if not measured_s:
            return 0
        return round(self.all_counts[name] / measured_s, 1)

    def _spoiled(self) -> list[str]:
        """Return what happened that a broker in good health does not show."""
        counts = self.link.counts
        spoiled = []
        if counts['lost_connections']:
            spoiled.append(count_of(counts['lost_connections'], 'lost connection'))
        if counts['lost_channels']:
            spoiled.append(count_of(counts['lost_channels'], 'lost channel'))
        if counts['nacked']:
            spoiled.append(f'{counts["nacked"]:,} nacked')
        if counts['returned']:
            spoiled.append(f'{counts["returned"]:,} unroutable')
        negative = self.all_latencies.negative()
        if negative:
            spoiled.append(f'clocks that disagree ({negative:,} below 0)')
        moved_s = self.clock.moved_s()
        if abs(moved_s) > CLOCK_WAS_SET_S:
            spoiled.append(f'a clock that was set by {moved_s:+,.1f} s')
        if self.link.blocked_s:
            spoiled.append(f'{self.link.blocked_s:.1f} s blocked by the broker')
        return spoiled

    def _result(self, per_s: float, percentiles: dict[str, int]) -> str:
        counted = self.all_counts[self.names[-1]]
        result = rate(counted, per_s, ' msg/s') or 'too few messages for a rate'
        if not self.is_warm:
            warm_up = f'the warm-up of {self.args.warm_up:g} s'
            result = f'no result: the run ended before {warm_up} was over'
        if percentiles:
            result += (
                f', {self.latency_name} {"/".join(QUANTILES)} {format_percentiles(percentiles)}'
            )
        spoiled = self._spoiled()
        if spoiled:
            result += f'; spoiled by {", ".join(spoiled)}'
        return result


def open_table(path: str | None, names: Iterable[str]) -> Any:
    """Open the CSV file of --csv, with its first line; None without."""
    if not path:
        return None
    table = csv.writer(open(path, 'w', newline='', buffering=1))
    columns = [f'{name}_per_s' for name in names]
    columns += [f'{name}_us' for name in QUANTILES]
    table.writerow(['time_s', *columns])
    return table
