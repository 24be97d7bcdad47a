"""The clients of a history: who is connected, what they do, and when they were interrupted."""

import json

from siamese.monitoring.database import transaction, upsert
from siamese.monitoring.queues import grown

CONNECTED = "SELECT * FROM client WHERE connections <> '{}'"
STEADY = 15  # s since its last message for which a client still sends; the broker tells of messages every 5 s, or later


def update(db, at, present, patience=0):
    """Store which clients there are at the time `at`.

    `present` is {(name, user): {'does': str, 'blocked': bool, 'connections': {id: (sent, received)}}}, of all of them;
    sent and received are counted since the connection began. A connection that is not among them is gone, unless it was
    seen for the first time less than `patience` seconds ago.
    """
    with transaction(db):
        connected = {(row['name'], row['user']): row for row in db.execute(CONNECTED)}
        for key in {*present, *connected}:
            row = connected.get(key) or _row_of(db, at, *key)
            before, there = json.loads(row['connections']), present.get(key, {'connections': {}})
            now = {
                id: [before.get(id, [at])[0], *counts]
                for id, counts in there['connections'].items()
            }
            now.update(
                {id: was for id, was in before.items() if id not in now and at - was[0] < patience}
            )
            _change(row, before, now, at)
            grew = [
                sum(grown(before.get(id, [0, 0, 0])[n], counts[n]) for id, counts in now.items())
                for n in (1, 2)
            ]
            row['sent'], row['received'] = row['sent'] + grew[0], row['received'] + grew[1]
            if now:
                row.update(
                    does=there.get('does', row['does']),
                    last_seen=at,
                    sent_at=at if grew[0] else row['sent_at'],
                    received_at=at if grew[1] else row['received_at'],
                )
                doing = [
                    verb
                    for verb, last in (('sends', row['sent_at']), ('receives', row['received_at']))
                    if last is not None and at - last < STEADY
                ]
                _turn(row, 'blocked' if there.get('blocked') else ' and '.join(doing) or 'idle', at)
            upsert(db, 'client', row)


def connected(db, at, name, user, id):
    """Store that a client has opened the connection `id`."""
    with transaction(db):
        row = _row_of(db, at, name, user)
        before = json.loads(row['connections'])
        _change(row, before, {**before, id: before.get(id, [at, 0, 0])}, at)
        upsert(db, 'client', {**row, 'last_seen': at})


def disconnected(db, at, id):
    """Store that the connection `id` is closed."""
    with transaction(db):
        for row in db.execute(CONNECTED).fetchall():
            before = json.loads(row['connections'])
            if id in before:
                row['last_seen'] = at
                _change(row, before, {key: value for key, value in before.items() if key != id}, at)
                upsert(db, 'client', row)


def _row_of(db, at, name, user):
    db.execute(
        'INSERT OR IGNORE INTO client (name, user, state, since, first_seen, last_seen) '
        "VALUES (?, ?, 'new', ?, ?, ?)",
        [name, user, at, at, at],
    )
    return db.execute('SELECT * FROM client WHERE name = ? AND user = ?', [name, user]).fetchone()


def _change(row, before, now, at):
    """Note in a client's row that its connections were `before`, and are `now`."""
    left = set(before) - set(
        now
    )  # the API names a connection for a while after its successor has come
    if now and (
        row['state'] == 'gone' or any(now[id][0] > before[old][0] for id in now for old in left)
    ):
        row['interruptions'] += 1
        row['last_interruption'], row['back'] = (
            row['since'] if row['state'] == 'gone' else row['last_seen'],
            at,
        )
    if now and row['state'] in ('gone', 'new'):
        _turn(row, 'idle', at)
    elif not now:
        _turn(row, 'gone', at)
    row['connections'] = json.dumps(now)


def _turn(row, state, at):
    if row['state'] != state:
        row['state'], row['since'] = state, at


def known(db, back_since=None):
    """Return the clients as a list of dicts by name: producers, consumers, and whoever else has a connection.

    name: the connection_name it gives, else its address; user; does: what it is there for, 'receives siamese.blocks'
    say; state: 'sends', 'receives', 'sends and receives', 'idle', 'blocked' by the broker, or 'gone'; since: when that
    state began; first_seen, last_seen; sent, received: messages, as far as collected; interruptions: how often it was
    gone and came back under its name; last_interruption: when the last one began, and back: when it was back (None if
    there was none). With `back_since` only those that came back after that time.
    """
    only, values = ('', []) if back_since is None else ('WHERE back > ?', [back_since])
    return db.execute(
        'SELECT name, user, does, state, since, first_seen, last_seen, interruptions, last_interruption, '
        f'back, sent, received FROM client {only} ORDER BY name, user',
        values,
    ).fetchall()
