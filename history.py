"""What happened on a virtual host: one SQLite file (WAL), written by monitor.py and read by whoever wants to know.

Functions over a sqlite3.Connection: open_for_writing() or open_for_reading(), then what is below. Readers return plain
dicts and lists. All times are seconds since 1970 as float; hours, days and months begin in UTC; all counts are
messages, all rates messages/s. Texts may hold whatever a stranger wrote: escape them before they are shown.
"""

import calendar
import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import time
from urllib.parse import quote

from common import DEAD_LETTER_QUEUE, Failure

DEFAULT_FILE = 'siamese.db'
VERSION = 1  # of the schema
PERIODS = ('hour', 'day', 'month', 'year')
COUNTED = ('published', 'delivered', 'acked', 'redelivered')  # by the broker, for each queue
ERRORS = ('expired', 'rejected', 'other')  # by us, for each dead letter
FIGURES = (*COUNTED, *ERRORS, 'ready_high', 'unacked_high')  # of a bucket
RATES = ('publish_rate', 'deliver_rate', 'ack_rate')
ALL = 0  # in place of the id of a queue: all of them but siamese.dead
SMOOTH = 15  # s over which rates are taken; the broker brings its counters up to date every 5 s, or less often
RECENT = 900  # s for which samples are kept
UNSETTLED = 60  # s after which the broker has an acknowledgement, if the connection is still the same
AWAY = 60  # s without a collection, in which a node may have started anew and been up for longer than before
RESTARTED = 15  # s by which its start, reckoned from its uptime, then differs

