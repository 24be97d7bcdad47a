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
from collections.abc import Iterable, Iterator
from sqlite3 import Connection
from typing import Any, TypedDict
from urllib.parse import quote

from common import Failure
from siamese.messaging.topology import DEAD_LETTER_QUEUE
from siamese.text import printable

DEFAULT_FILE = 'siamese.db'
VERSION = 7  # of the schema
OWNER_ONLY = 0o600  # dead letters hold what others wrote to each other
UP, UNAVAILABLE = 'up', 'unavailable'  # states of the broker
PERIODS = ('hour', 'day', 'month', 'year')
# Counted by the broker, for each queue.
COUNTED = ('published', 'delivered', 'acked', 'redelivered')
# Counted by us: dead letters by reason.
ERRORS = ('expired', 'rejected', 'other')
# Counted by the broker for the virtual host: messages that no queue took.
UNROUTABLE = ('returned', 'dropped')
METRICS = (*COUNTED, *ERRORS, 'copies', 'ready_high', 'unacked_high')  # of a bucket
RATES = ('publish_rate', 'deliver_rate', 'ack_rate')
DAY_S = 86400
KEEP_CLIENTS_S = 31 * DAY_S
LOCK_TIMEOUT_S = 30
LONGEST_TICK_NS = 10_000_000  # of a Linux kernel: its files have no finer times
DAMAGED = 'malformed'  # in SQLite's words
ALL_QUEUES = 0  # in place of the id of a queue: all of them but siamese.dead

# What is raised where a history is damaged, but not so that SQLite itself says so.
DAMAGE = (UnicodeDecodeError, json.JSONDecodeError)
FAULTS = (sqlite3.Error, *DAMAGE)

Row = dict[str, Any]  # of a table: what SQLite holds, by the name of the column


class MonitorFact(TypedDict):
    """The monitor.py that writes a history."""

    name: str
    seen: float  # when it last wrote
    interval: float  # seconds between collections


class Node(TypedDict):
    """A node of the broker; a figure is None if it is unknown."""

    name: str
    running: bool | None
    alarms: list[str]  # 'memory', 'disk'
    uptime: float  # seconds
    mem_used: int | None  # bytes
    mem_limit: int | None  # bytes, from which on publishers are blocked
    disk_free: int | None  # bytes
    disk_free_limit: int | None  # bytes, below which publishers are blocked
    fd_used: int | None  # file descriptors
    fd_total: int | None


