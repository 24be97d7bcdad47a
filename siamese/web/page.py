"""The frame of each page: its header, the state of the broker, and its clock.

Above the content stand the notes: what somebody should look at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from common import Failure
from siamese.monitoring import alert_groups, alerts, clients, database, dead_letters
from siamese.monitoring.alert_groups import Group
from siamese.monitoring.collector import NO_METRICS
from siamese.monitoring.database import DAY_S
from siamese.monitoring.snapshot import WITHOUT_EVENTS
from siamese.text import count_of, duration, printable, utc
from siamese.web import login, pace
from siamese.web.address import Address
from siamese.web.formats import SLOT_S, count
from siamese.web.notes import Note, Notes
from siamese.web.widgets import Empty, Refresh, Tile, box, button, mark, say

MAX_NOTES = 5  # shown at once
MONITOR_GRACE_S = 10  # beyond three intervals, until monitor.py is silent
SHORTEST_GAP_S = 2 * SLOT_S  # between samples, until a line has a gap
LOOK_WHILE_UNKNOWN_S = 10  # so that charts go on while nothing is collected

TABS = {
    '/': 'Queues',
    '/history': 'History',
    '/dead': 'Dead letters',
    '/clients': 'Clients',
    '/verdicts': 'Verdicts',
}
TAB_OF = {'/queue': '/', '/warnings': '/'}  # of pages that have none of their own
HEAD = """
<link rel="stylesheet" href="/dashboard.css">
<script defer src="/dashboard.js"></script>
"""

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
    """One page in one browser: the time it shows, and who looks at it.

    `now` is when what it shows was collected: between two collections nothing of it
    changes. `clock` is when it looked last.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        cookie: str,
        address: Address,
    ) -> None:
        self.args = args
        self.cookie = cookie
        self.address = address
        self.clock = time.time()
        self.now = self.clock
        self.is_missing = False  # whether what it is about is not in the history
        self.unknown = ''  # since when its figures are not known, in words
        self.gap_s = 0.0  # samples further apart have a gap between them
        self.outages: list[tuple[float, float]] = []  # of the broker: from, to
        self.reading = asyncio.Lock()  # what is read later is shown later
        self.refreshers: list[Refresh] = []
        self.remark: Callable[[str], object]  # shows a text beside the heading
        self.takes_login = args.login or self.session() is not None

    def tile(
        self,
        name: str,
        unit: str = '',
        href: str = '',
        lasting: bool = False,
    ) -> Tile:
        """Add a tile; a lasting one is known even if the broker is not there."""

        def unknown() -> str:
            if lasting:
                return ''
            return self.unknown

        return Tile(name, unit, href, unknown)

    def session(self) -> login.Session | None:
        return login.session_of(self.cookie)

    def is_open(self) -> bool:
        """Return whether this page may be shown: its session may end."""
        return not self.takes_login or self.session() is not None

    def is_for_administrator(self) -> bool:
        session = self.session()
        return session is not None and session.administrator

    def login_path(self) -> str:
        return f'/login?next={quote(str(self.address), safe="")}'


# ---- what is true now


class BrokerStatus(NamedTuple):
    """What every page shows of the broker."""

    state: str
    tone: str  # good, warn, bad or off
    notes: list[Note]  # the urgent ones first
    dead_letters: int  # neither requeued nor marked as seen
    place: str
    collected: float | None
    is_current: bool  # whether its figures are those of now
    gap_s: float  # samples further apart have a gap between them
    outages: list[tuple[float, float]]  # of the broker: from, to


def broker_status(
    db: sqlite3.Connection,
    args: argparse.Namespace,
    now: float,
) -> BrokerStatus:
    known = database.broker(db)
    warnings = alerts.warnings(db, args.unread_after, now - DAY_S, now)
    notes = [note_of(group) for group in alert_groups.grouped(warnings)]
    silence = silence_of_monitor(known, now)
    if silence:
        notes.insert(0, note_of_silence(silence, args.history))
        state = 'monitor silent'
        tone = 'warn'
    else:
        if known['state'] == database.UP:
            notes += notes_of_missing(known['missing'] or [])
        state, tone = broker_state(known, now, clients.blocked(db))
    _, unseen = dead_letters.find(db, unseen=True, limit=0)
    return BrokerStatus(
        state=state,
        tone=tone,
        notes=sorted(notes, key=lambda note: not note.urgent),
        dead_letters=unseen,
        place=known['place'] or '',
        collected=known['collected'],
        is_current=not silence and is_current(known, now),
        gap_s=max(SHORTEST_GAP_S, 3 * interval_of(known)),
        outages=outages_of(known, now),
    )