SCHEMA = f"""
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE queue (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, type TEXT, state TEXT DEFAULT 'gone', seen REAL,
    ready INTEGER DEFAULT 0, unacked INTEGER DEFAULT 0, consumers INTEGER DEFAULT 0,
    oldest_since REAL, alone_since REAL, {', '.join(f'{rate} REAL DEFAULT 0' for rate in RATES)},
    {', '.join(f'{name} INTEGER DEFAULT 0, raw_{name} INTEGER DEFAULT 0' for name in COUNTED)});
CREATE TABLE sample (
    queue INTEGER, at REAL, ready INTEGER, unacked INTEGER, published INTEGER, delivered INTEGER, acked INTEGER,
    PRIMARY KEY (queue, at)) WITHOUT ROWID;
CREATE TABLE bucket (
    period INTEGER, queue INTEGER, start INTEGER, {', '.join(f'{name} INTEGER DEFAULT 0' for name in FIGURES)},
    PRIMARY KEY (period, queue, start)) WITHOUT ROWID;
CREATE TABLE dead (
    id INTEGER PRIMARY KEY, stored REAL, at REAL, queue TEXT, reason TEXT, exchange TEXT, routing_key TEXT, sender TEXT,
    message_id TEXT, size INTEGER, properties TEXT, requeued REAL, body BLOB, encoded BLOB,
    digest BLOB, session TEXT, delivered REAL, settled INTEGER DEFAULT 0);
CREATE INDEX dead_stored ON dead (stored);
CREATE INDEX dead_queue ON dead (queue, id);
CREATE INDEX dead_unsettled ON dead (digest) WHERE NOT settled;
CREATE TABLE client (
    name TEXT, user TEXT, does TEXT DEFAULT '', state TEXT, since REAL, first_seen REAL, last_seen REAL,
    interruptions INTEGER DEFAULT 0, last_interruption REAL, back REAL,
    sent INTEGER DEFAULT 0, received INTEGER DEFAULT 0,
    connections TEXT DEFAULT '{{}}', PRIMARY KEY (name, user)) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


# ------------------------------------------------------------------------------------------------ opening

def open_for_writing(path):
    """Open the history in the file `path` (':memory:' for none), and make it if it is not there; raise Failure."""
    with _understood(path):
        db = _connect(path)
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('PRAGMA synchronous = FULL')  # a dead letter is acknowledged once it is stored; power may fail then
        if not db.execute('PRAGMA user_version').fetchone()['user_version']:
            db.executescript(f'BEGIN IMMEDIATE; {SCHEMA} COMMIT;')
        return _of_our_version(db, path)


def open_for_reading(path):
    """Open the history in the file `path`, which may be written to meanwhile; raise Failure if there is none."""
    with _understood(path):
        return _of_our_version(_connect(f'file:{quote(path)}?mode=ro', uri=True), path)


def _connect(path, **kind):
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False, **kind)
    db.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row)}
    return db


def own(db, path, place):
    """Take the history for the broker at `place`, as the only one who collects until this process ends; raise Failure.

    Return whether that was possible: another process may have it.
    """
    if fact(db, 'place', place) != place:
        raise Failure(f'{path} is the history of {fact(db, "place")}, not of {place}; see --history', 2)
    if path != ':memory:':
        file = os.open(path, os.O_RDONLY)  # never closed: that would take SQLite's own locks away
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    note(db, place=place)
    return True


@contextlib.contextmanager
def _understood(path):
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Failure(f'cannot open the history {path}: {error}; monitor.py writes it, see --history', 3) from None
    except sqlite3.DatabaseError as error:
        raise Failure(f'{path} is no history of monitor.py: {error}; see --history', 2) from None


def _of_our_version(db, path):
    version = db.execute('PRAGMA user_version').fetchone()['user_version']
    if version != VERSION:
        raise Failure(f'{path} is of version {version}, and this script of version {VERSION}; see --history', 2)
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

def note(db, **facts):
    """Store facts by their name; the values are what JSON can hold."""
    with transaction(db):
        db.executemany('REPLACE INTO fact VALUES (?, ?)', [(name, json.dumps(value)) for name, value in facts.items()])


def fact(db, name, default=None):
    """Return a fact that was noted."""
    row = db.execute('SELECT value FROM fact WHERE name = ?', [name]).fetchone()
    return json.loads(row['value']) if row else default


def broker(db):
    """Return what is known of the broker as a dict, with None for what is not.

    state: 'up', 'away', or None before the first look; since: when that began; place: 'host:port/vhost'; product and
    version: 'RabbitMQ', '3.10.8'; nodes: [{'name', 'running', 'alarms': ['memory', 'disk'], 'uptime' in s}];
    alarms: [str], e.g. 'memory alarm on rabbit@host'; missing: [str], what the broker lacks and what that costs;
    collected: when figures were collected last; monitor: {'name', 'seen': when it last wrote, 'interval' in s}.
    """
    names = ('state', 'since', 'place', 'product', 'version', 'nodes', 'alarms', 'missing', 'collected', 'monitor')
    return {name: fact(db, name) for name in names}


# ------------------------------------------------------------------------------------------------ queues

def grown(old, new, restarted=False, several=False):
    """Return how many messages a counter of the broker has counted since it stood at `old`, now that it is at `new`.

    A counter begins at 0 again when its node was `restarted` or its queue declared anew. With `several` nodes, each of
    which counts a part, a counter that sinks lost a part of unknown size: then nothing is counted, and never too much.
    """
    if several:
        return max(0, new - old)
    return new - old if new >= old and not restarted else new


def collect(db, at, queues, uptime=None, process=None):
    """Store the figures of all queues at the time `at`: what they count since the last time goes into the buckets.

    `queues` are dicts with name, type, state, ready, unacked, consumers, the RATES, and the COUNTED as the broker
    counts them since its start (None where it does not tell). `uptime` is that of its only node in s, None if there
    are several, and `process` tells that node from one that started later. What the broker counted before the first
    call is left out.
    """
    with transaction(db):
        last, before = fact(db, 'collected'), fact(db, 'uptime')
        restarted = bool(uptime and before and (
            uptime < before or process != fact(db, 'process')
            or (at - last > AWAY and abs((at - uptime) - (last - before)) > RESTARTED)))
        known = {row['name']: row for row in db.execute('SELECT * FROM queue')}
        for queue in queues:
            row = known.pop(queue['name'], None) or _queue(db, queue['name'])
            figures = {}
            for name in COUNTED:
                raw = row[f'raw_{name}'] if queue[name] is None and not restarted else queue[name] or 0
                figures[name] = 0 if last is None else grown(row[f'raw_{name}'], raw, restarted, uptime is None)
                row[f'raw_{name}'] = raw
                row[name] += figures[name]
            row.update({key: value for key, value in queue.items() if key not in COUNTED}, seen=at)
            row.update(_rates(db, row, at))
            row['oldest_since'] = _oldest(db, row, at)
            row['alone_since'] = (row['alone_since'] or at) if row['ready'] and not row['consumers'] else None
            _store('queue', db, row)
            db.execute('INSERT OR REPLACE INTO sample VALUES (:id, :seen, :ready, :unacked, :published, :delivered, '
                       ':acked)', row)
            db.execute('DELETE FROM sample WHERE queue = ? AND at < ?', [row['id'], at - RECENT])
            if any(figures.values()) or row['ready'] or row['unacked']:
                _add(db, row, at, ready_high=row['ready'], unacked_high=row['unacked'], **figures)
        for row in known.values():
            if row['state'] != 'gone':
                row.update(dict.fromkeys(['ready', 'unacked', 'consumers', *RATES, *(f'raw_{c}' for c in COUNTED)], 0),
                           state='gone', oldest_since=None, alone_since=None)
                _store('queue', db, row)
                db.execute('DELETE FROM sample WHERE queue = ?', [row['id']])
        note(db, collected=at, uptime=uptime, process=process)


def _queue(db, name):
    db.execute('INSERT OR IGNORE INTO queue (name) VALUES (?)', [name])
    return db.execute('SELECT * FROM queue WHERE name = ?', [name]).fetchone()


def _store(table, db, row):
    names = ', '.join(row)
    db.execute(f'REPLACE INTO {table} ({names}) VALUES ({", ".join(f":{name}" for name in row)})', row)


def _rates(db, row, at):
    """Return the RATES of a queue since the first sample of the last SMOOTH s; {} if there is none: the broker's hold.

    The broker's own are often 0 between two updates of its counters (RabbitMQ 3.10.8).
    """
    then = db.execute('SELECT at, published, delivered, acked FROM sample WHERE queue = ? AND at >= ? AND at < ? '
                      'ORDER BY at LIMIT 1', [row['id'], at - SMOOTH - 1, at]).fetchone()
    return {rate: (row[name] - then[name]) / (at - then['at']) for rate, name in zip(RATES, COUNTED)} if then else {}


def _oldest(db, row, at):
    """Return since when the oldest message waits: the latest sample by which no more was published than has left since.

    Queues are first in, first out. Before the samples begin it is as it was, and for a queue never seen it is now.
    """
    waiting = row['ready'] + row['unacked']
    if not waiting:
        return None
    found = db.execute('SELECT max(at) AS at FROM sample WHERE queue = ? AND published <= ?',
                       [row['id'], row['published'] - waiting]).fetchone()['at']
    return found or row['oldest_since'] or at


def start_of(period, at):
    """Return when the hour, day, month or year (one of PERIODS) began that holds the time `at`, as an int."""
    year, month, day, hour, *_ = time.gmtime(at)
    parts = {'hour': (year, month, day, hour), 'day': (year, month, day, 0), 'month': (year, month, 1, 0),
             'year': (year, 1, 1, 0)}[period]
    return calendar.timegm((*parts, 0, 0))


def _add(db, queue, at, **figures):
    """Add figures to the buckets of a queue, and of all, that hold the time `at`; of the highs the higher stays."""
    merged = ', '.join(f'{name} = max({name}, excluded.{name})' if name.endswith('_high') else
                       f'{name} = {name} + excluded.{name}' for name in figures)
    db.executemany(f'INSERT INTO bucket (period, queue, start, {", ".join(figures)}) VALUES (?, ?, ?'
                   f'{", ?" * len(figures)}) ON CONFLICT DO UPDATE SET {merged}',
                   [(number, id, start_of(period, at), *figures.values())
                    for id in (queue['id'], *([] if queue['name'] == DEAD_LETTER_QUEUE else [ALL]))
                    for number, period in enumerate(PERIODS[:3])])


def queues(db, gone=False):
    """Return the queues as a list of dicts by name; with `gone` also those that are no longer there.

    name; type 'classic', 'quorum' or 'stream'; state 'running', 'gone' ...; seen: when it was collected last; ready,
    unacked, consumers now; oldest_since: since when its oldest message waits, None if it is empty (to within a
    collection for the last quarter of an hour, before that at the latest since then); alone_since: since when it has
    had messages and no consumer, or None; publish_rate, deliver_rate, ack_rate; published, delivered, acked,
    redelivered: totals since this history began.
    """
    names = ('name, type, state, seen, ready, unacked, consumers, oldest_since, alone_since, '
             + ', '.join((*RATES, *COUNTED)))
    return db.execute(f"SELECT {names} FROM queue WHERE state <> 'gone' OR ? ORDER BY name", [gone]).fetchall()


def samples(db, queue=None, since=0):
    """Return {queue: [(at, ready, unacked, published/s, delivered/s, acked/s)]}, oldest first, of the last 15 minutes.

    Each queue has as many as there were collections after `since`, but for its first; `queue` asks for one only. For
    rates and sparklines.
    """
    found, before, cursor = {}, None, db.cursor()
    cursor.row_factory = None
    for row in cursor.execute(
            'SELECT name, at, sample.ready, sample.unacked, sample.published, sample.delivered, sample.acked FROM queue'
            ' CROSS JOIN sample ON sample.queue = queue.id AND at > ? WHERE ? IS NULL OR name = ? ORDER BY name, at',
            [since, queue, queue]):
        if before and before[0] == row[0]:
            took = row[1] - before[1]
            rates = (round((new - old) / took, 3) for old, new in zip(before[4:], row[4:]))
            found.setdefault(row[0], []).append((*row[1:4], *rates))
        before = row
    return found


def report(db, period, queue=None, since=0, until=None, total=False):
    """Return the history by `period` (one of PERIODS) as a list of dicts, by time and queue.

    start: when the period began; queue: its name; and the FIGURES: published, delivered, acked, redelivered, expired,
    rejected, other (dead letters by reason), ready_high and unacked_high (the most at one time). With `queue` it is of
    that queue only, with `total` of all queues but siamese.dead together (queue is '', the highs are those of the
    fullest queue). Periods that begin before `since`, or not before `until`, are left out, and those in which nothing
    was.
    """
    stored = 'month' if period == 'year' else period
    start = "CAST(strftime('%s', start, 'unixepoch', 'start of year') AS INTEGER)" if period == 'year' else 'start'
    figures = ', '.join(f'{"max" if name.endswith("_high") else "sum"}(bucket.{name}) AS {name}' for name in FIGURES)
    queues = f"(SELECT {ALL} AS id, '' AS name)" if total else 'queue'
    return db.execute(
        f'SELECT {start} AS start, name AS queue, {figures} FROM {queues} CROSS JOIN bucket '
        f'ON period = ? AND bucket.queue = id AND start >= ? AND start < ? WHERE ? IS NULL OR name = ? '
        f'GROUP BY 1, 2 ORDER BY 1, 2',
        [PERIODS.index(stored), since, until or 1 << 40, queue, queue]).fetchall()


# ------------------------------------------------------------------------------------------- dead letters

def store_dead(db, letters, session, now):
    """Store dead letters before they are acknowledged; return how many are new, and not delivered once again.

    `letters` are dicts with at (of its death), queue, reason, exchange, routing_key, sender, message_id, body, encoded
    (its properties as bytes), properties (as a dict that JSON can hold), and redelivered. `session` names the channel:
    what another one stored may not be acknowledged, and then comes again.
    """
    new = 0
    with transaction(db):
        for letter in letters:
            facts = [letter[name] for name in ('at', 'queue', 'reason', 'exchange', 'routing_key', 'message_id')]
            digest = hashlib.sha256(json.dumps(facts).encode() + letter['body']).digest()
            same = (letter['redelivered'] or letter['message_id']) and db.execute(
                'SELECT id FROM dead WHERE digest = ? AND NOT settled AND session <> ?', [digest, session]).fetchone()
            if same:
                db.execute('UPDATE dead SET session = ?, delivered = ? WHERE id = ?', [session, now, same['id']])
                continue
            new += 1
            row = {key: value for key, value in letter.items() if key != 'redelivered'}
            _store('dead', db, {**row, 'size': len(letter['body']), 'properties': json.dumps(letter['properties']),
                                'digest': digest, 'session': session, 'stored': now, 'delivered': now})
            error = letter['reason'] if letter['reason'] in ERRORS else 'other'
            _add(db, _queue(db, letter['queue']), letter['at'], **{error: 1})
    return new


def settle(db, session, before):
    """Note that what `session` was delivered before a time is acknowledged: it will not come again."""
    db.execute('UPDATE dead SET settled = 1 WHERE NOT settled AND session = ? AND delivered < ?', [session, before])


def dead_letters(db, queue=None, reason=None, sender=None, since=None, requeued=None, search=None, limit=50, offset=0):
    """Return (dead letters, how many there are in all): the latest first, `limit` of them after the first `offset`.

    A dead letter is a dict: id; at: when it died; stored: when monitor.py got it; queue it died in; reason 'expired',
    'rejected', 'maxlen', 'delivery_limit' or 'unknown'; exchange and routing_key it was published with; sender (its
    app_id or user_id, or ''); message_id ('' if it has none); size of the body in bytes; properties: a dict, with
    headers as a dict in it; requeued: when it was sent back, or None. The body is in dead_letter() only.
    Only those of a queue, a reason, a sender, stored after `since`, `requeued` (True) or not (False), or with the text
    `search` in queue, sender, message_id or routing_key.
    """
    wanted = {'queue = ?': queue, 'reason = ?': reason, 'sender = ?': sender, 'stored > ?': since,
              'requeued IS NOT NULL = ?': requeued}
    where, values = [part for part, value in wanted.items() if value is not None], [
        value for value in wanted.values() if value is not None]
    if search:
        where.append("instr(queue || ' ' || sender || ' ' || message_id || ' ' || routing_key, ?)")
        values.append(search)
    tail = f'FROM dead {"WHERE " + " AND ".join(where) if where else ""}'
    count = db.execute(f'SELECT count(*) AS count {tail}', values).fetchone()['count']
    rows = db.execute(f'SELECT {LETTER} {tail} ORDER BY id DESC LIMIT ? OFFSET ?', [*values, limit, offset])
    return [{**row, 'properties': json.loads(row['properties'])} for row in rows], count


LETTER = 'id, at, stored, queue, reason, exchange, routing_key, sender, message_id, size, properties, requeued'


def dead_letter(db, id):
    """Return one dead letter as dead_letters() does, with body (bytes) and encoded (properties as bytes), or None."""
    row = db.execute(f'SELECT {LETTER}, body, encoded FROM dead WHERE id = ?', [id]).fetchone()
    return row and {**row, 'properties': json.loads(row['properties'])}


def dead_by_queue(db, since=0, requeued=None):
    """Return [{'queue', 'reason', 'count', 'stored': when the latest was}] of the letters stored after `since`."""
    only = '' if requeued is None else f'AND requeued IS {"NOT " if requeued else ""}NULL'
    return db.execute('SELECT queue, reason, count(*) AS count, max(stored) AS stored FROM dead '
                      f'WHERE stored > ? {only} GROUP BY queue, reason ORDER BY queue, reason', [since]).fetchall()


def dead_ids(db, which):
    """Return the ids of the dead letters not yet sent back, oldest first: of a queue, 'all', or one ('#17')."""
    where, values = (('1', []) if which == 'all' else ('id = ?', [int(which[1:])])
                     if which[:1] == '#' and which[1:].isdigit() else ('queue = ?', [which]))
    return [row['id'] for row in db.execute(f'SELECT id FROM dead WHERE requeued IS NULL AND {where} ORDER BY id',
                                            values)]


def mark_requeued(db, ids, at):
    """Note that dead letters were sent back, and that the broker has confirmed them."""
    db.executemany('UPDATE dead SET requeued = ? WHERE id = ?', [(at, id) for id in ids])


# ------------------------------------------------------------------------------------------------ clients

def see_clients(db, at, present, patience=0):
    """Store which clients there are at the time `at`.

    `present` is {(name, user): {'does': str, 'state': str, 'connections': {id: (sent, received)}}}, of all of them;
    sent and received are counted since the connection began. A connection that is not among them is gone, unless it was
    seen for the first time less than `patience` seconds ago.
    """
    with transaction(db):
        known = {(row['name'], row['user']): row for row in db.execute('SELECT * FROM client')}
        for key in {*present, *(key for key, row in known.items() if row['connections'] != '{}')}:
            row = known.get(key) or _client(db, at, *key)
            before, there = json.loads(row['connections']), present.get(key, {'connections': {}})
            now = {id: [before.get(id, [at])[0], *counts] for id, counts in there['connections'].items()}
            now.update({id: was for id, was in before.items() if id not in now and at - was[0] < patience})
            _change(row, before, now, at)
            grew = [sum(grown(before.get(id, [0, 0, 0])[n], counts[n]) for id, counts in now.items()) for n in (1, 2)]
            row['sent'], row['received'] = row['sent'] + grew[0], row['received'] + grew[1]
            moved = [word for n, word in ((1, 'sends'), (2, 'receives'))
                     if any(counts[n] > before.get(id, counts)[n] for id, counts in now.items())]
            if now:
                state = there.get('state', row['state'])
                _turn(row, ' and '.join(moved) if moved and state == 'idle' else state, at)
                row.update(does=there.get('does', row['does']), last_seen=at)
            _store('client', db, row)


def client_came(db, at, name, user, id):
    """Store that a client has opened the connection `id`."""
    with transaction(db):
        row = (db.execute('SELECT * FROM client WHERE name = ? AND user = ?', [name, user]).fetchone()
               or _client(db, at, name, user))
        before = json.loads(row['connections'])
        _change(row, before, {**before, id: before.get(id, [at, 0, 0])}, at)
        _store('client', db, {**row, 'last_seen': at})


def client_went(db, at, id):
    """Store that the connection `id` is closed."""
    with transaction(db):
        for row in db.execute("SELECT * FROM client WHERE connections <> '{}'").fetchall():
            before = json.loads(row['connections'])
            if id in before:
                row['last_seen'] = at
                _change(row, before, {key: value for key, value in before.items() if key != id}, at)
                _store('client', db, row)


def _client(db, at, name, user):
    db.execute("INSERT INTO client (name, user, state, since, first_seen, last_seen) VALUES (?, ?, 'new', ?, ?, ?)",
               [name, user, at, at, at])
    return db.execute('SELECT * FROM client WHERE name = ? AND user = ?', [name, user]).fetchone()


def _change(row, before, now, at):
    """Note in a client's row that its connections were `before`, and are `now`."""
    left = set(before) - set(now)  # the API names a connection for a while after its successor has come
    if now and (row['state'] == 'gone' or any(now[id][0] > before[old][0] for id in now for old in left)):
        row['interruptions'] += 1
        row['last_interruption'], row['back'] = row['since'] if row['state'] == 'gone' else row['last_seen'], at
    if now and row['state'] in ('gone', 'new'):
        _turn(row, 'idle', at)
    elif not now:
        _turn(row, 'gone', at)
    row['connections'] = json.dumps(now)


