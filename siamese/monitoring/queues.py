"""The queues of a history: what they hold, how fast it moves, what the broker counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple, TypedDict

from siamese.monitoring.database import (
    ALL_QUEUES,
    COUNTED,
    DAY_S,
    RATES,
    UNROUTABLE,
    Row,
    count_into_buckets,
    get_fact,
    row_of,
    set_facts,
    transaction,
    upsert,
)
from siamese.text import UNKNOWN, duration

# How often a broker counts, unless its collect_statistics_interval says otherwise.
STATISTICS_INTERVAL_S = 5
# Rates are means of so long at least: the broker counts every STATISTICS_INTERVAL_S, or
# later. A client is publishing, or consuming, for so long after its last message.
RATE_WINDOW_S = 15
KEEP_SAMPLES_S = 900
MINUTE_S = 60
KEPT_S = {  # for how long a table keeps its samples
    'sample': KEEP_SAMPLES_S,  # of each collection
    'minute': DAY_S,  # the first one of each minute
}
# A node may have restarted, and been up for longer than before, if it was not seen
# for GAP_S. The start that its uptime gives then differs by more than START_SHIFT_S,
# and is in that gap.
GAP_S = 60
START_SHIFT_S = 15
LATENESS_S = 1  # of a look at the broker
# A broker that has no metrics yet has been up for so long at most.
STARTING_S = 10

SELECT_PRESENT = "SELECT * FROM queue WHERE state <> 'gone'"
INSERT_SAMPLE = (
    'INSERT OR REPLACE INTO {table}'
    ' VALUES (:id, :seen, :ready, :unacked, :published, :delivered, :acked)'
)
SELECT_RATES = (
    'SELECT at, published, delivered, acked FROM sample'
    ' WHERE queue = ? AND at >= ? AND at < ? AND published IS NOT NULL ORDER BY at LIMIT 1'
)
SELECT_OLDEST = 'SELECT max(at) AS at FROM sample WHERE queue = ? AND published <= ?'
SELECT_SAMPLES = (
    'SELECT known.name, at, kept.ready, kept.unacked,'
    ' kept.published, kept.delivered, kept.acked'
    ' FROM {queues} AS known CROSS JOIN {table} AS kept'
    ' ON kept.queue = known.id AND at > ? AND kept.published IS NOT NULL'
    ' WHERE ? IS NULL OR known.name = ? ORDER BY known.name, at'
)
SELECT_FLOW = (
    'SELECT max(published) AS published, max(delivered) AS delivered, max(acked) AS acked'
    f' FROM sample WHERE queue = {ALL_QUEUES}'
)
ALL_TOGETHER = f"(SELECT {ALL_QUEUES} AS id, '' AS name)"
LAST_MINUTE = f'SELECT max(at) AS at FROM minute WHERE queue = {ALL_QUEUES}'
COLUMNS = (
    'name, type, state, seen, ready, unacked, consumers, oldest_since, no_consumer_since, '
    + ', '.join((*RATES, *COUNTED))
)
GONE: Row = {
    'state': 'gone',
    'ready': 0,
    'unacked': 0,
    'consumers': 0,
    'oldest_since': None,
    'no_consumer_since': None,
    **dict.fromkeys(RATES, 0),
    **{f'raw_{name}': 0 for name in COUNTED},
}


class Queue(TypedDict):
    """A queue as the broker describes it; the counts are since the broker's start.

    A count is None while the broker does not give it, a rate if it never counts.
    """

    name: str
    type: str
    state: str
    ready: int | None
    unacked: int | None
    consumers: int | None
    publish_rate: float | None
    deliver_rate: float | None
    ack_rate: float | None
    published: int | None
    delivered: int | None
    acked: int | None
    redelivered: int | None


class QueueRow(TypedDict):
    """A queue of the history, see rows()."""

    name: str
    type: str | None
    state: str | None
    seen: float | None
    ready: int | None
    unacked: int | None
    consumers: int | None
    oldest_since: float | None
    no_consumer_since: float | None
    publish_rate: float | None
    deliver_rate: float | None
    ack_rate: float | None
    published: int
    delivered: int
    acked: int
    redelivered: int


class Sample(NamedTuple):
    """What a queue held at a time, and its rates since the sample before."""

    at: float
    ready: int | None
    unacked: int | None
    publish_rate: float
    deliver_rate: float
    ack_rate: float


class Clock(NamedTuple):
    """How the broker's counters are to be read at one collection."""

    restarted: bool  # the node has, since the last collection: counters begin at 0
    several: bool  # nodes, each of which counts a part
    left_out: bool  # what was counted before the first collection
    window_s: float  # of which rates are means
    tables: list[str]  # of KEPT_S, into which samples go


