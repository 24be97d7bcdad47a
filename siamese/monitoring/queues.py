"""The queues of a history: what they hold, how fast it moves, what the broker counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple, TypedDict

from siamese.monitoring.database import (
    COUNTED,
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

# Rates are means of so long: the broker updates its counters every 5 s, or later.
RATE_WINDOW_S = 15
KEEP_SAMPLES_S = 900
# A node may have restarted, and been up for longer than before, if it was not seen
# for GAP_S. The start that its uptime gives then differs by more than START_SHIFT_S.
GAP_S = 60
START_SHIFT_S = 15
# A broker that has no metrics yet has been up for so long at most.
STARTING_S = 10

SELECT_PRESENT = "SELECT * FROM queue WHERE state <> 'gone'"
INSERT_SAMPLE = (
    'INSERT OR REPLACE INTO sample'
    ' VALUES (:id, :seen, :ready, :unacked, :published, :delivered, :acked)'
)
SELECT_RATES = (
    'SELECT at, published, delivered, acked FROM sample'
    ' WHERE queue = ? AND at >= ? AND at < ? ORDER BY at LIMIT 1'
)
SELECT_OLDEST = 'SELECT max(at) AS at FROM sample WHERE queue = ? AND published <= ?'
SELECT_SAMPLES = (
    'SELECT name, at, sample.ready, sample.unacked,'
    ' sample.published, sample.delivered, sample.acked'
    ' FROM queue CROSS JOIN sample ON sample.queue = queue.id AND at > ?'
    ' WHERE ? IS NULL OR name = ? ORDER BY name, at'
)
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

    A count is None while the broker does not give it.
    """

    name: str
    type: str
    state: str
    ready: int
    unacked: int
    consumers: int
    publish_rate: float
    deliver_rate: float
    ack_rate: float
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
    ready: int
    unacked: int
    consumers: int
    oldest_since: float | None
    no_consumer_since: float | None
    publish_rate: float
    deliver_rate: float
    ack_rate: float
    published: int
    delivered: int
    acked: int
    redelivered: int


class Sample(NamedTuple):
    """What a queue held at a time, and its rates since the sample before."""

    at: float
    ready: int
    unacked: int
    publish_rate: float
    deliver_rate: float
    ack_rate: float


class Clock(NamedTuple):
    """How the broker's counters are to be read at one collection."""

    restarted: bool  # the node has, since the last collection: counters begin at 0
    several: bool  # nodes, each of which counts a part
    left_out: bool  # what was counted before the first collection


def grown(old: float, new: float, restarted: bool = False, several: bool = False) -> float:
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
) -> None:
    """Store the metrics of all queues at the time `at`.

    What their counters have grown since the last time goes into the buckets. `uptime`
    is that of the only node in seconds, None if there are several nodes; `process`
    tells that node from one that started later. `unroutable` has the UNROUTABLE. What
    the broker counted before the first call is left out, unless its node is younger
    than this history.
    """
    with transaction(db):
        clock = _clock(db, at, uptime, process)
        stored = {row['name']: row for row in db.execute(SELECT_PRESENT)}
        for queue in queues:
            row = stored.pop(queue['name'], None) or row_of(db, queue['name'])
            _store_queue(db, row, queue, at, clock)
        for row in stored.values():
            upsert(db, 'queue', {**row, **GONE})
            db.execute('DELETE FROM sample WHERE queue = ?', [row['id']])
        totals = _count_unroutable(db, unroutable or {}, at, clock)
        set_facts(db, collected=at, uptime=uptime, process=process, unroutable=totals)


def _clock(db: Connection, at: float, uptime: float | None, process: str | None) -> Clock:
    last = get_fact(db, 'collected')
    before = get_fact(db, 'uptime')
    restarted = False
    if uptime and before:
        gap = at - last
        shift = abs((at - uptime) - (last - before))
        restarted = (
            uptime < before
            or process != get_fact(db, 'process')
            or (gap > GAP_S and shift > START_SHIFT_S)
        )
    left_out = False
    if last is None:
        begun = get_fact(db, 'begun', at)
        left_out = not uptime or at - uptime <= begun - STARTING_S
    return Clock(restarted, uptime is None, left_out)


