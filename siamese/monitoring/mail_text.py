"""What a mail about alerts says: as text, as HTML, and in short.

Strangers have written a part of it: names have at most SHOWN characters, and what is
listed has an end.
"""

from __future__ import annotations

import html
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from sqlite3 import Connection
from typing import Any, NamedTuple

from siamese.monitoring import alert_groups, database, dead_letters
from siamese.monitoring.alert_groups import Group
from siamese.monitoring.alerts import News
from siamese.monitoring.dead_letters import DeadLetterRow
from siamese.monitoring.notices import Notice
from siamese.text import count_of, printable, readable_place, shorten, table, utc

SHOWN = 100  # characters of a name
MAX_LISTED_DEAD_LETTERS = 100  # in one mail
COLUMNS = ('dead-lettered (UTC)', 'queue', 'reason', 'sender', 'message_id', 'bytes')

# Where a mail says all that it does not list.
ALL_OF_IT = './monitor.py --once'
ALL_DEAD_LETTERS = './monitor.py --report dead'

# Phones scale a page down unless it says that it fits. Mail programs take no style sheets.
HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '</head>'
)
STYLES = {
    'body': (
        'margin:0;padding:16px;max-width:640px;overflow-wrap:anywhere;'
        'font:16px/1.45 system-ui,sans-serif'
    ),
    'critical': 'margin:0 0 16px;padding-left:12px;border-left:4px solid #c62828',
    'warning': 'margin:0 0 16px;padding-left:12px;border-left:4px solid #b26a00',
    'letter': 'margin:0 0 12px;font-size:14px',
    'small': 'font-size:14px',
}


class Envelope(NamedTuple):
    """Who tells whom, and of what time."""

    sender: str
    recipients: list[str]
    dashboard: str | None  # its URL
    since: float
    now: float


def whole(db: Connection, envelope: Envelope, notice: Notice) -> EmailMessage:
    """Return the mail about news, with the dead letters that were not told."""
    listed, count = dead_letters.find(
        db,
        after=notice.after,
        requeued=False,
        limit=MAX_LISTED_DEAD_LETTERS,
    )
    content = Content(
        intro=_intro(db, envelope),
        groups=alert_groups.grouped(notice.news.alerts),
        dashboard=envelope.dashboard,
        dead_letters=[_cells(row) for row in listed],
        more=_more(count - len(listed)),
    )
    return _message(db, envelope, notice.news, content)


def short(
    db: Connection,
    envelope: Envelope,
    notice: Notice,
    why: str,
) -> EmailMessage:
    """Return the same mail without anything that a stranger may have written.

    `why` says what was wrong with the whole one.
    """
    titles = _titles(alert_groups.grouped(notice.news.alerts))
    remark = f'{", ".join(titles)}. This is all that could be sent: {why}.'
    remedy = f'{ALL_DEAD_LETTERS} has the dead letters, {ALL_OF_IT} the rest.'
    group = Group(False, '', remark, '', remedy, '/warnings', [])
    content = Content(_intro(db, envelope), [group], envelope.dashboard, [], '')
    return _message(db, envelope, notice.news, content)


def _intro(db: Connection, envelope: Envelope) -> str:
    place = readable_place(database.broker(db)['place'] or '')
    return f'At {place}, from {utc(envelope.since)} to {utc(envelope.now)} UTC:'


def _message(
    db: Connection,
    envelope: Envelope,
    news: News,
    content: Content,
) -> EmailMessage:
    place = readable_place(database.broker(db)['place'] or '')
    domain = parseaddr(envelope.sender)[1].rpartition('@')[2]
    message = EmailMessage()
    message['Subject'] = f'{_subject(news)} at {place}'
    message['From'] = envelope.sender
    message['To'] = ', '.join(envelope.recipients)
    message['Date'] = formatdate(envelope.now)
    message['Message-ID'] = make_msgid(domain=domain or None)
    message.set_content(content.as_text())
    message.add_alternative(content.as_html(), subtype='html')
    return message