def counted_every_s(db: Connection) -> int:
    """Return how often the broker counts, as far as that is known."""
    return get_fact(db, 'counted_every', STATISTICS_INTERVAL_S)


def age_resolution_s(db: Connection) -> float:
    """Return the age of a message below which nobody can tell it from a younger one."""
    monitor = get_fact(db, 'monitor') or {'interval': 0}
    interval: float = monitor['interval']
    return counted_every_s(db) + interval


def oldest_age(row: QueueRow, now: float, resolution_s: float) -> str:
    """Return how old the oldest message of a queue is, for people; '' if it is empty.

    The broker's counters, and our looks at them, come at intervals. Traffic that flows
    has the age of such an interval: then less than `resolution_s` is what is known.
    """
    if row['ready'] == row['unacked'] == 0:
        return ''
    since = row['oldest_since']
    if not since:
        return UNKNOWN
    age_then = (row['seen'] or now) - since
    if age_then <= resolution_s + LATENESS_S:
        return f'< {duration(max(resolution_s, age_then))}'
    return duration(now - since)


def rate_window_s(db: Connection) -> float:
    """Return how long a time holds enough counts of the broker for a mean."""
    return RATE_WINDOW_S - STATISTICS_INTERVAL_S + counted_every_s(db)


def grown(
    old: float,
    new: float,
    restarted: bool = False,
    several: bool = False,
) -> float:
    """Return how many messages a counter has counted between `old` and `new`.

    A counter begins at 0 again when its node was `restarted` or its queue declared
    anew. With `several` nodes, each of which counts a part, a counter that falls lost
    a part of unknown size: then nothing is counted, rather than too much.
    """
    if several:
        return max(0, new - old)
    if restarted or new < old:
        return new
    return new - old


def update(
    db: Connection,
    at: float,
    queues: Iterable[Queue],
    uptime: float | None = None,
    process: str | None = None,
    unroutable: Mapping[str, int | None] | None = None,
    elapsed_s: float | None = None,
) -> None:
    """Store the metrics of all queues at the time `at`.

    What their counters have grown since the last time goes into the buckets. `uptime`
    is that of the only node in seconds, None if there are several nodes; `process`
    tells that node from one that started later. `unroutable` has the UNROUTABLE. What
    the broker counted before the first call is left out, unless its node is younger
    than this history. `elapsed_s` are the seconds since the last call, None where only
    the times tell: these may jump.
    """
    with transaction(db):
        clock = _clock(db, at, uptime, process, elapsed_s)
        stored = {row['name']: row for row in db.execute(SELECT_PRESENT)}
        present = []
        growth: Counter[str] = Counter()
        for queue in queues:
            row = stored.pop(queue['name'], None) or row_of(db, queue['name'])
            growth.update(_store_queue(db, row, queue, at, clock))
            present.append(row)
        for row in stored.values():
            _store_gone(db, row)
        _store_sample(db, _sample_of_all(db, present, growth, at), clock)
        totals = _count_unroutable(db, unroutable or {}, at, clock)
        set_facts(db, collected=at, uptime=uptime, process=process, unroutable=totals)


def _clock(
    db: Connection,
    at: float,
    uptime: float | None,
    process: str | None,
    elapsed_s: float | None,
) -> Clock:
    last = get_fact(db, 'collected')
    before = get_fact(db, 'uptime')
    restarted = False
    if uptime and before:
        gap = elapsed_s
        if gap is None:
            gap = at - last
        shift = abs(gap - (uptime - before))
        shift_allowed = START_SHIFT_S + counted_every_s(db)
        restarted = (
            uptime < before
            or process != get_fact(db, 'process')
            or (gap > GAP_S and shift > shift_allowed and uptime < gap + shift_allowed)
        )
    left_out = False
    if last is None:
        begun = get_fact(db, 'begun', at)
        left_out = not uptime or at - uptime <= begun - STARTING_S
    return Clock(
        restarted=restarted,
        several=uptime is None,
        left_out=left_out,
        window_s=rate_window_s(db),
        tables=_tables_now(db, at),
    )


