"""One dead letter: where it comes from, its properties, its body."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from nicegui import ui

from siamese.monitoring import dead_letters
from siamese.monitoring.dead_letters import WholeDeadLetter
from siamese.text import count_of, printable, utc
from siamese.web.formats import SHOWN_BYTES, forms, since, size
from siamese.web.page import Page, read_history
from siamese.web.requeue_dialog import ask_and_requeue
from siamese.web.seen import mark_seen
from siamese.web.widgets import Refresh, box, button, local_time, say, toggle

GAP = 'margin: 14px 0 0'
# A browser would be busy for minutes with all that a stranger may put into one letter.
SHOWN_FACTS = 100
SHOWN_CHARACTERS = 10_000


class Opened(NamedTuple):
    """A dead letter, and the numbers of those beside it."""

    dead_letter: WholeDeadLetter
    newer: int | None
    older: int | None


async def open_dead_letter(
    page: Page,
    number: int,
    refresh: Refresh,
    wanted: Mapping[str, Any],
) -> None:
    """Show the dead letter that has a number in the history.

    `wanted` are the arguments of dead_letters.neighbour(): which ones lie beside it.
    """
    dialog = DeadLetterDialog(page, refresh, wanted)
    if not await dialog.show(number):
        dialog.dialog.close()


class DeadLetterDialog:
    """A dialog that shows one dead letter after the other; `refresh` is for the page below."""

    dead_letter: WholeDeadLetter
    body: bytes

    def __init__(
        self,
        page: Page,
        refresh: Refresh,
        wanted: Mapping[str, Any],
    ) -> None:
        self.page = page
        self.refresh = refresh
        self.wanted = wanted
        self.dialog = ui.dialog(value=True)
        with self.dialog:
            self.card = box('div', 'card')
        self.dialog.on('hide', self.leave)

    async def show(self, number: int | None) -> bool:
        """Show the dead letter with a number; return whether there is one."""
        if number is None:
            return False
        found, _ = await read_history(self.page, lambda db: self.read(db, number))
        if found is None:
            return False
        self.page.address.replace(letter=str(number))
        self.dead_letter = found.dead_letter
        self.body = found.dead_letter['body']
        self.card.clear()
        with self.card:
            self.add_content(found)
        return True

    def read(self, db: sqlite3.Connection, number: int) -> Opened | None:
        found = dead_letters.get(db, number)
        if found is None:
            return None
        newer = dead_letters.neighbour(db, number, newer=True, **self.wanted)
        older = dead_letters.neighbour(db, number, newer=False, **self.wanted)
        return Opened(found, newer, older)

    def add_content(self, found: Opened) -> None:
        properties = dict(self.dead_letter['properties'])
        headers = properties.pop('headers', None)
        self.add_title(found)
        self.add_times()
        show_facts({**self.facts(), **self.doubt(), **properties, **self.fate()})
        if headers:
            say('h2', 'Headers').style(GAP)
            show_facts(headers)
        self.add_body()
        with box('div', 'head').style(GAP):
            self.add_buttons()

    def leave(self) -> None:
        self.page.address.set(letter='')
        self.dialog.delete()

    def add_title(self, found: Opened) -> None:
        number = self.dead_letter['id']
        reason = printable(self.dead_letter['reason'])
        title = f'Dead letter {number}, {reason}'
        self.dialog.props['aria-label'] = title
        with box('div', 'head'):
            say('h2', title)
            self.add_step('Newer', found.newer)
            self.add_step('Older', found.older)
            close = button('', self.dialog.close, 'close', plain=True)
            close.props['aria-label'] = 'close'

    def add_step(self, text: str, number: int | None) -> None:
        """Add a button that leads to the next dead letter."""

        async def step() -> None:
            await self.show(number)

        element = button(text, step, plain=True)
        element.set_enabled(number is not None)

    def add_times(self) -> None:
        at = self.dead_letter['at']
        with box('dl', 'facts'):
            say('dt', 'dead-lettered')
            with box('dd'):
                say('span', f'{utc(at)} UTC, {since(at, self.page.clock)}, ')
                local_time(at)

    def facts(self) -> dict[str, Any]:
        dead_letter = self.dead_letter
        return {
            'in queue': dead_letter['queue'],
            'published to': dead_letter['exchange'] or 'the default exchange',
            'routing key': dead_letter['routing_key'],
            'sender': dead_letter['sender'] or 'unknown',
        }

    def doubt(self) -> dict[str, str]:
        if not self.dead_letter['copy']:
            return {}
        return {'may be a copy': 'of one that is alike: its acknowledgement may have been lost'}

    def fate(self) -> dict[str, str]:
        dead_letter = self.dead_letter
        told = {'requeued': 'not yet', 'seen': 'by nobody yet'}
        if dead_letter['requeued']:
            told['requeued'] = f'{utc(dead_letter["requeued"])} UTC'
        if dead_letter['seen']:
            told['seen'] = f'{utc(dead_letter["seen"])} UTC, by {dead_letter["seen_by"]}'
        return told

    def add_body(self) -> None:
        self.shown, self.remark = forms(self.body)
        names = list(self.shown)
        with box('div', 'head').style(GAP):
            say('h2', f'Body, {size(len(self.body))}')
            self.form = toggle('form', names, names[0], self.show_body)
        self.note = say('div', '', 'muted')
        self.text = say('pre', '', 'body')
        self.show_body()

    def show_body(self) -> None:
        form = self.form.value
        classes = 'body'
        if form == 'Hex':
            classes = 'body hex'
        self.text.set_text(self.shown[form])
        self.text.classes(replace=classes)
        remark = self.remark
        if len(self.body) > SHOWN_BYTES[form]:
            remark += f', the first {size(SHOWN_BYTES[form])} of it'
        self.note.set_text(remark)

    def add_buttons(self) -> None:
        button('Download the body', self.download, 'download', plain=True)
        dead_letter = self.dead_letter
        is_new = not dead_letter['requeued'] and not dead_letter['seen']
        if is_new and self.page.session() is not None:
            button('Mark as seen', self.mark, 'done', plain=True)
        if self.page.is_for_administrator() and not self.dead_letter['requeued']:
            self.requeue_button = button('Requeue this one', self.requeue, 'undo')

    async def mark(self) -> None:
        number = self.dead_letter['id']
        if await mark_seen(self.page, number=number):
            await self.show(number)
            await self.refresh()

    def download(self) -> None:
        name = f'dead-letter-{self.dead_letter["id"]}.bin'
        ui.download.content(self.body, name, 'application/octet-stream')

    async def requeue(self) -> None:
        done = await ask_and_requeue(
            self.page,
            self.requeue_button,
            f'#{self.dead_letter["id"]}',
            1,
            self.refresh,
        )
        if done:
            self.dialog.close()


def show_facts(facts: Mapping[str, Any]) -> None:
    """Show names and values, as many and as much of each as a page should hold."""
    with box('dl', 'facts'):
        for name, value in islice(facts.items(), SHOWN_FACTS):
            say('dt', shortened(name))
            if not isinstance(value, str):
                value = json.dumps(value, ensure_ascii=False)
            say('dd', shortened(value))
    more = len(facts) - SHOWN_FACTS
    if more > 0:
        say('div', f'and {more:,} more', 'muted')


def shortened(text: str) -> str:
    """Return the beginning of a text that a stranger wrote, printable."""
    shown = printable(text[:SHOWN_CHARACTERS])
    if len(text) > SHOWN_CHARACTERS:
        more = count_of(len(text) - SHOWN_CHARACTERS, 'character')
        shown += f' ... and {more} more'
    return shown
