"""Alerts: what somebody should look at, according to a history.

These are mails or webhook calls that fail, an unavailable broker, resource alarms,
messages that wait in a queue without consumers, new dead letters, and clients that
were interrupted. alert_groups.py says them to people.
"""

from __future__ import annotations

import json
import time
from sqlite3 import Connection
from typing import NamedTuple, TypedDict

from siamese.monitoring import clients, database, dead_letters, queues
from siamese.monitoring.snapshot import ALARMS

TOLD_BY = ('mail', 'webhook')  # facts: what the recipients of each were told


class Alert(NamedTuple):
    """One alert of a kind; what is not said of its kind is '', 0 or None.

    'mail', 'webhook': it fails for so many `seconds`, for a `reason`.
    'broker': it has been unavailable for so many `seconds`.
    'alarm': `name` is the alarm in the words of snapshot.py, `reason` one of its
    ALARMS or 'node'; so many clients are blocked (`number`).
    'limit': `reason` says which limit is exceeded.
    'unread': `number` messages wait in the queue `name`, the oldest for `seconds`.
    'dead': `number` dead letters of the queue `name`, for a `reason`, of which so many
    may be `copies`; `invented` if the broker has no such queue: a stranger named it.
    'interrupted': the client `name` was gone for so many `seconds`.
    """

    kind: str
    began: float  # when it became worth a mail
    name: str = ''
    reason: str = ''
    number: int = 0
    seconds: float | None = None
    copies: int = 0
    invented: bool = False


class Failure(TypedDict):
    """Since when nothing could be sent, and why."""

    since: float
    reason: str


class Told(TypedDict):
    """What the recipients know. No times: the clock may have been wrong."""

    letter: int  # the id of the latest dead letter
    standing: list[str]  # alerts that have lasted since then, see key_of()
    interruptions: dict[str, int]  # by client, how many


class News(NamedTuple):
    """What the recipients do not know yet."""

    alerts: list[Alert]  # also those that still last
    dead: int  # dead letters among them
    is_new: bool  # whether one of them was not told
    then: Told  # what they know when they are told these


def warnings(
    db: Connection,
    unread_after: float,
    since: float,
    now: float | None = None,
) -> list[Alert]:
    """Return the alerts of a history at the time `now`.

    Messages count as unread, and the broker as unavailable, after `unread_after`
    seconds. Dead letters and interruptions are left out if they were stored, or
    ended, before the time `since`; so are dead letters that were requeued, or marked as
    seen.
    """
    now = now or time.time()
    return [
        *_failure_alerts(db, now),
        *_standing_alerts(db, unread_after, now),
        *_dead_letter_alerts(dead_letters.by_queue(db, since=since), _seen_queues(db)),
        *_interruption_alerts(clients.rows(db, back_since=since)),
    ]


def told_now(db: Connection, unread_after: float, now: float) -> Told:
    """Return what is to be known by somebody who is to be told from now on."""
    nothing = Told(letter=dead_letters.last_id(db), standing=[], interruptions={})
    return news(db, unread_after, nothing, now).then


def news(db: Connection, unread_after: float, told: Told, now: float) -> News:
    """Return what somebody does not know who was told so much."""
    standing = _standing_alerts(db, unread_after, now)
    lasting = [key_of(alert) for alert in standing if alert.began <= now]
    dead = dead_letters.by_queue(db, after=told['letter'])
    interrupted = clients.rows(db, back_since=0)
    back = [row for row in interrupted if _is_untold(row, told)]
    found = [
        *_dead_letter_alerts(dead, _seen_queues(db)),
        *_interruption_alerts(back),
    ]
    then = Told(
        letter=dead_letters.last_id(db),
        standing=lasting,
        interruptions={client_of(row): row['interruptions'] for row in interrupted},
    )
    is_new = bool(found) or not set(lasting) <= set(told['standing'])
    count = sum(row['waiting'] for row in dead)
    return News([*standing, *found], count, is_new, then)