def _tables_now(db: Connection, at: float) -> list[str]:
    """Return the tables into which the samples of this time go."""
    last = db.execute(LAST_MINUTE).fetchone()['at'] or 0
    if at // MINUTE_S == last // MINUTE_S:
        return ['sample']
    return [*KEPT_S]


def _store_queue(
    db: Connection,
    row: Row,
    queue: Queue,
    at: float,
    clock: Clock,
) -> dict[str, float]:
    """Bring the row, the sample and the buckets of a queue up to date; return its growth."""
    described: dict[str, Any] = {**queue}
    counted = {name: described.pop(name) for name in COUNTED}
    growth = _count(row, counted, clock)
    row.update(described, seen=at)
    if queue['publish_rate'] is not None:
        row.update(_rates(db, row, at, clock.window_s))
    row['oldest_since'] = _oldest(db, row, at)
    is_unread = row['ready'] and row['consumers'] == 0
    if row['type'] == 'stream':  # it keeps the messages that were read
        is_unread = False
    if not is_unread:
        row['no_consumer_since'] = None
    elif not row['no_consumer_since']:
        row['no_consumer_since'] = at
    upsert(db, 'queue', row)
    _store_sample(db, _sample_of(row), clock)
    if row['ready'] or row['unacked'] or any(growth.values()):
        highs = {'ready_high': row['ready'] or 0, 'unacked_high': row['unacked'] or 0}
        count_into_buckets(db, row, at, **highs, **growth)
    return growth


def _store_gone(db: Connection, row: Row) -> None:
    upsert(db, 'queue', {**row, **GONE})
    for table in KEPT_S:
        db.execute(f'DELETE FROM {table} WHERE queue = ?', [row['id']])


def _store_sample(db: Connection, sample: Row, clock: Clock) -> None:
    """Store a sample, and delete those of its queue that are too old."""
    for table in clock.tables:
        db.execute(INSERT_SAMPLE.format(table=table), sample)
        before = sample['seen'] - KEPT_S[table]
        db.execute(f'DELETE FROM {table} WHERE queue = ? AND at < ?', [sample['id'], before])


def _sample_of_all(
    db: Connection,
    present: list[Row],
    growth: Mapping[str, float],
    at: float,
) -> Row:
    """Return the sample of all queues together."""
    flow = db.execute(SELECT_FLOW).fetchone()
    counts = {name: (old or 0) + growth.get(name, 0) for name, old in flow.items()}
    is_counted = not present or any(row['publish_rate'] is not None for row in present)
    return {
        'id': ALL_QUEUES,
        'seen': at,
        'ready': total_of(present, 'ready'),
        'unacked': total_of(present, 'unacked'),
        **(counts if is_counted else dict.fromkeys(counts)),
    }


def _sample_of(row: Row) -> Row:
    """Return what is kept of a row for a while; it knows no counts where nobody counts."""
    if row['publish_rate'] is not None:
        return row
    return {**row, **dict.fromkeys(COUNTED)}


def _count(
    row: Row,
    counted: Mapping[str, int | None],
    clock: Clock,
) -> dict[str, float]:
    """Bring the counters of a row up to date; return by how much each has grown."""
    growth: dict[str, float] = {}
    for name, value in counted.items():
        old = row[f'raw_{name}']
        if value is not None:
            new = value
        elif clock.restarted:
            new = 0
        else:  # the broker does not say: as far as we know it has not grown
            new = old
        growth[name] = 0
        if not clock.left_out:
            growth[name] = grown(old, new, clock.restarted, clock.several)
        row[f'raw_{name}'] = new
        row[name] += growth[name]
    return growth


def _count_unroutable(
    db: Connection,
    counted: Mapping[str, int | None],
    at: float,
    clock: Clock,
) -> Row:
    """Count the messages that no queue took; return the row of these counters."""
    totals: Row = dict.fromkeys(UNROUTABLE, 0)
    totals.update((f'raw_{name}', 0) for name in UNROUTABLE)
    totals.update(get_fact(db, 'unroutable') or {})
    growth = _count(totals, {name: counted.get(name) for name in UNROUTABLE}, clock)
    if any(growth.values()):
        count_into_buckets(db, None, at, **growth)
    return totals