def interval_of(known: database.Broker) -> float:
    monitor = known['monitor']
    if not monitor:
        return 0
    return monitor['interval']


def is_current(known: database.Broker, now: float) -> bool:
    """Return whether the figures of a history are those of now, if monitor.py runs."""
    collected = known['collected']
    if known['state'] != database.UP or collected is None:
        return False
    return now - collected <= 3 * interval_of(known) + MONITOR_GRACE_S


def outages_of(known: database.Broker, now: float) -> list[tuple[float, float]]:
    """Return from when to when the broker was unavailable, or is."""
    found = [(began, ended) for began, ended in known['outages'] or []]
    if known['state'] == database.UNAVAILABLE and known['since']:
        found.append((known['since'], now))
    return found


def note_of(group: Group) -> Note:
    """Return warnings that belong together as a note."""
    urgent = group.critical or group.key in alerts.TOLD_BY
    return Note(urgent, group.text, group.path, group.remedy)


def silence_of_monitor(known: database.Broker, now: float) -> str:
    """Return for how long monitor.py has written nothing; '' if it writes.

    A time that has not come yet it would have pulled back, if it ran.
    """
    monitor = known['monitor']
    if not monitor or monitor['seen'] is None:
        return 'yet'
    silent_s = now - monitor['seen']
    limit_s = 3 * monitor['interval'] + MONITOR_GRACE_S
    if silent_s < -limit_s:
        return 'since the clock was set back'
    if silent_s <= limit_s:
        return ''
    return f'for {duration(silent_s)}'


def note_of_silence(silence: str, history: str) -> Note:
    text = f'monitor.py has written nothing {silence}; this page shows the state of that time'
    return Note(True, text, remedy=f'Start it: ./monitor.py --history {printable(history)}')


def notes_of_missing(missing: list[str]) -> list[Note]:
    """Return as notes what the broker lacks.

    The event exchange is left out: most virtual hosts do not have it.
    """
    return [
        Note(text.startswith(NO_METRICS), text) for text in missing if text not in WITHOUT_EVENTS
    ]


def broker_state(
    known: database.Broker,
    now: float,
    blocked: int = 0,
) -> tuple[str, str]:
    """Return the state of the broker in words, and its tone.

    So many clients are `blocked` by it.
    """
    product = known['product'] or 'broker'
    version = known['version'] or ''
    name = f'{product} {version}'.strip()
    if known['state'] is None:
        return 'looking for the broker', 'off'
    if known['state'] == database.UP and known['alarms']:
        publishers = count_of(blocked, 'publisher')
        return f'{name}: alarm, {publishers} blocked', 'bad'
    if known['state'] == database.UP:
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
        async with page.reading:
            return await asyncio.to_thread(read_it), None
    except Failure as failure:
        return None, str(failure)
    except database.FAULTS as error:
        return None, str(database.failure_of(error, page.args.history))


# ---- the frame


@contextlib.asynccontextmanager
async def frame(
    args: argparse.Namespace,
    request: Request,
    title: str,
) -> AsyncIterator[Page]:
    """Make a page: yield it where its content belongs, then refresh it.

    The title is that of the tab, and the heading; a stranger may have chosen it.
    """
    cookie = request.cookies.get(args.cookie, '')
    address = Address(request.scope['path'], request.query_params)
    page = Page(args, cookie, address)
    ui.colors(primary='#2468d6')
    ui.add_head_html(HEAD)
    view = Frame(page, printable(title), request.cookies)
    with view.content:
        yield page
    await view.tick()
    view.pace.timer = ui.timer(view.pace.period_s, view.tick, immediate=False)


