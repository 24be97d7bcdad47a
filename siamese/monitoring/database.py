"""What happened on a virtual host: one SQLite file (WAL), written by monitor.py and read by whoever wants to know.

Functions over a sqlite3.Connection: open_for_writing() or open_for_reading(), then what is below, and what queues.py,
dead.py and clients.py have of their tables. Readers return plain dicts and lists. All times are seconds since 1970 as
float; hours, days and months begin in UTC; all counts are messages, all rates messages/s. Texts may hold whatever a
stranger wrote: escape them before they are shown.
"""

import calendar
import contextlib
import fcntl
import json
import os
import sqlite3
import time
from urllib.parse import quote

from common import Failure
from siamese.messaging.topology import DEAD_LETTER_QUEUE

DEFAULT_FILE = 'siamese.db'
VERSION = 3  # of the schema
PERIODS = ('hour', 'day', 'month', 'year')
COUNTED = ('published', 'delivered', 'acked', 'redelivered')  # by the broker, for each queue
ERRORS = ('expired', 'rejected', 'other')  # by us, for each dead letter
UNROUTABLE = ('returned', 'dropped')  # by the broker, for all queues together: no queue took these
FIGURES = (*COUNTED, *ERRORS, 'ready_high', 'unacked_high')  # of a bucket
RATES = ('publish_rate', 'deliver_rate', 'ack_rate')
GONE = 31 * 86400  # s
ALL = 0  # in place of the id of a queue: all of them but siamese.dead

SCHEMA = f"""
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE queue (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, type TEXT, state TEXT DEFAULT 'gone', seen REAL,
    ready INTEGER DEFAULT 0, unacked INTEGER DEFAULT 0, consumers INTEGER DEFAULT 0,
    oldest_since REAL, alone_since REAL, {', '.join(f'{rate} REAL DEFAULT 0' for rate in RATES)},
    {', '.join(f'{name} INTEGER DEFAULT 0, raw_{name} INTEGER DEFAULT 0' for name in COUNTED)});
CREATE INDEX queue_there ON queue (name) WHERE state <> 'gone';
CREATE TABLE sample (
    queue INTEGER, at REAL, ready INTEGER, unacked INTEGER, published INTEGER, delivered INTEGER, acked INTEGER,
    PRIMARY KEY (queue, at)) WITHOUT ROWID;
CREATE TABLE bucket (
    period INTEGER, queue INTEGER, start INTEGER,
    {', '.join(f'{name} INTEGER DEFAULT 0' for name in (*FIGURES, *UNROUTABLE))},
    PRIMARY KEY (period, start, queue)) WITHOUT ROWID;
CREATE TABLE dead (
    id INTEGER PRIMARY KEY, stored REAL, at REAL, queue TEXT, reason TEXT, exchange TEXT, routing_key TEXT, sender TEXT,
    message_id TEXT, size INTEGER, properties TEXT, requeued REAL, body BLOB, encoded BLOB,
    digest BLOB, session TEXT, delivered REAL, settled INTEGER DEFAULT 0);
CREATE INDEX dead_stored ON dead (stored, requeued, queue, reason);
CREATE INDEX dead_queue ON dead (queue, id);
CREATE INDEX dead_requeued ON dead (requeued, id);
CREATE INDEX dead_unsettled ON dead (digest) WHERE NOT settled;
CREATE TABLE tally (
    queue TEXT, reason TEXT, count INTEGER, waiting INTEGER, ever INTEGER, PRIMARY KEY (queue, reason)) WITHOUT ROWID;
CREATE TRIGGER dead_came AFTER INSERT ON dead BEGIN
    INSERT INTO tally VALUES (new.queue, new.reason, 1, 1, 1)
    ON CONFLICT DO UPDATE SET count = count + 1, waiting = waiting + 1, ever = ever + 1;
END;
CREATE TRIGGER dead_went_back AFTER UPDATE OF requeued ON dead WHEN old.requeued IS NULL BEGIN
    UPDATE tally SET waiting = waiting - 1 WHERE queue = new.queue AND reason = new.reason;
END;
CREATE TRIGGER dead_is_over AFTER DELETE ON dead BEGIN
    UPDATE tally SET count = count - 1, waiting = waiting - (old.requeued IS NULL)
    WHERE queue = old.queue AND reason = old.reason;
END;
CREATE TABLE client (
    name TEXT, user TEXT, does TEXT DEFAULT '', state TEXT, since REAL, first_seen REAL, last_seen REAL,
    interruptions INTEGER DEFAULT 0, last_interruption REAL, back REAL,
    sent INTEGER DEFAULT 0, sent_at REAL, received INTEGER DEFAULT 0, received_at REAL,
    connections TEXT DEFAULT '{{}}', PRIMARY KEY (name, user)) WITHOUT ROWID;
CREATE INDEX client_connected ON client (name, user) WHERE connections <> '{{}}';
CREATE INDEX client_back ON client (back);
PRAGMA user_version = {VERSION};
"""


