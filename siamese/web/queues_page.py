"""What the dashboard shows of queues: all of them, one, and their history."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple
from urllib.parse import quote

from nicegui import ui

from siamese.monitoring import clients, database, dead_letters, queues
from siamese.monitoring.database import DAY_S
from siamese.monitoring.queues import QueueRow, Sample, total_of
from siamese.text import UNKNOWN, duration, printable
from siamese.web.bars import BarsView
from siamese.web.finder import Finder
from siamese.web.formats import Point, count, rate, smooth, spark, with_gaps
from siamese.web.lines import LinesView
from siamese.web.nodes import NodesView, NodeTiles
from siamese.web.page import Page, read_history
from siamese.web.queue_details import QueueDetailsView, set_up_of
from siamese.web.tables import PagedTable, Row, Table, column
from siamese.web.widgets import Empty, box, say, toggle

UNREAD_AFTER_S = 60  # a message may wait so long although there are consumers
COLUMNS = [
    column('name', 'Queue', 'link', True, first=True),
    column('state', 'State', 'state'),
    column('ready', 'Ready', 'number', True),
    column('unacked', 'Unacked', 'number', True),
    column('total', 'Total', 'number', True, usual=False),
    column('consumers', 'Consumers', 'number', True),
    column('oldest', 'Oldest', 'number', True),
    column('publish_rate', 'Published/s', 'number', True),
    column('deliver_rate', 'Delivered/s', 'number', True),
    column('ack_rate', 'Acked/s', 'number', True, usual=False),
    column('redelivered', 'Redelivered', 'number', True, usual=False),
    column('type', 'Type', 'text', True, usual=False),
    column('features', 'Features', usual=False),
    column('policy', 'Policy', 'wide', usual=False),
    column('arguments', 'Arguments', 'wide', usual=False),
    column('spark', 'Published, 15 min', 'spark', broad=True),
]


# ---- all queues


class SortableQueue(QueueRow):
    """A queue with the age of its oldest message in seconds, and how many it holds.

    `total` is None if a part of it is unknown.
    """

    oldest: float
    total: int | None


class Overview(NamedTuple):
    """What the page of all queues shows."""

    known: list[SortableQueue]
    matching: int
    rows: list[Row]  # of the table, on the page that is shown
    connected: int
    gone: int
    dead_letters: int  # not requeued
    dead_lettered_today: int
    copies: int  # so many of those waiting may be copies
    nodes: list[database.Node]


def show_queues(page: Page) -> None:
    page.refreshers.append(QueuesView(page).refresh)
    add_history(page, None)


class QueuesView:
    """Tiles, and the table of queues with the field that finds some."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with box('div', 'tiles'):
            self.ready = page.tile('Waiting')
            self.published = page.tile('Published', 'messages/s')
            self.delivered = page.tile('Delivered', 'messages/s')
            self.dead_letters = page.tile('Dead letters', href='/dead', lasting=True)
            self.clients = page.tile('Clients', href='/clients')
            self.queues = page.tile('Queues')
            self.node_tiles = NodeTiles(page)
        page.refreshers.append(LinesView(page, None).refresh)
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', 'All queues')
                self.finder = Finder('Find a queue', page.address, self.refresh)
            self.nothing = Empty()
            self.table = PagedTable(
                page.address,
                'queues',
                COLUMNS,
                self.refresh,
                sort_by='ready',
            )
        self.nodes = NodesView()

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        self.show_tiles(found)
        self.nodes.show(found.nodes)
        self.table.show(found.rows, found.matching)
        self.table.set_visibility(bool(found.matching))
        if found.matching:
            self.nothing.hide()
        elif found.known:
            self.finder.show_nothing(self.nothing, 'queue', len(found.known))
        else:
            self.nothing.show(
                'No queues yet',
                'Run something, for example ./fanout_producer.py, and look here again.',
            )

    def read(self, db: sqlite3.Connection) -> Overview:
        now = self.page.now
        known = [sortable(row, now) for row in queues.rows(db)]
        resolution_s = queues.age_resolution_s(db)
        matching = self.finder.matching(known, texts_of)
        rows = []
        for row in self.table.view_of(matching):
            recent = recent_samples(db, row['name'])
            rates = published_over_time(recent, self.page.gap_s)
            age = queues.oldest_age(row, now, resolution_s)
            cells = table_row(row, rates, now, age or '–')
            rows.append({**cells, **set_up_of(db, row['name'])})
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
            copies=total_of(dead_letters.by_queue(db), 'copies'),
            nodes=database.broker(db)['nodes'] or [],
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
        doubt = dead_letters.may_be_copies(found.copies)
        self.dead_letters.show(
            count(found.dead_letters),
            f'waiting{doubt}, {count(found.dead_lettered_today)} in 24 h',
        )
        self.clients.show(
            count(found.connected),
            f'connected, {count(found.gone)} gone',
        )
        self.node_tiles.show(found.nodes)
        unconsumed = [row for row in known if row['no_consumer_since']]
        self.queues.show(
            count(len(known)),
            f'{count(len(unconsumed))} with messages and no consumer',
        )


