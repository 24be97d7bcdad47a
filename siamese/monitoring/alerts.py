"""Alerts: what somebody should look at, according to a history.

These are an unavailable broker, resource alarms, messages that wait in a queue
without consumers, new dead letters, and clients that were interrupted.
"""

from __future__ import annotations

import time
from sqlite3 import Connection
from typing import TypedDict

from siamese.monitoring import clients, database, dead_letters, queues
from siamese.text import count_of, duration


class Alert(TypedDict):
    """One alert; `kind` is 'broker', 'alarm', 'unread', 'dead' or 'interrupted'."""

    kind: str
    name: str  # of the queue or client, '' where there is none
    began: float  # when it became worth a mail
    text: str  # one line for people


def warnings(
    db: Connection,
    unread_after: float,
    since: float,
    now: float | None = None,
) -> list[Alert]:
    """Return the alerts of a history at the time `now`.

    Messages count as unread, and the broker as unavailable, after `unread_after`
    seconds. Dead letters and interruptions are left out if they were stored, or
    ended, before the time `since`; so are dead letters that were requeued.
    """
    now = now or time.time()
    return [
        *_broker_alerts(db, unread_after, now),
        *_unread_alerts(db, unread_after, now),
        *_dead_letter_alerts(db, since),
        *_interruption_alerts(db, since),
    ]


def _broker_alerts(db: Connection, unread_after: float, now: float) -> list[Alert]:
    broker = database.broker(db)
    found = []
    since = broker['since']
    if since and broker['state'] == database.UNAVAILABLE:
        text = f'the broker has been unavailable for {duration(now - since)}'
        found.append(Alert(kind='broker', name='', began=since + unread_after, text=text))
    for text, began in (broker['alarms'] or {}).items():
        found.append(Alert(kind='alarm', name='', began=began, text=text))
    return found


def _unread_alerts(db: Connection, unread_after: float, now: float) -> list[Alert]:
    found = []
    for row in queues.rows(db):
        no_consumer_since = row['no_consumer_since']
        oldest_since = row['oldest_since']
        if not no_consumer_since or not oldest_since:
            continue
        age = now - oldest_since
        if age < unread_after:
            continue
        name = row['name']
        messages = count_of(row['ready'], 'message')
        text = f'{name}: {messages} and no consumer, the oldest waits {duration(age)}'
        began = max(no_consumer_since, oldest_since + unread_after)
        found.append(Alert(kind='unread', name=name, began=began, text=text))
    return found


def _dead_letter_alerts(db: Connection, since: float) -> list[Alert]:
    found = []
    for row in dead_letters.by_queue(db, since):
        if not row['waiting']:
            continue
        queue = row['queue']
        waiting = count_of(row['waiting'], 'dead letter')
        text = f'{queue or "queue unknown"}: {waiting}, {row["reason"]}'
        found.append(Alert(kind='dead', name=queue, began=row['stored'], text=text))
    return found


def _interruption_alerts(db: Connection, since: float) -> list[Alert]:
    found = []
    for row in clients.rows(db, back_since=since):
        name = row['name']
        began = row['last_interruption']
        ended = row['back']
        if began is None or ended is None:
            continue
        gone = duration(ended - began)
        text = f'{name}: was disconnected for {gone}, and is back'
        found.append(Alert(kind='interrupted', name=name, began=ended, text=text))
    return found
