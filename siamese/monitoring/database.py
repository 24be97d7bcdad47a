"""The history of a virtual host: one SQLite file (WAL), which monitor.py writes.

Functions over a Connection: open_for_writing() or open_for_reading(), then
the functions below, and those of queues.py, dead_letters.py and clients.py for
their tables. Rows are plain dicts. All times are seconds since 1970 as float;
hours, days and months begin in UTC; all counts are messages, all rates messages/s.
Texts may hold whatever a stranger wrote: escape them before they are shown.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from sqlite3 import Connection
from typing import Any, TypedDict
from urllib.parse import quote

from common import Failure
from siamese.messaging.topology import DEAD_LETTER_QUEUE

DEFAULT_FILE = 'siamese.db'
VERSION = 5  # of the schema
UP, UNAVAILABLE = 'up', 'unavailable'  # states of the broker
PERIODS = ('hour', 'day', 'month', 'year')
# Counted by the broker, for each queue.
COUNTED = ('published', 'delivered', 'acked', 'redelivered')
# Counted by us: dead letters by reason.
ERRORS = ('expired', 'rejected', 'other')
# Counted by the broker for the virtual host: messages that no queue took.
UNROUTABLE = ('returned', 'dropped')
METRICS = (*COUNTED, *ERRORS, 'ready_high', 'unacked_high')  # of a bucket
RATES = ('publish_rate', 'deliver_rate', 'ack_rate')
DAY_S = 86400
KEEP_CLIENTS_S = 31 * DAY_S
LOCK_TIMEOUT_S = 30
ALL_QUEUES = 0  # in place of the id of a queue: all of them but siamese.dead

Row = dict[str, Any]  # of a table: what SQLite holds, by the name of the column


class MonitorFact(TypedDict):
    """The monitor.py that writes a history."""

    name: str
    seen: float  # when it last wrote
    interval: float  # seconds between collections


class Node(TypedDict):
    """A node of the broker."""

    name: str
    running: bool | None
    alarms: list[str]  # 'memory', 'disk'
    uptime: float  # seconds


RATE_COLUMNS = ', '.join(f'{rate} REAL DEFAULT 0' for rate in RATES)
COUNTED_COLUMNS = ', '.join(
    f'{name} INTEGER DEFAULT 0, raw_{name} INTEGER DEFAULT 0' for name in COUNTED
)
BUCKET_COLUMNS = ', '.join(f'{name} INTEGER DEFAULT 0' for name in (*METRICS, *UNROUTABLE))
SCHEMA = f"""
CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT
) WITHOUT ROWID;

CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT UNIQUE NOT NULL,
    type TEXT,
    state TEXT DEFAULT 'gone',
    seen REAL,
    ready INTEGER DEFAULT 0,
    unacked INTEGER DEFAULT 0,
    consumers INTEGER DEFAULT 0,
    oldest_since REAL,
    no_consumer_since REAL,
    {RATE_COLUMNS},
    {COUNTED_COLUMNS}
);
CREATE INDEX queue_there ON queue (name) WHERE state <> 'gone';

CREATE TABLE sample (
    queue INTEGER,
    at REAL,
    ready INTEGER,
    unacked INTEGER,
    published INTEGER,
    delivered INTEGER,
    acked INTEGER,
    PRIMARY KEY (queue, at)
) WITHOUT ROWID;

CREATE TABLE bucket (
    period INTEGER,
    queue INTEGER,
    start INTEGER,
    {BUCKET_COLUMNS},
    PRIMARY KEY (period, start, queue)
) WITHOUT ROWID;

CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    stored REAL,
    at REAL,
    queue TEXT,
    reason TEXT,
    exchange TEXT,
    routing_key TEXT,
    sender TEXT,
    message_id TEXT,
    size INTEGER,
    properties TEXT,
    requeued REAL,
    body BLOB,
    encoded BLOB,
    digest BLOB,
    session TEXT,
    delivered REAL,
    settled INTEGER DEFAULT 0
);
CREATE INDEX dead_stored ON dead (stored, requeued, queue, reason);
CREATE INDEX dead_queue ON dead (queue, id);
CREATE INDEX dead_requeued ON dead (requeued, id);
CREATE INDEX dead_unsettled ON dead (digest) WHERE NOT settled;