def _turn(row, state, at):
    if row['state'] != state:
        row['state'], row['since'] = state, at


def clients(db):
    """Return the clients as a list of dicts by name: producers, consumers, and whoever else has a connection.

    name: the connection_name it gives, else its address; user; does: what it is there for, 'receives siamese.blocks'
    say; state: 'sends', 'receives', 'sends and receives', 'idle', 'blocked' by the broker, or 'gone'; since: when that
    state began; first_seen, last_seen; sent, received: messages, as far as collected; interruptions: how often it was
    gone and came back under its name; last_interruption: when the last one began, and back: when it was back (None if
    there was none).
    """
    return db.execute('SELECT name, user, does, state, since, first_seen, last_seen, interruptions, last_interruption, '
                      'back, sent, received FROM client ORDER BY name, user').fetchall()


# ------------------------------------------------------------------------------------- what is wrong; the end

def warnings(db, unread_after, since, now=None):
    """Return what a person should look at as [{'kind', 'name', 'began', 'text'}]; the text is one line for people.

    kind: 'broker' (away), 'alarm', 'unread' (a queue without consumer whose oldest message waits `unread_after` s or
    longer), 'dead' (dead letters stored after the time `since` and not sent back), 'interrupted' (a client that came
    back after `since`). name: of the queue or client, else ''. began: since when it is worth a warning.
    """
    now, known, found = now or time.time(), broker(db), []

    def warn(kind, name, began, text):
        found.append({'kind': kind, 'name': name, 'began': began, 'text': text})

    if known['state'] == 'away':
        warn('broker', '', known['since'], f'the broker has been away for {now - known["since"]:.0f} s')
    for text in known['alarms'] or []:
        warn('alarm', '', now, text)
    for row in queues(db):
        if row['alone_since'] and now - row['oldest_since'] >= unread_after:
            warn('unread', row['name'], max(row['alone_since'], row['oldest_since'] + unread_after),
                 f'{row["name"]}: {row["ready"]} messages and no consumer, the oldest waits '
                 f'{now - row["oldest_since"]:.0f} s')
    for row in dead_by_queue(db, since, requeued=False):
        warn('dead', row['queue'], row['stored'], f'{row["queue"] or "queue unknown"}: {row["count"]} dead letters, '
                                                  f'{row["reason"]}')
    for row in clients(db):
        if (row['back'] or 0) > since:
            warn('interrupted', row['name'], row['back'],
                 f'{row["name"]}: was away for {row["back"] - row["last_interruption"]:.0f} s, and is back')
    return found


def forget(db, before):
    """Delete what ended before a time: buckets, dead letters, clients and queues that are gone."""
    with transaction(db):
        for number, period in enumerate(PERIODS[:3]):
            db.execute('DELETE FROM bucket WHERE period = ? AND start < ?', [number, start_of(period, before)])
        db.execute('DELETE FROM dead WHERE stored < ?', [before])
        db.execute("DELETE FROM client WHERE state = 'gone' AND last_seen < ?", [before])
        db.execute("DELETE FROM queue WHERE state = 'gone' AND id NOT IN (SELECT queue FROM bucket)")
