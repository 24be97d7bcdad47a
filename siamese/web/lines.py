"""Two charts over time: what waits, and how fast it moves."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from siamese.monitoring import queues
from siamese.monitoring.queues import KEEP_SAMPLES_S, Sample
from siamese.text import printable
from siamese.web.formats import Point
from siamese.web.page import Page, read_history
from siamese.web.widgets import MINUTE_S, box, line_chart, say, show_lines, toggle

HOUR_S = 3600
GAP_OF_MINUTES_S = 180  # samples of minutes further apart have a gap between them


class Span(NamedTuple):
    """How far back the charts go: their samples, and of how many seconds each point is."""

    table: str
    lasts_s: int
    slot_s: int


SPANS = {
    '1 min': Span('sample', MINUTE_S, 2),
    '15 min': Span('sample', KEEP_SAMPLES_S, 15),
    '1 h': Span('minute', HOUR_S, 60),
    '8 h': Span('minute', 8 * HOUR_S, 300),
    '1 day': Span('minute', 24 * HOUR_S, 900),
}
USUAL = '15 min'
WAITING = {
    'ready': 'var(--warn)',
    'unacked': 'var(--muted)',
}
MOVING = {
    'published': 'var(--published)',
    'delivered': 'var(--delivered)',
    'acked': 'var(--warn)',
}
FIELDS = {  # of Sample
    'ready': 'ready',
    'unacked': 'unacked',
    'published': 'publish_rate',
    'delivered': 'deliver_rate',
    'acked': 'ack_rate',
}


class LinesView:
    """The charts of a queue, or of all queues together (None).

    They are drawn anew when there is a new point, not with each collection: so few
    bytes travel.
    """

    def __init__(self, page: Page, queue: str | None) -> None:
        self.page = page
        self.queue = queue
        self.drawn: tuple[object, ...] = ()
        whose = 'all queues' if queue is None else printable(queue)
        with box('section', 'card lines'):
            with box('div', 'head'):
                say('h2', 'Over time')
                span = page.address.get('span', USUAL)
                if span not in SPANS:
                    span = USUAL
                self.span = toggle('span', [*SPANS], span, self.choose)
            with box('div', 'history'):
                with box('div'):
                    say('h3', 'Messages that wait')
                    self.waiting = line_chart(f'messages that wait in {whose}', WAITING)
                self.waiting.options['yAxis']['minInterval'] = 1  # message
                with box('div'):
                    say('h3', 'Messages/s')
                    self.moving = line_chart(f'messages per second of {whose}', MOVING)

    async def choose(self) -> None:
        self.page.address.set(span=self.span.value)
        await self.refresh()

    async def refresh(self) -> None:
        page = self.page
        chosen = self.span.value
        span = SPANS[chosen]
        drawn = (span, page.clock // span.slot_s, bool(page.unknown), len(page.outages))
        if drawn == self.drawn:
            return
        found, _ = await read_history(page, partial(self.read, span=span))
        if found is None or self.span.value != chosen:  # which is drawn in its own turn
            return
        self.drawn = drawn
        gap_s = page.gap_s
        if span.table == 'minute':
            gap_s = max(gap_s, GAP_OF_MINUTES_S)
        shown = (page.clock - span.lasts_s, page.clock)
        for chart, names in (self.waiting, WAITING), (self.moving, MOVING):
            lines = {
                name: line_of(found, FIELDS[name], span.slot_s, gap_s, page.outages)
                for name in names
            }
            show_lines(chart, lines, shown, page.outages)

    def read(self, db: sqlite3.Connection, span: Span) -> list[Sample]:
        found = queues.samples(
            db,
            self.queue,
            since=self.page.clock - span.lasts_s,
            table=span.table,
            total=self.queue is None,
        )
        return found.get(self.queue or '', [])


def line_of(
    samples: Sequence[Sample],
    field: str,
    slot_s: float,
    gap_s: float,
    outages: Sequence[tuple[float, float]] = (),
) -> list[Point]:
    """Return the points of a line: of each slot the mean of rates, and the most that waited.

    Between samples further apart than a gap there is a None, and between those before and
    after an outage. The first sample after it tells no rate but the mean of the gap.
    """
    slots: dict[float, list[float]] = {}
    times: dict[float, float] = {}
    is_rate = field.endswith('_rate')
    last = None
    for sample in samples:
        is_after_gap = last is not None and has_gap(last, sample.at, gap_s, outages)
        last = sample.at
        value = getattr(sample, field)
        if value is None or (is_rate and is_after_gap):
            continue
        slot = sample.at // slot_s
        slots.setdefault(slot, []).append(value)
        times[slot] = sample.at
    points: list[Point] = []
    for slot, values in slots.items():
        value = sum(values) / len(values) if is_rate else max(values)
        at = times[slot]
        if points and has_gap(points[-1][0], at, max(gap_s, 2 * slot_s), outages):
            points.append(((at + points[-1][0]) / 2, None))
        points.append((at, value))
    return points


def has_gap(
    before: float,
    at: float,
    gap_s: float,
    outages: Sequence[tuple[float, float]],
) -> bool:
    """Return whether a line is not drawn from one time to another."""
    if at - before > gap_s:
        return True
    return any(began < at and before < ended for began, ended in outages)
