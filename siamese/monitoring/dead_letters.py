"""The dead letters of a history: messages that expired, were rejected, or had no room.

A dead letter is a message that the broker has dead-lettered into siamese.dead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any, NamedTuple, TypedDict

from siamese.monitoring.database import (
    ERRORS,
    UNSEEN,
    Row,
    count_into_buckets,
    row_of,
    transaction,
    upsert,
)
from siamese.monitoring.raw_properties import DeadLetter, as_published

ONE = re.compile('#[0-9]{1,18}')  # names a dead letter, not a queue
# How many may be delivered and not acknowledged: the delivery with the tag t proves that the
# broker has the acknowledgements of all up to t - PREFETCH.
PREFETCH = 20  # dead letters in memory at once; a body may be large

COLUMNS = (
    'id, at, stored, queue, reason, exchange, routing_key, sender, message_id, size, requeued,'
    ' copy, seen, seen_by'
)
SEARCHED = "queue || ' ' || sender || ' ' || message_id || ' ' || routing_key"
CONTAINS = f'instr(lower({SEARCHED}), lower(?))'
REQUEUED = {None: '1', True: 'requeued IS NOT NULL', False: 'requeued IS NULL'}
TALLIED = {None: 'count', True: 'count - waiting', False: 'waiting'}
MARKED_AT_ONCE = 5_000  # dead letters: others write, too


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
    copy: int  # 1 if it may be a copy of another one
    seen: float | None  # when somebody marked it as seen
    seen_by: str | None


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
    unseen: int  # of those waiting, see mark_seen()
    copies: int  # so many of those waiting may be copies of others
    stored: float  # the latest; only there with `since`


class Stored(NamedTuple):
    """How many dead letters insert() has stored, and how many of them may be copies."""

    new: int
    copies: int


def insert(
    db: Connection,
    delivered: Iterable[DeadLetter],
    session: str,
    now: float,
) -> Stored:
    """Store dead letters before they are acknowledged.

    `session` names our channel. What the broker redelivers may be one that another
    session has stored, and whose acknowledgement was lost. A message_id tells that it
    is. Without one it may as well be another letter that is alike byte for byte, so
    it is stored, and marked: it may be a copy.
    """
    new = 0
    copies = 0
    with transaction(db):
        for dead_letter in delivered:
            digest = _digest(dead_letter)
            twin = _unsettled_twin(db, digest, session)
            if twin and dead_letter['redelivered'] and dead_letter['message_id']:
                take_over = 'UPDATE dead SET session = ?, tag = ? WHERE id = ?'
                db.execute(take_over, [session, dead_letter['tag'], twin])
                continue
            if twin:  # the broker has its acknowledgement, or this is what it has instead
                db.execute('UPDATE dead SET settled = 1 WHERE id = ?', [twin])
                copies += 1
            _insert_one(db, dead_letter, digest, session, now, may_be_copy=bool(twin))
            new += 1
    return Stored(new, copies)


def _unsettled_twin(
    db: Connection,
    digest: bytes,
    session: str,
) -> int | None:
    """Return the id of the dead letter that this one may be, from another session.

    The flag redelivered tells nothing of that: RabbitMQ and LavinMQ may forget it when
    they restart.
    """
    select = 'SELECT id FROM dead WHERE digest = ? AND NOT settled AND session <> ?'
    stored = db.execute(select, [digest, session]).fetchone()
    return stored and stored['id']


def _insert_one(
    db: Connection,
    dead_letter: DeadLetter,
    digest: bytes,
    session: str,
    now: float,
    may_be_copy: bool,
) -> None:
    row: Row = {
        **dead_letter,
        'size': len(dead_letter['body']),
        'properties': json.dumps(dead_letter['properties']),
        'digest': digest,
        'session': session,
        'stored': now,
        'copy': int(may_be_copy),
    }
    del row['redelivered']
    upsert(db, 'dead', row)
    reason = dead_letter['reason']
    if reason not in ERRORS:
        reason = 'other'
    queue = row_of(db, dead_letter['queue'])
    counted = {reason: 1, 'copies': int(may_be_copy)}
    count_into_buckets(db, queue, dead_letter['at'], **counted)


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
    digest.update(as_published(dead_letter['encoded']))
    digest.update(dead_letter['body'])
    return digest.digest()


def settle(db: Connection, session: str, up_to: int) -> None:
    """Note that the broker has the acknowledgements of `session` up to a delivery tag.

    These dead letters will not be delivered again.
    """
    update = 'UPDATE dead SET settled = 1 WHERE NOT settled AND session = ? AND tag <= ?'
    db.execute(update, [session, up_to])


def find(
    db: Connection,
    queue: str | None = None,
    reason: str | None = None,
    since: float | None = None,
    requeued: bool | None = None,
    search: str | None = None,
    limit: int = 50,
    offset: int = 0,
    after: int | None = None,
    unseen: bool = False,
) -> tuple[list[DeadLetterRow], int]:
    """Return (dead letters, how many match): `limit` after `offset`, latest first.

    Only those of a queue, of a reason, stored after `since`, `requeued` (True) or
    not (False), with the text `search`, in any case, in queue, sender, message_id or
    routing_key, with an id above `after`, or neither requeued nor marked as seen (`unseen`).

    A dead letter is a row: id; at: when it was dead-lettered; stored: when
    monitor.py received it; queue it was in; reason 'expired', 'rejected', 'maxlen',
    'delivery_limit' or 'unknown'; exchange and routing_key it was published with;
    sender (its app_id or user_id) and message_id, or ''; size of the body in bytes;
    requeued: when it was, or None; copy: 1 if it may be that of another; seen and
    seen_by: when it was marked, and by whom, or None. get() has the rest.
    """
    wanted = _wanted(queue, reason, search, since, after)
    chosen = UNSEEN if unseen else REQUEUED[requeued]
    where = ' AND '.join([chosen, *wanted])
    values = [*wanted.values()]
    counted = f'SELECT count(*) AS count FROM dead WHERE {where}'
    if since is None and after is None and not search:
        tallied = 'unseen' if unseen else TALLIED[requeued]
        counted = _count_of_tally(tallied, [*wanted])
    count = db.execute(counted, values).fetchone()['count']
    select = f'SELECT {COLUMNS} FROM dead WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?'
    rows = db.execute(select, [*values, limit, offset])
    return rows.fetchall(), count


def _wanted(
    queue: str | None,
    reason: str | None,
    search: str | None,
    since: float | None = None,
    after: int | None = None,
) -> dict[str, Any]:
    """Return the conditions that are asked for, with their values."""
    conditions = {
        'queue = ?': queue,
        'reason = ?': reason,
        'stored > ?': since,
        'id > ?': after,
        CONTAINS: search or None,
    }
    return {part: value for part, value in conditions.items() if value is not None}


def _count_of_tally(tallied: str, conditions: list[str]) -> str:
    """Return a query that counts dead letters without reading them: there may be millions."""
    where = ' AND '.join(['1', *conditions])
    total = f'ifnull(sum({tallied}), 0)'
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


def last_id(db: Connection) -> int:
    """Return the id of the latest dead letter, 0 if there is none."""
    return db.execute('SELECT ifnull(max(id), 0) AS id FROM dead').fetchone()['id']


def by_queue(
    db: Connection,
    since: float | None = None,
    after: int | None = None,
) -> list[DeadLetterCount]:
    """Return how many there are by queue and reason: count, waiting (not requeued), and unseen.

    So many of those waiting (copies) may be copies of others. With `since` only those
    stored after that time, with `after` those with an id above it; stored is then when
    the latest was.
    """
    if since is None and after is None:  # there may be millions: the tally knows
        columns = 'queue, reason, count, waiting, unseen, copies'
        select = f'SELECT {columns} FROM tally WHERE count ORDER BY queue, reason'
        return db.execute(select).fetchall()
    columns = (
        'queue, reason, count(*) AS count, sum(requeued IS NULL) AS waiting,'
        f' sum({UNSEEN}) AS unseen,'
        ' sum(copy AND requeued IS NULL) AS copies, max(stored) AS stored'
    )
    groups = 'GROUP BY queue, reason ORDER BY queue, reason'
    where, value = 'stored > ?', since
    if since is None:
        where, value = 'id > ?', after
    select = f'SELECT {columns} FROM dead WHERE {where} {groups}'
    return db.execute(select, [value]).fetchall()


def ever(db: Connection) -> list[Row]:
    """Return the count of all that were ever stored, by queue and reason.

    The queues that the broker was seen to have come first, then the others, for a
    stranger may have invented them; each in the order in which they came.
    """
    select = 'SELECT tally.queue, reason, ever AS count FROM tally'
    join = 'LEFT JOIN queue AS known ON known.name = tally.queue'
    order = 'ORDER BY known.seen IS NULL, known.id, reason'
    return db.execute(f'{select} {join} {order}').fetchall()


def ids(db: Connection, which: str) -> list[int]:
    """Return the ids of dead letters that were not requeued, oldest first.

    `which` is the name of a queue, 'all', or one dead letter ('#17').
    """
    where, values = _named(which)
    select = f'SELECT id FROM dead WHERE {where} ORDER BY id'
    return [row['id'] for row in db.execute(select, values)]


def copies_among(db: Connection, which: str) -> int:
    """Return how many dead letters of ids() may be copies of others."""
    where, values = _named(which)
    select = f'SELECT count(*) AS count FROM dead WHERE {where} AND copy'
    count: int = db.execute(select, values).fetchone()['count']
    return count


def may_be_copies(count: int) -> str:
    """Return a remark for people on a number of dead letters, '' if none of them is in doubt."""
    if not count:
        return ''
    if count == 1:
        return ', 1 of them may be a copy'
    return f', {count:,} of them may be copies'


def _named(which: str) -> tuple[str, list[str | int]]:
    """Return a condition of SQL for ids(), and its values."""
    if which == 'all':
        return 'requeued IS NULL', []
    if ONE.fullmatch(which):
        return 'requeued IS NULL AND id = ?', [int(which[1:])]
    return 'requeued IS NULL AND queue = ?', [which]


def mark_requeued(db: Connection, numbers: Iterable[int], at: float) -> None:
    """Note that the broker has confirmed these dead letters in their queues."""
    update = 'UPDATE dead SET requeued = ? WHERE id = ?'
    db.executemany(update, [(at, number) for number in numbers])


def neighbour(
    db: Connection,
    number: int,
    newer: bool,
    queue: str | None = None,
    reason: str | None = None,
    requeued: bool | None = None,
    search: str | None = None,
    unseen: bool = False,
) -> int | None:
    """Return the id of the next newer or older dead letter that find() would find, or None."""
    wanted = _wanted(queue, reason, search)
    chosen = UNSEEN if unseen else REQUEUED[requeued]
    side, order = ('>', 'ASC') if newer else ('<', 'DESC')
    where = ' AND '.join([chosen, *wanted, f'id {side} ?'])
    select = f'SELECT id FROM dead WHERE {where} ORDER BY id {order} LIMIT 1'
    row = db.execute(select, [*wanted.values(), number]).fetchone()
    return row and row['id']


def mark_seen(
    db: Connection,
    by: str,
    at: float,
    number: int | None = None,
    queue: str | None = None,
    reason: str | None = None,
    search: str | None = None,
    up_to: int | None = None,
) -> int:
    """Note that somebody has seen dead letters; return how many it had not been noted of.

    These are one, or all of a filter as in find(), up to an id: nobody has seen what
    came later. They stay, and can be requeued.
    """
    wanted = _wanted(queue, reason, search)
    wanted['id <= ?'] = up_to or last_id(db)
    if number is not None:
        wanted['id = ?'] = number
    where = ' AND '.join([UNSEEN, *wanted])
    chosen = f'SELECT id FROM dead WHERE {where} ORDER BY id LIMIT {MARKED_AT_ONCE}'
    update = f'UPDATE dead SET seen = ?, seen_by = ? WHERE id IN ({chosen})'
    marked = 0
    while True:
        with transaction(db):
            cursor = db.execute(update, [at, by, *wanted.values()])
        marked += cursor.rowcount
        if cursor.rowcount < MARKED_AT_ONCE:
            return marked