def reset_rates(db: Connection) -> None:
    """Store that nothing flows: the broker is not there."""
    _set_rates(db, '0')


def forget_rates(db: Connection) -> None:
    """Store that it is unknown what flows: there are no metrics for a while."""
    _set_rates(db, 'NULL')


def _set_rates(db: Connection, value: str) -> None:
    values = ', '.join(f'{rate} = {value}' for rate in RATES)
    db.execute(f"UPDATE queue SET {values} WHERE state <> 'gone'")


def forget_ages(db: Connection) -> None:
    """Store that it is unknown since when messages wait: nobody was there to see it."""
    db.execute('UPDATE queue SET oldest_since = NULL')


def _rates(
    db: Connection,
    row: Row,
    at: float,
    window_s: float,
) -> dict[str, float]:
    """Return the RATES since the first sample of the last `window_s`.

    Without a sample there are none, and the broker's own rates hold: these are often
    0 between two updates of its counters (RabbitMQ 3.10.8).
    """
    begin = at - window_s - 1
    then = db.execute(SELECT_RATES, [row['id'], begin, at]).fetchone()
    if not then:
        return {}
    took = at - then['at']
    return {rate: (row[name] - then[name]) / took for rate, name in zip(RATES, COUNTED)}


def _oldest(db: Connection, row: Row, at: float) -> float | None:
    """Return since when the oldest message waits, None if none does or that is unknown.

    It is the latest sample by which no more was published than has left since, for
    queues are first in, first out. Before the samples begin it stays as it was; for a
    queue that was never seen it is now.
    """
    if row['ready'] is None or row['unacked'] is None or row['publish_rate'] is None:
        return None
    waiting = row['ready'] + row['unacked']
    if not waiting:
        return None
    left = row['published'] - waiting
    found = db.execute(SELECT_OLDEST, [row['id'], left]).fetchone()['at']
    return found or row['oldest_since'] or at


def rows(db: Connection, gone: bool = False) -> list[QueueRow]:
    """Return the queues by name; with `gone` also those that were deleted.

    type: 'classic', 'quorum' or 'stream'; state: 'running', 'gone' ...; seen: when it
    was collected last; ready, unacked, consumers: now, None if unknown; oldest_since:
    since when its oldest message waits, None if it is empty or that is unknown (to
    within a collection for the last quarter of an hour, before that at the latest since
    then); no_consumer_since: since when it has had messages and no consumer, or None;
    publish_rate, deliver_rate, ack_rate, None if unknown; published, delivered, acked,
    redelivered: totals since this history began.
    """
    where = "WHERE state <> 'gone' OR ?"
    return db.execute(f'SELECT {COLUMNS} FROM queue {where} ORDER BY name', [gone]).fetchall()


def total_of(queues: Iterable[Mapping[str, Any]], name: str) -> Any:
    """Return the sum of a figure as far as it is known, None if it is of no queue."""
    figures = [queue[name] for queue in queues]
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known or not figures else None


def samples(
    db: Connection,
    queue: str | None = None,
    since: float = 0,
    table: str = 'sample',
    total: bool = False,
) -> dict[str, list[Sample]]:
    """Return the samples of each queue, or of one `queue`, oldest first.

    They are of the last 15 minutes, those of the `table` minute of the last day, and
    later than `since`; the first one only starts the rates of the second. With `total`
    they are of all queues together, whose name is ''.
    """
    found: dict[str, list[Sample]] = {}
    cursor = db.cursor()
    cursor.row_factory = None
    known = ALL_TOGETHER if total else 'queue'
    select = SELECT_SAMPLES.format(queues=known, table=table)
    last_name = None
    last_at = 0.0
    last_counts: list[int] = []
    for name, at, ready, unacked, *counts in cursor.execute(select, [since, queue, queue]):
        if name == last_name:
            took = at - last_at
            rates = [round((new - old) / took, 3) for old, new in zip(last_counts, counts)]
            found.setdefault(name, []).append(Sample(at, ready, unacked, *rates))
        last_name = name
        last_at = at
        last_counts = counts
    return found