class Frame:
    """What is around the content of a page, and keeps it up to date."""

    def __init__(
        self,
        page: Page,
        title: str,
        cookies: Mapping[str, str],
    ) -> None:
        self.page = page
        self.title = title
        self.seen: object = None  # what the content was made from
        self.tone = ''
        self.header = Header(page, cookies.get('theme', ''))
        self.voice = say('div', '', 'unseen')  # what a screen reader says when it changes
        self.voice.props['role'] = 'status'
        with box('div', 'main'):
            with box('div', 'head title'):
                say('h1', title)
                page.remark = say('span', '', 'muted').set_text
                self.pace = pace.Pace(cookies.get(pace.COOKIE, ''))
            self.notes = Notes()
            self.nothing = Empty()
            self.content = box('div', 'content')
            self.foot = say('div', '', 'foot')

    async def tick(self) -> None:
        """Look at the history, and show what is new in it."""
        page = self.page
        page.clock = time.time()
        if not page.is_open():
            if self.pace.timer:
                self.pace.timer.deactivate()
            ui.navigate.to(page.login_path() + '&ended')
            return
        written = database.written(page.args.history)
        if not await self.show_broker_status() or self.pace.is_paused:
            return
        look = 0
        if page.unknown:
            look = int(page.clock / LOOK_WHILE_UNKNOWN_S)
        seen = (written, page.unknown, look)
        if seen == self.seen:
            return
        for refresh in page.refreshers:
            await refresh()
        self.seen = seen

    async def show_broker_status(self) -> bool:
        """Return whether the history can be read."""
        page = self.page
        found, failure = await read_history(
            page,
            lambda db: broker_status(db, page.args, page.clock),
        )
        self.content.set_visibility(found is not None)
        if found is None:
            self.seen = None
            self.header.show_failure()
            self.show_tone('off', 'no history')
            self.notes.show([])
            self.nothing.show('There is no history to show', failure or '')
            return False
        self.nothing.hide()
        self.header.show(found)
        self.show_tone(found.tone, found.state)
        self.notes.show(notes_for(found, page.address.path))
        self.foot.set_text(footer(found, page))
        if not self.pace.is_paused:
            self.take_over(found)
        return True

    def take_over(self, found: BrokerStatus) -> None:
        """Let the page know what is true now."""
        page = self.page
        page.now = page.clock
        page.unknown = ''
        if found.collected is not None:
            page.now = min(page.clock, found.collected)
            if not found.is_current:
                page.unknown = f'unknown since {utc(page.now, "%H:%M:%S")} UTC'
        page.gap_s = found.gap_s
        page.outages = found.outages
        mark(self.content, 'old', bool(page.unknown))

    def show_tone(self, tone: str, state: str) -> None:
        """Say by the title and the icon of the tab, and aloud, whether all is well."""
        if tone == self.tone:
            return
        self.tone = tone
        self.voice.set_text(state)
        sign = ''
        if tone in ('bad', 'warn'):
            sign = '(!) '
        ui.page_title(f'{sign}{self.title} - siamese')
        ui.run_javascript(f'siamese.icon("{tone}")')


def notes_for(found: BrokerStatus, here: str) -> list[Note]:
    """Return the notes of a page: all on the first one, else urgent ones."""
    notes = found.notes
    if here != '/':
        notes = [note for note in notes if note.urgent]
    more = len(notes) - MAX_NOTES
    if more <= 0:
        return notes
    remark = f'and {more} more'
    return [*notes[:MAX_NOTES], Note(False, remark, '/warnings')]


def footer(found: BrokerStatus, page: Page) -> str:
    collected = 'never'
    if found.collected is not None:
        collected = f'{utc(found.collected)} UTC'
    parts = [
        found.place,
        f'collected {collected}',
        'all times are UTC',
        page.args.history,
    ]
    return ' · '.join(filter(None, parts))


class Header:
    """The line on top: the broker's state, the pages, colours, the login."""

    def __init__(self, page: Page, theme: str) -> None:
        self.page = page
        self.theme = 'auto'
        if theme in THEMES:
            self.theme = theme
        self.dark_mode = ui.dark_mode(THEMES[self.theme].dark)
        with box('header', 'top') as self.element:
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
        path = self.page.address.path
        current = self.tabs[TAB_OF.get(path, path)]
        current.props['aria-current'] = 'page'

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
        self.show_state(found.state, found.tone)
        text = TABS['/dead']
        if found.dead_letters:
            text += f' {count(found.dead_letters)}'
        self.tabs['/dead'].set_text(text)

    def show_failure(self) -> None:
        self.show_state('no history', 'off')

    def show_state(self, text: str, tone: str) -> None:
        self.state.set_text(text)
        self.state.classes(replace=f'state {tone}')
        self.element.classes(replace=f'top is-{tone}')
