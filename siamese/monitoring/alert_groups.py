"""Warnings for people: alerts that belong together in one line, the worst first, and a remedy.

--once, --check, the mail, the webhook and the pages show the same groups. A stranger
may have named what they are about: of a name SHOWN characters are shown, and each line
is printable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from siamese.monitoring.alerts import Alert
from siamese.monitoring.dead_letters import may_be_copies
from siamese.text import count_of, duration, printable, shorten

SHOWN = 100  # characters of a name
MOST_NAMED = 3  # of a group
CRITICAL_KINDS = ('broker', 'alarm', 'limit')
# The worst first. Messages that wait and messages that are dead are weighed by their number.
RANKS = {
    'broker': 0,
    'alarm': 1,
    'limit': 2,
    'mail': 3,
    'webhook': 4,
    'dead': 5,
    'unread': 5,
    'interrupted': 6,
}
# Why brokers dead-letter. A stranger may invent other reasons: these are one group.
REASONS = ('expired', 'rejected', 'maxlen', 'delivery_limit')
REMEDIES = {
    'broker': (
        'Is it running? Its log tells why not.'
        ' The scripts keep trying, and lose nothing that it confirmed.'
    ),
    'alarm-memory': (
        'The broker accepts no message until memory is free again:'
        ' consume what waits, or raise vm_memory_high_watermark.'
    ),
    'alarm-disk': (
        'The broker accepts no message until there is room again:'
        ' free the disk of that node, or lower disk_free_limit.'
    ),
    'alarm-node': 'Start that node again. Its log tells why it ended.',
    'limit': (
        'Consume faster, or publish less: ./monitor.py --once lists the queues.'
        ' The limit is that of --critical.'
    ),
    'mail': ('Check --smtp and --mail-to of monitor.py. Nothing is lost: the next mail tells all.'),
    'webhook': ('Check --webhook of monitor.py. Nothing is lost: the next call tells all.'),
    'dead-expired': (
        'Nobody consumed them in time.'
        ' Start a consumer, or let messages live longer;'
        ' then ./monitor.py --requeue QUEUE requeues them.'
    ),
    'dead-rejected': (
        'A consumer rejected them, and its log tells why.'
        ' When that is mended, ./monitor.py --requeue QUEUE requeues them.'
    ),
    'dead-maxlen': (
        'The queue was full.'
        ' Consume faster, or raise its max-length;'
        ' then ./monitor.py --requeue QUEUE requeues them.'
    ),
    'dead-delivery_limit': (
        'Consumers took them again and again, and never acknowledged them:'
        ' their log tells why.'
        ' When that is mended, ./monitor.py --requeue QUEUE requeues them.'
    ),
    'dead-other': 'Have a look at them: ./monitor.py --report dead.',
    'unread': (
        'Start a consumer. A queue that is not needed any more: ./cleanup.py --delete QUEUE.'
    ),
    'interrupted': (
        'If that happens again:'
        ' see the log of the client, and that of the broker for the same time.'
    ),
}


class Group(NamedTuple):
    """Alerts that belong together."""

    critical: bool
    key: str  # one of REMEDIES
    text: str  # what is wrong
    most: str  # who has the most of it, '' where the text says so
    remedy: str  # what to do
    path: str  # of the page that shows all of it
    members: list[Alert]  # the heaviest first; those that may be invented last

    @property
    def level(self) -> str:
        return 'critical' if self.critical else 'warning'


def grouped(found: Sequence[Alert]) -> list[Group]:
    """Return alerts in groups, the worst first."""
    by_key: dict[str, list[Alert]] = {}
    for alert in found:
        by_key.setdefault(key_of(alert), []).append(alert)
    groups = [_group(key, members) for key, members in by_key.items()]
    return sorted(groups, key=_weight)


def key_of(alert: Alert) -> str:
    """Return the key of the group to which an alert belongs."""
    kind = alert.kind
    reason = alert.reason
    if kind == 'alarm':
        return f'{kind}-{reason}'
    if kind != 'dead':
        return kind
    if reason not in REASONS:
        reason = 'other'
    return f'{kind}-{reason}'


def _weight(group: Group) -> tuple[bool, int, int, str]:
    """Return what sorts the worst first."""
    kind = group.members[0].kind
    count = total(group.members)
    return not group.critical, RANKS[kind], -count, group.key


def _group(key: str, found: list[Alert]) -> Group:
    members = sorted(found, key=_place)
    kind = members[0].kind
    return Group(
        critical=kind in CRITICAL_KINDS,
        key=key,
        text=printable(TEXTS[kind](members)),
        most=_most(members),
        remedy=REMEDIES[key],
        path=_path(key, members),
        members=members,
    )


def _place(alert: Alert) -> tuple[bool, int, float, str]:
    seconds = alert.seconds or 0
    return alert.invented, -alert.number, -seconds, alert.name


def total(members: Sequence[Alert]) -> int:
    """Return how many messages, dead letters or clients there are together."""
    return sum(alert.number for alert in members)


def longest(members: Sequence[Alert]) -> str:
    """Return the longest time of alerts for people, '' where none is known."""
    known = [alert.seconds for alert in members]
    times = [seconds for seconds in known if seconds is not None]
    if not times:
        return ''
    return duration(max(times))


def _path(key: str, members: list[Alert]) -> str:
    first = members[0]
    pages = {'unread': '/queue?name=', 'dead': '/dead?queue='}
    page = pages.get(first.kind)
    if page and first.name and len(_names(members)) == 1:
        return page + quote(first.name, safe='')
    return f'/warnings?kind={key}'


def _names(members: list[Alert]) -> list[str]:
    """Return the names of alerts, each once: a queue may have several reasons."""
    return list(dict.fromkeys(alert.name for alert in members))


def link(group: Group, dashboard: str | None) -> str:
    """Return the address of a group's page, '' without a dashboard."""
    if not dashboard:
        return ''
    return dashboard.rstrip('/') + group.path


