"""What the dashboard shows of queues: all of them, one, and their history."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from siamese.monitoring import clients, database, dead_letters, queues
from siamese.monitoring.database import DAY_S, RATES
from siamese.monitoring.queues import QueueRow, Sample
from siamese.text import duration, printable
from siamese.web.formats import count, rate, smooth, spark
from siamese.web.page import Page, read_history
from siamese.web.widgets import (
    Row,
    Tile,
    bar_chart,
    box,
    column,
    empty,
    fill,
    finder,
    line_chart,
    paged_table,
    say,
    table,
    toggle,
    view_of,
)

UNREAD_AFTER_S = 60  # a message may wait so long although there are consumers
COLOURS = {
    'published': 'var(--published)',
    'delivered': 'var(--delivered)',
}
COLUMNS = [
    column('name', 'Queue', 'link', True, first=True),
    column('state', 'State', 'state'),
    column('ready', 'Ready', 'number', True),
    column('unacked', 'Unacked', 'number', True),
    column('consumers', 'Consumers', 'number', True),
    column('oldest', 'Oldest', 'number', True),
    column('publish_rate', 'Published/s', 'number', True),
    column('deliver_rate', 'Delivered/s', 'number', True),
    column('spark', 'Published, 15 min', 'spark'),
]


# ---- all queues


class AgedQueue(QueueRow):
    """A queue with the age of its oldest message in seconds."""

    oldest: float


class Overview(NamedTuple):
    """What the page of all queues shows."""

    known: list[AgedQueue]
    matching: int
    rows: list[Row]  # of the table, on the page that is shown
    connected: int
    gone: int
    dead_letters: int  # not requeued
    dead_lettered_today: int


def show_queues(page: Page) -> None:
    page.refreshers.append(QueuesView(page).refresh)
    add_history(page, None)


class QueuesView:
    """Tiles, and the table of queues with the field that finds some."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with box('div', 'tiles'):
            self.ready = Tile('Waiting')
            self.published = Tile('Published', 'messages/s')
            self.delivered = Tile('Delivered', 'messages/s')
            self.dead_letters = Tile('Dead letters')
            self.clients = Tile('Clients')
            self.queues = Tile('Queues')
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', 'Queues')
                self.search = finder('Find a queue', self.refresh)
            self.nothing = empty(
                'No queues yet',
                'Run something, for example ./fanout_producer.py, and look here again.',
            )
            self.table = paged_table(
                'queues',
                COLUMNS,
                self.refresh,
                sort_by='ready',
            )

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        self.show_tiles(found)
        self.nothing.set_visibility(not found.known)
        self.table.set_visibility(bool(found.known))
        fill(self.table, found.rows, found.matching)

    def read(self, db: sqlite3.Connection) -> Overview:
        now = self.page.now
        known = [with_age(row, now) for row in queues.rows(db)]
        wanted = (self.search.value or '').lower()
        matching = [row for row in known if wanted in row['name'].lower()]
        rows = []
        for row in view_of(self.table, matching):
            recent = recent_samples(db, row['name'])
            rows.append(table_row(row, recent, now))
        states = [client['state'] for client in clients.rows(db)]
        gone = states.count('gone')
        today = dead_letters.by_queue(db, now - DAY_S)
        _, waiting = dead_letters.find(db, requeued=False, limit=0)
        return Overview(
            known=known,
            matching=len(matching),
            rows=rows,
            connected=len(states) - gone,
            gone=gone,
            dead_letters=waiting,
            dead_lettered_today=total_of(today, 'count'),
        )

    def show_tiles(self, found: Overview) -> None:
        known = found.known
        unacked = count(total_of(known, 'unacked'))
        self.ready.show(
            count(total_of(known, 'ready')),
            f'ready, {unacked} unacked',
        )
        self.published.show(rate(total_of(known, 'publish_rate')))
        self.delivered.show(rate(total_of(known, 'deliver_rate')))
        self.dead_letters.show(
            count(found.dead_letters),
            f'waiting, {count(found.dead_lettered_today)} in 24 h',
        )
        self.clients.show(
            count(found.connected),
            f'connected, {count(found.gone)} gone',
        )
        unconsumed = [row for row in known if row['no_consumer_since']]
        self.queues.show(
            count(len(known)),
            f'{count(len(unconsumed))} without a consumer',
        )


