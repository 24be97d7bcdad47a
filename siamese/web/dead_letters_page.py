"""What the dashboard shows of dead letters: the table of them."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from nicegui import events, ui

from siamese.monitoring import dead_letters
from siamese.monitoring.dead_letters import DeadLetterCount, DeadLetterRow
from siamese.text import printable, utc
from siamese.web.dead_letter_dialog import open_dead_letter
from siamese.web.formats import count, size
from siamese.web.page import Page, read_history
from siamese.web.requeue_dialog import ask_and_requeue
from siamese.web.widgets import (
    ROWS_PER_PAGE,
    Row,
    box,
    button,
    change_pagination,
    column,
    empty,
    fill,
    finder,
    first_shown,
    paged_table,
    say,
)

ALL_QUEUES = 'all queues'
ANY_REASON = 'any reason'
COLUMNS = [
    column('at', 'Dead-lettered (UTC)', 'open', first=True),
    column('queue', 'Queue', 'wide'),
    column('reason', 'Reason'),
    column('sender', 'Sender', 'wide'),
    column('message_id', 'Message', 'wide'),
    column('size', 'Size', 'number'),
    column('state', 'State', 'state'),
]
REQUEUED = {  # state: the argument of dead_letters.find()
    'waiting': False,
    'requeued': True,
    'all': None,
}


class Found(NamedTuple):
    """What the page shows."""

    rows: list[DeadLetterRow]  # on the page of the table that is shown
    total: int
    by_queue: list[DeadLetterCount]


def show_dead_letters(page: Page, queue: str) -> None:
    """Show the dead letters of a queue, or all ('')."""
    page.refreshers.append(DeadLettersView(page, queue).refresh)


class DeadLettersView:
    """The table, the filters above it, and the button that requeues."""

    def __init__(self, page: Page, queue: str) -> None:
        self.page = page
        self.waiting = 0  # dead letters that the button would requeue
        with box('section', 'card'):
            with box('div', 'head'):
                self.add_head()
            with box('div', 'filters'):
                self.add_filters(queue)
            self.nothing = empty(
                'No dead letters',
                'Messages are kept here that expire in a queue, are rejected '
                'or do not fit into it, if the queue has the dead letter '
                'exchange siamese.dlx.',
            )
            self.table = paged_table('dead letters', COLUMNS, self.refresh)
            self.table.on('open', self.open)

    def add_head(self) -> None:
        say('h2', 'Dead letters')
        self.requeue_button = button('Requeue', self.requeue, 'undo')
        self.login_hint = ui.link(
            'Log in as an administrator to requeue them',
            self.page.login_path(),
        )

    def add_filters(self, queue: str) -> None:
        queues = {'': ALL_QUEUES}
        if queue:
            queues[queue] = printable(queue)
        reasons = {'': ANY_REASON}
        states = {state: state for state in REQUEUED}
        self.queue = self.add_filter('Queue', queues, queue)
        self.reason = self.add_filter('Reason', reasons, '')
        self.state = self.add_filter('State', states, 'waiting')
        self.search = finder('Find a message', self.restart)

    def add_filter(
        self,
        label: str,
        options: dict[str, str],
        value: str,
    ) -> ui.select:
        element = ui.select(
            options,
            label=label,
            value=value,
            on_change=self.restart,
        )
        element.props('dense outlined options-dense')
        return element

    async def restart(self) -> None:
        """Show the first page of what the filters leave."""
        change_pagination(self.table, page=1)
        await self.refresh()

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        queues = {row['queue'] for row in found.by_queue}
        reasons = {row['reason'] for row in found.by_queue}
        set_options(self.queue, ALL_QUEUES, queues)
        set_options(self.reason, ANY_REASON, reasons)
        self.show_requeue_button(found)
        rows = [table_row(dead_letter) for dead_letter in found.rows]
        fill(self.table, rows, found.total)
        self.nothing.set_visibility(not found.total)
        self.table.set_visibility(bool(found.total))

    def read(self, db: sqlite3.Connection) -> Found:
        rows, total = dead_letters.find(
            db,
            self.queue.value or None,
            self.reason.value or None,
            requeued=REQUEUED[self.state.value],
            search=self.search.value or None,
            limit=ROWS_PER_PAGE,
            offset=first_shown(self.table),
        )
        return Found(rows, total, dead_letters.by_queue(db))

    def show_requeue_button(self, found: Found) -> None:
        queue = self.queue.value
        self.waiting = 0
        for row in found.by_queue:
            if queue in ('', row['queue']):
                self.waiting += row['waiting']
        text = f'Requeue {count(self.waiting)}'
        if queue:
            text += ' to this queue'
        self.requeue_button.set_text(text)
        self.requeue_button.set_visibility(self.can_requeue())
        logged_in = self.page.session() is not None
        self.login_hint.set_visibility(not logged_in and self.waiting > 0)

    def can_requeue(self) -> bool:
        """Return whether the button may be shown.

        Its user is an administrator, and the table shows every dead letter
        that it would requeue.
        """
        if not self.waiting or not self.page.is_for_administrator():
            return False
        if self.reason.value or self.search.value:
            return False
        if self.state.value == 'requeued':
            return False
        queue = self.queue.value
        # monitor.py --requeue would not take these for names of queues.
        return queue != 'all' and not dead_letters.ONE.fullmatch(queue)

    async def requeue(self) -> None:
        await ask_and_requeue(
            self.page,
            self.requeue_button,
            self.queue.value or 'all',
            self.waiting,
            self.refresh,
        )

    async def open(self, event: events.GenericEventArguments) -> None:
        await open_dead_letter(self.page, event.args, self.refresh)


def set_options(
    select: ui.select,
    everything: str,
    values: set[str],
) -> None:
    """Offer the values that the history has, and the one that is chosen."""
    options = {'': everything}
    for value in sorted(filter(None, values)):
        options[value] = printable(value)
    options.setdefault(select.value, printable(select.value))
    if select.options != options:
        select.set_options(options)


def table_row(dead_letter: DeadLetterRow) -> Row:
    state = 'waiting'
    tone = 'warn'
    if dead_letter['requeued']:
        state = 'requeued'
        tone = 'good'
    return {
        'id': dead_letter['id'],
        'at': utc(dead_letter['at']),
        'queue': printable(dead_letter['queue'] or ''),
        'reason': printable(dead_letter['reason'] or ''),
        'sender': printable(dead_letter['sender'] or ''),
        'message_id': printable(dead_letter['message_id'] or ''),
        'size': size(dead_letter['size']),
        'state': state,
        'tone': tone,
    }
