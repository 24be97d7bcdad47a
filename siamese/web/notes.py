"""The lines above the content of a page: what somebody should look at."""

from __future__ import annotations

import re
from typing import NamedTuple

from nicegui import ui

from siamese.text import printable
from siamese.web.widgets import box, say

COMMAND = re.compile(r'((?:--|\./)\w[\w.-]{0,30})')  # a script, or a flag


class Note(NamedTuple):
    """One line above the content of a page; the link, and what to do, may be ''."""

    urgent: bool
    text: str
    link: str = ''
    remedy: str = ''


class Notes:
    """The lines above the content of a page that somebody should look at.

    A line changes in place: somebody may be about to press its link.
    """

    def __init__(self) -> None:
        self.element = box('div', 'notes')
        self.lines: list[NoteLine] = []

    def show(self, notes: list[Note]) -> None:
        while len(self.lines) > len(notes):
            self.element.remove(self.lines.pop().element)
        with self.element:
            while len(self.lines) < len(notes):
                self.lines.append(NoteLine())
        for line, note in zip(self.lines, notes):
            line.show(note)


class NoteLine:
    def __init__(self) -> None:
        with box('div') as self.element:
            self.link = ui.link('', '')
            self.text = say('span')
            self.remedy = box('div', 'remedy')
        self.remedy.set_visibility(False)
        self.advice = ''

    def show(self, note: Note) -> None:
        text = printable(note.text)
        classes = 'note'
        if note.urgent:
            classes = 'note bad'
        self.element.classes(replace=classes)
        self.link.set_visibility(bool(note.link))
        self.text.set_visibility(not note.link)
        if note.link:
            self.link.set_text(text)
            self.link.props['href'] = note.link
        else:
            self.text.set_text(text)
        self.show_remedy(note.remedy)

    def show_remedy(self, text: str) -> None:
        """Show what to do; the name of a script or a flag stays on one line."""
        if text == self.advice:
            return
        self.advice = text
        self.remedy.set_visibility(bool(text))
        self.remedy.clear()
        with self.remedy:
            for part in COMMAND.split(text):
                say('span', part, 'whole' if COMMAND.fullmatch(part) else '')