# ------------------------------------------------------------------------------------------------ opening


def open_for_writing(path):
    """Open the history in the file `path` (':memory:' for none), and make it if it is not there; raise Failure."""
    with _understood(path):
        db = _connect(path)
        db.execute('PRAGMA journal_mode = WAL')
        db.execute(
            'PRAGMA synchronous = FULL'
        )  # a dead letter is acknowledged once it is stored; power may fail then
        if not db.execute('PRAGMA user_version').fetchone()['user_version']:
            db.executescript(f'BEGIN IMMEDIATE; {SCHEMA} COMMIT;')
        return _of_our_version(db, path)


def open_for_reading(path):
    """Open the history in the file `path`, which may be written to meanwhile; raise Failure if there is none."""
    with _understood(path):
        try:
            return _of_our_version(_connect(f'file:{quote(path)}?mode=ro', uri=True), path)
        except sqlite3.OperationalError:
            if not os.path.exists(path) or os.path.exists(f'{path}-wal'):
                raise
            # Nobody writes it, and we may not: SQLite would have to make files beside it.
            return _of_our_version(_connect(f'file:{quote(path)}?immutable=1', uri=True), path)


def _connect(path, **kind):
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False, **kind)
    db.create_function(
        'lower', 1, str.lower, deterministic=True
    )  # SQLite's own knows the capitals of ASCII only
    db.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row)
    }
    return db


def take_ownership(db, path, place):
    """Take the history for the broker at `place`, as the only one who collects until this process ends; raise Failure.

    Return whether that was possible: another process may have it.
    """
    if get_fact(db, 'place', place) != place:
        raise Failure(
            f'{path} is the history of {get_fact(db, "place")}, not of {place}; see --history', 2
        )
    if path != ':memory:' and not lock(path):
        return False
    set_facts(db, place=place)
    return True


def lock(path):
    """Lock a file, made if it is not there, until this process ends; return whether that was possible."""
    file = os.open(
        path, os.O_RDONLY | os.O_CREAT, 0o644
    )  # never closed: that would take SQLite's own locks away
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _understood(path):
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Failure(
            f'cannot open the history {path}: {error}; monitor.py writes it, see --history', 3
        ) from None
    except sqlite3.DatabaseError as error:
        raise Failure(f'{path} is no history of monitor.py: {error}; see --history', 2) from None


def _of_our_version(db, path):
    version = db.execute('PRAGMA user_version').fetchone()['user_version']
    if version != VERSION:
        raise Failure(
            f'{path} is of version {version}, and this script of version {VERSION}; see --history',
            2,
        )
    return db


@contextlib.contextmanager
def transaction(db):
    """Do the with-block at once or not at all; other processes write before or after it. They may be nested."""
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


# ---------------------------------------------------------------------------------------- facts of the broker


def set_facts(db, **facts):
    """Store facts by their name; the values are what JSON can hold."""
    with transaction(db):
        db.executemany(
            'REPLACE INTO fact VALUES (?, ?)',
            [(name, json.dumps(value)) for name, value in facts.items()],
        )


def get_fact(db, name, default=None):
    """Return a fact that was noted."""
    row = db.execute('SELECT value FROM fact WHERE name = ?', [name]).fetchone()
    return json.loads(row['value']) if row else default


def broker(db):
    """Return what is known of the broker as a dict, with None for what is not.

    state: 'up', 'away', or None before the first look; since: when that began; place: 'host:port/vhost'; product and
    version: 'RabbitMQ', '3.10.8'; nodes: [{'name', 'running', 'alarms': ['memory', 'disk'], 'uptime' in s}];
    alarms: {str: since when}, e.g. 'memory alarm on rabbit@host'; missing: [str], what the broker lacks and what that
    costs; collected: when figures were collected last; monitor: {'name', 'seen': when it last wrote, 'interval' in s}.
    """
    names = (
        'state',
        'since',
        'place',
        'product',
        'version',
        'nodes',
        'alarms',
        'missing',
        'collected',
        'monitor',
    )
    return {name: get_fact(db, name) for name in names}


