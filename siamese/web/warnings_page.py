"""What the dashboard shows of warnings: all of them, and all that one of them is about."""

from __future__ import annotations

import sqlite3
from urllib.parse import quote

from siamese.monitoring import alert_groups, alerts
from siamese.monitoring.alert_groups import Group
from siamese.monitoring.alerts import Alert
from siamese.monitoring.database import DAY_S
from siamese.text import duration, printable
from siamese.web.formats import count
from siamese.web.page import Page, read_history
from siamese.web.tables import PagedTable, Row, Table, column
from siamese.web.widgets import Empty, box, say

COLUMNS = [
    column('level', 'Level', 'state', first=True),
    column('text', 'Warning', 'link'),
    column('remedy', 'What to do', 'wide'),
]
NAME = column('name', 'Name', 'link', True, first=True)
MESSAGES = column('number', 'Messages', 'number', True)
TIME = column('seconds', 'For', 'number', True)
REASON = column('reason', 'Reason', 'wide')
# What there is to say of what a warning is about, by its kind.
MEMBER_COLUMNS = {
    'unread': [NAME, MESSAGES, TIME],
    'dead': [NAME, MESSAGES, REASON],
    'interrupted': [NAME, TIME],
}
TONES = {'critical': 'bad', 'warning': 'warn'}
PAGES = {'unread': '/queue?name=', 'dead': '/dead?queue='}  # of what a warning is about


def show_warnings(page: Page) -> None:
    page.refreshers.append(WarningsView(page).refresh)


class WarningsView:
    """The table of warnings, and below it what the chosen one is about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.kind = page.address.get('kind', '')
        columns = MEMBER_COLUMNS.get(self.kind.partition('-')[0], [NAME])
        with box('section', 'card'):
            self.nothing = Empty()
            self.table = Table('warnings', COLUMNS)
        with box('section', 'card') as self.chosen:
            with box('div', 'head'):
                self.heading = say('h2')
            self.remedy = say('p')
            self.members = PagedTable(
                page.address,
                'what it is about',
                columns,
                self.refresh,
                sort_by='number',
            )

    async def refresh(self) -> None:
        groups, _ = await read_history(self.page, self.read)
        if groups is None:
            return
        self.table.show([table_row(group) for group in groups])
        self.table.set_visibility(bool(groups))
        if groups:
            self.nothing.hide()
        else:
            self.nothing.show(
                'No warnings',
                'Nothing waits without a consumer, and nothing was dead-lettered in 24 h.',
            )
        found = [group for group in groups if group.key == self.kind]
        self.chosen.set_visibility(bool(found))
        for group in found:
            self.show_members(group)

    def read(self, db: sqlite3.Connection) -> list[Group]:
        now = self.page.clock
        unread_after = self.page.args.unread_after
        return alert_groups.grouped(alerts.warnings(db, unread_after, now - DAY_S, now))

    def show_members(self, group: Group) -> None:
        self.heading.set_text(group.text)
        self.remedy.set_text(group.remedy)
        rows = [alert._asdict() for alert in group.members]
        shown = self.members.view_of(rows, id_of)
        cells = [member_row(Alert(**row)) for row in shown]
        self.members.show(cells, len(rows))


def table_row(group: Group) -> Row:
    return {
        'id': group.key,
        'tone': TONES[group.level],
        'level': group.level,
        'text': group.text,
        'href': f'/warnings?kind={group.key}',
        'remedy': group.remedy,
    }


def id_of(row: Row) -> str:
    return f'{row["name"]} {row["reason"]}'


def member_row(alert: Alert) -> Row:
    """Return the row of one that a warning is about."""
    lasts = ''
    if alert.seconds is not None:
        lasts = duration(alert.seconds)
    href = ''
    if alert.kind == 'interrupted':
        href = '/clients'
    elif alert.kind in PAGES and alert.name:
        href = PAGES[alert.kind] + quote(alert.name, safe='')
    return {
        'id': id_of(alert._asdict()),
        'name': alert_groups.shown_name(alert.name),
        'href': href,
        'number': count(alert.number),
        'seconds': lasts,
        'reason': printable(alert.reason),
    }
