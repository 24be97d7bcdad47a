"""What monitor.py prints of its history: the situation now, and reports by period."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

import common
from common import Failure
from siamese.messaging import management_api
from siamese.messaging.management_api import ManagementApi
from siamese.monitoring import alerts, clients, collector, database, dead_letters, queues
from siamese.monitoring.clients import ClientRow
from siamese.monitoring.database import DAY_S, Row
from siamese.monitoring.queues import QueueRow
from siamese.text import count_of, duration, printable, shorten, table, utc

RETRY_S = 0.5
# How far a report looks back, unless --since says more.
PERIOD_OF_REPORT_S = {'day': 31 * DAY_S, 'month': 731 * DAY_S}
LABELS = {'day': '%Y-%m-%d', 'month': '%Y-%m', 'year': '%Y'}
DEAD_COLUMNS = ('id', 'at', 'queue', 'reason', 'sender', 'message_id', 'size', 'requeued')
QUEUE_HEADS = (
    'queue',
    'ready',
    'unacked',
    'consumers',
    'oldest',
    'published/s',
    'delivered/s',
    'acked/s',
)
CLIENT_HEADS = ('client', 'user', 'state', 'for', 'does', 'interrupted', 'last (UTC)')


class Situation(NamedTuple):
    """What a history holds now."""

    now: float
    is_kept: bool  # in a file, by a monitor.py: so the age of messages is known
    broker: database.Broker
    queues: list[QueueRow]
    clients: list[ClientRow]
    warnings: list[alerts.Alert]

    def waiting(self) -> int:
        return sum(row['ready'] for row in self.queues)


def check(args: argparse.Namespace) -> int:
    """Print the situation now in one line for Nagios; return the exit status."""
    try:
        return once(args)
    except (Failure, sqlite3.Error) as failure:
        print(f'SIAMESE UNKNOWN - {printable(failure)}'.replace('|', '/'))
        return 3


def once(args: argparse.Namespace) -> int:
    """Print the situation now; return the exit status."""
    situation = _situation(args)
    status = int(bool(args.check and situation.warnings))
    if args.json:
        content = {
            'broker': situation.broker,
            'queues': situation.queues,
            'clients': situation.clients,
            'warnings': situation.warnings,
        }
        write_json(args.json, content)
    if args.json == '-':
        return status
    if args.check:
        _print_check(situation)
    else:
        _print_situation(situation)
    return status


def _situation(args: argparse.Namespace) -> Situation:
    """Collect once, unless a monitor.py does so every few seconds; return what is known."""
    is_kept = os.path.exists(args.history)
    path = ':memory:'
    if is_kept:
        path = args.history
    endpoint = args.endpoints[0]
    db = database.open_for_writing(path)
    api = management_api.api(endpoint, args.management_url)
    try:
        if database.take_ownership(db, path, common.display_address(endpoint)):
            _collect_once_started(db, api, endpoint.virtual_host)
            since = database.get_fact(db, 'since')
            database.set_facts(db, state=database.UP, since=since)
        else:
            api.get('overview')
    except management_api.Refused as refused:
        remedy = '; is it running, is --management-url right?'
        if refused.status:  # it answers
            remedy = ''
        raise Failure(f'{refused}{remedy}', 3) from None
    now = time.time()
    return Situation(
        now=now,
        is_kept=is_kept,
        broker=database.broker(db),
        queues=queues.rows(db),
        clients=clients.rows(db),
        warnings=alerts.warnings(db, args.unread_after or 0, now - DAY_S, now),
    )


def _collect_once_started(db: Connection, api: ManagementApi, vhost: str) -> None:
    """Collect once; wait for a broker that has only just started."""
    deadline = time.monotonic() + queues.STARTING_S
    while True:
        try:
            collector.collect(db, api, vhost)
        except management_api.Refused as refused:  # noqa: PERF203
            if refused.status != 503 or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
        else:
            return


def _print_check(situation: Situation) -> None:
    state = 'OK'
    text = count_of(len(situation.queues), 'queue')
    if situation.warnings:
        state = 'WARNING'
        text = '; '.join(printable(alert['text']) for alert in situation.warnings)
    counts = {
        'ready': situation.waiting(),
        'unacked': sum(row['unacked'] for row in situation.queues),
        'queues': len(situation.queues),
        'warnings': len(situation.warnings),
    }
    data = ' '.join(f'{name}={count}' for name, count in counts.items())
    print(f'SIAMESE {state} - {text.replace("|", "/")} | {data}')


def _print_situation(situation: Situation) -> None:
    rows = [_queue_cells(row, situation) for row in situation.queues]
    print(*table(QUEUE_HEADS, rows), sep='\n')
    connected = [row for row in situation.clients if row['state'] != 'gone']
    recent = situation.now - DAY_S
    shown = [row for row in situation.clients if row['state'] != 'gone' or row['since'] > recent]
    if shown:
        rows = [_client_cells(row, situation.now) for row in shown]
        print('', *table(CLIENT_HEADS, rows), sep='\n')
    for alert in situation.warnings:
        print(f'warning: {printable(alert["text"])}')
    warnings = 'no warnings'
    if situation.warnings:
        warnings = count_of(len(situation.warnings), 'warning')
    known_queues = count_of(len(situation.queues), 'queue')
    people = count_of(len(connected), 'client')
    print(f'{warnings}: {known_queues}, {situation.waiting():,} messages wait, {people}')


def _queue_cells(row: QueueRow, situation: Situation) -> list[Any]:
    oldest = '-'
    if row['oldest_since']:
        oldest = '?'
        if situation.is_kept:
            oldest = duration(situation.now - row['oldest_since'])
    return [
        shorten(row['name']),
        row['ready'],
        row['unacked'],
        row['consumers'],
        oldest,
        f'{row["publish_rate"]:,.1f}',
        f'{row["deliver_rate"]:,.1f}',
        f'{row["ack_rate"]:,.1f}',
    ]


def _client_cells(row: ClientRow, now: float) -> list[Any]:
    return [
        shorten(row['name']),
        shorten(row['user']),
        row['state'],
        duration(now - row['since']),
        shorten(row['does']),
        row['interruptions'],
        utc(row['last_interruption']),
    ]


class Report(NamedTuple):
    """A table to print."""

    heads: Sequence[str]
    rows: list[list[Any]]
    errors: int  # dead letters among them
    unroutable: str  # how many messages no queue took, '' for none


def print_report(args: argparse.Namespace) -> int:
    """Print the history by day, month or year, or the dead letters; return the status."""
    db = database.open_for_reading(args.history)
    since = args.since
    if since is None:
        now = time.time()
        since = now - PERIOD_OF_REPORT_S.get(args.report, now)
    if args.report == 'dead':
        made = _dead_letter_report(db, args.queue, since)
    else:
        made = _period_report(db, args.report, args.queue, since)
    if not made.rows and not made.unroutable:
        remedy = 'see --queue and --since'
        raise Failure(f'{args.history} has nothing to report; {remedy}', 3)
    if args.csv:
        write_csv(args.csv, [made.heads, *made.rows])
    if args.json:
        write_json(args.json, [dict(zip(made.heads, row)) for row in made.rows])
    if '-' in (args.csv, args.json):
        return 0
    print(*table(made.heads, made.rows), sep='\n')
    lines = count_of(len(made.rows), 'line')
    text = f'{lines}, {count_of(made.errors, "message")} not picked up or rejected'
    if made.unroutable:
        text += f'; {made.unroutable}, for no queue took them'
    print(text)
    return 0


def _dead_letter_report(db: Connection, queue: str | None, since: float) -> Report:
    found, _ = dead_letters.find(db, queue=queue, since=since, limit=-1)
    rows = []
    for row in reversed(found):
        times = {'at': utc(row['at']), 'requeued': utc(row['requeued'])}
        cells = {**row, **times}
        rows.append([cells[name] for name in DEAD_COLUMNS])
    return Report(DEAD_COLUMNS, rows, len(rows), '')


def _period_report(db: Connection, period: str, queue: str | None, since: float) -> Report:
    since = database.start_of(period, since)
    rows = []
    errors = 0
    for row in database.by_period(db, period, queue, since):
        metrics = [row[name] for name in database.METRICS]
        rows.append([utc(row['start'], LABELS[period]), row['queue'], *metrics])
        errors += sum(row[name] for name in database.ERRORS)
    unroutable = ''
    if not queue:
        unroutable = _unroutable(database.by_period(db, period, since=since, total=True))
    return Report((period, 'queue', *database.METRICS), rows, errors, unroutable)


def _unroutable(rows: list[Row]) -> str:
    texts = []
    for name in database.UNROUTABLE:
        count = sum(row[name] for row in rows)
        if count:
            texts.append(f'{count:,} {name}')
    return ' and '.join(texts)


def write_csv(path: str, rows: list[Sequence[Any]]) -> None:
    """Write rows into a CSV file; '-' is stdout."""
    with open(_target(path), 'w', newline='', encoding='utf-8', closefd=path != '-') as file:
        csv.writer(file).writerows(rows)


def write_json(path: str, content: object) -> None:
    """Write a JSON file; '-' is stdout."""
    with open(_target(path), 'w', closefd=path != '-') as file:
        print(json.dumps(content), file=file)


def _target(path: str) -> str | int:
    if path == '-':
        return sys.stdout.fileno()
    return path