def _store_queue(db: Connection, row: Row, queue: Queue, at: float, clock: Clock) -> None:
    """Bring the row, the sample and the buckets of a queue up to date."""
    described: dict[str, Any] = {**queue}
    counted = {name: described.pop(name) for name in COUNTED}
    growth = _count(row, counted, clock)
    row.update(described, seen=at)
    row.update(_rates(db, row, at))
    row['oldest_since'] = _oldest(db, row, at)
    is_unread = row['ready'] and not row['consumers']
    if row['type'] == 'stream':  # it keeps the messages that were read
        is_unread = False
    if not is_unread:
        row['no_consumer_since'] = None
    elif not row['no_consumer_since']:
        row['no_consumer_since'] = at
    upsert(db, 'queue', row)
    db.execute(INSERT_SAMPLE, row)
    kept = at - KEEP_SAMPLES_S
    db.execute('DELETE FROM sample WHERE queue = ? AND at < ?', [row['id'], kept])
    if row['ready'] or row['unacked'] or any(growth.values()):
        highs = {'ready_high': row['ready'], 'unacked_high': row['unacked']}
        count_into_buckets(db, row, at, **highs, **growth)


def _count(row: Row, counted: Mapping[str, int | None], clock: Clock) -> dict[str, float]:
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
    db: Connection, counted: Mapping[str, int | None], at: float, clock: Clock
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
    """Store that nothing flows, as far as is known: there are no metrics for a while."""
    zeros = ', '.join(f'{rate} = 0' for rate in RATES)
    db.execute(f"UPDATE queue SET {zeros} WHERE state <> 'gone'")


def _rates(db: Connection, row: Row, at: float) -> dict[str, float]:
    """Return the RATES since the first sample of the last RATE_WINDOW_S.

    Without a sample there are none, and the broker's own rates hold: these are often
    0 between two updates of its counters (RabbitMQ 3.10.8).
    """
    begin = at - RATE_WINDOW_S - 1
    then = db.execute(SELECT_RATES, [row['id'], begin, at]).fetchone()
    if not then:
        return {}
    took = at - then['at']
    return {rate: (row[name] - then[name]) / took for rate, name in zip(RATES, COUNTED)}


def _oldest(db: Connection, row: Row, at: float) -> float | None:
    """Return since when the oldest message waits.

    It is the latest sample by which no more was published than has left since, for
    queues are first in, first out. Before the samples begin it stays as it was; for a
    queue that was never seen it is now.
    """
    waiting = row['ready'] + row['unacked']
    if not waiting:
        return None
    left = row['published'] - waiting
    found = db.execute(SELECT_OLDEST, [row['id'], left]).fetchone()['at']
    return found or row['oldest_since'] or at


def rows(db: Connection, gone: bool = False) -> list[QueueRow]:
    """Return the queues by name; with `gone` also those that were deleted.

    type: 'classic', 'quorum' or 'stream'; state: 'running', 'gone' ...; seen: when it
    was collected last; ready, unacked, consumers: now; oldest_since: since when its
    oldest message waits, None if it is empty (to within a collection for the last
    quarter of an hour, before that at the latest since then); no_consumer_since: since when
    it has had messages and no consumer, or None; publish_rate, deliver_rate, ack_rate;
    published, delivered, acked, redelivered: totals since this history began.
    """
    where = "WHERE state <> 'gone' OR ?"
    return db.execute(f'SELECT {COLUMNS} FROM queue {where} ORDER BY name', [gone]).fetchall()


def samples(db: Connection, queue: str | None = None, since: float = 0) -> dict[str, list[Sample]]:
    """Return the samples of each queue, or of one `queue`, oldest first.

    They are of the last 15 minutes, and later than `since`; the first one only starts
    the rates of the second.
    """
    found: dict[str, list[Sample]] = {}
    cursor = db.cursor()
    cursor.row_factory = None
    last_name = None
    last_at = 0.0
    last_counts: list[int] = []
    for name, at, ready, unacked, *counts in cursor.execute(SELECT_SAMPLES, [since, queue, queue]):
        if name == last_name:
            took = at - last_at
            rates = [round((new - old) / took, 3) for old, new in zip(last_counts, counts)]
            found.setdefault(name, []).append(Sample(at, ready, unacked, *rates))
        last_name = name
        last_at = at
        last_counts = counts
    return found