def texts_of(row: QueueRow) -> list[str]:
    """Return in what a queue is looked for."""
    return [row['name']]


def sortable(row: QueueRow, now: float) -> SortableQueue:
    age_s = 0.0
    if row['oldest_since']:
        age_s = now - row['oldest_since']
    total = None
    if row['ready'] is not None and row['unacked'] is not None:
        total = row['ready'] + row['unacked']
    return {**row, 'oldest': age_s, 'total': total}


def recent_samples(db: sqlite3.Connection, name: str) -> list[Sample]:
    return queues.samples(db, name).get(name, [])


def published_over_time(recent: list[Sample], gap_s: float) -> list[Point]:
    samples = smooth(recent, gap_s)
    points = [(sample.at, sample.publish_rate) for sample in samples]
    return with_gaps(points, gap_s)


def table_row(row: SortableQueue, rates: list[Point], now: float, age: str) -> Row:
    tone, state = state_of(row, now)
    peak = rate(max([value or 0 for _, value in rates], default=0))
    return {
        'id': row['name'],
        'name': printable(row['name']),
        'href': f'/queue?name={quote(row["name"], safe="")}',
        'state': state,
        'tone': tone,
        'ready': count(row['ready']),
        'unacked': count(row['unacked']),
        'total': count(row['total']),
        'consumers': count(row['consumers']),
        'oldest': age,
        'publish_rate': rate(row['publish_rate']),
        'deliver_rate': rate(row['deliver_rate']),
        'ack_rate': rate(row['ack_rate']),
        'redelivered': count(row['redelivered']),
        'type': row['type'] or UNKNOWN,
        'spark': spark(rates, now),
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
    if row['publish_rate'] is None:
        return 'off', 'unknown'
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
    dead_letters: int
    age: str  # of the oldest message, '' if there is none


def show_queue(page: Page) -> None:
    name = page.address.get('name')
    page.refreshers.append(QueueView(page, name).refresh)
    page.refreshers.append(LinesView(page, name).refresh)
    page.refreshers.append(QueueDetailsView(page, name).refresh)
    add_history(page, name)


class QueueView:
    """The tiles of a queue."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.nothing = Empty()
        with self.nothing.element:
            ui.link('All queues', '/')
        with box('div', 'tiles') as self.tiles:
            self.ready = page.tile('Ready', 'messages')
            self.unacked = page.tile('Unacked', 'messages')
            self.consumers = page.tile('Consumers')
            self.oldest = page.tile('Oldest message')
            self.published = page.tile('Published', 'messages/s')
            self.delivered = page.tile('Delivered', 'messages/s')
            self.dead_letters = page.tile(
                'Dead letters',
                href=f'/dead?queue={quote(name, safe="")}',
                lasting=True,
            )

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        row = found.row
        self.page.is_missing = row is None
        self.tiles.set_visibility(row is not None)
        if row is None:
            self.nothing.show(
                'This history has no such queue',
                'Is the name right? The field of the page of all queues finds it.',
            )
            return
        self.nothing.hide()
        kind = row['type'] or ''
        state = self.page.unknown or row['state'] or 'new'
        self.page.remark(f'{kind} queue, {state}')
        self.show_tiles(row, found.age)
        self.dead_letters.show(count(found.dead_letters), '')

    def read(self, db: sqlite3.Connection) -> QueueFacts:
        known = {row['name']: row for row in queues.rows(db, gone=True)}
        found = known.get(self.name)
        age = ''
        if found:
            resolution_s = queues.age_resolution_s(db)
            age = queues.oldest_age(found, self.page.now, resolution_s)
        dead = 0
        for row in dead_letters.by_queue(db):
            if row['queue'] == self.name:
                dead += row['count']
        return QueueFacts(
            row=found,
            dead_letters=dead,
            age=age,
        )

    def show_tiles(self, row: QueueRow, age: str) -> None:
        now = self.page.now
        self.ready.show(count(row['ready']))
        self.unacked.show(count(row['unacked']))
        remark = ''
        if row['no_consumer_since']:
            remark = f'none for {duration(now - row["no_consumer_since"])}'
        self.consumers.show(count(row['consumers']), remark)
        if age == UNKNOWN:
            self.oldest.show(UNKNOWN, 'the broker does not count')
        elif age and row['ready']:
            self.oldest.show(age, 'waits')
        elif age:
            self.oldest.show(age, 'is unacked')
        else:
            self.oldest.show('none', 'the queue is empty')
        self.published.show(rate(row['publish_rate']))
        self.delivered.show(rate(row['deliver_rate']))


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
    column('ready_high', 'Most ready', 'number'),
]
UNROUTABLE_COLUMNS = [  # of all queues
    column('returned', 'Returned', 'number'),
    column('dropped', 'Dropped', 'number'),
]


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
        columns = HISTORY_COLUMNS
        if queue is None:
            title = 'History of all queues'
            columns = HISTORY_COLUMNS + UNROUTABLE_COLUMNS
        with box('section', 'card lasting'):
            with box('div', 'head'):
                say('h2', title)
                labels = {name: span.label for name, span in SPANS.items()}
                period = page.address.get('period')
                if period not in SPANS:
                    period = 'day'
                self.period = toggle('period', labels, period, self.choose)
            self.nothing = Empty()
            with box('div', 'past') as self.content:
                self.bars = BarsView()
                self.table = Table('history', columns)

    async def choose(self) -> None:
        self.page.address.set(period=self.period.value)
        await self.refresh()

    async def refresh(self) -> None:
        period = self.period.value
        # Dead letters may be later than what was collected.
        starts = periods(period, self.page.clock)

        def read(db: sqlite3.Connection) -> list[Row]:
            total = self.queue is None
            return database.by_period(db, period, self.queue, starts[0], total=total)

        found, _ = await read_history(self.page, read)
        if found is None or self.shown == (period, found):
            return
        self.shown = (period, found)
        labels = {start: label_of(period, start) for start in starts}
        self.bars.show(labels, found)
        rows = [history_row(row, period) for row in reversed(found)]
        self.table.show(rows)
        self.content.set_visibility(bool(found))
        if found:
            self.nothing.hide()
            return
        self.nothing.show(
            'Nothing yet',
            'Published and delivered messages are counted here, by hour, day, month and year.',
        )


def label_of(period: str, start: int) -> str:
    time_format = SPANS[period].time_format
    return time.strftime(time_format, time.gmtime(start))


def history_row(row: Row, period: str) -> Row:
    numbers = {}
    for name, value in row.items():
        if name not in ('start', 'queue'):
            numbers[name] = count(value)
    start = row['start']
    return {**numbers, 'id': start, 'label': label_of(period, start)}
