"""What the dashboard shows of runs: the verdicts of audit.py, compare.py and soak.py."""

from __future__ import annotations

import sqlite3

from nicegui import events, ui

from siamese.monitoring import verdicts
from siamese.monitoring.verdicts import Books, VerdictRow, WholeVerdict
from siamese.text import printable, shorten, utc
from siamese.web.formats import since
from siamese.web.ledgers_card import LedgersCard
from siamese.web.page import Page, read_history
from siamese.web.tables import PagedTable, Row, column
from siamese.web.widgets import Empty, box, button, local_time, say, toggle

GAP = 'margin: 14px 0 0'
SHOWN = 200  # characters of a verdict in the table
MAX_DIGITS = 19  # of the number of a verdict
ZERO = '0'
COLUMNS = [
    column('at', 'When (UTC)', 'open', first=True),
    column('local', 'Your time', 'local', broad=True),
    column('state', 'Result', 'state'),
    column('script', 'Script'),
    column('text', 'Verdict', 'wide'),
    column('place', 'Broker', 'wide'),
    column('who', 'Who', 'wide'),
]
STATES = {  # by exit status: the tone and the word
    0: ('good', 'passed'),
    1: ('bad', 'failed'),
}
UNKNOWN_STATE = ('warn', 'not known')
WANTED = {  # what the page shows: the exit status
    'all': None,
    'passed': 0,
    'failed': 1,
    'not known': 3,
}


def show_verdicts(page: Page) -> None:
    if page.args.watch:
        LedgersCard(page, page.args.watch)
    page.refreshers.append(VerdictsView(page).refresh)


class VerdictsView:
    """The table of runs, and which of them it shows."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.opened = page.address.get('verdict')
        with box('section', 'card lasting'):
            with box('div', 'head'):
                say('h2', 'What was proved of this broker')
                wanted = page.address.get('result', 'all')
                if wanted not in WANTED:
                    wanted = 'all'
                self.wanted = toggle('result', [*WANTED], wanted, self.choose)
            self.nothing = Empty()
            self.table = PagedTable(page.address, 'verdicts', COLUMNS, self.refresh)
            self.table.on('open', self.open)

    async def choose(self) -> None:
        self.page.address.set(result=self.wanted.value, page='')
        await self.refresh()

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        rows, total = found
        self.table.show_in_order([table_row(row) for row in rows], total)
        self.table.set_visibility(bool(total))
        if total:
            self.nothing.hide()
        elif self.wanted.value == 'all':
            self.nothing.show(
                'No verdicts yet',
                f'./audit.py, ./compare.py and ./soak.py with --history {self.page.args.history}'
                ' store theirs here.',
            )
        else:
            self.nothing.show(f'No run {self.wanted.value}', 'Choose "all" to see the others.')
        if self.opened:
            await self.reopen()

    def read(self, db: sqlite3.Connection) -> tuple[list[VerdictRow], int]:
        status = WANTED[self.wanted.value]
        _, total = verdicts.find(db, status=status, limit=0)
        first = self.table.first_of(total)
        return verdicts.find(db, status=status, limit=self.table.size(), offset=first)

    async def open(self, event: events.GenericEventArguments) -> None:
        self.page.address.set(verdict=str(event.args))
        await open_verdict(self.page, event.args)

    async def reopen(self) -> None:
        """Open the verdict that the address names."""
        number = self.opened
        self.opened = ''
        if number.isdecimal() and len(number) < MAX_DIGITS:
            await open_verdict(self.page, int(number))


def table_row(verdict: VerdictRow) -> Row:
    tone, state = state_of(verdict)
    return {
        'id': verdict['id'],
        'at': utc(verdict['at']),
        'local': verdict['at'],
        'state': state,
        'tone': tone,
        'script': printable(verdict['script']),
        'text': shorten(verdict['text'], SHOWN),
        'place': shorten(verdict['place'], SHOWN),
        'who': shorten(verdict['who'], SHOWN),
    }


def state_of(verdict: VerdictRow) -> tuple[str, str]:
    """Return the tone and the name of a result."""
    return STATES.get(verdict['exit_status'], UNKNOWN_STATE)


# ---- one of them


async def open_verdict(page: Page, number: int) -> None:
    """Show the verdict that has a number in the history."""
    found, _ = await read_history(page, lambda db: verdicts.get(db, number))
    if found:
        VerdictDialog(page, found)


class VerdictDialog:
    """Who proved what, with which books, and how to repeat it."""

    def __init__(self, page: Page, verdict: WholeVerdict) -> None:
        self.page = page
        self.verdict = verdict
        self.dialog = ui.dialog(value=True)
        with self.dialog, box('div', 'card'):
            self.add_title()
            self.add_facts()
            say('h2', 'To repeat it').style(GAP)
            say('pre', printable(verdict['command']), 'body')
            say('h2', 'Books').style(GAP)
            add_books(verdict['books'])
        self.dialog.on('hide', self.leave)

    def leave(self) -> None:
        self.page.address.set(verdict='')
        self.dialog.delete()

    def add_title(self) -> None:
        tone, state = state_of(self.verdict)
        title = f'Run {self.verdict["id"]}, {printable(self.verdict["script"])}'
        self.dialog.props['aria-label'] = title
        with box('div', 'head'):
            say('h2', title)
            say('span', state, f'state {tone}')
            close = button('', self.dialog.close, 'close', plain=True)
            close.props['aria-label'] = 'close'

    def add_facts(self) -> None:
        verdict = self.verdict
        at = verdict['at']
        with box('dl', 'facts'):
            say('dt', 'verdict')
            say('dd', '\n'.join(map(printable, verdict['text'].split('\n'))))
            say('dt', 'when')
            with box('dd'):
                say('span', f'{utc(at)} UTC, {since(at, self.page.clock)}, ')
                local_time(at)
            say('dt', 'broker')
            say('dd', printable(verdict['place'] or 'not told'))
            say('dt', 'by')
            say('dd', printable(verdict['who']))


def add_books(books: Books) -> None:
    """Show what a run counted: what is 0 in one line, tables one below the other."""
    zeros = [name for name, value in books.items() if value in (ZERO, {})]
    with box('dl', 'facts'):
        for name, value in books.items():
            if name not in zeros:
                add_entry(name, value)
        if zeros:
            say('dt', ZERO)
            say('dd', ', '.join(map(words_of, zeros)))


def add_entry(name: str, value: str | Books) -> None:
    say('dt', words_of(name))
    if isinstance(value, str):
        say('dd', printable(value))
    elif all(isinstance(each, str) for each in value.values()):
        texts = [f'{words_of(key)} {each}' for key, each in value.items()]
        say('dd', printable(', '.join(texts)))
    else:
        with box('dd', 'within'):
            add_books(value)


def words_of(name: str) -> str:
    return printable(name.replace('_', ' '))