RATE_COLUMNS = ', '.join(f'{rate} REAL DEFAULT 0' for rate in RATES)
COUNTED_COLUMNS = ', '.join(
    f'{name} INTEGER DEFAULT 0, raw_{name} INTEGER DEFAULT 0' for name in COUNTED
)
BUCKET_COLUMNS = ', '.join(f'{name} INTEGER DEFAULT 0' for name in (*METRICS, *UNROUTABLE))
SAMPLE_COLUMNS = """
    queue INTEGER,
    at REAL,
    ready INTEGER,
    unacked INTEGER,
    published INTEGER,
    delivered INTEGER,
    acked INTEGER,
    PRIMARY KEY (queue, at)
"""
STORED_INDEX = 'CREATE INDEX dead_stored ON dead (stored, requeued, seen, queue, reason, copy)'
# A condition of SQL: the dead letter was neither requeued nor marked as seen.
UNSEEN = 'requeued IS NULL AND seen IS NULL'
UNSEEN_INDEX = f'CREATE INDEX dead_unseen ON dead (id) WHERE {UNSEEN}'
INSERTED_TRIGGER = """
CREATE TRIGGER dead_was_inserted AFTER INSERT ON dead BEGIN
    INSERT INTO tally (queue, reason, count, waiting, unseen, ever, copies)
    VALUES (new.queue, new.reason, 1, 1, 1, 1, new.copy)
    ON CONFLICT (queue, reason) DO UPDATE
    SET count = count + 1,
        waiting = waiting + 1,
        unseen = unseen + 1,
        ever = ever + 1,
        copies = copies + new.copy;
END
"""
REQUEUED_TRIGGER = """
CREATE TRIGGER dead_was_requeued AFTER UPDATE OF requeued ON dead
WHEN old.requeued IS NULL BEGIN
    UPDATE tally
    SET waiting = waiting - 1,
        unseen = unseen - (old.seen IS NULL),
        copies = copies - old.copy
    WHERE queue = new.queue AND reason = new.reason;
END
"""
SEEN_TRIGGER = """
CREATE TRIGGER dead_was_seen AFTER UPDATE OF seen ON dead
WHEN old.seen IS NULL AND old.requeued IS NULL BEGIN
    UPDATE tally SET unseen = unseen - 1
    WHERE queue = new.queue AND reason = new.reason;
END
"""
DELETED_TRIGGER = """
CREATE TRIGGER dead_was_deleted AFTER DELETE ON dead BEGIN
    UPDATE tally
    SET count = count - 1,
        waiting = waiting - (old.requeued IS NULL),
        unseen = unseen - (old.requeued IS NULL AND old.seen IS NULL),
        copies = copies - (old.copy AND old.requeued IS NULL)
    WHERE queue = old.queue AND reason = old.reason;
END
"""
# New in version 7.
NEW_TABLES = [
    f'CREATE TABLE minute ({SAMPLE_COLUMNS}) WITHOUT ROWID',
    'CREATE TABLE detail (queue INTEGER PRIMARY KEY, facts TEXT)',
    """
CREATE TABLE verdict (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL,
    script TEXT,
    who TEXT,
    place TEXT,
    text TEXT,
    exit_status INTEGER,
    command TEXT,
    books TEXT
)
""",
]
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

CREATE TABLE sample ({SAMPLE_COLUMNS}) WITHOUT ROWID;
{NEW_TABLES[0]};
{NEW_TABLES[1]};
{NEW_TABLES[2]};

CREATE TABLE bucket (
    period INTEGER,
    queue INTEGER,
    start INTEGER,
    {BUCKET_COLUMNS},
    PRIMARY KEY (period, start, queue)
) WITHOUT ROWID;

CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
    tag INTEGER,
    settled INTEGER DEFAULT 0,
    copy INTEGER DEFAULT 0,
    seen REAL,
    seen_by TEXT
);
{STORED_INDEX};
{UNSEEN_INDEX};
CREATE INDEX dead_queue ON dead (queue, id);
CREATE INDEX dead_requeued ON dead (requeued, id);
CREATE INDEX dead_unsettled ON dead (digest) WHERE NOT settled;

CREATE TABLE tally (
    queue TEXT,
    reason TEXT,
    count INTEGER,
    waiting INTEGER,
    ever INTEGER,
    copies INTEGER DEFAULT 0,
    unseen INTEGER DEFAULT 0,
    PRIMARY KEY (queue, reason)
) WITHOUT ROWID;
{INSERTED_TRIGGER};
{REQUEUED_TRIGGER};
{SEEN_TRIGGER};
{DELETED_TRIGGER};

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
# What makes the schema of the next version of that of an older one.
UPGRADES = {
    5: [
        'ALTER TABLE dead ADD COLUMN tag INTEGER',
        'ALTER TABLE dead ADD COLUMN copy INTEGER DEFAULT 0',
        'ALTER TABLE tally ADD COLUMN copies INTEGER DEFAULT 0',
        'ALTER TABLE bucket ADD COLUMN copies INTEGER DEFAULT 0',
    ],
    6: [
        'ALTER TABLE dead ADD COLUMN seen REAL',
        'ALTER TABLE dead ADD COLUMN seen_by TEXT',
        'ALTER TABLE tally ADD COLUMN unseen INTEGER DEFAULT 0',
        'UPDATE tally SET unseen = waiting',
        'DROP INDEX dead_stored',
        'DROP TRIGGER dead_was_inserted',
        'DROP TRIGGER dead_was_requeued',
        'DROP TRIGGER dead_was_deleted',
        STORED_INDEX,
        UNSEEN_INDEX,
        INSERTED_TRIGGER,
        REQUEUED_TRIGGER,
        SEEN_TRIGGER,
        DELETED_TRIGGER,
        *NEW_TABLES,
    ],
}


