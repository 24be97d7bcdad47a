"""The clients of a history: who is connected, what they do, who was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from sqlite3 import Connection
from typing import Optional, TypedDict, cast

from siamese.monitoring.database import Row, transaction, upsert
from siamese.monitoring.queues import grown, rate_window_s
from siamese.text import readable

CONNECTED = "SELECT * FROM client WHERE connections <> '{}'"
INSERT = (
    'INSERT OR IGNORE INTO client'
    ' (name, user, state, since, first_seen, last_seen)'
    " VALUES (?, ?, 'new', ?, ?, ?)"
)
COLUMNS = (
    'name, user, does, state, since, first_seen, last_seen, interruptions,'
    ' last_interruption, back, published, delivered'
)
CONNECTED_STATE = 'connected'  # nobody counts what it does
PUBLISHED, DELIVERED = 1, 2  # places in what is stored of a connection
OPENED: list[float] = [0, 0, 0]

Key = tuple[str, str]  # the name and the user of a client
Counts = tuple[Optional[int], Optional[int]]  # published and delivered, None if unknown
Connections = dict[str, list[float]]  # by id: first seen, published, delivered


class ClientRow(TypedDict):
    """A client of the history, see rows()."""

    name: str
    user: str
    does: str
    state: str
    since: float
    first_seen: float
    last_seen: float
    interruptions: int
    last_interruption: float | None
    back: float | None
    published: int
    delivered: int


class Present(TypedDict):
    """A client that is connected now."""

    does: str
    blocked: bool
    connections: dict[str, Counts]  # by id


def update(
    db: Connection,
    at: float,
    present: Mapping[Key, Present],
    grace_s: float = 0,
) -> None:
    """Store which clients are connected at the time `at`: all that are `present`.

    A connection that is not listed is gone, unless it was seen for the first time
    less than `grace_s` seconds ago.
    """
    with transaction(db):
        active_since = at - rate_window_s(db)
        stored = {(row['name'], row['user']): row for row in db.execute(CONNECTED)}
        for key in {*present, *stored}:
            row = stored.get(key) or _row_of(db, at, *key)
            _update_row(row, at, present.get(key), grace_s, active_since)
            upsert(db, 'client', row)


def _update_row(
    row: Row,
    at: float,
    client: Present | None,
    grace_s: float,
    active_since: float,
) -> None:
    before: Connections = json.loads(row['connections'])
    listed: dict[str, Counts] = {}
    if client:
        listed = client['connections']
    now = _known_now(before, listed, at)
    for name, known in before.items():
        if name not in now and abs(at - known[0]) < grace_s:
            now[name] = known
    _set_connections(row, before, now, at)
    published_more = _total_growth(before, now, PUBLISHED)
    delivered_more = _total_growth(before, now, DELIVERED)
    row['published'] += published_more
    row['delivered'] += delivered_more
    if not now:
        return
    row['last_seen'] = at
    if client:
        row['does'] = client['does']
    if published_more:
        row['published_at'] = at
    if delivered_more:
        row['delivered_at'] = at
    is_unknown = any(None in counts for counts in listed.values())
    if client and client['blocked']:
        _set_state(row, 'blocked', at)
    elif is_unknown:
        _set_state(row, CONNECTED_STATE, at)
    else:
        _set_state(row, _activity(row, active_since), at)


def _known_now(
    before: Connections,
    listed: Mapping[str, Counts],
    at: float,
) -> Connections:
    """Return the connections that are listed; an unknown count is what it was before."""
    now: Connections = {}
    for name, (published, delivered) in listed.items():
        old = before.get(name, [at, 0, 0])
        now[name] = [
            old[0],
            old[PUBLISHED] if published is None else published,
            old[DELIVERED] if delivered is None else delivered,
        ]
    return now


def _total_growth(before: Connections, now: Connections, place: int) -> float:
    """Return how many messages were published, or delivered, since the last update."""
    total = 0.0
    for name, counts in now.items():
        old = before.get(name, OPENED)
        total += grown(old[place], counts[place])
    return total


def _activity(row: Row, active_since: float) -> str:
    doing = []
    for activity, column in (('publishing', 'published_at'), ('consuming', 'delivered_at')):
        last = row[column]
        if last is not None and last > active_since:
            doing.append(activity)
    return ' and '.join(doing) or 'idle'


def client_connected(
    db: Connection,
    at: float,
    name: str,
    user: str,
    connection: str,
) -> None:
    """Store that a client has opened the connection of this id."""
    with transaction(db):
        row = _row_of(db, at, name, user)
        before: Connections = json.loads(row['connections'])
        now = {connection: [at, 0, 0], **before}
        _set_connections(row, before, now, at)
        row['last_seen'] = at
        upsert(db, 'client', row)


def client_disconnected(db: Connection, at: float, connection: str) -> None:
    """Store that the connection of this id is closed."""
    with transaction(db):
        for row in db.execute(CONNECTED).fetchall():
            before: Connections = json.loads(row['connections'])
            if connection not in before:
                continue
            now = dict(before)
            del now[connection]
            row['last_seen'] = at
            _set_connections(row, before, now, at)
            upsert(db, 'client', row)


def _row_of(db: Connection, at: float, name: str, user: str) -> Row:
    db.execute(INSERT, [name, user, at, at, at])
    select = 'SELECT * FROM client WHERE name = ? AND user = ?'
    return db.execute(select, [name, user]).fetchone()


def _set_connections(
    row: Row,
    before: Connections,
    now: Connections,
    at: float,
) -> None:
    """Note in a client's row that its connections were `before`, and are `now`."""
    if now and row['state'] == 'gone':
        _count_interruption(row, row['since'], at)
    elif now and _has_successor(before, now):
        _count_interruption(row, row['last_seen'], at)
    if not now:
        _set_state(row, 'gone', at)
    elif row['state'] in ('gone', 'new'):
        _set_state(row, 'idle', at)
    row['connections'] = json.dumps(now)


