"""What the dashboard shows of the past: every queue by hour, day, month or year, also as CSV."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import sqlite3
import time
from calendar import timegm
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote, urlencode

from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from nicegui import events, ui

from common import Failure
from siamese.monitoring import database, history, reports
from siamese.monitoring.database import DAY_S
from siamese.monitoring.history import LONGEST_S, USUAL_S, Range
from siamese.text import printable, utc
from siamese.web.bars import BarsView
from siamese.web.finder import Finder, found_by
from siamese.web.formats import count
from siamese.web.page import Page, read_history
from siamese.web.tables import PagedTable, Row, column
from siamese.web.widgets import Empty, box, say, toggle

DAY = '%Y-%m-%d'  # of a field for a date
PERIOD_NAMES = {'hour': 'Hour', 'day': 'Day', 'month': 'Month', 'year': 'Year'}
CHART_LABELS = {**reports.LABELS, 'hour': '%d %b %H:%M'}  # a longer one sticks out
CSV_ROWS_AT_ONCE = 1000
COLUMNS = [
    column('queue', 'Queue', 'link', True, first=True),
    column('start', 'Time (UTC)', 'text', True),
    column('published', 'Published', 'number', True),
    column('delivered', 'Delivered', 'number', True),
    column('redelivered', 'Redelivered', 'number', True),
    column('errors', 'Errors', 'number', True),
    column('expired', 'Expired', 'number', True),
    column('rejected', 'Rejected', 'number', True),
    column('other', 'Other', 'number', True),
    column('ready_high', 'Most ready', 'number', True),
]


# ---- which part of it


def range_of(query: Mapping[str, str], now: float) -> Range:
    """Return which part of the history the query of an address asks for.

    `since` and `until` are the first and the last day. What is no day counts as none,
    and no more is asked for than one question may be about. Raises Failure if `find` is
    to be an expression, and is none.
    """
    period = query.get('period', 'day')
    if period not in database.PERIODS:
        period = 'day'
    until = now
    last = day_of(query.get('until', ''))
    if last is not None:
        until = last + DAY_S
    since = until - USUAL_S[period]
    first = day_of(query.get('since', ''))
    if first is not None:
        since = first
    since = max(since, until - LONGEST_S[period], 0)
    begin = database.start_of(period, since)
    is_found = None
    if query.get('find'):
        is_found = found_by(query)
    return Range(period, begin, until, is_found)


def day_of(text: str) -> int | None:
    """Return when a day as YYYY-MM-DD begins, None if it is none."""
    try:
        return timegm(time.strptime(text, DAY))
    except ValueError:
        return None


def starts_of(wanted: Range) -> list[int]:
    """Return when the periods of a range begin."""
    start = database.start_of(wanted.period, wanted.until - 1)
    starts = [start]
    while start > wanted.since:
        start = database.start_of(wanted.period, start - 1)
        starts.append(start)
    return starts[::-1]


# ---- the page


class Found(NamedTuple):
    """What the page shows."""

    wanted: Range
    rows: list[database.Row]  # on the page of the table that is shown
    total: int
    sums: list[database.Row]


def show_history(page: Page) -> None:
    page.refreshers.append(HistoryOfAllView(page).refresh)


class HistoryOfAllView:
    """Which part to look at, two charts, and the table of every queue in every period."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with box('section', 'card lasting'):
            with box('div', 'head'):
                say('h2', 'Every queue')
                self.download = ui.link('Download as CSV').props('download')
            with box('div', 'filters'):
                self.add_filters()
            self.nothing = Empty()
            self.bars = BarsView()
            self.table = PagedTable(
                page.address,
                'every queue in every period',
                COLUMNS,
                self.refresh,
                sort_by='errors',
            )

    def add_filters(self) -> None:
        address = self.page.address
        period = range_of(address.query, self.page.now).period
        self.period = toggle('period', PERIOD_NAMES, period, self.choose_period)
        self.since = self.add_date('From', 'since')
        self.until = self.add_date('To', 'until')
        self.finder = Finder('Find a queue', address, self.refresh)

    def add_date(self, label: str, name: str) -> ui.input:
        element = ui.input(label)
        element.props('type=date dense outlined stack-label debounce=400')
        # Of a person only: refresh() changes the value as well.
        element.on('update:modelValue', partial(self.choose_day, name))
        return element

    async def choose_period(self) -> None:
        self.page.address.set(period=self.period.value, since='', until='', page='')
        await self.refresh()

    async def choose_day(self, name: str, event: events.GenericEventArguments) -> None:
        before = str(self.page.address)
        since, until = days_of(range_of(self.page.address.query, self.page.now))
        days = {'since': since, 'until': until}
        if days[name] == event.args:
            return
        days[name] = event.args or ''
        self.page.address.set(**days, page='')
        if str(self.page.address) != before:
            await self.refresh()

    async def refresh(self) -> None:
        problem = self.finder.problem()
        if problem:
            self.bars.element.set_visibility(False)
            self.table.set_visibility(False)
            self.nothing.show('Nothing to show', problem)
            return
        asked = str(self.page.address)
        found, _ = await read_history(self.page, self.read)
        if found is None or str(self.page.address) != asked:
            # What somebody has chosen meanwhile refreshes the page too: its fields
            # are not to show the days of before.
            return
        since, until = days_of(found.wanted)
        self.since.set_value(since)
        self.until.set_value(until)
        self.download.props['href'] = csv_path(self.page.address.query)
        self.show_charts(found)
        self.show_table(found)
        if found.total:
            self.nothing.hide()
        else:
            self.nothing.show(
                f'Nothing from {since} to {until}',
                'Choose other days, or clear the name of the queue.',
            )

    def read(self, db: sqlite3.Connection) -> Found:
        wanted = range_of(self.page.address.query, self.page.now)
        sorting = self.table.sorting()
        name = sorting.lstrip('-')
        descending = sorting.startswith('-')
        _, total = history.page_of(db, wanted, limit=0)
        first = self.table.first_of(total)
        rows, _ = history.page_of(db, wanted, name, descending, self.table.size(), first)
        return Found(wanted, rows, total, history.totals(db, wanted))

    def show_charts(self, found: Found) -> None:
        time_format = CHART_LABELS[found.wanted.period]
        labels = {start: utc(start, time_format) for start in starts_of(found.wanted)}
        self.bars.show(labels, found.sums)
        self.bars.element.set_visibility(bool(found.total))

    def show_table(self, found: Found) -> None:
        rows = [table_row(found.wanted, row) for row in found.rows]
        self.table.set_visibility(bool(found.total))
        self.table.show_in_order(rows, found.total)