# ---- opening


def open_for_writing(path: str) -> Connection:
    """Open the history in the file `path`, which is created if it is missing.

    That of an older version is upgraded. ':memory:' is no file. Raises Failure.
    """
    with _sqlite_failures(path):
        _create(path)
        db = _connect(path)
        db.execute('PRAGMA journal_mode = WAL')
        # A dead letter is acknowledged once it is stored; power may fail then.
        db.execute('PRAGMA synchronous = FULL')
        if not _version(db):
            db.executescript(f'BEGIN IMMEDIATE; {SCHEMA} COMMIT;')
        while _version(db) in UPGRADES:
            _upgrade(db, path)
        return _of_our_version(db, path)


def _create(path: str) -> None:
    """Create an empty file, if there is none; SQLite gives its mode to -wal and -shm.

    A file that is there is not opened: to close it would release the locks that
    SQLite holds for this process, and another one would then remove the -wal.
    """
    if path != ':memory:':
        with contextlib.suppress(OSError):  # SQLite says what is wrong
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))


def _upgrade(db: Connection, path: str) -> None:
    """Upgrade the history of an older version by one."""
    with transaction(db):
        version = _version(db)
        for statement in UPGRADES.get(version, ()):  # another process may have been faster
            db.execute(statement)
        if version in UPGRADES:
            db.execute(f'PRAGMA user_version = {version + 1}')
    for file in (path, f'{path}-wal', f'{path}-shm'):
        with contextlib.suppress(OSError):  # older versions let all users read it
            os.chmod(file, OWNER_ONLY)


def open_for_reading(path: str) -> Connection:
    """Open the history in the file `path`, which may be written to meanwhile.

    That of an older version is upgraded. Raises Failure if there is none.
    """
    with _sqlite_failures(path):
        try:
            db = _connect(f'file:{quote(path)}?mode=ro', uri=True)
            if _version(db) in UPGRADES:
                open_for_writing(path).close()
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
        text = f'cannot open the history {path}: {printable(error)}; {remedy}'
        raise Failure(text, 3) from None
    except DAMAGE:
        raise damaged(path) from None
    except sqlite3.DatabaseError as error:
        if DAMAGED in str(error):
            raise damaged(path) from None
        text = f'{path} is not a history of monitor.py: {error}; see --history'
        raise Failure(text, 2) from None


def failure_of(error: BaseException, path: str) -> Failure:
    """Return the Failure that one of FAULTS means."""
    text = printable(error)
    if isinstance(error, DAMAGE) or DAMAGED in text:
        return damaged(path)
    remedy = 'see --history'
    if 'disk' in text:
        remedy = 'is the disk full?'
    return Failure(f'the history {path}: {text}; {remedy}', 3)


def damaged(path: str) -> Failure:
    """Return the Failure of a damaged history."""
    return Failure(f'the history {path} is damaged; restore a copy, or see --history', 3)


def _version(db: Connection) -> int:
    return db.execute('PRAGMA user_version').fetchone()['user_version']


def _of_our_version(db: Connection, path: str) -> Connection:
    version = _version(db)
    if version != VERSION:
        remedy = 'written by another version? use a fresh file, see --history'
        text = f'{path} is of version {version}, and this script of version {VERSION}'
        raise Failure(f'{text}; {remedy}', 2)
    return db


def is_free(path: str) -> bool:
    """Take the history as the only process that collects; return whether that was possible.

    It is ours until this process ends. The lock is on a file of its own, beside the
    history: who may read the history could lock that.
    """
    return path == ':memory:' or lock(f'{path}-lock')


