"""Clocks that jump: a machine's clock may be wrong for hours, and then be set right.

Within a process time.monotonic() measures how long to wait, and what was told or stored
goes by ids. The times in a history say when something was, and a time that has not
come yet counts as now.
"""

from __future__ import annotations

import json
import time
from sqlite3 import Connection

from siamese.monitoring import database, queues
from siamese.monitoring.database import Row

BOOT_ID = '/proc/sys/kernel/random/boot_id'
# What holds times, but for `dead.at`, which is the broker's, and `dead.delivered`.
COLUMNS = {
    'queue': ('seen', 'oldest_since', 'no_consumer_since'),
    'dead': ('stored', 'requeued', 'seen'),
    'verdict': ('at',),
    'client': (
        'since',
        'first_seen',
        'last_seen',
        'last_interruption',
        'back',
        'published_at',
        'delivered_at',
    ),
}
FACTS = ('begun', 'collected', 'since', 'uptime_asked')


def pull_back(db: Connection, now: float) -> None:
    """Set what a history says of a time after `now` to now: the clock was ahead.

    Otherwise a message would wait for a negative time, and a client that is long gone
    would still be publishing.
    """
    with database.transaction(db):
        if _latest(db) <= now:
            return
        for table, columns in COLUMNS.items():
            for column in columns:
                update = f'UPDATE {table} SET {column} = :now WHERE {column} > :now'
                db.execute(update, {'now': now})
        # A sample says how much there was at its time: one of no time says nothing.
        for table in queues.KEPT_S:
            db.execute(f'DELETE FROM {table} WHERE at > ?', [now])
        _pull_back_connections(db, now)
        _pull_back_facts(db, now)


def _latest(db: Connection) -> float:
    """Return the latest time that is written with each collection, dead letter or client."""
    monitor = database.get_fact(db, 'monitor') or {'seen': 0}
    stored = db.execute('SELECT max(stored) AS at FROM dead').fetchone()['at']
    back = db.execute('SELECT max(back) AS at FROM client').fetchone()['at']
    collected = database.get_fact(db, 'collected')
    return max(monitor['seen'], collected or 0, stored or 0, back or 0)


def _pull_back_connections(db: Connection, now: float) -> None:
    select = "SELECT name, user, connections FROM client WHERE connections <> '{}'"
    for row in db.execute(select).fetchall():
        connections = json.loads(row['connections'])
        for known in connections.values():
            known[0] = min(known[0], now)  # when it was first seen
        changed: Row = {**row, 'connections': json.dumps(connections)}
        update = 'UPDATE client SET connections = :connections WHERE name = :name AND user = :user'
        db.execute(update, changed)


def _pull_back_facts(db: Connection, now: float) -> None:
    facts = {name: database.get_fact(db, name) for name in FACTS}
    changed = {name: min(at, now) for name, at in facts.items() if at is not None}
    alarms = database.get_fact(db, 'alarms') or {}
    changed_alarms = {text: min(at, now) for text, at in alarms.items()}
    database.set_facts(db, alarms=changed_alarms, **changed)


def elapsed(db: Connection) -> float | None:
    """Return the seconds since this was called last, whatever the clock says meanwhile.

    None if that is not known: this is the first time, or the first since this machine
    was started.
    """
    before = database.get_fact(db, 'steady')
    now = _steady()
    database.set_facts(db, steady=now)
    if not before or not now or before[0] != now[0]:
        return None
    return now[1] - before[1]


def _steady() -> tuple[str, float] | None:
    """Return which start of this machine it is, and the seconds since then."""
    try:
        with open(BOOT_ID, encoding='ascii') as file:
            return file.read().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):  # no Linux
        return None