def upsert(db, table, row):
    """Store a row, a dict, in place of the one with the same key."""
    names = ', '.join(row)
    db.execute(
        f'REPLACE INTO {table} ({names}) VALUES ({", ".join(f":{name}" for name in row)})', row
    )


# ------------------------------------------------------------------------------------------------ buckets


def row_of(db, name):
    """Return the row of a queue, made if it is new."""
    db.execute('INSERT OR IGNORE INTO queue (name) VALUES (?)', [name])
    return db.execute('SELECT * FROM queue WHERE name = ?', [name]).fetchone()


def start_of(period, at):
    """Return when the hour, day, month or year (one of PERIODS) began that holds the time `at`, as an int."""
    year, month, day, hour, *_ = time.gmtime(at)
    parts = {
        'hour': (year, month, day, hour),
        'day': (year, month, day, 0),
        'month': (year, month, 1, 0),
        'year': (year, 1, 1, 0),
    }[period]
    return calendar.timegm((*parts, 0, 0))


def count_into_buckets(db, queue, at, **figures):
    """Add figures to the buckets of a queue (None: of all of them only), and of all, that hold the time `at`; of the
    highs the higher stays."""
    ids = (
        [ALL]
        if queue is None
        else [queue['id'], *([] if queue['name'] == DEAD_LETTER_QUEUE else [ALL])]
    )
    merged = ', '.join(
        f'{name} = max({name}, excluded.{name})'
        if name.endswith('_high')
        else f'{name} = {name} + excluded.{name}'
        for name in figures
    )
    db.executemany(
        f'INSERT INTO bucket (period, queue, start, {", ".join(figures)}) VALUES (?, ?, ?'
        f'{", ?" * len(figures)}) ON CONFLICT DO UPDATE SET {merged}',
        [
            (number, id, start_of(period, at), *figures.values())
            for id in ids
            for number, period in enumerate(PERIODS[:3])
        ],
    )


def report(db, period, queue=None, since=0, until=None, total=False):
    """Return the history by `period` (one of PERIODS) as a list of dicts, by time and queue.

    start: when the period began; queue: its name; and the FIGURES: published, delivered, acked, redelivered, expired,
    rejected, other (dead letters by reason), ready_high and unacked_high (the most at one time). With `queue` it is of
    that queue only, with `total` of all queues but siamese.dead together (queue is '', the highs are those of the
    fullest queue), and also has the UNROUTABLE: returned to who sent them, or dropped. Periods that begin before
    `since`, or not before `until`, are left out, and those in which nothing was.
    """
    stored = 'month' if period == 'year' else period
    start = (
        "CAST(strftime('%s', start, 'unixepoch', 'start of year') AS INTEGER)"
        if period == 'year'
        else 'start'
    )
    figures = ', '.join(
        f'{"max" if name.endswith("_high") else "sum"}(bucket.{name}) AS {name}'
        for name in (*FIGURES, *(UNROUTABLE if total else ()))
    )
    queues = f"(SELECT {ALL} AS id, '' AS name)" if total else 'queue'
    only = 'AND bucket.queue = (SELECT id FROM queue WHERE name = ?)' if queue is not None else ''
    return db.execute(
        f'SELECT {start} AS start, name AS queue, {figures} FROM bucket CROSS JOIN {queues} ON bucket.queue = id '
        f'WHERE period = ? AND start >= ? AND start < ? {only} GROUP BY 1, 2 ORDER BY 1, 2',
        [PERIODS.index(stored), since, until or 1 << 40, *([queue] if only else [])],
    ).fetchall()


def forget(db, before, now):
    """Delete what ended before a time: buckets, dead letters, clients and queues that are gone.

    A client that is gone is forgotten after GONE s already: without a name of its own each run is another one.
    """
    with transaction(db):
        for number, period in enumerate(PERIODS[:3]):
            db.execute(
                'DELETE FROM bucket WHERE period = ? AND start < ?',
                [number, start_of(period, before)],
            )
        db.execute('DELETE FROM dead WHERE stored < ?', [before])
        db.execute(
            "DELETE FROM client WHERE state = 'gone' AND last_seen < ?", [max(before, now - GONE)]
        )
        months = f'SELECT queue FROM bucket WHERE period = {PERIODS.index("month")}'  # kept for the longest
        db.execute(f"DELETE FROM queue WHERE state = 'gone' AND id NOT IN ({months})")
