"""What the dashboard shows of dead letters: the table of them."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from nicegui import events, ui

from siamese.monitoring import dead_letters
from siamese.monitoring.dead_letters import DeadLetterCount, DeadLetterRow
from siamese.text import printable, shorten, utc
from siamese.web.dead_letter_dialog import open_dead_letter
from siamese.web.formats import count, size
from siamese.web.page import Page, read_history
from siamese.web.requeue_dialog import ask_and_requeue
from siamese.web.seen import mark_seen
from siamese.web.tables import PagedTable, Row, column
from siamese.web.widgets import Empty, box, button, finder, say

SHOWN = 255  # characters of a name: a queue has no longer one
ASKED = ('queue', 'reason', 'state', 'find', 'page', 'rows')  # in the address
MAX_OPTIONS = 200  # to choose from
MAX_DIGITS = 19  # of the number of a dead letter
ALL_QUEUES = 'all queues'
ANY_REASON = 'any reason'
COLUMNS = [
    column('at', 'Dead-lettered (UTC)', 'open', first=True),
    column('local', 'Your time', 'local', broad=True),
    column('queue', 'Queue', 'wide'),
    column('reason', 'Reason'),
    column('sender', 'Sender', 'wide'),
    column('message_id', 'Message', 'wide'),
    column('size', 'Size', 'number'),
    column('state', 'State', 'state'),
]
STATES: dict[str, dict[str, bool]] = {  # state: arguments of dead_letters.find()
    'waiting': {'requeued': False},
    'unseen': {'unseen': True},
    'requeued': {'requeued': True},
    'all': {},
}


class Found(NamedTuple):
    """What the page shows."""

    rows: list[DeadLetterRow]  # on the page of the table that is shown
    total: int
    new: int  # that have come since those of the table
    by_queue: list[DeadLetterCount]
    unseen: int  # that the button would mark as seen


def show_dead_letters(page: Page) -> None:
    page.refreshers.append(DeadLettersView(page).refresh)


class DeadLettersView:
    """The table, the filters above it, and the button that requeues."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []  # by the address: which dead letters are shown
        self.latest: int | None = None  # the id of the last one that is shown
        self.total = 0  # of those that are like that, as far as known
        self.opened = page.address.get('letter')
        self.waiting = 0  # dead letters that the button would requeue
        with box('section', 'card lasting'):
            with box('div', 'head'):
                self.add_head()
            with box('div', 'filters'):
                self.add_filters()
            self.nothing = Empty()
            self.table = PagedTable(
                page.address,
                'dead letters',
                COLUMNS,
                self.refresh,
                on_again=self.show_new,
            )
            self.table.on('open', self.open)

    def add_head(self) -> None:
        say('h2', 'Messages that expired, were rejected or did not fit')
        self.seen_button = button('Mark as seen', self.mark, 'done', plain=True)
        self.requeue_button = button('Requeue', self.requeue, 'undo')
        self.login_hint = ui.link(
            'Log in to mark them as seen, as an administrator to requeue them',
            self.page.login_path(),
        )

    def add_filters(self) -> None:
        address = self.page.address
        queue = address.get('queue')
        reason = address.get('reason')
        state = address.get('state')
        if state not in STATES:
            state = 'waiting'
        self.queue = self.add_filter('Queue', {'': ALL_QUEUES, queue: printable(queue)}, queue)
        self.reason = self.add_filter('Reason', {'': ANY_REASON, reason: reason}, reason)
        self.state = self.add_filter('State', {each: each for each in STATES}, state)
        self.search = finder('Find a message', address, self.refresh)

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
            on_change=self.choose,
        )
        element.props('dense outlined options-dense')
        return element

    async def choose(self) -> None:
        """Show the first page of what the filters leave."""
        self.page.address.set(
            queue=self.queue.value,
            reason=self.reason.value,
            state=self.state.value,
            page='',
        )
        await self.refresh()

    async def show_new(self) -> None:
        self.latest = None
        await self.refresh()

    async def refresh(self) -> None:
        asked = [self.page.address.get(name) for name in ASKED]
        if asked != self.asked:
            self.latest = None
        self.asked = asked
        found, _ = await read_history(self.page, self.read)
        if found is None:
            return
        queues = {row['queue'] for row in found.by_queue}
        reasons = {row['reason'] for row in found.by_queue}
        set_options(self.queue, ALL_QUEUES, queues)
        set_options(self.reason, ANY_REASON, reasons)
        self.show_requeue_button(found)
        self.show_seen_button(found)
        rows = [table_row(dead_letter) for dead_letter in found.rows]
        hint = ''
        if found.new:
            hint = f'{count(found.new)} new, show them'
        self.table.show(rows, found.total, hint=hint)
        self.table.set_visibility(bool(found.total or found.new))
        show_nothing(self.nothing, found)
        if self.opened:
            await self.reopen()

    def read(self, db: sqlite3.Connection) -> Found:
        """Read what is on the page of the table, as it was when somebody asked for it."""
        if self.latest is None:
            self.latest = dead_letters.last_id(db)
        _, new = self.find(db, after=self.latest, limit=0)
        first = self.table.first_of(self.total)
        rows, total = self.find(db, limit=self.table.size(), offset=new + first)
        self.total = total - new
        if first != self.table.first_of(self.total):
            first = self.table.first_of(self.total)
            rows, _ = self.find(db, limit=self.table.size(), offset=new + first)
        _, unseen = dead_letters.find(db, **self.filter(), unseen=True, limit=0)
        return Found(rows, self.total, new, dead_letters.by_queue(db), unseen)

    def find(self, db: sqlite3.Connection, **limits: Any) -> tuple[list[DeadLetterRow], int]:
        return dead_letters.find(db, **self.wanted(), **limits)

    def filter(self) -> dict[str, Any]:
        """Return which dead letters the table shows, whatever their state."""
        return {
            'queue': self.queue.value or None,
            'reason': self.reason.value or None,
            'search': self.search.value or None,
        }

    def wanted(self) -> dict[str, Any]:
        """Return which dead letters the table shows, as arguments of dead_letters.find()."""
        return {**self.filter(), **STATES[self.state.value]}

    def show_seen_button(self, found: Found) -> None:
        shows_them = self.state.value != 'requeued' and self.page.session() is not None
        self.seen_button.set_text(f'Mark {count(found.unseen)} as seen')
        self.seen_button.set_visibility(shows_them and found.unseen > 0)

    async def mark(self) -> None:
        """Mark what the filters leave as seen, but for what has come since."""
        if await mark_seen(self.page, **self.filter(), up_to=self.latest):
            await self.refresh()

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
        if self.state.value in ('requeued', 'unseen'):
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
        self.page.address.set(letter=str(event.args))
        await self.show_one(event.args)

    async def reopen(self) -> None:
        """Open the dead letter that the address names."""
        number = self.opened
        self.opened = ''
        if number.isdecimal() and len(number) < MAX_DIGITS:
            await self.show_one(int(number))

    async def show_one(self, number: int) -> None:
        await open_dead_letter(self.page, number, self.refresh, self.wanted())


