"""What a person should look at: a broker away, alarms, messages nobody picks up, clients that were interrupted."""

import time

from siamese.monitoring import clients, queues
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.text import count_of, duration


def warnings(db, unread_after, since, now=None):
    """Return what a person should look at as [{'kind', 'name', 'began', 'text'}]; the text is one line for people.

    kind: 'broker' (away), 'alarm', 'unread' (a queue without consumer whose oldest message waits `unread_after` s or
    longer), 'dead' (dead letters stored after the time `since` and not sent back), 'interrupted' (a client that came
    back after `since`). name: of the queue or client, else ''. began: since when it is worth a mail; that of a broker
    away is `unread_after` s after it went.
    """
    now, known, found = now or time.time(), history.broker(db), []

    def warn(kind, name, began, text):
        found.append({'kind': kind, 'name': name, 'began': began, 'text': text})

    if known['state'] == 'away':
        warn(
            'broker',
            '',
            known['since'] + unread_after,
            f'the broker has been away for {duration(now - known["since"])}',
        )
    for text, began in (known['alarms'] or {}).items():
        warn('alarm', '', began, text)
    for row in queues.known(db):
        if row['alone_since'] and now - row['oldest_since'] >= unread_after:
            warn(
                'unread',
                row['name'],
                max(row['alone_since'], row['oldest_since'] + unread_after),
                f'{row["name"]}: {count_of(row["ready"], "message")} and no consumer, the oldest waits '
                f'{duration(now - row["oldest_since"])}',
            )
    for row in dead.by_queue(db, since):
        if row['waiting']:
            warn(
                'dead',
                row['queue'],
                row['stored'],
                f'{row["queue"] or "queue unknown"}: '
                f'{count_of(row["waiting"], "dead letter")}, {row["reason"]}',
            )
    for row in clients.known(db, back_since=since):
        warn(
            'interrupted',
            row['name'],
            row['back'],
            f'{row["name"]}: was away for {duration(row["back"] - row["last_interruption"])}, and is back',
        )
    return found