def claim(
    db: Connection,
    path: str,
    place: str,
    others: Iterable[str] = (),
) -> None:
    """Note that the history is that of the broker at `place`, which was reached.

    Raises Failure if it is the history of another broker, at none of the `others`.
    """
    owner = get_fact(db, 'place')
    if owner is None:
        set_facts(db, place=place)
    elif owner not in (place, *others):
        text = f'{path} is the history of {owner}, not of {place}; see --history'
        raise Failure(text, 2)


def files(path: str) -> list[tuple[int, int]]:
    """Return what tells whether the files of a history are those of before."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for file in (path, f'{path}-wal'):
            status = os.stat(file)
            found.append((status.st_dev, status.st_ino))
    return found


def written(path: str) -> list[tuple[int, int, bool]]:
    """Return what is another one after somebody has written to a history.

    It is another one once more a moment later: what is written within one tick of the
    kernel has one time, so what was read at that time may be older.
    """
    found = []
    now = time.time_ns()
    with contextlib.suppress(FileNotFoundError):
        for file in (path, f'{path}-wal'):
            status = os.stat(file)
            is_new = now - status.st_mtime_ns < LONGEST_TICK_NS
            found.append((status.st_mtime_ns, status.st_size, is_new))
    return found


def lock(path: str) -> bool:
    """Lock a file until this process ends; return whether that was possible.

    The file is created if it is missing.
    """
    file = os.open(path, os.O_RDONLY | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
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
    outages: list[tuple[float, float]] | None  # the last ones: from, to


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
        outages=get_fact(db, 'outages'),
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


def count_into_buckets(
    db: Connection,
    queue: Row | None,
    at: float,
    **metrics: float,
) -> None:
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
    upsert = f'{insert} ON CONFLICT (period, start, queue) DO UPDATE SET {merged}'
    db.executemany(upsert, rows)


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
    reason); copies (so many of those may be copies); ready_high and unacked_high (the
    most at one time). With `queue` only the rows of that queue. With `total` those of
    all queues but siamese.dead together: queue is '', the highs are those of the fullest
    queue, and the UNROUTABLE are there too. Periods that begin before `since`, or not
    before `until`, are left out, and so are those without anything.
    """
    names = [*METRICS]
    queues = 'queue'
    if total:
        names += UNROUTABLE
        queues = f"(SELECT {ALL_QUEUES} AS id, '' AS name)"
    start = start_column(period)
    columns = ', '.join(map(summed, names))
    where = 'period = ? AND start >= ? AND start < ?'
    values: list[Any] = [stored_period(period), since, until or 1 << 40]
    if queue is not None:
        where += ' AND bucket.queue = (SELECT id FROM queue WHERE name = ?)'
        values.append(queue)
    return db.execute(
        f'SELECT {start} AS start, name AS queue, {columns}'
        f' FROM bucket CROSS JOIN {queues} ON bucket.queue = id'
        f' WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2',
        values,
    ).fetchall()


def stored_period(period: str) -> int:
    """Return the number of the period under which a period is stored: months make years."""
    stored = period
    if period == 'year':
        stored = 'month'
    return PERIODS.index(stored)


def start_column(period: str) -> str:
    """Return an expression of SQL: when the `period` of a bucket began."""
    if period == 'year':
        return "CAST(strftime('%s', start, 'unixepoch', 'start of year') AS INTEGER)"
    return 'start'


def summed(name: str) -> str:
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
        db.execute('DELETE FROM verdict WHERE at < ?', [before])
        last_seen = max(before, now - KEEP_CLIENTS_S)
        delete = "DELETE FROM client WHERE state = 'gone' AND last_seen < ?"
        db.execute(delete, [last_seen])
        # The months are kept for the longest.
        kept = f'SELECT queue FROM bucket WHERE period = {PERIODS.index("month")}'
        db.execute(f"DELETE FROM queue WHERE state = 'gone' AND id NOT IN ({kept})")
        db.execute('DELETE FROM detail WHERE queue NOT IN (SELECT id FROM queue)')
