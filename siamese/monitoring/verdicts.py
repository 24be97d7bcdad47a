"""The verdicts of a history: who proved what, when, with which books, and how to repeat it."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from sqlite3 import Connection
from typing import Any, TypedDict, Union

from common import Failure
from siamese.monitoring import database
from siamese.redacted import redacted
from siamese.text import shorten

LOCKED_MS = 5_000  # at most so long we wait for others who write
MOST = 200  # entries that are kept of a table
NAMED = 20  # messages that are kept of a list
LONGEST = 2_000  # characters of a text
MOST_BYTES = 200_000  # of the books of one run
NOT_STORED = 'the verdict was not stored: %s'
NO_FLAGS: Mapping[str, object] = {}
TOO_LARGE = {'left out': 'the books of this run are too large; --json FILE has them'}
COLUMNS = 'id, at, script, who, place, text, exit_status, command'

Books = dict[str, Union[str, 'Books']]  # a summary as texts, by their names


class VerdictRow(TypedDict):
    """A verdict of the history, see find()."""

    id: int
    at: float
    script: str
    who: str  # 'user@host'
    place: str  # of the broker, or brokers; '' if it is unknown
    text: str
    exit_status: int
    command: str  # without passwords


class WholeVerdict(VerdictRow):
    """The same with its books, see get()."""

    books: Books


def store_verdict(
    args: argparse.Namespace,
    summary: Mapping[str, Any],
    place: str = '',
    flags: Mapping[str, object] = NO_FLAGS,
) -> None:
    """Store the verdict of this run in the history that --history names, if it does.

    `flags` are needed to repeat the run, where they were not given. What fails here is logged:
    it changes nothing about the verdict.
    """
    if not args.history:
        return
    try:
        with contextlib.closing(database.open_for_writing(args.history)) as db:
            db.execute(f'PRAGMA busy_timeout = {LOCKED_MS}')
            insert(db, summary, place, command_of(sys.argv, flags), time.time())
    except Failure as failure:
        logging.error(NOT_STORED, failure)
    except database.FAULTS as error:
        logging.error(NOT_STORED, database.failure_of(error, args.history))


def insert(
    db: Connection,
    summary: Mapping[str, Any],
    place: str,
    command: str,
    at: float,
) -> None:
    """Store a verdict: `summary` has verdict, exit_status, and the books."""
    books = books_of(summary)
    text = str(books.pop('verdict'))
    status = int(str(books.pop('exit_status')))
    encoded = json.dumps(books)
    if len(encoded) > MOST_BYTES:
        encoded = json.dumps(TOO_LARGE)
    row = {
        'at': at,
        'script': command.split()[0].rpartition('/')[2],
        'who': who(),
        'place': place,
        'text': text,
        'exit_status': status,
        'command': command,
        'books': encoded,
    }
    with database.transaction(db):
        database.upsert(db, 'verdict', row)


def command_of(argv: Sequence[str], flags: Mapping[str, object] = NO_FLAGS) -> str:
    """Return a command line that runs a script of ours again, without its passwords."""
    script, *rest = argv
    given = [each.partition('=')[0] for each in rest]
    for name, value in flags.items():
        if name not in given:
            rest += [name, str(value)]
    return shlex.join([f'./{os.path.basename(script)}', *map(redacted, rest)])


def who() -> str:
    """Return who runs this, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # this number has no name
        user = str(os.getuid())
    return f'{user}@{socket.gethostname()}'


def books_of(summary: Mapping[str, Any]) -> Books:
    """Return a summary as texts, and as much of it as a page can show."""
    return {shorten(name): _text_of(value) for name, value in islice(summary.items(), MOST)}


def _text_of(value: Any) -> str | Books:
    if hasattr(value, '_asdict'):  # a NamedTuple
        value = value._asdict()
    if isinstance(value, Mapping):
        return books_of(value)
    if isinstance(value, (list, tuple)):
        return _text_of_list(value)
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'{value:,}'
    return shorten(redacted(value), LONGEST)


def _text_of_list(values: Sequence[Any]) -> str | Books:
    """Return how many there are, and the first; tables as rows with a number."""
    if any(isinstance(value, (tuple, Mapping)) for value in values):
        return books_of({str(number): value for number, value in enumerate(values, 1)})
    named = ', '.join(str(value) for value in values[:NAMED])
    if len(values) > NAMED:
        named += ', ...'
    count = f'{len(values):,}'
    return shorten(f'{count}: {redacted(named)}', LONGEST) if named else count


def find(
    db: Connection,
    script: str = '',
    status: int | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[VerdictRow], int]:
    """Return (verdicts, how many match): `limit` after `offset`, latest first.

    Only those of a script, or with an exit status: 0 valid, 1 invalid, 3 unknown.
    """
    where = "(? = '' OR script = ?) AND (? IS NULL OR exit_status = ?)"
    values = [script, script, status, status]
    counted = f'SELECT count(*) AS count FROM verdict WHERE {where}'
    count = db.execute(counted, values).fetchone()['count']
    select = f'SELECT {COLUMNS} FROM verdict WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?'
    return db.execute(select, [*values, limit, offset]).fetchall(), count


def get(db: Connection, number: int) -> WholeVerdict | None:
    """Return the verdict with this id, with its books; or None."""
    select = f'SELECT {COLUMNS}, books FROM verdict WHERE id = ?'
    row = db.execute(select, [number]).fetchone()
    if row:
        row['books'] = json.loads(row['books'])
    return row
