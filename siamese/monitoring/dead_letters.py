"""The dead letters of a history: messages that nobody picked up in time, or that were refused."""

import hashlib
import json
import re

from siamese.monitoring.database import ERRORS, count_into_buckets, row_of, transaction, upsert
from siamese.monitoring.raw_properties import CHANGING, without

ONE = re.compile('#[0-9]{1,18}')  # names a dead letter, not a queue
UNSETTLED = (
    60  # s after which the broker has an acknowledgement, if the connection is still the same
)


def insert(db, letters, session, now):
    """Store dead letters before they are acknowledged; return how many are new, and not delivered once again.

    `letters` are dicts with at (of its death), queue, reason, exchange, routing_key, sender, message_id, body, encoded
    (its properties as bytes), properties (as a dict that JSON can hold), and redelivered. `session` names the channel:
    what another one stored may not be acknowledged, and then comes again.
    """
    new = 0
    with transaction(db):
        for letter in letters:
            facts = [
                letter[name]
                for name in ('queue', 'reason', 'exchange', 'routing_key', 'message_id')
            ]
            digest = hashlib.sha256(
                json.dumps(facts).encode() + without(letter['encoded'], CHANGING) + letter['body']
            ).digest()
            same = (letter['redelivered'] or letter['message_id']) and db.execute(
                'SELECT id FROM dead WHERE digest = ? AND NOT settled AND session <> ?',
                [digest, session],
            ).fetchone()
            if same:
                db.execute(
                    'UPDATE dead SET session = ?, delivered = ? WHERE id = ?',
                    [session, now, same['id']],
                )
                continue
            new += 1
            row = {key: value for key, value in letter.items() if key != 'redelivered'}
            upsert(
                db,
                'dead',
                {
                    **row,
                    'size': len(letter['body']),
                    'properties': json.dumps(letter['properties']),
                    'digest': digest,
                    'session': session,
                    'stored': now,
                    'delivered': now,
                },
            )
            error = letter['reason'] if letter['reason'] in ERRORS else 'other'
            count_into_buckets(db, row_of(db, letter['queue']), letter['at'], **{error: 1})
    return new


def settle(db, session, before):
    """Note that what `session` was delivered before a time is acknowledged: it will not come again."""
    db.execute(
        'UPDATE dead SET settled = 1 WHERE NOT settled AND session = ? AND delivered < ?',
        [session, before],
    )


def letters(
    db, queue=None, reason=None, since=None, requeued=None, search=None, limit=50, offset=0
):
    """Return (dead letters, how many there are in all): the latest first, `limit` of them after the first `offset`.

    A dead letter is a dict: id; at: when it died; stored: when monitor.py got it; queue it died in; reason 'expired',
    'rejected', 'maxlen', 'delivery_limit' or 'unknown'; exchange and routing_key it was published with; sender (its
    app_id or user_id, or ''); message_id ('' if it has none); size of the body in bytes; requeued: when it was sent
    back, or None. The rest is in letter() only.
    Only those of a queue, a reason, stored after `since`, `requeued` (True) or not (False), or with the text
    `search`, in capitals or not, in queue, sender, message_id or routing_key.
    """
    wanted = {
        part: value
        for part, value in (
            ('queue = ?', queue),
            ('reason = ?', reason),
            ('stored > ?', since),
            (FOUND, search or None),
        )
        if value is not None
    }
    state = {None: '1', True: 'requeued IS NOT NULL', False: 'requeued IS NULL'}[requeued]
    tail, values = f'FROM dead WHERE {" AND ".join([state, *wanted])}', [*wanted.values()]
    counted = f'SELECT count(*) AS count {tail}'
    if since is None and not search:  # there may be millions
        number = {None: 'count', True: 'count - waiting', False: 'waiting'}[requeued]
        counted = f'SELECT ifnull(sum({number}), 0) AS count FROM tally WHERE {" AND ".join(["1", *wanted])}'
    count = db.execute(counted, values).fetchone()['count']
    rows = db.execute(
        f'SELECT {LETTER} {tail} ORDER BY id DESC LIMIT ? OFFSET ?', [*values, limit, offset]
    )
    return rows.fetchall(), count


LETTER = 'id, at, stored, queue, reason, exchange, routing_key, sender, message_id, size, requeued'
FOUND = "instr(lower(queue || ' ' || sender || ' ' || message_id || ' ' || routing_key), lower(?))"


def letter(db, id):
    """Return one dead letter as letters() does, or None; with its body (bytes), properties (a dict, with headers as a
    dict in it) and encoded (the properties as bytes)."""
    row = db.execute(
        f'SELECT {LETTER}, properties, body, encoded FROM dead WHERE id = ?', [id]
    ).fetchone()
    return row and {**row, 'properties': json.loads(row['properties'])}


def by_queue(db, since=None):
    """Return [{'queue', 'reason', 'count', 'waiting': not yet sent back}], of those stored after `since` if that is
    given; then with 'stored', when the latest was."""
    if since is None:  # there may be millions
        return db.execute(
            'SELECT queue, reason, count, waiting FROM tally WHERE count ORDER BY queue, reason'
        ).fetchall()
    return db.execute(
        'SELECT queue, reason, count(*) AS count, sum(requeued IS NULL) AS waiting, '
        'max(stored) AS stored FROM dead WHERE stored > ? GROUP BY queue, reason ORDER BY queue, reason',
        [since],
    ).fetchall()


def ever(db):
    """Return [{'queue', 'reason', 'count'}] of all that were ever stored, also of those that are forgotten."""
    return db.execute(
        'SELECT queue, reason, ever AS count FROM tally ORDER BY queue, reason'
    ).fetchall()


def ids(db, which):
    """Return the ids of the dead letters not yet sent back, oldest first: of a queue, 'all', or one ('#17')."""
    where, values = (
        ('1', [])
        if which == 'all'
        else ('id = ?', [int(which[1:])])
        if ONE.fullmatch(which)
        else ('queue = ?', [which])
    )
    return [
        row['id']
        for row in db.execute(
            f'SELECT id FROM dead WHERE requeued IS NULL AND {where} ORDER BY id', values
        )
    ]


def mark_requeued(db, ids, at):
    """Note that dead letters were sent back, and that the broker has confirmed them."""
    db.executemany('UPDATE dead SET requeued = ? WHERE id = ?', [(at, id) for id in ids])
