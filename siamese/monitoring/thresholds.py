"""What is critical besides alarms and an unavailable broker: the limits of --critical."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from siamese.monitoring import alert_groups
from siamese.monitoring.alerts import Alert
from siamese.monitoring.queues import QueueRow, total_of

Figures = dict[str, Optional[float]]  # None: unknown
# What can be limited, in words for its figure.
WORDS = {
    'ready': '{:,.0f} messages are ready',
    'unacked': '{:,.0f} messages are unacked',
    'unread': '{:,.0f} messages wait without a consumer',
    'oldest': 'the oldest message without a consumer waits {:,.0f} s',
    'dead': '{:,.0f} dead letters in 24 h',
}
EXPECTED = f'expected NAME=NUMBER[,NAME=NUMBER], of {", ".join(WORDS)}'


def parse(text: str) -> dict[str, float]:
    """An argparse type: limits by the names of WORDS, for example 'ready=10000,dead=0'."""
    limits = {}
    for part in text.split(','):
        name, _, limit = part.partition('=')
        name = name.strip()
        if name not in WORDS:
            raise argparse.ArgumentTypeError(EXPECTED)
        limits[name] = _limit(limit)
    return limits


def _limit(text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(EXPECTED) from None
    if not 0 <= limit < float('inf'):
        raise argparse.ArgumentTypeError('a limit is 0 or more')
    return limit


def figures(queues: Iterable[QueueRow], found: Iterable[Alert]) -> Figures:
    """Return what can be limited, of the queues and the alerts of a history."""
    known = [*queues]
    unread = [alert for alert in found if alert.kind == 'unread']
    dead = [alert for alert in found if alert.kind == 'dead']
    found_figures: Figures = {
        'ready': total_of(known, 'ready'),
        'unacked': total_of(known, 'unacked'),
        'unread': alert_groups.total(unread),
        'oldest': _oldest(unread),
        'dead': alert_groups.total(dead),
    }
    if found_figures['ready'] is None:  # so nobody knows what waits
        found_figures.update(unread=None, oldest=None)
    return found_figures


def _oldest(unread: Sequence[Alert]) -> float | None:
    """Return the age of the oldest message in s, 0 if none waits, None if nobody knows it."""
    if not unread:
        return 0
    ages = [alert.seconds for alert in unread]
    return max((age for age in ages if age is not None), default=None)


def exceeded(found: Figures, limits: Mapping[str, float], now: float) -> list[Alert]:
    """Return an alert for each limit that a figure is above."""
    alerts = []
    for name, limit in limits.items():
        figure = found[name]
        if figure is not None and figure > limit:
            text = WORDS[name].format(figure)
            words = f'{text}, more than {limit:,g}'
            alerts.append(Alert('limit', now, name, words))
    return alerts