# ---- words


def shown_name(name: str) -> str:
    """Return the name of a queue or client, as far as it is shown."""
    return shorten(name or 'queue unknown', SHOWN)


def _subject(members: list[Alert], noun: str) -> str:
    """Return the name of the only one, else how many there are."""
    names = _names(members)
    if len(names) == 1:
        return shown_name(names[0])
    return count_of(len(names), noun)


def _broker_text(members: list[Alert]) -> str:
    return f'the broker has been unavailable for {longest(members)}'


def _alarm_text(members: list[Alert]) -> str:
    """Return which nodes have an alarm, and how many clients the broker blocks for it."""
    first = members[0]
    reason = first.reason
    text = first.name
    if len(members) > 1 and reason == 'node':
        text = f'{len(members)} nodes do not run'
    elif len(members) > 1:
        text = f'{reason} alarm on {len(members)} nodes'
    blocked = first.number
    if reason == 'node' or not blocked:
        return text
    verb = 'is' if blocked == 1 else 'are'
    return f'{text}: {count_of(blocked, "client")} {verb} blocked'


def _limit_text(members: list[Alert]) -> str:
    return '; '.join(alert.reason for alert in members)


def _mail_text(members: list[Alert]) -> str:
    reason = members[0].reason
    return f'no mail could be sent for {longest(members)}, retrying: {reason}'


def _webhook_text(members: list[Alert]) -> str:
    reason = members[0].reason
    return f'the webhook has failed for {longest(members)}, retrying: {reason}'


def _unread_text(members: list[Alert]) -> str:
    verb = 'waits' if len(members) == 1 else 'wait'
    subject = _subject(members, 'queue')
    messages = count_of(total(members), 'message')
    text = f'{subject} {verb} without a consumer: {messages}'
    oldest = longest(members)
    if oldest:
        text += f', oldest {oldest}'
    return text


def _dead_text(members: list[Alert]) -> str:
    subject = _subject(members, 'queue')
    letters = count_of(total(members), 'dead letter')
    reasons = {alert.reason for alert in members}
    reason = 'other reasons'
    if len(reasons) == 1:
        reason = shorten(reasons.pop())
    copies = sum(alert.copies for alert in members)
    return f'{subject}: {letters}, {reason}{may_be_copies(copies)}'


def _interrupted_text(members: list[Alert]) -> str:
    gone = longest(members)
    if len(members) == 1:
        name = shown_name(members[0].name)
        return f'{name} was disconnected for {gone}, and is back'
    clients = count_of(len(members), 'client')
    return f'{clients} were disconnected, and are back: longest {gone}'


TEXTS = {
    'broker': _broker_text,
    'alarm': _alarm_text,
    'limit': _limit_text,
    'mail': _mail_text,
    'webhook': _webhook_text,
    'unread': _unread_text,
    'dead': _dead_text,
    'interrupted': _interrupted_text,
}


def _most(members: list[Alert]) -> str:
    """Return the first names of a group with their figures, '' for one."""
    if len(members) == 1 or members[0].kind == 'limit':
        return ''
    named = [_named(alert) for alert in members[:MOST_NAMED]]
    more = len(members) - MOST_NAMED
    text = ', '.join(named)
    if more > 0:
        text += f', and {more:,} more'
    return text


def _named(alert: Alert) -> str:
    name = shown_name(alert.name)
    if alert.kind in ('unread', 'dead'):
        return f'{name} ({alert.number:,})'
    if alert.kind == 'interrupted':
        return f'{name} ({duration(alert.seconds or 0)})'
    return name