def remembered(told: Told, then: Told) -> Told:
    """Return of what was told what still holds: what begins anew is told anew."""
    known = then['interruptions']
    return Told(
        # Where all were deleted, a history of an older version counts from 1 again.
        letter=min(told['letter'], then['letter']),
        standing=[key for key in told['standing'] if key in then['standing']],
        interruptions={
            client: min(count, known[client])
            for client, count in told['interruptions'].items()
            if client in known
        },
    )


def key_of(alert: Alert) -> str:
    """Return what is the same for as long as an alert lasts."""
    return f'{alert.kind} {alert.name}'


def client_of(row: clients.ClientRow) -> str:
    return json.dumps([row['name'], row['user']])


def _is_untold(row: clients.ClientRow, told: Told) -> bool:
    return row['interruptions'] > told['interruptions'].get(client_of(row), 0)


def _seen_queues(db: Connection) -> set[str]:
    """Return the names of the queues that the broker knows: a stranger may invent others."""
    return {row['name'] for row in queues.rows(db)}


def _failure_alerts(db: Connection, now: float) -> list[Alert]:
    found = []
    for kind in TOLD_BY:
        state = database.get_fact(db, kind) or {}
        failure: Failure | None = state.get('failure')
        if failure:
            since = failure['since']
            lasts = now - since
            reason = failure['reason']
            found.append(Alert(kind, since, reason=reason, seconds=lasts))
    return found


def _standing_alerts(
    db: Connection,
    unread_after: float,
    now: float,
) -> list[Alert]:
    """Return the alerts that last: each is there until its cause is gone."""
    return [*_broker_alerts(db, unread_after, now), *_unread_alerts(db, unread_after, now)]


def _broker_alerts(
    db: Connection,
    unread_after: float,
    now: float,
) -> list[Alert]:
    broker = database.broker(db)
    found = []
    since = broker['since']
    if since and broker['state'] == database.UNAVAILABLE:
        began = since + unread_after
        found.append(Alert('broker', began, seconds=now - since))
    alarms = broker['alarms'] or {}
    blocked = 0
    if alarms:
        blocked = clients.blocked(db)
    for name, began in alarms.items():
        reason = _reason_of_alarm(name)
        found.append(Alert('alarm', began, name, reason, number=blocked))
    return found


def _reason_of_alarm(name: str) -> str:
    """Return what an alarm is about: 'memory', 'disk', or 'node' for one that does not run."""
    for reason in ALARMS:
        if name.startswith(f'{reason} alarm'):
            return reason
    return 'node'


def _unread_alerts(
    db: Connection,
    unread_after: float,
    now: float,
) -> list[Alert]:
    found = []
    for row in queues.rows(db):
        no_consumer_since = row['no_consumer_since']
        if not no_consumer_since:
            continue
        oldest_since = row['oldest_since'] or no_consumer_since
        age = now - oldest_since
        if age < unread_after:
            continue
        began = max(no_consumer_since, oldest_since + unread_after)
        known_age = None
        if row['oldest_since']:
            known_age = age
        found.append(
            Alert(
                'unread',
                began,
                row['name'],
                number=row['ready'] or 0,
                seconds=known_age,
            )
        )
    return found


def _dead_letter_alerts(
    counts: list[dead_letters.DeadLetterCount],
    seen_queues: set[str],
) -> list[Alert]:
    """Return an alert for each queue and reason."""
    return [
        Alert(
            'dead',
            row['stored'],
            row['queue'],
            row['reason'],
            number=row['unseen'],
            copies=min(row['copies'], row['unseen']),
            invented=row['queue'] not in seen_queues,
        )
        for row in counts
        if row['unseen']
    ]


def _interruption_alerts(rows: list[clients.ClientRow]) -> list[Alert]:
    found = []
    for row in rows:
        began = row['last_interruption']
        ended = row['back']
        if began is None or ended is None:
            continue
        gone = ended - began
        found.append(Alert('interrupted', ended, row['name'], seconds=gone))
    return found