def _subject(news: News) -> str:
    groups = alert_groups.grouped(news.alerts)
    titles = ', '.join(_titles(groups))
    if any(group.critical for group in groups):
        return f'siamese CRITICAL: {titles}'
    return f'siamese: {titles}'


def _titles(groups: list[Group]) -> list[str]:
    """Return what the subject of a mail says of each group: numbers, no names."""
    return [_title(group) for group in groups]


def _title(group: Group) -> str:
    members = group.members
    letters = count_of(alert_groups.total(members), 'message')
    kinds = {
        'broker': 'broker unavailable',
        'alarm': count_of(len(members), f'{members[0].reason} alarm'),
        'unread': count_of(len(members), 'queue') + ' without a consumer',
        'interrupted': count_of(len(members), 'client') + ' interrupted',
        'dead': f'{letters} dead-lettered',
    }
    reasons = {
        'alarm-node': count_of(len(members), 'node') + ' down',
        'dead-expired': f'{letters} expired',
        'dead-rejected': f'{letters} rejected',
    }
    return reasons.get(group.key) or kinds[members[0].kind]


def _cells(row: DeadLetterRow) -> list[Any]:
    return [
        utc(row['at']),
        shorten(row['queue'], SHOWN),
        shorten(row['reason'], SHOWN),
        shorten(row['sender'], SHOWN),
        shorten(row['message_id'], SHOWN),
        row['size'],
    ]


def _more(count: int) -> str:
    if count <= 0:
        return ''
    return f'... and {count:,} more: {ALL_DEAD_LETTERS}'


class Content(NamedTuple):
    """What a mail says."""

    intro: str
    groups: list[Group]
    dashboard: str | None
    dead_letters: list[list[Any]]  # cells of the COLUMNS
    more: str  # dead letters that are not listed

    def as_text(self) -> str:
        lines = [self.intro, '']
        for group in self.groups:
            link = alert_groups.link(group, self.dashboard)
            lines.append(f'* {group.text}')
            lines += [f'  {line}' for line in (group.most, group.remedy, link) if line]
        if self.dead_letters:
            lines += ['', *table(COLUMNS, self.dead_letters), self.more]
        return '\n'.join(lines).rstrip() + '\n'

    def as_html(self) -> str:
        lines = [
            HEAD,
            f'<body style="{STYLES["body"]}">',
            f'<p>{html.escape(self.intro)}</p>',
            *[self._html_of_group(group) for group in self.groups],
            *[_html_of_letter(row) for row in self.dead_letters],
        ]
        if self.more:
            lines.append(f'<p style="{STYLES["small"]}">{self.more}</p>')
        if self.dashboard:
            address = html.escape(self.dashboard)
            lines.append(f'<p><a href="{address}">Open the dashboard</a></p>')
        lines.append('</body></html>')
        return '\n'.join(lines) + '\n'

    def _html_of_group(self, group: Group) -> str:
        lines = [f'<strong>{html.escape(group.text)}</strong>']
        if group.most:
            lines.append(html.escape(group.most))
        lines.append(html.escape(group.remedy))
        link = alert_groups.link(group, self.dashboard)
        if link:
            lines.append(f'<a href="{html.escape(link)}">Show all of it</a>')
        return f'<p style="{STYLES[group.level]}">{"<br>".join(lines)}</p>'


def _html_of_letter(row: list[Any]) -> str:
    """Return a dead letter as two lines: a table is too wide for a phone."""
    at, queue, reason, sender, message_id, _ = [html.escape(printable(cell)) for cell in row]
    size = count_of(row[-1], 'byte')
    first = f'<strong>{queue}</strong> {reason}, {at} UTC'
    second = f'{message_id or "no message_id"}, {size}'
    if sender:
        second += f', from {sender}'
    return f'<p style="{STYLES["letter"]}">{first}<br>{second}</p>'
