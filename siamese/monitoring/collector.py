"""What the management API knows of a virtual host, collected into a history.

The API is asked in a thread of its own, for it may be slow; what it answers is stored
by whoever writes the history.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Container, Iterable
from sqlite3 import Connection
from typing import NamedTuple

from siamese.messaging import management_api
from siamese.messaging.link import Link
from siamese.messaging.management_api import ManagementApi
from siamese.messaging.topology import DEAD_LETTER_QUEUE
from siamese.monitoring import clients, clock, database, details, queues, snapshot
from siamese.monitoring.snapshot import NO_NODES_REMEDY, Snapshot

# Grace period: the API may not list yet a connection the event exchange has announced.
GRACE_S = 10
NOT_OURS = (
    f'the management API lists no {DEAD_LETTER_QUEUE}, which monitor.py consumes; '
    'is that the API of this broker? see --management-url'
)
KEEP_OUTAGES = 20
NO_METRICS = 'no metrics of queues and clients'
OLD_STATISTICS = (
    'the broker counts only every {} s, and so old are its figures; let'
    ' collect_statistics_interval be 5000 in rabbitmq.conf'
)


class Outcome(NamedTuple):
    """What came of asking the API once: a snapshot, or why there is none."""

    found: Snapshot | None
    refused: management_api.Refused | None
    took_s: float


def ask(api: ManagementApi, vhost: str) -> Outcome:
    """Ask the management API for all that a history holds."""
    begun = time.monotonic()
    found = refused = None
    try:
        found = snapshot.take(api, vhost)
    except management_api.Refused as error:
        refused = error
    return Outcome(found, refused, time.monotonic() - begun)


class Asker:
    """Asks the management API in a thread, once at a time."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    def is_asking(self) -> bool:
        return self.thread is not None

    def ask(self, api: ManagementApi, vhost: str) -> None:
        """Begin to ask; take() gives the outcome later."""
        self.thread = threading.Thread(target=self._ask, args=(api, vhost), daemon=True)
        self.thread.start()

    def _ask(self, api: ManagementApi, vhost: str) -> None:
        try:
            self.outcome = ask(api, vhost)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = error

    def is_done(self) -> bool:
        """Return whether there is an outcome to take."""
        return self.thread is not None and not self.thread.is_alive()

    def take(self) -> Outcome | None:
        """Return the outcome, once; raise what asking raised."""
        outcome = self.outcome
        self.thread = None
        self.outcome = None
        if self.error:
            raise self.error
        return outcome


def collect(db: Connection, api: ManagementApi, vhost: str) -> None:
    """Ask the management API once, and store the answers; raise Refused."""
    outcome = ask(api, vhost)
    if outcome.refused:
        raise outcome.refused
    if outcome.found:
        store(db, outcome.found)


def store(
    db: Connection,
    found: Snapshot,
    closed: Container[str] | None = None,
    missing: Iterable[str] = (),
    took_s: float = 0,
) -> None:
    """Store a snapshot, which took so long.

    `closed` are connections that are closed according to the event exchange, for the
    API may still list them; None if we do not hear of events. `missing` is what else
    the broker lacks, as in database.broker().
    """
    grace_s = 0.0
    if closed is not None:
        grace_s = GRACE_S + took_s
        for client in (found.clients or {}).values():
            _drop_connections(client, closed)
    with database.transaction(db):
        # Taken in here, so that whoever reads what was until now has seen all of it.
        now = time.time()
        gaps = [*found.missing, *_gaps_of_statistics(db, found), *missing]
        _store_broker(db, found, gaps, now)
        queues.update(
            db,
            now,
            found.queues,
            found.uptime,
            found.process,
            found.unroutable,
            elapsed_s=clock.elapsed(db),
        )
        details.update(db, found.details)
        if found.clients is not None:
            clients.update(db, now, found.clients, grace_s)


def _drop_connections(client: clients.Present, closed: Container[str]) -> None:
    for connection in list(client['connections']):
        if connection in closed:
            del client['connections'][connection]


