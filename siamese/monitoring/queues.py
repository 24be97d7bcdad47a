"""The queues of a history: what they hold, how fast it moves, and what the broker has counted since the last look."""

from siamese.monitoring.database import (
    COUNTED,
    RATES,
    UNROUTABLE,
    count_into_buckets,
    get_fact,
    row_of,
    set_facts,
    transaction,
    upsert,
)

SMOOTH = 15  # s over which rates are taken; the broker brings its counters up to date every 5 s, or less often
RECENT = 900  # s for which samples are kept
AWAY = 60  # s without a collection, in which a node may have started anew and been up for longer than before
RESTARTED = 15  # s by which its start, reckoned from its uptime, then differs
FRESH = 10  # s for which a broker has been up at the most when it does not tell its figures yet


def grown(old, new, restarted=False, several=False):
    """Return how many messages a counter of the broker has counted since it stood at `old`, now that it is at `new`.

    A counter begins at 0 again when its node was `restarted` or its queue declared anew. With `several` nodes, each of
    which counts a part, a counter that sinks lost a part of unknown size: then nothing is counted, and never too much.
    """
    if several:
        return max(0, new - old)
    return new - old if new >= old and not restarted else new


def collect(db, at, queues, uptime=None, process=None, unroutable=None):
    """Store the figures of all queues at the time `at`: what they count since the last time goes into the buckets.

    `queues` are dicts with name, type, state, ready, unacked, consumers, the RATES, and the COUNTED as the broker
    counts them since its start (None where it does not tell). `uptime` is that of its only node in s, None if there
    are several, and `process` tells that node from one that started later. `unroutable` are the UNROUTABLE, counted
    likewise. What the broker counted before the first call is left out, unless its node is younger than this history.
    """
    with transaction(db):
        count = _counter(db, at, uptime, process)
        known = {
            row['name']: row for row in db.execute("SELECT * FROM queue WHERE state <> 'gone'")
        }
        for queue in queues:
            row = known.pop(queue['name'], None) or row_of(db, queue['name'])
            figures = count(row, {name: queue[name] for name in COUNTED})
            row.update({key: value for key, value in queue.items() if key not in COUNTED}, seen=at)
            row.update(_rates(db, row, at))
            row['oldest_since'] = _oldest(db, row, at)
            alone = (
                row['ready'] and not row['consumers'] and row['type'] != 'stream'
            )  # which keeps what was read
            row['alone_since'] = (row['alone_since'] or at) if alone else None
            upsert(db, 'queue', row)
            db.execute(
                'INSERT OR REPLACE INTO sample VALUES (:id, :seen, :ready, :unacked, :published, :delivered, '
                ':acked)',
                row,
            )
            db.execute('DELETE FROM sample WHERE queue = ? AND at < ?', [row['id'], at - RECENT])
            if any(figures.values()) or row['ready'] or row['unacked']:
                count_into_buckets(
                    db, row, at, ready_high=row['ready'], unacked_high=row['unacked'], **figures
                )
        for row in known.values():
            row.update(
                dict.fromkeys(
                    ['ready', 'unacked', 'consumers', *RATES, *(f'raw_{c}' for c in COUNTED)], 0
                ),
                state='gone',
                oldest_since=None,
                alone_since=None,
            )
            upsert(db, 'queue', row)
            db.execute('DELETE FROM sample WHERE queue = ?', [row['id']])
        everywhere = get_fact(db, 'unroutable') or {
            f'{raw}{name}': 0 for name in UNROUTABLE for raw in ('', 'raw_')
        }
        figures = count(everywhere, unroutable or dict.fromkeys(UNROUTABLE))
        if any(figures.values()):
            count_into_buckets(db, None, at, **figures)
        set_facts(db, collected=at, uptime=uptime, process=process, unroutable=everywhere)


def _counter(db, at, uptime, process):
    """Return a function that brings the counters of a row up to date, as far as they are told at the time `at`, and
    returns by how much each has grown."""
    last, before = get_fact(db, 'collected'), get_fact(db, 'uptime')
    restarted = bool(
        uptime
        and before
        and (
            uptime < before
            or process != get_fact(db, 'process')
            or (at - last > AWAY and abs((at - uptime) - (last - before)) > RESTARTED)
        )
    )
    left_out = last is None and not (uptime and at - uptime > get_fact(db, 'begun', at) - FRESH)

    def count(row, told):
        figures = {}
        for name in told:
            raw = row[f'raw_{name}'] if told[name] is None and not restarted else told[name] or 0
            figures[name] = (
                0 if left_out else grown(row[f'raw_{name}'], raw, restarted, uptime is None)
            )
            row[f'raw_{name}'] = raw
            row[name] += figures[name]
        return figures

    return count


def stand_still(db):
    """Note that nothing flows, as far as anybody knows: there are no figures for a while."""
    db.execute(
        f"UPDATE queue SET {', '.join(f'{rate} = 0' for rate in RATES)} WHERE state <> 'gone'"
    )


def _rates(db, row, at):
    """Return the RATES of a queue since the first sample of the last SMOOTH s; {} if there is none: the broker's hold.

    The broker's own are often 0 between two updates of its counters (RabbitMQ 3.10.8).
    """
    then = db.execute(
        'SELECT at, published, delivered, acked FROM sample WHERE queue = ? AND at >= ? AND at < ? '
        'ORDER BY at LIMIT 1',
        [row['id'], at - SMOOTH - 1, at],
    ).fetchone()
    return (
        {rate: (row[name] - then[name]) / (at - then['at']) for rate, name in zip(RATES, COUNTED)}
        if then
        else {}
    )


def _oldest(db, row, at):
    """Return since when the oldest message waits: the latest sample by which no more was published than has left since.

    Queues are first in, first out. Before the samples begin it is as it was, and for a queue never seen it is now.
    """
    waiting = row['ready'] + row['unacked']
    if not waiting:
        return None
    found = db.execute(
        'SELECT max(at) AS at FROM sample WHERE queue = ? AND published <= ?',
        [row['id'], row['published'] - waiting],
    ).fetchone()['at']
    return found or row['oldest_since'] or at


def known(db, gone=False):
    """Return the queues as a list of dicts by name; with `gone` also those that are no longer there.

    name; type 'classic', 'quorum' or 'stream'; state 'running', 'gone' ...; seen: when it was collected last; ready,
    unacked, consumers now; oldest_since: since when its oldest message waits, None if it is empty (to within a
    collection for the last quarter of an hour, before that at the latest since then); alone_since: since when it has
    had messages and no consumer, or None; publish_rate, deliver_rate, ack_rate; published, delivered, acked,
    redelivered: totals since this history began.
    """
    names = (
        'name, type, state, seen, ready, unacked, consumers, oldest_since, alone_since, '
        + ', '.join((*RATES, *COUNTED))
    )
    return db.execute(
        f"SELECT {names} FROM queue WHERE state <> 'gone' OR ? ORDER BY name", [gone]
    ).fetchall()


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
        [since, queue, queue],
    ):
        if before and before[0] == row[0]:
            took = row[1] - before[1]
            rates = (round((new - old) / took, 3) for old, new in zip(before[4:], row[4:]))
            found.setdefault(row[0], []).append((*row[1:4], *rates))
        before = row
    return found