CREATE TABLE tally (
    queue TEXT,
    reason TEXT,
    count INTEGER,
    waiting INTEGER,
    ever INTEGER,
    PRIMARY KEY (queue, reason)
) WITHOUT ROWID;
CREATE TRIGGER dead_was_inserted AFTER INSERT ON dead BEGIN
    INSERT INTO tally VALUES (new.queue, new.reason, 1, 1, 1)
    ON CONFLICT DO UPDATE
    SET count = count + 1, waiting = waiting + 1, ever = ever + 1;
END;
CREATE TRIGGER dead_was_requeued AFTER UPDATE OF requeued ON dead
WHEN old.requeued IS NULL BEGIN
    UPDATE tally SET waiting = waiting - 1
    WHERE queue = new.queue AND reason = new.reason;
END;
CREATE TRIGGER dead_was_deleted AFTER DELETE ON dead BEGIN
    UPDATE tally
    SET count = count - 1, waiting = waiting - (old.requeued IS NULL)
    WHERE queue = old.queue AND reason = old.reason;
END;

CREATE TABLE client (
    name TEXT,
    user TEXT,
    does TEXT DEFAULT '',
    state TEXT,
    since REAL,
    first_seen REAL,
    last_seen REAL,
    interruptions INTEGER DEFAULT 0,
    last_interruption REAL,
    back REAL,
    published INTEGER DEFAULT 0,
    published_at REAL,
    delivered INTEGER DEFAULT 0,
    delivered_at REAL,
    connections TEXT DEFAULT '{{}}',
    PRIMARY KEY (name, user)
) WITHOUT ROWID;
CREATE INDEX client_connected ON client (name, user) WHERE connections <> '{{}}';
CREATE INDEX client_back ON client (back);
PRAGMA user_version = {VERSION};
"""


# ---- opening


def open_for_writing(path: str) -> Connection:
    """Open the history in the file `path`, which is created if it is missing.

    ':memory:' is no file. Raises Failure.
    """
    with _sqlite_failures(path):
        db = _connect(path)
        db.execute('PRAGMA journal_mode = WAL')
        # A dead letter is acknowledged once it is stored; power may fail then.
        db.execute('PRAGMA synchronous = FULL')
        if not _version(db):
            db.executescript(f'BEGIN IMMEDIATE; {SCHEMA} COMMIT;')
        return _of_our_version(db, path)


def open_for_reading(path: str) -> Connection:
    """Open the history in the file `path`, which may be written to meanwhile.

    Raises Failure if there is none.
    """
    with _sqlite_failures(path):
        try:
            db = _connect(f'file:{quote(path)}?mode=ro', uri=True)
            return _of_our_version(db, path)
        except sqlite3.OperationalError:
            if not os.path.exists(path) or os.path.exists(f'{path}-wal'):
                raise
            # No process writes it, and we have no permission to: SQLite would have
            # to create files beside it.
            db = _connect(f'file:{quote(path)}?immutable=1', uri=True)
            return _of_our_version(db, path)


def _connect(path: str, uri: bool = False) -> Connection:
    db = sqlite3.connect(
        path,
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        uri=uri,
    )
    # SQLite's own lower() knows the capitals of ASCII only.
    db.create_function('lower', 1, str.lower, deterministic=True)
    db.row_factory = _as_row
    return db


def _as_row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values)}


@contextlib.contextmanager
def _sqlite_failures(path: str) -> Iterator[None]:
    """Turn what SQLite raises on opening a file into a Failure."""
    try:
        yield
    except sqlite3.OperationalError as error:
        remedy = 'monitor.py writes it, see --history'
        raise Failure(f'cannot open the history {path}: {error}; {remedy}', 3) from None
    except sqlite3.DatabaseError as error:
        text = f'{path} is not a history of monitor.py: {error}; see --history'
        raise Failure(text, 2) from None


def _version(db: Connection) -> int:
    return db.execute('PRAGMA user_version').fetchone()['user_version']


def _of_our_version(db: Connection, path: str) -> Connection:
    version = _version(db)
    if version != VERSION:
        remedy = 'written by another version? use a fresh file, see --history'
        text = f'{path} is of version {version}, and this script of version {VERSION}'
        raise Failure(f'{text}; {remedy}', 2)
    return db


def take_ownership(db: Connection, path: str, place: str) -> bool:
    """Take the history for the broker at `place`, as the only process that collects.

    It is ours until this process ends. Returns False if another process has it;
    raises Failure if it is the history of another broker.
    """
    owner = get_fact(db, 'place', place)
    if owner != place:
        text = f'{path} is the history of {owner}, not of {place}; see --history'
        raise Failure(text, 2)
    if path != ':memory:' and not lock(path):
        return False
    set_facts(db, place=place)
    return True


def lock(path: str) -> bool:
    """Lock a file until this process ends; return whether that was possible.

    The file is created if it is missing.
    """
    # Never closed: that would take SQLite's own locks away.
    file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def transaction(db: Connection) -> Iterator[None]:
    """Do the with-block at once or not at all; transactions may be nested.

    Other processes write before or after it.
    """
    if db.in_transaction:
        yield
        return
    db.execute('BEGIN IMMEDIATE')
    try:
        yield
    except BaseException:
        db.execute('ROLLBACK')
        raise
    db.execute('COMMIT')


# ---- facts


def set_facts(db: Connection, **facts: object) -> None:
    """Store facts by their name; JSON must be able to hold the values."""
    rows = [(name, json.dumps(value)) for name, value in facts.items()]
    with transaction(db):
        db.executemany('REPLACE INTO fact VALUES (?, ?)', rows)


def get_fact(db: Connection, name: str, default: Any = None) -> Any:
    """Return a fact that was stored, else `default`."""
    row = db.execute('SELECT value FROM fact WHERE name = ?', [name]).fetchone()
    if not row:
        return default
    return json.loads(row['value'])


class Broker(TypedDict):
    """What a history knows of its broker; None is for what it does not know."""

    state: str | None  # UP, UNAVAILABLE
    since: float | None  # when that state began
    place: str | None  # 'host:port/vhost'
    product: str | None  # 'RabbitMQ'
    version: str | None  # '3.10.8'
    nodes: list[Node] | None
    alarms: dict[str, float] | None  # 'memory alarm on rabbit@host', and since when
    missing: list[str] | None  # what the broker lacks, and what that costs
    collected: float | None  # when metrics were collected last
    monitor: MonitorFact | None


def broker(db: Connection) -> Broker:
    """Return what is known of the broker."""
    return Broker(
        state=get_fact(db, 'state'),
        since=get_fact(db, 'since'),
        place=get_fact(db, 'place'),
        product=get_fact(db, 'product'),
        version=get_fact(db, 'version'),
        nodes=get_fact(db, 'nodes'),
        alarms=get_fact(db, 'alarms'),
        missing=get_fact(db, 'missing'),
        collected=get_fact(db, 'collected'),
        monitor=get_fact(db, 'monitor'),
    )


# ---- rows and buckets


def upsert(db: Connection, table: str, row: Row) -> None:
    """Store a row in place of the one with the same key."""
    names = ', '.join(row)
    values = ', '.join(f':{name}' for name in row)
    db.execute(f'REPLACE INTO {table} ({names}) VALUES ({values})', row)


def row_of(db: Connection, name: str) -> Row:
    """Return the row of a queue, which is created if the queue is new."""
    db.execute('INSERT OR IGNORE INTO queue (name) VALUES (?)', [name])
    return db.execute('SELECT * FROM queue WHERE name = ?', [name]).fetchone()


def start_of(period: str, at: float) -> int:
    """Return when the hour, day, month or year (one of PERIODS) of the time `at` began."""
    then = time.gmtime(at)
    month, day, hour = 1, 1, 0
    if period != 'year':
        month = then.tm_mon
    if period in ('hour', 'day'):
        day = then.tm_mday
    if period == 'hour':
        hour = then.tm_hour
    return calendar.timegm((then.tm_year, month, day, hour, 0, 0))


def count_into_buckets(db: Connection, queue: Row | None, at: float, **metrics: float) -> None:
    """Add metrics to the hour, day and month that hold the time `at`.

    They count for the queue (unless that is None), and for all queues together
    (unless it is siamese.dead). Of a metric that ends in _high the highest value stays.
    """
    ids = []
    if queue:
        ids.append(queue['id'])
    if not queue or queue['name'] != DEAD_LETTER_QUEUE:
        ids.append(ALL_QUEUES)
    names = ', '.join(metrics)
    places = ', '.join('?' * (3 + len(metrics)))
    merged = ', '.join(map(_merged, metrics))
    insert = f'INSERT INTO bucket (period, queue, start, {names}) VALUES ({places})'
    rows = []
    for number, period in enumerate(PERIODS[:3]):
        start = start_of(period, at)
        rows += [(number, queue_id, start, *metrics.values()) for queue_id in ids]
    db.executemany(f'{insert} ON CONFLICT DO UPDATE SET {merged}', rows)


def _merged(name: str) -> str:
    if name.endswith('_high'):
        return f'{name} = max({name}, excluded.{name})'
    return f'{name} = {name} + excluded.{name}'


def by_period(
    db: Connection,
    period: str,
    queue: str | None = None,
    since: float = 0,
    until: float | None = None,
    total: bool = False,
) -> list[Row]:
    """Return the history by `period` (one of PERIODS), ordered by time and queue.

    A row has start: when the period began; queue: its name; and the METRICS:
    published, delivered, acked, redelivered; expired, rejected, other (dead letters by
    reason); ready_high and unacked_high (the most at one time). With `queue` only the
    rows of that queue. With `total` those of all queues but siamese.dead together:
    queue is '', the highs are those of the fullest queue, and the UNROUTABLE are there
    too. Periods that begin before `since`, or not before `until`, are left out, and so
    are those without anything.
    """
    names = [*METRICS]
    queues = 'queue'
    if total:
        names += UNROUTABLE
        queues = f"(SELECT {ALL_QUEUES} AS id, '' AS name)"
    stored, start = period, 'start'
    if period == 'year':
        stored = 'month'
        start = "CAST(strftime('%s', start, 'unixepoch', 'start of year') AS INTEGER)"
    columns = ', '.join(map(_summed, names))
    where = 'period = ? AND start >= ? AND start < ?'
    values: list[Any] = [PERIODS.index(stored), since, until or 1 << 40]
    if queue is not None:
        where += ' AND bucket.queue = (SELECT id FROM queue WHERE name = ?)'
        values.append(queue)
    return db.execute(
        f'SELECT {start} AS start, name AS queue, {columns}'
        f' FROM bucket CROSS JOIN {queues} ON bucket.queue = id'
        f' WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2',
        values,
    ).fetchall()


def _summed(name: str) -> str:
    if name.endswith('_high'):
        return f'max(bucket.{name}) AS {name}'
    return f'sum(bucket.{name}) AS {name}'


def forget(db: Connection, before: float, now: float) -> None:
    """Delete what ended before a time: buckets, dead letters, clients, queues.

    A client that is gone is deleted after KEEP_CLIENTS_S already: without a fixed
    name it has another one in each run.
    """
    with transaction(db):
        for number, period in enumerate(PERIODS[:3]):
            start = start_of(period, before)
            delete = 'DELETE FROM bucket WHERE period = ? AND start < ?'
            db.execute(delete, [number, start])
        db.execute('DELETE FROM dead WHERE stored < ?', [before])
        last_seen = max(before, now - KEEP_CLIENTS_S)
        delete = "DELETE FROM client WHERE state = 'gone' AND last_seen < ?"
        db.execute(delete, [last_seen])
        # The months are kept for the longest.
        kept = f'SELECT queue FROM bucket WHERE period = {PERIODS.index("month")}'
        db.execute(f"DELETE FROM queue WHERE state = 'gone' AND id NOT IN ({kept})")
