"""The frame of each page of the dashboard: its header, the state of the broker, what needs a look, and its clock."""

import asyncio
import contextlib
import re
import sqlite3
import time
from types import SimpleNamespace
from urllib.parse import quote

from nicegui import ui

from common import Failure
from siamese.monitoring import alerts as notices
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.text import duration, printable
from siamese.web import login
from siamese.web.widgets import box, button, count, say, since

PERIOD = 2.0  # s between two looks at the history
DAY = 86_400  # s
NOTES = 5  # warnings shown at once
THEMES = {
    'auto': (None, 'brightness_auto', 'light'),
    'light': (False, 'light_mode', 'dark'),
    'dark': (True, 'dark_mode', 'auto'),
}


# -------------------------------------------------------------------------------------- what is true now


def situation(db, args, now):
    """Return what every page shows of the broker: its facts, the words and tone of its state, and the notes."""
    known = history.broker(db)
    monitor = known['monitor'] or {'seen': None, 'interval': 0}
    silent = now - (monitor['seen'] or 0)
    warnings = notices.warnings(db, args.unread_after, now - DAY, now)
    notes = [
        (warning['kind'] in ('broker', 'alarm'), warning['text'], link_of(warning))
        for warning in warnings
    ]
    name = f'{known["product"] or "broker"} {known["version"] or ""}'.strip()
    if monitor['seen'] is None or silent > 3 * monitor['interval'] + 10:
        when = f'for {duration(silent)}' if monitor['seen'] else 'yet'
        notes.insert(
            0,
            (
                True,
                f'monitor.py has written nothing {when}, so this is how it was then. Start it: '
                f'./monitor.py --history {args.history}',
                '',
            ),
        )
        words, tone = 'monitor silent', 'warn'
    elif known['state'] == 'up':
        words, tone = f'{name} up', 'good'
        notes += [
            (text.startswith('no metrics'), text, '')
            for text in known['missing'] or []
            if not text.startswith('no exchange')
        ]  # that one is not to be had in most virtual hosts
    elif known['state'] == 'unavailable':
        words, tone = f'{name} away for {duration(now - known["since"])}', 'bad'
    else:
        words, tone = 'looking for the broker', 'off'
    notes.sort(key=lambda note: not note[0])
    return SimpleNamespace(
        known=known,
        words=words,
        tone=tone,
        notes=notes,
        now=now,
        dead=dead.letters(db, requeued=False, limit=0)[1],
    )


def link_of(warning):
    name = quote(warning['name'], safe='')
    return {
        'unread': f'/queue?name={name}',
        'dead': f'/dead?queue={name}',
        'interrupted': '/clients',
    }.get(warning['kind'], '')


async def look(page, read):
    """Return read(db) of the history, and None; or None and why it cannot be read. In a thread, for others wait.

    Whatever a page shows comes through here, so nothing is read for a session that has ended.
    """

    def reading():
        with contextlib.closing(history.open_for_reading(page.args.history)) as db:
            return read(db)

    if not page.is_open():
        return None, 'Log in again.'
    try:
        return await asyncio.to_thread(reading), None
    except Failure as failure:
        return None, str(failure)
    except sqlite3.Error as error:
        return None, f'cannot read {page.args.history}: {error}'


# --------------------------------------------------------------------------------- the frame of each page


@contextlib.asynccontextmanager
async def frame(args, request, here):
    """Make the header of a page and what stands above its content; yield a Page, and refresh it from then on."""
    cookie = request.cookies.get(args.cookie)
    theme = request.cookies.get('theme') if request.cookies.get('theme') in THEMES else 'auto'
    ui.colors(primary='#2468d6')
    ui.add_head_html('<link rel="stylesheet" href="/dashboard.css">')
    dark = ui.dark_mode(THEMES[theme][0])
    takes_login = args.login or login.session_of(cookie) is not None
    page = SimpleNamespace(
        args=args,
        refreshers=[],
        now=time.time(),
        session=lambda: login.session_of(cookie),
        is_open=lambda: not takes_login or login.session_of(cookie) is not None,
    )

    def turn():
        nonlocal theme
        theme = THEMES[theme][2]
        dark.value = THEMES[theme][0]
        light.props['icon'] = THEMES[theme][1]
        light.props['aria-label'] = light.props['title'] = f'colours: {theme}'
        ui.run_javascript(f"document.cookie = 'theme={theme};path=/;max-age=31536000;samesite=lax'")

    def leave():
        login.end(cookie)
        ui.navigate.to('/login')

    with box('header', 'top'):
        ui.link('siamese', '/').classes('brand')
        state = say('span', '', 'state')
        with box('nav', 'tabs') as tabs:
            tabs.props['aria-label'] = 'pages'
            links = [
                ui.link(text, path)
                for text, path in (
                    ('Queues', '/'),
                    ('Dead letters', '/dead'),
                    ('Clients', '/clients'),
                )
            ]
            for link in links:
                if link.props['href'] == re.sub('^/queue.*', '/', here):
                    link.props['aria-current'] = 'page'
        with box('div', 'who'):
            light = button('', turn, THEMES[theme][1], True, round=True)
            light.props['aria-label'] = light.props['title'] = f'colours: {theme}'
            session = page.session()
            if session:
                say('span', printable(session.user), 'muted')
                button('Log out', leave, plain=True)
            else:
                ui.link('Log in', f'/login?next={quote(here, safe="")}')
    with box('main', 'main'):
        notes = box('div', 'notes')
        yield page
        foot = say('div', '', 'foot')
    shown = None

    async def tick():
        nonlocal shown
        page.now = time.time()
        if not page.is_open():
            timer.deactivate()
            ui.navigate.to(f'/login?ended&next={quote(here, safe="")}')
            return
        found, failure = await look(page, lambda db: situation(db, args, page.now))
        if failure:
            wanted = [(True, failure, '')]
            state.set_text('no history')
            state.classes(replace='state off')
        else:
            notable = [note for note in found.notes if note[0] or here == '/']
            wanted = notable[:NOTES]
            if len(notable) > NOTES:
                wanted.append(
                    (False, f'and {len(notable) - NOTES} more: ./monitor.py --once lists them', '')
                )
            state.set_text(found.words)
            state.classes(replace=f'state {found.tone}')
            links[1].set_text(f'Dead letters {count(found.dead)}' if found.dead else 'Dead letters')
            collected = since(found.known['collected'], page.now) or 'never'
            foot.set_text(
                f'{found.known["place"] or ""} · collected {collected} · all times are UTC · {args.history}'
            )
        if wanted != shown:
            shown = wanted
            notes.clear()
            with notes:
                for bad, text, link in shown:
                    with box('div', 'note bad' if bad else 'note').props('role=status'):
                        ui.link(printable(text), link) if link else say('span', printable(text))
        if not failure:
            for refresh in page.refreshers:
                await refresh()

    timer = ui.timer(PERIOD, tick, immediate=False)
    await tick()
