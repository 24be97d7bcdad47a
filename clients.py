"""The clients of a history: who is connected, what they do, and when they were interrupted."""

import json

from history import put, transaction
from queues import grown


def see(db, at, present, patience=0):
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
            if now:
                moved = ' and '.join(word for word, count in zip(('sends', 'receives'), grew) if count)
                state = there.get('state', row['state'])
                _turn(row, moved if moved and state == 'idle' else state, at)
                row.update(does=there.get('does', row['does']), last_seen=at)
            put(db, 'client', row)


def came(db, at, name, user, id):
    """Store that a client has opened the connection `id`."""
    with transaction(db):
        row = (db.execute('SELECT * FROM client WHERE name = ? AND user = ?', [name, user]).fetchone()
               or _client(db, at, name, user))
        before = json.loads(row['connections'])
        _change(row, before, {**before, id: before.get(id, [at, 0, 0])}, at)
        put(db, 'client', {**row, 'last_seen': at})


def went(db, at, id):
    """Store that the connection `id` is closed."""
    with transaction(db):
        for row in db.execute("SELECT * FROM client WHERE connections <> '{}'").fetchall():
            before = json.loads(row['connections'])
            if id in before:
                row['last_seen'] = at
                _change(row, before, {key: value for key, value in before.items() if key != id}, at)
                put(db, 'client', row)


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


def known(db):
    """Return the clients as a list of dicts by name: producers, consumers, and whoever else has a connection.

    name: the connection_name it gives, else its address; user; does: what it is there for, 'receives siamese.blocks'
    say; state: 'sends', 'receives', 'sends and receives', 'idle', 'blocked' by the broker, or 'gone'; since: when that
    state began; first_seen, last_seen; sent, received: messages, as far as collected; interruptions: how often it was
    gone and came back under its name; last_interruption: when the last one began, and back: when it was back (None if
    there was none).
    """
    return db.execute('SELECT name, user, does, state, since, first_seen, last_seen, interruptions, last_interruption, '
                      'back, sent, received FROM client ORDER BY name, user').fetchall()
