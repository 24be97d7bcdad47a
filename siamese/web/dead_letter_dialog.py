"""One dead letter: where it comes from, its properties, its body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from siamese.monitoring import dead_letters
from siamese.monitoring.dead_letters import WholeDeadLetter
from siamese.text import printable, utc
from siamese.web.formats import SHOWN_BYTES, forms, since, size
from siamese.web.page import Page, read_history
from siamese.web.requeue_dialog import ask_and_requeue
from siamese.web.widgets import Refresh, box, button, say, toggle

GAP = 'margin: 14px 0 0'


async def open_dead_letter(page: Page, number: int, refresh: Refresh) -> None:
    """Show the dead letter that has a number in the history."""
    dead_letter, _ = await read_history(page, lambda db: dead_letters.get(db, number))
    if dead_letter:
        DeadLetterDialog(page, dead_letter, refresh)


class DeadLetterDialog:
    """A dialog that shows a dead letter; `refresh` is for the page below."""

    def __init__(self, page: Page, dead_letter: WholeDeadLetter, refresh: Refresh) -> None:
        self.page = page
        self.dead_letter = dead_letter
        self.refresh = refresh
        self.body: bytes = dead_letter['body']
        properties = dict(dead_letter['properties'])
        headers = properties.pop('headers', None)
        self.dialog = ui.dialog(value=True)
        with self.dialog, box('div', 'card'):
            self.add_title()
            show_facts({**self.facts(), **properties, **self.fate()})
            if headers:
                say('h2', 'Headers').style(GAP)
                show_facts(headers)
            self.add_body()
            with box('div', 'head').style(GAP):
                self.add_buttons()
        self.dialog.on('hide', self.dialog.delete)

    def add_title(self) -> None:
        number = self.dead_letter['id']
        reason = printable(self.dead_letter['reason'])
        with box('div', 'head'):
            say('h2', f'Dead letter {number}, {reason}')
            close = button('', self.dialog.close, 'close', plain=True)
            close.props['aria-label'] = 'close'

    def facts(self) -> dict[str, Any]:
        dead_letter = self.dead_letter
        ago = since(dead_letter['at'], self.page.now)
        return {
            'dead-lettered': f'{utc(dead_letter["at"])} UTC, {ago}',
            'in queue': dead_letter['queue'],
            'published to': dead_letter['exchange'] or 'the default exchange',
            'routing key': dead_letter['routing_key'],
            'sender': dead_letter['sender'] or 'unknown',
        }

    def fate(self) -> dict[str, str]:
        at = self.dead_letter['requeued']
        if not at:
            return {'requeued': 'not yet'}
        return {'requeued': f'{utc(at)} UTC'}

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
        if self.page.is_for_administrator() and not self.dead_letter['requeued']:
            self.requeue_button = button('Requeue this one', self.requeue, 'undo')

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
    with box('dl', 'facts'):
        for name, value in facts.items():
            say('dt', printable(name))
            if not isinstance(value, str):
                value = json.dumps(value, ensure_ascii=False)
            say('dd', printable(value))
