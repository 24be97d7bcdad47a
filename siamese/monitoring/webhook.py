"""The webhook: alerts as JSON to a URL, for chats and for those who are on call.

The URL is a secret: whoever has it may write into that chat. Only its scheme and host
are shown, and of an answer only what cannot repeat the rest.
"""

from __future__ import annotations

import argparse
import base64
import http
import http.client
import json
import re
import ssl
from sqlite3 import Connection
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from common import bracketed
from siamese import hosts
from siamese.messaging import bounded_http
from siamese.monitoring import alert_groups, database
from siamese.monitoring.alert_groups import Group
from siamese.monitoring.notices import Notice, Notifier
from siamese.text import printable, readable_place, shorten, utc

TIMEOUT_S = 30  # for a whole answer
MOST_NAMED = 20  # queues or clients of a warning
LONGEST_REASON = 200  # characters
BAD_URL = 'bad webhook URL: expected https://host/path'
NO_TLS = 'bad webhook URL: a password goes to https:// only'
ISO = '%Y-%m-%dT%H:%M:%SZ'
# What Slack and its like answer: 'no_service', 'invalid_payload'.
WORD = re.compile(r'[a-z_]{1,40}')


class Target(NamedTuple):
    """Where to post to."""

    url: str  # without a login
    shown: str  # scheme and host
    headers: dict[str, str]


class Rejected(Exception):
    """The other side did not take it; the message is for people."""


def target(url: str) -> Target:
    """Return the Target of a URL; raise ValueError, without repeating the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = unquote(parts.hostname or '')
        host.encode('idna')  # as the socket will do
    except ValueError:
        raise ValueError(BAD_URL) from None
    is_plain = url.isascii() and url.isprintable() and ' ' not in url
    if parts.scheme not in bounded_http.USUAL_PORTS or not host or not is_plain:
        raise ValueError(BAD_URL)
    headers = {'Content-Type': 'application/json', 'User-Agent': 'siamese'}
    if parts.username or parts.password:
        if parts.scheme != 'https' and not hosts.is_loopback(host):
            raise ValueError(NO_TLS)
        headers['Authorization'] = _basic(parts)
    place = bracketed(host)
    if port:
        place = f'{place}:{port}'
    shown = f'{parts.scheme}://{place}'
    path = parts._replace(scheme='', netloc='', fragment='').geturl()
    if not path.startswith('/'):
        path = f'/{path}'
    return Target(f'{shown}{path}', shown, headers)


def _basic(parts: SplitResult) -> str:
    user = unquote(parts.username or '')
    password = unquote(parts.password or '')
    pair = f'{user}:{password}'.encode()
    return f'Basic {base64.b64encode(pair).decode()}'


class Caller(Notifier):
    """Posts news to the URL that the flags name."""

    fact = 'webhook'

    def __init__(
        self,
        db: Connection,
        args: argparse.Namespace,
        retry_s: float,
    ) -> None:
        super().__init__(db, args, args.webhook_every, retry_s)
        self.target = target(args.webhook)
        self.tls = bounded_http.Tls(ssl.create_default_context())

    def write(self, notice: Notice) -> dict[str, Any]:
        place = database.broker(self.db)['place'] or ''
        return content(notice, place, self.args.dashboard_url)

    def send(self, written: dict[str, Any], notice: Notice) -> str:
        answer = bounded_http.ask(
            'POST',
            self.target.url,
            json.dumps(written).encode(),
            self.target.headers,
            self.tls,
            TIMEOUT_S,
        )
        if not 200 <= answer.status < 300:
            raise Rejected(self.complaint(answer))
        return f'{written["summary"]} to {self.target.shown}'

    def complaint(self, answer: bounded_http.Answer) -> str:
        """Return what is wrong with an answer."""
        if answer.status in bounded_http.REDIRECTS:
            return f'it answers {answer.status}, a redirect, and these are not followed'
        known = {status.value: status.phrase for status in http.HTTPStatus}
        words = f'{answer.status} {known.get(answer.status, "")}'.rstrip()
        said = answer.body.decode(errors='replace').strip()
        if WORD.fullmatch(said) and said not in self.target.url:
            words += f', {said}'
        return f'it answers {words}'

    def reason(self, error: Exception) -> str:
        why = shorten(error, LONGEST_REASON) or type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f'its certificate does not hold ({printable(error.verify_message)})'
        elif isinstance(error, http.client.HTTPException):
            why = f'its answer is no HTTP ({type(error).__name__})'
        return f'{self.target.shown}: {why}'


# ---- what is posted


def content(notice: Notice, place: str, dashboard: str | None) -> dict[str, Any]:
    """Return what is posted, see docs/explanation/monitor.md."""
    groups = alert_groups.grouped(notice.news.alerts)
    at = readable_place(place)
    level = 'warning'
    if any(group.critical for group in groups):
        level = 'critical'
    summary = f'siamese: {level} at {at}: {groups[0].text}'
    if len(groups) > 1:
        summary += f' (and {len(groups) - 1} more)'
    return {
        'text': _text(groups, at, dashboard),
        'summary': summary,
        'level': level,
        'place': place,
        'since': utc(notice.since, ISO),
        'until': utc(notice.now, ISO),
        'dashboard': dashboard,
        'warnings': [_warning(group, dashboard) for group in groups],
    }


def _warning(group: Group, dashboard: str | None) -> dict[str, Any]:
    named = group.members[:MOST_NAMED]
    return {
        'key': group.key,
        'level': group.level,
        'text': group.text,
        'remedy': group.remedy,
        'link': alert_groups.link(group, dashboard) or None,
        'members': len(group.members),
        'named': [
            {
                'name': shorten(alert.name, alert_groups.SHOWN),
                'count': alert.number,
            }
            for alert in named
        ],
    }


def _text(groups: list[Group], at: str, dashboard: str | None) -> str:
    """Return lines for a chat, in which no name can be a link or call people."""
    lines = [f'siamese at {_escaped(at)}']
    for group in groups:
        lines.append(f'• {group.level}: {_escaped(group.text)}')
        if group.most:
            lines.append(f'   {_escaped(group.most)}')
        lines.append(f'   {_escaped(group.remedy)}')
        link = alert_groups.link(group, dashboard)
        if link:
            lines.append(f'   {link}')
    return '\n'.join(lines)


def _escaped(text: str) -> str:
    """Return text as Slack wants it: <!channel> would call everybody."""
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
