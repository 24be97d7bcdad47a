"""What a person should look at: a broker away, alarms, messages nobody picks up, clients that were interrupted."""

import time

import clients
import dead
import history
import queues


def warnings(db, unread_after, since, now=None):
    """Return what a person should look at as [{'kind', 'name', 'began', 'text'}]; the text is one line for people.

    kind: 'broker' (away), 'alarm', 'unread' (a queue without consumer whose oldest message waits `unread_after` s or
    longer), 'dead' (dead letters stored after the time `since` and not sent back), 'interrupted' (a client that came
    back after `since`). name: of the queue or client, else ''. began: since when it is worth a warning.
    """
    now, known, found = now or time.time(), history.broker(db), []

    def warn(kind, name, began, text):
        found.append({'kind': kind, 'name': name, 'began': began, 'text': text})

    if known['state'] == 'away':
        warn('broker', '', known['since'], f'the broker has been away for {now - known["since"]:.0f} s')
    for text in known['alarms'] or []:
        warn('alarm', '', now, text)
    for row in queues.known(db):
        if row['alone_since'] and now - row['oldest_since'] >= unread_after:
            warn('unread', row['name'], max(row['alone_since'], row['oldest_since'] + unread_after),
                 f'{row["name"]}: {row["ready"]} messages and no consumer, the oldest waits '
                 f'{now - row["oldest_since"]:.0f} s')
    for row in dead.by_queue(db, since, requeued=False):
        warn('dead', row['queue'], row['stored'], f'{row["queue"] or "queue unknown"}: {row["count"]} dead letters, '
                                                  f'{row["reason"]}')
    for row in clients.known(db):
        if (row['back'] or 0) > since:
            warn('interrupted', row['name'], row['back'],
                 f'{row["name"]}: was away for {row["back"] - row["last_interruption"]:.0f} s, and is back')
    return found
