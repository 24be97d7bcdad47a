"""What monitor.py prints of its history: the situation now, and what was by day, month or year."""

import csv
import json
import os
import sqlite3
import sys
import time

import common
from common import Failure
from siamese.messaging import management_api as management
from siamese.monitoring import alerts as notices
from siamese.monitoring import clients, queues
from siamese.monitoring import collector as figures
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.text import count_of, duration, printable, shorten, table, utc

DAY = 86400  # s
JUST_STARTED = 10  # s until a broker has figures, at the most
LOOK_BACK = {'day': 31 * DAY, 'month': 731 * DAY}  # s a report looks back unless --since says more
LABELS = {'day': '%Y-%m-%d', 'month': '%Y-%m', 'year': '%Y'}
LETTER = ('id', 'at', 'queue', 'reason', 'sender', 'message_id', 'size', 'requeued')


def check(args):
    """Print the situation now in one line, as Nagios wants it; return the exit status."""
    try:
        return once(args)
    except (Failure, sqlite3.Error) as failure:
        print(f'SIAMESE UNKNOWN - {printable(failure)}'.replace('|', '/'))
        return 3


def once(args):
    """Print the situation now; return the exit status."""
    kept = os.path.exists(args.history)
    path, endpoint = args.history if kept else ':memory:', args.endpoints[0]
    db, call = history.open_for_writing(path), management.api(endpoint, args.management_url)
    try:
        if history.take_ownership(
            db, path, common.display_address(endpoint)
        ):  # else a monitor.py does it every few seconds
            collect_at_last(db, call, endpoint.virtual_host)
            history.set_facts(db, state='up', since=history.get_fact(db, 'since'))
        else:
            call('overview')
    except management.Refused as refused:
        raise Failure(f'{refused}; is it running, is --management-url right?', 3) from None
    now, rows, people = time.time(), queues.known(db), clients.known(db)
    warnings = notices.warnings(db, args.unread_after or 0, now - DAY, now)
    waiting = sum(row['ready'] for row in rows)
    if args.json:
        write_json(
            args.json,
            {'broker': history.broker(db), 'queues': rows, 'clients': people, 'warnings': warnings},
        )
    if args.json == '-':
        return int(bool(args.check and warnings))
    if args.check:
        told = '; '.join(printable(row['text']) for row in warnings) or count_of(len(rows), 'queue')
        print(
            f'SIAMESE {"WARNING" if warnings else "OK"} - {told.replace("|", "/")} | ready={waiting} '
            f'unacked={sum(row["unacked"] for row in rows)} queues={len(rows)} warnings={len(warnings)}'
        )
        return 1 if warnings else 0
    lines = [
        (
            shorten(row['name']),
            row['ready'],
            row['unacked'],
            row['consumers'],
            '-'
            if not row['oldest_since']
            else duration(now - row['oldest_since'])
            if kept
            else '?',
            *(f'{row[rate]:,.1f}' for rate in history.RATES),
        )
        for row in rows
    ]
    print(
        *table(
            ('queue', 'ready', 'unacked', 'consumers', 'oldest', 'in/s', 'out/s', 'acked/s'), lines
        ),
        sep='\n',
    )
    shown = [row for row in people if row['state'] != 'gone' or row['since'] > now - DAY]
    if shown:
        print(
            '',
            *table(
                ('client', 'user', 'state', 'for', 'does', 'interrupted', 'last (UTC)'),
                [
                    (
                        shorten(row['name']),
                        shorten(row['user']),
                        row['state'],
                        duration(now - row['since']),
                        shorten(row['does']),
                        row['interruptions'],
                        utc(row['last_interruption']),
                    )
                    for row in shown
                ],
            ),
            sep='\n',
        )
    for row in warnings:
        print(f'warning: {printable(row["text"])}')
    print(
        f'{count_of(len(warnings), "warning") if warnings else "no warnings"}: {count_of(len(rows), "queue")}, '
        f'{waiting:,} messages wait, {count_of(sum(row["state"] != "gone" for row in people), "client")}'
    )
    return 0


def collect_at_last(db, call, vhost):
    """Collect once; a broker that has only just started has figures after some seconds."""
    deadline = time.monotonic() + JUST_STARTED
    while True:
        try:
            return figures.collect(db, call, vhost)
        except management.Refused as refused:  # noqa: PERF203
            if refused.status != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def report(args):
    """Print the history by day, month or year, or the dead letters; return the exit status."""
    db, lost = history.open_for_reading(args.history), ''
    since = (
        args.since
        if args.since is not None
        else time.time() - LOOK_BACK.get(args.report, time.time())
    )
    if args.report == 'dead':
        found, _ = dead.letters(db, queue=args.queue, since=since, limit=-1)
        heads, rows = (
            LETTER,
            [
                [utc(row[key]) if key in ('at', 'requeued') else row[key] for key in LETTER]
                for row in reversed(found)
            ],
        )
    else:
        since = history.start_of(args.report, since)
        found = history.report(db, args.report, args.queue, since)
        if not args.queue:
            all_queues = history.report(db, args.report, since=since, total=True)
            counts = {name: sum(row[name] for row in all_queues) for name in history.UNROUTABLE}
            lost = ' and '.join(f'{count:,} {name}' for name, count in counts.items() if count)
        heads = (args.report, 'queue', *history.FIGURES)
        rows = [
            [
                utc(row['start'], LABELS[args.report]),
                row['queue'],
                *(row[name] for name in history.FIGURES),
            ]
            for row in found
        ]
    if not rows and not lost:
        raise Failure(f'nothing in {args.history} of that; see --queue and --since', 3)
    if args.csv:
        with open(
            sys.stdout.fileno() if args.csv == '-' else args.csv,
            'w',
            newline='',
            encoding='utf-8',
            closefd=args.csv != '-',
        ) as file:
            csv.writer(file).writerows([heads, *rows])
    if args.json:
        write_json(args.json, [dict(zip(heads, row)) for row in rows])
    if '-' in (args.csv, args.json):
        return 0
    print(*table(heads, rows), sep='\n')
    errors = (
        len(rows)
        if args.report == 'dead'
        else sum(row[name] for row in found for name in history.ERRORS)
    )
    print(
        f'{count_of(len(rows), "line")}, {count_of(errors, "message")} not picked up or refused'
        + (f'; {lost}, for no queue took them' if lost else '')
    )
    return 0


def write_json(path, content):
    with open(sys.stdout.fileno() if path == '-' else path, 'w', closefd=path != '-') as file:
        print(json.dumps(content), file=file)
