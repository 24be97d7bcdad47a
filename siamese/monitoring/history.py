"""The history of all queues: every queue in every hour, day, month or year of a range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sqlite3 import Connection
from typing import Any, NamedTuple

from siamese.monitoring.database import (
    DAY_S,
    ERRORS,
    METRICS,
    Row,
    by_period,
    start_column,
    stored_period,
    summed,
)

# How much of it one question may be about: 500 queues have 168,000 rows in two weeks of hours.
LONGEST_S = {
    'hour': 14 * DAY_S,
    'day': 366 * DAY_S,
    'month': 3653 * DAY_S,
    'year': 36_525 * DAY_S,
}
# How far back it goes, unless it is said.
USUAL_S = {
    'hour': 2 * DAY_S,
    'day': 31 * DAY_S,
    'month': 731 * DAY_S,
    'year': 3653 * DAY_S,
}
ERRORS_COLUMN = 'errors'  # of all reasons
SORTED_BY = ('start', 'queue', ERRORS_COLUMN, *METRICS)
FOUND = 'bucket.queue IN (SELECT id FROM queue WHERE is_found(name))'


class Range(NamedTuple):
    """Which part of the history; of which queues, unless of all."""

    period: str  # one of database.PERIODS
    since: float  # periods that begin from here on
    until: float  # and before this time
    is_found: Callable[[str], bool] | None = None  # by its name


def page_of(
    db: Connection,
    wanted: Range,
    sort: str = ERRORS_COLUMN,
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """Return (rows, how many there are): `limit` after `offset`, in the order of a column.

    A row is one of database.by_period(), with the sum of its errors. Of equal ones the
    latest comes first.
    """
    select, values = _select(db, wanted)
    count = db.execute(f'SELECT count(*) AS count FROM ({select})', values).fetchone()['count']
    name = sort if sort in SORTED_BY else ERRORS_COLUMN
    order = f'{name} DESC' if descending else name
    rows = db.execute(
        f'{select} ORDER BY {order}, start DESC, queue LIMIT ? OFFSET ?',
        [*values, limit, offset],
    )
    return rows.fetchall(), count


def rows_of(db: Connection, wanted: Range) -> Iterator[Row]:
    """Yield all rows, by time and queue, as database.by_period() orders them."""
    select, values = _select(db, wanted)
    yield from db.execute(f'{select} ORDER BY start, queue', values)


def totals(db: Connection, wanted: Range) -> list[Row]:
    """Return the sums of the queues in a range by time.

    They are without siamese.dead, unless it is looked for.
    """
    if not wanted.is_found:
        return by_period(db, wanted.period, None, wanted.since, wanted.until, total=True)
    select, values = _select(db, wanted)
    sums = ', '.join(f'sum({name}) AS {name}' for name in METRICS)
    grouped = f'SELECT start, {sums} FROM ({select}) GROUP BY start ORDER BY start'
    return db.execute(grouped, values).fetchall()


def _select(db: Connection, wanted: Range) -> tuple[str, list[Any]]:
    """Return the query for the rows of a range, and its values.

    But for years each row is a bucket. To group them would take a second where there are
    many.
    """
    is_year = wanted.period == 'year'
    columns = [summed(name) if is_year else f'bucket.{name} AS {name}' for name in METRICS]
    errors = ' + '.join(f'bucket.{name}' for name in ERRORS)
    columns.append(f'sum({errors}) AS errors' if is_year else f'{errors} AS errors')
    where = 'period = ? AND start >= ? AND start < ?'
    values: list[Any] = [stored_period(wanted.period), wanted.since, wanted.until]
    if wanted.is_found:
        db.create_function('is_found', 1, wanted.is_found)
        where += f' AND {FOUND}'
    select = (
        f'SELECT {start_column(wanted.period)} AS start, name AS queue, {", ".join(columns)}'
        ' FROM bucket CROSS JOIN queue ON bucket.queue = id'
        f' WHERE {where}'
    )
    if is_year:
        select += ' GROUP BY 1, 2'
    return select, values