def total_of(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    return sum(row[name] or 0 for row in rows)


def with_age(row: QueueRow, now: float) -> AgedQueue:
    """Return a queue with the age of its oldest message, to sort by."""
    age_s = 0.0
    if row['oldest_since']:
        age_s = now - row['oldest_since']
    return {**row, 'oldest': age_s}


def recent_samples(db: sqlite3.Connection, name: str) -> list[Sample]:
    return queues.samples(db, name).get(name, [])


def table_row(row: QueueRow, recent: list[Sample], now: float) -> Row:
    tone, state = state_of(row, now)
    rates = [sample.publish_rate for sample in smooth(recent)]
    peak = rate(max(rates, default=0))
    oldest = '–'
    if row['oldest_since']:
        oldest = duration(now - row['oldest_since'])
    return {
        'id': row['name'],
        'name': printable(row['name']),
        'href': f'/queue?name={quote(row["name"], safe="")}',
        'state': state,
        'tone': tone,
        'ready': count(row['ready']),
        'unacked': count(row['unacked']),
        'consumers': count(row['consumers']),
        'oldest': oldest,
        'publish_rate': rate(row['publish_rate']),
        'deliver_rate': rate(row['deliver_rate']),
        'spark': spark(rates),
        'peak': (f'published in the last 15 minutes: at most {peak} messages/s'),
    }


def state_of(row: QueueRow, now: float) -> tuple[str, str]:
    """Return the tone and the name of the state of a queue."""
    if row['state'] != 'running':
        return 'off', row['state'] or 'new'
    if row['no_consumer_since']:
        return 'warn', 'no consumer'
    if is_unread(row, now):
        return 'warn', 'not read'
    if row['publish_rate'] or row['deliver_rate']:
        return 'good', 'active'
    return 'off', 'idle'


def is_unread(row: QueueRow, now: float) -> bool:
    """Return whether messages wait although the queue has consumers."""
    if row['type'] == 'stream':  # keeps messages that were read
        return False
    if not row['ready'] or row['deliver_rate']:
        return False
    oldest_since = row['oldest_since']
    return oldest_since is not None and now - oldest_since > UNREAD_AFTER_S


# ---- one queue


class QueueFacts(NamedTuple):
    """What the page of one queue shows; row is None for an unknown queue."""

    row: QueueRow | None
    recent: list[Sample]
    dead_letters: int


def show_queue(page: Page, name: str) -> None:
    page.refreshers.append(QueueView(page, name).refresh)
    add_history(page, name)


class QueueView:
    """The tiles of a queue, and its rates in the last 15 minutes."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        with box('div', 'head'):
            say('h1', printable(name), 'wide')
            self.kind = say('span', '', 'muted')
        with box('div', 'tiles'):
            self.ready = Tile('Ready', 'messages')
            self.unacked = Tile('Unacked', 'messages')
            self.consumers = Tile('Consumers')
            self.oldest = Tile('Oldest message')
            self.published = Tile('Published', 'messages/s')
            self.delivered = Tile('Delivered', 'messages/s')
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', 'The last 15 minutes, messages/s')
            self.rates = line_chart(
                f'messages per second of {printable(name)}',
                {**COLOURS, 'acked': 'var(--warn)'},
            )

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        row = found.row
        if row is None:
            self.kind.set_text('no such queue in this history')
            return
        kind = row['type'] or ''
        state = row['state'] or 'new'
        dead = count(found.dead_letters)
        self.kind.set_text(f'{kind} queue, {state}, {dead} dead letters')
        self.show_tiles(row)
        self.show_rates(found.recent)

    def read(self, db: sqlite3.Connection) -> QueueFacts:
        known = {row['name']: row for row in queues.rows(db, gone=True)}
        dead = 0
        for row in dead_letters.by_queue(db):
            if row['queue'] == self.name:
                dead += row['count']
        return QueueFacts(
            row=known.get(self.name),
            recent=recent_samples(db, self.name),
            dead_letters=dead,
        )

    def show_tiles(self, row: QueueRow) -> None:
        now = self.page.now
        self.ready.show(count(row['ready']))
        self.unacked.show(count(row['unacked']))
        remark = ''
        if row['no_consumer_since']:
            remark = f'none for {duration(now - row["no_consumer_since"])}'
        self.consumers.show(count(row['consumers']), remark)
        if row['oldest_since']:
            age = duration(now - row['oldest_since'])
            self.oldest.show(age, 'is waiting')
        else:
            self.oldest.show('none', 'the queue is empty')
        self.published.show(rate(row['publish_rate']))
        self.delivered.show(rate(row['deliver_rate']))

    def show_rates(self, recent: list[Sample]) -> None:
        samples = smooth(recent)
        lines = self.rates.options['series']
        for name, line in zip(RATES, lines):
            line['data'] = [point(sample, name) for sample in samples]
        now = self.page.now
        self.rates.options['xAxis'].update(
            min=(now - queues.KEEP_SAMPLES_S) * 1000,
            max=now * 1000,
        )
        self.rates.update()


def point(sample: Sample, name: str) -> list[float]:
    """Return a rate of a sample as ECharts takes it, with its time in ms."""
    return [round(sample.at * 1000), round(getattr(sample, name), 2)]


# ---- the history


class Span(NamedTuple):
    """How a history by hours, days, months or years is shown."""

    label: str
    periods: int
    time_format: str


SPANS = {
    'hour': Span('Hour', 48, '%d %b %H:%M'),
    'day': Span('Day', 31, '%d %b'),
    'month': Span('Month', 24, '%b %Y'),
    'year': Span('Year', 10, '%Y'),
}
HISTORY_COLUMNS = [
    column('label', 'Time', first=True),
    column('published', 'Published', 'number'),
    column('delivered', 'Delivered', 'number'),
    column('acked', 'Acked', 'number'),
    column('redelivered', 'Redelivered', 'number'),
    column('expired', 'Expired', 'number'),
    column('rejected', 'Rejected', 'number'),
    column('other', 'Other', 'number'),
]
UNROUTABLE_COLUMNS = [  # of all queues
    column('returned', 'Returned', 'number'),
    column('dropped', 'Dropped', 'number'),
]
BARS = {
    'published': ['published'],
    'delivered': ['delivered'],
    'errors': database.ERRORS,
}


def periods(period: str, now: float) -> list[int]:
    """Return when the last periods of a kind began, oldest first."""
    starts = [database.start_of(period, now)]
    while len(starts) < SPANS[period].periods:
        before = database.start_of(period, starts[0] - 1)
        starts.insert(0, before)
    return starts


def add_history(page: Page, queue: str | None) -> None:
    """Add the history of a queue, or of all (None)."""
    page.refreshers.append(HistoryView(page, queue).refresh)


class HistoryView:
    """Messages by hour, day, month or year: a chart and a table."""

    def __init__(self, page: Page, queue: str | None) -> None:
        self.page = page
        self.queue = queue
        self.shown: tuple[str, list[Row]] | None = None
        title = 'History of this queue'
        classes = 'history'
        columns = HISTORY_COLUMNS
        if queue is None:
            title = 'History of all queues'
            classes = 'history all'
            columns = HISTORY_COLUMNS + UNROUTABLE_COLUMNS
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', title)
                labels = {name: span.label for name, span in SPANS.items()}
                self.period = toggle('period', labels, 'day', self.refresh)
            self.nothing = empty(
                'Nothing yet',
                'Published and delivered messages are counted here, by hour, day, month and year.',
            )
            with box('div', classes) as self.content:
                self.bars = bar_chart(
                    'published, delivered and errors',
                    {**COLOURS, 'errors': 'var(--errors)'},
                )
                self.table = table('history', columns)

    async def refresh(self) -> None:
        period = self.period.value
        starts = periods(period, self.page.now)

        def read(db: sqlite3.Connection) -> list[Row]:
            total = self.queue is None
            return database.by_period(db, period, self.queue, starts[0], total=total)

        found, _ = await read_history(self.page, read)
        if found is None or self.shown == (period, found):
            return
        self.shown = (period, found)
        labels = {start: label_of(period, start) for start in starts}
        self.show_bars(found, labels)
        rows = [history_row(row, labels) for row in reversed(found)]
        self.table.rows = rows
        self.nothing.set_visibility(not found)
        self.content.set_visibility(bool(found))

    def show_bars(self, found: list[Row], labels: dict[int, str]) -> None:
        by_start = {row['start']: row for row in found}
        options = self.bars.options
        options['xAxis']['data'] = list(labels.values())
        for line, names in zip(options['series'], BARS.values()):
            line['data'] = []
            for start in labels:
                row = by_start.get(start, {})
                total = sum(row.get(name, 0) for name in names)
                line['data'].append(total)
        self.bars.update()


def label_of(period: str, start: int) -> str:
    time_format = SPANS[period].time_format
    return time.strftime(time_format, time.gmtime(start))


def history_row(row: Row, labels: dict[int, str]) -> Row:
    numbers = {}
    for name, value in row.items():
        if name not in ('start', 'queue'):
            numbers[name] = count(value)
    start = row['start']
    return {**numbers, 'id': start, 'label': labels[start]}