def days_of(wanted: Range) -> tuple[str, str]:
    """Return the first and the last day of a range, as a field shows them."""
    return utc(wanted.since, DAY), utc(wanted.until - 1, DAY)


def label_of(wanted: Range, start: float) -> str:
    return utc(start, reports.LABELS[wanted.period])


def table_row(wanted: Range, row: database.Row) -> Row:
    numbers = {name: count(value) for name, value in row.items() if name not in ('start', 'queue')}
    return {
        **numbers,
        'id': f'{row["start"]} {row["queue"]}',
        'queue': printable(row['queue']),
        'href': f'/queue?name={quote(row["queue"], safe="")}',
        'start': label_of(wanted, row['start']),
    }


# ---- as CSV


def csv_path(query: Mapping[str, str]) -> str:
    """Return where what an address shows can be downloaded."""
    names = ('period', 'since', 'until', 'find', 'regex')
    asked = {name: query[name] for name in names if query.get(name)}
    return f'/history.csv?{urlencode(asked)}'


async def csv_of(args: argparse.Namespace, query: Mapping[str, str]) -> Response:
    """Return the rows of a page of the history as monitor.py --report --csv writes them."""
    try:
        wanted = range_of(query, time.time())
    except Failure as failure:
        return PlainTextResponse(str(failure), 400)
    try:
        db = await asyncio.to_thread(database.open_for_reading, args.history)
    except Failure as failure:
        return PlainTextResponse(str(failure), 503)
    name = f'siamese-{wanted.period}-{days_of(wanted)[0]}.csv'
    return StreamingResponse(
        csv_parts(db, wanted),
        media_type='text/csv; charset=utf-8',
        headers={'content-disposition': f'attachment; filename="{name}"'},
    )


def csv_parts(db: sqlite3.Connection, wanted: Range) -> Iterator[str]:
    """Yield the parts of a CSV file; what stays in memory is one of them."""
    with contextlib.closing(db):
        yield csv_text([reports.period_heads(wanted.period)])
        rows = history.rows_of(db, wanted)
        while True:
            part = [*islice(rows, CSV_ROWS_AT_ONCE)]
            if not part:
                return
            yield csv_text([reports.period_cells(row, wanted.period) for row in part])


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    reports.write_rows(file, rows)
    return file.getvalue()
