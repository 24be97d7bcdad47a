"""The frame of each page: its header, the state of the broker, and its clock.

Above the content stand the notes: what somebody should look at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from common import Failure
from siamese.monitoring import alerts, database, dead_letters
from siamese.monitoring.alert_groups import Group, grouped
from siamese.monitoring.collector import NO_METRICS
from siamese.monitoring.database import DAY_S
from siamese.monitoring.snapshot import WITHOUT_EVENTS
from siamese.text import duration, printable
from siamese.web import login
from siamese.web.formats import count, since
from siamese.web.widgets import Refresh, box, button, say

REFRESH_PERIOD_S = 2.0
MAX_NOTES = 5  # shown at once
MONITOR_GRACE_S = 10  # beyond three intervals, until monitor.py is silent

TABS = {
    '/': 'Queues',
    '/dead': 'Dead letters',
    '/clients': 'Clients',
}

Found = TypeVar('Found')


class Theme(NamedTuple):
    dark: bool | None  # None: as the system says
    icon: str
    following: str


THEMES = {
    'auto': Theme(None, 'brightness_auto', 'light'),
    'light': Theme(False, 'light_mode', 'dark'),
    'dark': Theme(True, 'dark_mode', 'auto'),
}


class Page:
    """One page in one browser: the time it shows, and who looks at it."""

    def __init__(
        self,
        args: argparse.Namespace,
        cookie: str,
        here: str,
    ) -> None:
        self.args = args
        self.cookie = cookie
        self.here = here  # its path and query
        self.now = time.time()
        self.refreshers: list[Refresh] = []
        self.takes_login = args.login or self.session() is not None

    def session(self) -> login.Session | None:
        return login.session_of(self.cookie)

    def is_open(self) -> bool:
        """Return whether this page may be shown: its session may end."""
        return not self.takes_login or self.session() is not None

    def is_for_administrator(self) -> bool:
        session = self.session()
        return session is not None and session.administrator

    def login_path(self) -> str:
        return f'/login?next={quote(self.here, safe="")}'


# ---- what is true now


class Note(NamedTuple):
    """One line above the content of a page; the link may be ''."""

    urgent: bool
    text: str
    link: str = ''


class BrokerStatus(NamedTuple):
    """What every page shows of the broker."""

    state: str
    tone: str  # good, warn, bad or off
    notes: list[Note]  # the urgent ones first
    dead_letters: int  # not requeued
    place: str
    collected: float | None


def broker_status(
    db: sqlite3.Connection,
    args: argparse.Namespace,
    now: float,
) -> BrokerStatus:
    known = database.broker(db)
    warnings = alerts.warnings(db, args.unread_after, now - DAY_S, now)
    notes = [note_of(group) for group in grouped(warnings)]
    silence = silence_of_monitor(known, now)
    if silence:
        notes.insert(0, note_of_silence(silence, args.history))
        state = 'monitor silent'
        tone = 'warn'
    else:
        if known['state'] == 'up':
            notes += notes_of_missing(known['missing'] or [])
        state, tone = broker_state(known, now)
    _, waiting = dead_letters.find(db, requeued=False, limit=0)
    return BrokerStatus(
        state=state,
        tone=tone,
        notes=sorted(notes, key=lambda note: not note.urgent),
        dead_letters=waiting,
        place=known['place'] or '',
        collected=known['collected'],
    )


def note_of(group: Group) -> Note:
    """Return warnings that belong together as a note."""
    first = group.members[0]
    name = quote(first.name, safe='')
    links = {
        'unread': f'/queue?name={name}',
        'dead': f'/dead?queue={name}',
        'interrupted': '/clients',
    }
    urgent = group.critical or group.key in alerts.TOLD_BY
    return Note(urgent, group.text, links.get(first.kind, ''))


def silence_of_monitor(known: database.Broker, now: float) -> str:
    """Return for how long monitor.py has written nothing; '' if it writes."""
    monitor = known['monitor']
    if not monitor or monitor['seen'] is None:
        return 'yet'
    silent_s = now - monitor['seen']
    if silent_s <= 3 * monitor['interval'] + MONITOR_GRACE_S:
        return ''
    return f'for {duration(silent_s)}'


def note_of_silence(silence: str, history: str) -> Note:
    text = (
        f'monitor.py has written nothing {silence}; '
        'this page shows the state of that time. '
        f'Start it: ./monitor.py --history {history}'
    )
    return Note(True, text)


def notes_of_missing(missing: list[str]) -> list[Note]:
    """Return as notes what the broker lacks.

    The event exchange is left out: most virtual hosts do not have it.
    """
    return [
        Note(text.startswith(NO_METRICS), text) for text in missing if text not in WITHOUT_EVENTS
    ]


def broker_state(known: database.Broker, now: float) -> tuple[str, str]:
    """Return the state of the broker in words, and its tone."""
    product = known['product'] or 'broker'
    version = known['version'] or ''
    name = f'{product} {version}'.strip()
    if known['state'] is None:
        return 'looking for the broker', 'off'
    if known['state'] == 'up':
        return f'{name} up', 'good'
    if known['since'] is None:
        return f'{name} unavailable', 'bad'
    since_then = duration(now - known['since'])
    return f'{name} unavailable for {since_then}', 'bad'


async def read_history(
    page: Page,
    read: Callable[[sqlite3.Connection], Found],
) -> tuple[Found | None, str | None]:
    """Return read(db) and None; or None and why the history is not readable.

    It is read in a thread, so that other pages need not wait. Whatever a page
    shows is read here, so nothing is read for a session that has ended.
    """

    def read_it() -> Found:
        opened = database.open_for_reading(page.args.history)
        with contextlib.closing(opened) as db:
            return read(db)

    if not page.is_open():
        return None, 'Log in again.'
    try:
        return await asyncio.to_thread(read_it), None
    except Failure as failure:
        return None, str(failure)
    except sqlite3.Error as error:
        return None, f'cannot read {page.args.history}: {error}'


# ---- the frame


@contextlib.asynccontextmanager
async def frame(
    args: argparse.Namespace,
    request: Request,
    here: str,
) -> AsyncIterator[Page]:
    """Make a page: yield it where its content belongs, then refresh it."""
    cookie = request.cookies.get(args.cookie, '')
    page = Page(args, cookie, here)
    ui.colors(primary='#2468d6')
    ui.add_head_html('<link rel="stylesheet" href="/dashboard.css">')
    header = Header(page, request.cookies.get('theme', ''))
    with box('main', 'main'):
        notes = Notes()
        yield page
        foot = say('div', '', 'foot')

    async def show_broker_status() -> bool:
        """Return whether the history can be read."""
        found, failure = await read_history(page, lambda db: broker_status(db, args, page.now))
        if found is None:
            header.show_failure()
            notes.show([Note(True, failure or '')])
            return False
        header.show(found)
        notes.show(notes_for(found, here))
        foot.set_text(footer(found, page))
        return True

    async def tick() -> None:
        page.now = time.time()
        if not page.is_open():
            timer.deactivate()
            ui.navigate.to(page.login_path() + '&ended')
            return
        if await show_broker_status():
            for refresh in page.refreshers:
                await refresh()

    timer = ui.timer(REFRESH_PERIOD_S, tick, immediate=False)
    await tick()


def notes_for(found: BrokerStatus, here: str) -> list[Note]:
    """Return the notes of a page: all on the first one, else urgent ones."""
    notes = found.notes
    if here != '/':
        notes = [note for note in notes if note.urgent]
    more = len(notes) - MAX_NOTES
    if more <= 0:
        return notes
    remark = f'and {more} more: ./monitor.py --once lists them'
    return [*notes[:MAX_NOTES], Note(False, remark)]


def footer(found: BrokerStatus, page: Page) -> str:
    collected = since(found.collected, page.now) or 'never'
    parts = [
        found.place,
        f'collected {collected}',
        'all times are UTC',
        page.args.history,
    ]
    return ' · '.join(parts)


class Header:
    """The line on top: the broker's state, the pages, colours, the login."""

    def __init__(self, page: Page, theme: str) -> None:
        self.page = page
        self.theme = 'auto'
        if theme in THEMES:
            self.theme = theme
        self.dark_mode = ui.dark_mode(THEMES[self.theme].dark)
        with box('header', 'top'):
            ui.link('siamese', '/').classes('brand')
            self.state = say('span', '', 'state')
            self.add_tabs()
            with box('div', 'who'):
                self.theme_button = button(
                    '',
                    self.change_theme,
                    plain=True,
                    round=True,
                )
                self.show_theme()
                self.add_login()

    def add_tabs(self) -> None:
        self.tabs = {}
        with box('nav', 'tabs') as nav:
            nav.props['aria-label'] = 'pages'
            for path, text in TABS.items():
                self.tabs[path] = ui.link(text, path)
        current = re.sub('^/queue.*', '/', self.page.here)
        self.tabs[current].props['aria-current'] = 'page'

    def add_login(self) -> None:
        session = self.page.session()
        if session is None:
            ui.link('Log in', self.page.login_path())
            return
        say('span', printable(session.user), 'muted')
        button('Log out', self.log_out, plain=True)

    def log_out(self) -> None:
        login.end(self.page.cookie)
        ui.navigate.to('/login')

    def change_theme(self) -> None:
        self.theme = THEMES[self.theme].following
        self.dark_mode.value = THEMES[self.theme].dark
        self.show_theme()
        cookie = f'theme={self.theme};path=/;max-age=31536000;samesite=lax'
        ui.run_javascript(f"document.cookie = '{cookie}'")

    def show_theme(self) -> None:
        title = f'colours: {self.theme}'
        props = self.theme_button.props
        props['icon'] = THEMES[self.theme].icon
        props['title'] = title
        props['aria-label'] = title

    def show(self, found: BrokerStatus) -> None:
        self.state.set_text(found.state)
        self.state.classes(replace=f'state {found.tone}')
        text = TABS['/dead']
        if found.dead_letters:
            text += f' {count(found.dead_letters)}'
        self.tabs['/dead'].set_text(text)

    def show_failure(self) -> None:
        self.state.set_text('no history')
        self.state.classes(replace='state off')


class Notes:
    """The lines above the content of a page that somebody should look at."""

    def __init__(self) -> None:
        self.element = box('div', 'notes')
        self.shown: list[Note] = []

    def show(self, notes: list[Note]) -> None:
        if notes == self.shown:
            return
        self.shown = notes
        self.element.clear()
        with self.element:
            for note in notes:
                self.add(note)

    def add(self, note: Note) -> None:
        classes = 'note'
        if note.urgent:
            classes = 'note bad'
        with box('div', classes).props('role=status'):
            text = printable(note.text)
            if note.link:
                ui.link(text, note.link)
            else:
                say('span', text)