def _gaps_of_statistics(db: Connection, found: Snapshot) -> list[str]:
    """Find out how often the broker counts, and return what is wrong with that."""
    usual = queues.STATISTICS_INTERVAL_S
    every = database.get_fact(db, 'counted_every', usual)
    before = database.get_fact(db, 'uptime')
    last = database.get_fact(db, 'uptime_asked')
    if found.uptime and before and last:
        every = counted_every(found.uptime - before, found.uptime_asked - last) or every
    database.set_facts(db, counted_every=every, uptime_asked=found.uptime_asked)
    if every == usual:
        return []
    return [OLD_STATISTICS.format(every)]


def counted_every(step_s: float, passed_s: float) -> int | None:
    """Return how often a broker counts (s), None if that cannot be told.

    The uptime that it gives has grown by `step_s` between two looks, and it grows in
    steps: when the broker counts. A step that is much longer than the time that has
    passed is the interval.
    """
    usual = queues.STATISTICS_INTERVAL_S
    if step_s > max(2 * passed_s, passed_s + usual):
        return max(usual, 5 * round(step_s / 5))
    if 0 < step_s <= 2 * usual:
        return usual
    return None


def _store_broker(
    db: Connection,
    found: Snapshot,
    gaps: list[str],
    now: float,
) -> None:
    before = database.get_fact(db, 'alarms', {})
    database.set_facts(
        db,
        product=found.product,
        version=found.version,
        nodes=found.nodes,
        alarms={text: before.get(text, now) for text in found.alarms},
        missing=gaps,
        unknown=found.unknown,
        events=found.has_event_exchange,
    )


def explain(refused: management_api.Refused) -> str:
    """Return why there are no metrics, and the remedy."""
    if refused.status in management_api.NOT_ALLOWED:
        return f'{refused}; {NO_NODES_REMEDY}'
    return str(refused)


def believed(outcome: Outcome) -> Outcome:
    """Return what came of asking; refused where the queue is not there that we consume.

    Else all queues would be gone until the next time, and then counted from 0.
    """
    found = outcome.found
    if not found or any(queue['name'] == DEAD_LETTER_QUEUE for queue in found.queues):
        return outcome
    refused = management_api.Refused(NOT_OURS, 0)
    return Outcome(None, refused, outcome.took_s)


def store_outcome(
    db: Connection,
    outcome: Outcome,
    closed: Container[str] | None,
    missing: Iterable[str],
) -> bool:
    """Store what came of asking; return False where there are no metrics."""
    if outcome.found:
        store(db, outcome.found, closed, missing, outcome.took_s)
        return True
    refused = outcome.refused
    if refused and refused.status != management_api.STARTING:
        text = f'{NO_METRICS}: {explain(refused)}'
        queues.forget_rates(db)
        database.set_facts(db, events=False, missing=[text], unknown=[text])
    return False


def log_gaps(db: Connection, logged: list[str]) -> None:
    """Log what is missing, when it changes: `logged` is what was logged last."""
    gaps = database.get_fact(db, 'missing', [])
    for text in gaps:
        if text not in logged:
            logging.warning('%s', text)
    logged[:] = gaps


def note_state(db: Connection, link: Link, interval: float) -> None:
    """Store whether the broker is available, and that this monitor.py runs."""
    state = database.UNAVAILABLE
    if link.is_ready:
        state = database.UP
    with database.transaction(db):
        now = time.time()
        if database.get_fact(db, 'state') != state:
            since = now
            if link.is_ready:
                _note_outage(db, now)
            else:
                since -= time.monotonic() - link.unavailable_since
            queues.reset_rates(db)
            database.set_facts(db, state=state, since=since)
        monitor = database.MonitorFact(
            name=link.args.name,
            seen=now,
            interval=interval,
        )
        database.set_facts(db, monitor=monitor)


def _note_outage(db: Connection, now: float) -> None:
    """Keep from when to when the broker was unavailable, if it was."""
    before = database.broker(db)
    began = before['since']
    if before['state'] != database.UNAVAILABLE or began is None:
        return
    outages = before['outages'] or []
    outages.append((began, now))
    database.set_facts(db, outages=outages[-KEEP_OUTAGES:])
