"""The dead letters of a history: messages that expired, were rejected, or had no room.

A dead letter is a message that the broker has dead-lettered into siamese.dead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any, TypedDict

from siamese.monitoring.database import (
    ERRORS,
    Row,
    count_into_buckets,
    row_of,
    transaction,
    upsert,
)
from siamese.monitoring.raw_properties import CHANGING, DeadLetter, without

ONE = re.compile('#[0-9]{1,18}')  # names a dead letter, not a queue
# The broker has an acknowledgement after so long, if the connection is the same.
SETTLE_AFTER_S = 60

COLUMNS = 'id, at, stored, queue, reason, exchange, routing_key, sender, message_id, size, requeued'
SEARCHED = "queue || ' ' || sender || ' ' || message_id || ' ' || routing_key"
CONTAINS = f'instr(lower({SEARCHED}), lower(?))'
REQUEUED = {None: '1', True: 'requeued IS NOT NULL', False: 'requeued IS NULL'}
TALLIED = {None: 'count', True: 'count - waiting', False: 'waiting'}


class DeadLetterRow(TypedDict):
    """A dead letter of the history, see find()."""

    id: int
    at: float
    stored: float
    queue: str
    reason: str
    exchange: str
    routing_key: str
    sender: str
    message_id: str
    size: int
    requeued: float | None


class WholeDeadLetter(DeadLetterRow):
    """The same with its content, see get()."""

    properties: dict[str, Any]
    body: bytes
    encoded: bytes


class DeadLetterCount(TypedDict):
    """How many dead letters there are of a queue and a reason, see by_queue()."""

    queue: str
    reason: str
    count: int
    waiting: int
    stored: float  # the latest; only there with `since`


def insert(db: Connection, delivered: Iterable[DeadLetter], session: str, now: float) -> int:
    """Store dead letters before they are acknowledged; return how many are new.

    Not new are those that another session has stored, and whose acknowledgement
    was lost: they are delivered again. `session` names our channel.
    """
    new = 0
    with transaction(db):
        for dead_letter in delivered:
            digest = _digest(dead_letter)
            may_be_stored = dead_letter['redelivered'] or dead_letter['message_id']
            if may_be_stored and _take_over(db, digest, session, now):
                continue
            _insert_one(db, dead_letter, digest, session, now)
            new += 1
    return new


def _take_over(db: Connection, digest: bytes, session: str, now: float) -> bool:
    """Return whether another session has stored this dead letter; it is ours now."""
    select = 'SELECT id FROM dead WHERE digest = ? AND NOT settled AND session <> ?'
    stored = db.execute(select, [digest, session]).fetchone()
    if not stored:
        return False
    update = 'UPDATE dead SET session = ?, delivered = ? WHERE id = ?'
    db.execute(update, [session, now, stored['id']])
    return True


def _insert_one(
    db: Connection, dead_letter: DeadLetter, digest: bytes, session: str, now: float
) -> None:
    row: Row = {
        **dead_letter,
        'size': len(dead_letter['body']),
        'properties': json.dumps(dead_letter['properties']),
        'digest': digest,
        'session': session,
        'stored': now,
        'delivered': now,
    }
    del row['redelivered']
    upsert(db, 'dead', row)
    reason = dead_letter['reason']
    if reason not in ERRORS:
        reason = 'other'
    queue = row_of(db, dead_letter['queue'])
    count_into_buckets(db, queue, dead_letter['at'], **{reason: 1})


def _digest(dead_letter: DeadLetter) -> bytes:
    """Return what is the same in each delivery of a dead letter, as a hash."""
    facts = [
        dead_letter['queue'],
        dead_letter['reason'],
        dead_letter['exchange'],
        dead_letter['routing_key'],
        dead_letter['message_id'],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(without(dead_letter['encoded'], CHANGING))
    digest.update(dead_letter['body'])
    return digest.digest()


def settle(db: Connection, session: str, before: float) -> None:
    """Note that the broker has the acknowledgements of what `session` got `before`.

    These dead letters will not be delivered again.
    """
    update = 'UPDATE dead SET settled = 1'
    where = 'WHERE NOT settled AND session = ? AND delivered < ?'
    db.execute(f'{update} {where}', [session, before])


def find(
    db: Connection,
    queue: str | None = None,
    reason: str | None = None,
    since: float | None = None,
    requeued: bool | None = None,
    search: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[DeadLetterRow], int]:
    """Return (dead letters, how many match): `limit` after `offset`, latest first.

    Only those of a queue, of a reason, stored after `since`, `requeued` (True) or
    not (False), or with the text `search`, in any case, in queue, sender, message_id
    or routing_key.

    A dead letter is a row: id; at: when it was dead-lettered; stored: when
    monitor.py received it; queue it was in; reason 'expired', 'rejected', 'maxlen',
    'delivery_limit' or 'unknown'; exchange and routing_key it was published with;
    sender (its app_id or user_id, or ''); message_id ('' if it has none); size of
    the body in bytes; requeued: when it was requeued, or None. get() has the rest.
    """
    conditions = {
        'queue = ?': queue,
        'reason = ?': reason,
        'stored > ?': since,
        CONTAINS: search or None,
    }
    wanted = {part: value for part, value in conditions.items() if value is not None}
    where = ' AND '.join([REQUEUED[requeued], *wanted])
    values = [*wanted.values()]
    counted = f'SELECT count(*) AS count FROM dead WHERE {where}'
    if since is None and not search:
        counted = _count_of_tally(requeued, [*wanted])
    count = db.execute(counted, values).fetchone()['count']
    select = f'SELECT {COLUMNS} FROM dead WHERE {where}'
    page = 'ORDER BY id DESC LIMIT ? OFFSET ?'
    rows = db.execute(f'{select} {page}', [*values, limit, offset])
    return rows.fetchall(), count


def _count_of_tally(requeued: bool | None, conditions: list[str]) -> str:
    """Return a query that counts dead letters without reading them: there may be millions."""
    where = ' AND '.join(['1', *conditions])
    total = f'ifnull(sum({TALLIED[requeued]}), 0)'
    return f'SELECT {total} AS count FROM tally WHERE {where}'


def get(db: Connection, number: int) -> WholeDeadLetter | None:
    """Return the dead letter with this id as find() does, or None.

    It also has its body (bytes), its properties (a dict, with the headers as a dict
    in it) and encoded (the properties as bytes).
    """
    select = f'SELECT {COLUMNS}, properties, body, encoded FROM dead WHERE id = ?'
    row = db.execute(select, [number]).fetchone()
    if row:
        row['properties'] = json.loads(row['properties'])
    return row


def by_queue(db: Connection, since: float | None = None) -> list[DeadLetterCount]:
    """Return how many there are by queue and reason: count, and waiting (not requeued).

    With `since` only those stored after that time; stored is then when the latest was.
    """
    if since is None:  # there may be millions: the tally knows
        columns = 'queue, reason, count, waiting'
        select = f'SELECT {columns} FROM tally WHERE count ORDER BY queue, reason'
        return db.execute(select).fetchall()
    columns = (
        'queue, reason, count(*) AS count, sum(requeued IS NULL) AS waiting, max(stored) AS stored'
    )
    groups = 'GROUP BY queue, reason ORDER BY queue, reason'
    select = f'SELECT {columns} FROM dead WHERE stored > ? {groups}'
    return db.execute(select, [since]).fetchall()


def ever(db: Connection) -> list[Row]:
    """Return the count of all that were ever stored, by queue and reason."""
    columns = 'queue, reason, ever AS count'
    return db.execute(f'SELECT {columns} FROM tally ORDER BY queue, reason').fetchall()


def ids(db: Connection, which: str) -> list[int]:
    """Return the ids of dead letters that were not requeued, oldest first.

    `which` is the name of a queue, 'all', or one dead letter ('#17').
    """
    where = 'queue = ?'
    values: list[str | int] = [which]
    if which == 'all':
        where = '1'
        values = []
    elif ONE.fullmatch(which):
        where = 'id = ?'
        values = [int(which[1:])]
    select = f'SELECT id FROM dead WHERE requeued IS NULL AND {where} ORDER BY id'
    return [row['id'] for row in db.execute(select, values)]


def mark_requeued(db: Connection, numbers: Iterable[int], at: float) -> None:
    """Note that the broker has confirmed these dead letters in their queues."""
    update = 'UPDATE dead SET requeued = ? WHERE id = ?'
    db.executemany(update, [(at, number) for number in numbers])