def _has_successor(before: Connections, now: Connections) -> bool:
    """Return whether a connection is gone, and one that began later is there.

    The management API lists a connection for a while after its successor.
    """
    left = [before[name][0] for name in before if name not in now]
    return bool(left) and max(known[0] for known in now.values()) > min(left)


def _count_interruption(row: Row, began: float, ended: float) -> None:
    row['interruptions'] += 1
    row['last_interruption'] = began
    row['back'] = ended
    row['since'] = ended  # what it did before is over, even if it does the same now


def _set_state(row: Row, state: str, at: float) -> None:
    if row['state'] != state:
        row['state'] = state
        row['since'] = at


def rows(db: Connection, back_since: float | None = None) -> list[ClientRow]:
    """Return the clients by name: producers, consumers, and other connections.

    name: the connection_name it gives, else its address. does: its purpose, for
    example 'consumes siamese.blocks'. state: 'publishing', 'consuming', 'publishing
    and consuming', 'idle', 'connected' where the broker does not count what it does,
    'blocked' by the broker, or 'gone'; since: when that state began. published,
    delivered: messages, as far as collected. interruptions: how often it was gone and
    came back under its name; last_interruption: when the last one began, and back:
    when it ended, None if there was none. With `back_since` only the clients that came
    back after that time.
    """
    select = f'SELECT {COLUMNS} FROM client'
    found = db.execute(f'{select} ORDER BY name, user')
    if back_since is not None:
        where = 'WHERE back > ? ORDER BY name, user'
        found = db.execute(f'{select} {where}', [back_since])
    return [_readable(row) for row in found]


def blocked(db: Connection) -> int:
    """Return how many clients the broker blocks now."""
    select = "SELECT count(*) AS count FROM client WHERE state = 'blocked'"
    return db.execute(select).fetchone()['count']


def _readable(row: Row) -> ClientRow:
    """Return a row whose texts are texts: an older version stored what it heard."""
    texts = {name: readable(row[name]) for name in ('name', 'user', 'does')}
    return cast(ClientRow, {**row, **texts})
