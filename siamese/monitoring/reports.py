"""What monitor.py prints of its history: the situation now, and reports by period."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple, TextIO

import pika

import common
from common import Failure
from siamese import terminal
from siamese.messaging import answers, blocking, management_api
from siamese.messaging.management_api import ManagementApi
from siamese.monitoring import (
    alert_groups,
    alerts,
    clients,
    collector,
    database,
    dead_letters,
    nagios,
    queues,
    thresholds,
)
from siamese.monitoring.alert_groups import Group
from siamese.monitoring.clients import ClientRow
from siamese.monitoring.database import DAY_S, Row
from siamese.monitoring.queues import QueueRow, total_of
from siamese.terminal import show, show_table
from siamese.text import UNKNOWN, count_of, duration, shorten, utc

RETRY_S = 0.5
NOTHING = '-'
FORMULA = ('=', '+', '-', '@', '\t', '\r')  # what a cell of CSV that is one begins with
WARNING_INDENT = 4  # columns
MAX_IDLE = 20  # queues without anything that --once shows
MAX_ROWS = 1000  # of a table of --once
MAX_REPORTED = 10_000  # rows of --report
SHOWN = 255  # characters of a name: a queue has no longer one
# How far a report looks back, unless --since says more.
PERIOD_OF_REPORT_S = {'hour': 2 * DAY_S, 'day': 31 * DAY_S, 'month': 731 * DAY_S}
LABELS = {'hour': '%Y-%m-%d %H:00', 'day': '%Y-%m-%d', 'month': '%Y-%m', 'year': '%Y'}
DEAD_COLUMNS = ('id', 'at', 'queue', 'reason', 'sender', 'message_id', 'size', 'requeued', 'copy')
COPY = {0: '-', 1: 'maybe'}
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
    age_s: float  # of the counters, at most
    resolution_s: float  # of the age of messages
    broker: database.Broker
    unknown: list[str]  # why figures are
    queues: list[QueueRow]
    clients: list[ClientRow]
    figures: thresholds.Figures
    warnings: list[Group]

    def total(self, name: str) -> int | None:
        """Return the sum of a figure of all queues, None if it is unknown."""
        return total_of(self.queues, name)


def check(args: argparse.Namespace) -> int:
    """Print the situation now in one line for Nagios; return the exit status."""
    try:
        return once(args)
    except blocking.Unreachable as failure:
        status, text = nagios.CRITICAL, str(failure)
    except Failure as failure:
        status, text = nagios.UNKNOWN, str(failure)
    except database.FAULTS as error:
        status = nagios.UNKNOWN
        text = str(database.failure_of(error, args.history))
    show(nagios.of_state(status, text))
    return status


def once(args: argparse.Namespace) -> int:
    """Print the situation now; return the exit status."""
    situation = _situation(args)
    status = 0
    if args.check:
        status = nagios.status(situation.warnings, situation.unknown)
    if args.json:
        warnings = [
            {**group._asdict(), 'members': [alert._asdict() for alert in group.members]}
            for group in situation.warnings
        ]
        content = {
            'broker': situation.broker,
            'queues': situation.queues,
            'clients': situation.clients,
            'warnings': warnings,
            'unknown': situation.unknown,
        }
        write_json(args.json, content)
    if args.json == '-':
        return status
    if args.check:
        _print_check(situation, args.critical or {})
    else:
        _print_situation(situation, args.dashboard_url)
    return status


def _situation(args: argparse.Namespace) -> Situation:
    """Collect once, unless a monitor.py does so every few seconds; return what is known."""
    is_kept = os.path.exists(args.history)
    path = ':memory:'
    if is_kept:
        path = args.history
    db = database.open_for_writing(path)
    age_s = _bring_up_to_date(db, path, args)
    if not is_kept:
        queues.forget_ages(db)
    now = time.time()
    rows = queues.rows(db)
    found = alerts.warnings(db, args.unread_after or 0, now - DAY_S, now)
    figures = thresholds.figures(rows, found)
    found += thresholds.exceeded(figures, args.critical or {}, now)
    return Situation(
        now=now,
        is_kept=is_kept,
        age_s=age_s + queues.counted_every_s(db),
        resolution_s=queues.age_resolution_s(db),
        broker=database.broker(db),
        unknown=database.get_fact(db, 'unknown', []),
        queues=rows,
        clients=clients.rows(db),
        figures=figures,
        warnings=alert_groups.grouped(found),
    )


def _bring_up_to_date(db: Connection, path: str, args: argparse.Namespace) -> float:
    """Collect, unless a monitor.py does so; return how old the counters may be (s)."""
    endpoint = args.endpoints[0]
    api = management_api.of_flags(args, endpoint)
    try:
        answers.get_object(api, 'overview')  # only who was reached claims the history
    except management_api.Refused as refused:
        if _is_known_to_be_away(db, path, endpoint):
            return _interval_of_collections(db)
        if refused.status == 0:  # no answer at all: is there a broker?
            blocking.first_reachable(args.endpoints)
        raise Failure(collector.explain(refused), 3) from None
    if not database.is_free(path):
        return _interval_of_collections(db)
    database.claim(db, path, common.display_address(endpoint))
    try:
        _collect_once_started(db, api, endpoint.virtual_host)
    except management_api.Refused as refused:
        raise Failure(collector.explain(refused), 3) from None
    since = database.get_fact(db, 'since')
    database.set_facts(db, state=database.UP, since=since)
    return 0


def _is_known_to_be_away(
    db: Connection,
    path: str,
    endpoint: pika.ConnectionParameters,
) -> bool:
    """Return whether a monitor.py that runs has lost this broker."""
    if database.is_free(path):
        return False
    broker = database.broker(db)
    is_ours = broker['place'] == common.display_address(endpoint)
    return is_ours and broker['state'] == database.UNAVAILABLE


def _interval_of_collections(db: Connection) -> float:
    """Return the seconds between two collections of the monitor.py that keeps a history."""
    monitor = database.broker(db)['monitor']
    if not monitor:  # it has only just started
        return 0
    return monitor['interval']


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


def _print_check(situation: Situation, limits: dict[str, float]) -> None:
    text = nagios.line(
        situation.warnings,
        situation.unknown,
        situation.figures,
        limits,
        len(situation.queues),
    )
    show(text)


def _print_situation(situation: Situation, dashboard: str | None) -> None:
    _print_queues(situation)
    connected = [row for row in situation.clients if row['state'] != 'gone']
    recent = situation.now - DAY_S
    shown = [row for row in situation.clients if row['state'] != 'gone' or row['since'] > recent]
    if shown:
        rows = [_client_cells(row, situation.now) for row in shown]
        show('')
        _show_table(CLIENT_HEADS, rows)
    for group in situation.warnings:
        _print_warning(group, dashboard)
    for text in situation.unknown:
        show(f'unknown: {text}', colour=terminal.YELLOW)
    warnings = 'no warnings'
    if situation.unknown:
        warnings = 'no warnings as far as is known'
    if situation.warnings:
        warnings = count_of(len(situation.warnings), 'warning')
    known_queues = count_of(len(situation.queues), 'queue')
    people = count_of(len(connected), 'client')
    waiting = _waiting(situation.total('ready'))
    found = f'{known_queues}, {waiting}, {people}'
    show(f'{warnings}: {found}; counters are up to {situation.age_s:g} s old')


def _waiting(messages: int | None) -> str:
    if messages == 1:
        return '1 message waits'
    return f'{thousands(messages)} messages wait'


def _print_queues(situation: Situation) -> None:
    """Print the queues, the fullest first; of many without anything only how many there are."""
    rows = sorted(situation.queues, key=_fullest_first)
    idle = [row for row in rows if _is_idle(row)]
    if len(idle) > MAX_IDLE:
        rows = [row for row in rows if not _is_idle(row)]
    _show_table(QUEUE_HEADS, [_queue_cells(row, situation) for row in rows])
    if len(idle) > MAX_IDLE:
        show(f'and {len(idle):,} queues without messages: --json FILE writes all')


def _fullest_first(row: QueueRow) -> tuple[int, str]:
    waiting = (row['ready'] or 0) + (row['unacked'] or 0)
    return -waiting, row['name']


def _is_idle(row: QueueRow) -> bool:
    """Return whether a queue is known to hold nothing, and nothing flows."""
    figures = [
        row['ready'],
        row['unacked'],
        row['publish_rate'],
        row['deliver_rate'],
        row['ack_rate'],
    ]
    return all(figure == 0 for figure in figures)


def _print_warning(group: Group, dashboard: str | None) -> None:
    """Print what is wrong, who has the most of it, what to do, and where all of it is."""
    colour = terminal.YELLOW
    if group.critical:
        colour = terminal.RED
    show(f'{group.level}: {group.text}', colour=colour, indent=WARNING_INDENT)
    link = alert_groups.link(group, dashboard)
    for text in filter(None, [group.most, group.remedy, link]):
        show(' ' * WARNING_INDENT + text, indent=WARNING_INDENT)


def _show_table(heads: Sequence[str], rows: list[list[Any]]) -> None:
    """Print the first rows of a table, and how many more there are."""
    show_table(heads, rows[:MAX_ROWS])
    more = len(rows) - MAX_ROWS
    if more > 0:
        show(f'and {more:,} more: --json FILE writes all')


def _queue_cells(row: QueueRow, situation: Situation) -> list[Any]:
    return [
        shorten(row['name']),
        shown(row['ready']),
        shown(row['unacked']),
        shown(row['consumers']),
        queues.oldest_age(row, situation.now, situation.resolution_s) or '-',
        shown_rate(row['publish_rate']),
        shown_rate(row['deliver_rate']),
        shown_rate(row['ack_rate']),
    ]


def shown(number: int | None, unknown: str = UNKNOWN) -> Any:
    """Return a number, or what stands for an unknown one."""
    return unknown if number is None else number


def thousands(number: int | None) -> str:
    return UNKNOWN if number is None else f'{number:,}'


def shown_rate(per_second: float | None) -> str:
    return UNKNOWN if per_second is None else f'{per_second:,.1f}'


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
    copies: int  # of those so many may be copies
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
    latest = made.rows[-MAX_REPORTED:]
    show_table(made.heads, [_shortened(row) for row in latest])
    lines = count_of(len(made.rows), 'line')
    if len(latest) < len(made.rows):
        lines += f', of which these are the last {MAX_REPORTED:,} (--csv FILE writes all)'
    text = f'{lines}, {count_of(made.errors, "message")} not picked up or rejected'
    text += dead_letters.may_be_copies(made.copies)
    if made.unroutable:
        text += f'; {made.unroutable}, for no queue took them'
    show(text)
    return 0


def _shortened(row: list[Any]) -> list[Any]:
    """Return the cells of a row, with an end to what a stranger wrote."""
    return [shorten(cell, SHOWN) if isinstance(cell, str) else cell for cell in row]


def _dead_letter_report(db: Connection, queue: str | None, since: float) -> Report:
    found, _ = dead_letters.find(db, queue=queue, since=since, limit=-1)
    rows = []
    for row in reversed(found):
        words = {'at': utc(row['at']), 'requeued': utc(row['requeued']), 'copy': COPY[row['copy']]}
        cells = {**row, **words}
        rows.append([cells[name] for name in DEAD_COLUMNS])
    copies = sum(row['copy'] for row in found)
    return Report(DEAD_COLUMNS, rows, len(rows), copies, '')


def _period_report(
    db: Connection,
    period: str,
    queue: str | None,
    since: float,
) -> Report:
    since = database.start_of(period, since)
    rows = []
    errors = copies = 0
    for row in database.by_period(db, period, queue, since):
        rows.append(period_cells(row, period))
        errors += sum(row[name] for name in database.ERRORS)
        copies += row['copies']
    unroutable = ''
    if not queue:
        unroutable = _unroutable(database.by_period(db, period, since=since, total=True))
    return Report(period_heads(period), rows, errors, copies, unroutable)


def period_heads(period: str) -> list[str]:
    """Return the heads of a report by period."""
    return [period, 'queue', *database.METRICS]


def period_cells(row: Row, period: str) -> list[Any]:
    """Return the cells of a row of database.by_period()."""
    metrics = [row[name] for name in database.METRICS]
    return [utc(row['start'], LABELS[period]), row['queue'], *metrics]


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
        write_rows(file, rows)


def write_rows(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV."""
    csv.writer(file).writerows([harmless(cell) for cell in row] for row in rows)


def harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before."""
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA) and cell != NOTHING
    return f"'{cell}" if is_formula else cell


def write_json(path: str, content: object) -> None:
    """Write a JSON file; '-' is stdout."""
    with open(_target(path), 'w', closefd=path != '-') as file:
        print(json.dumps(content), file=file)


def _target(path: str) -> str | int:
    if path == '-':
        return sys.stdout.fileno()
    return path