def show_nothing(empty: Empty, found: Found) -> None:
    """Say what is shown in place of a table without rows."""
    if found.total or found.new:
        empty.hide()
    elif found.by_queue:
        empty.show(
            'No dead letter is like that',
            'There are others: choose another queue, reason or state, or clear the text.',
        )
    else:
        empty.show(
            'No dead letters',
            'Messages are kept here that expire in a queue, are rejected '
            'or do not fit into it, if the queue has the dead letter '
            'exchange siamese.dlx.',
        )


def set_options(
    select: ui.select,
    everything: str,
    values: set[str],
) -> None:
    """Offer the values that the history has, and the one that is chosen.

    There may be thousands: a stranger may have invented them.
    """
    named = sorted(filter(None, values))
    options = {'': everything}
    if len(named) > MAX_OPTIONS:
        options[''] = f'{everything} ({MAX_OPTIONS} of {count(len(named))} listed)'
    for value in named[:MAX_OPTIONS]:
        options[value] = shorten(value, SHOWN)
    options.setdefault(select.value, shorten(select.value, SHOWN))
    if select.options != options:
        select.set_options(options)


def table_row(dead_letter: DeadLetterRow) -> Row:
    reason = dead_letter['reason'] or ''
    if dead_letter['copy']:
        reason += ', may be a copy'
    state = 'waiting'
    tone = 'warn'
    if dead_letter['requeued']:
        state = 'requeued'
        tone = 'good'
    elif dead_letter['seen']:
        state = 'seen'
        tone = 'off'
    return {
        'id': dead_letter['id'],
        'at': utc(dead_letter['at']),
        'local': dead_letter['at'],
        'queue': shorten(dead_letter['queue'] or '', SHOWN),
        'reason': shorten(reason, SHOWN),
        'sender': shorten(dead_letter['sender'] or '', SHOWN),
        'message_id': shorten(dead_letter['message_id'] or '', SHOWN),
        'size': size(dead_letter['size']),
        'state': state,
        'tone': tone,
    }
