"""The situation in one line, as Nagios and its like want it: what is worst, and figures.

The line has at most MOST_BYTES, for old versions of NRPE cut what is longer; the figures
stand at its end. Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from siamese.monitoring.alert_groups import Group
from siamese.monitoring.thresholds import Figures
from siamese.text import count_of, printable

OK, WARNING, CRITICAL, UNKNOWN = range(4)
STATES = ('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')
MOST_BYTES = 1023  # with the line break; NRPE adds a byte
MOST_GROUPS = 3
UNKNOWN_FIGURE = 'U'
ELLIPSIS = '…'


def status(groups: Sequence[Group], unknown: Sequence[str]) -> int:
    """Return the exit status; `unknown` says why figures are."""
    if any(group.critical for group in groups):
        return CRITICAL
    if groups:
        return WARNING
    return UNKNOWN if unknown else OK


def line(
    groups: Sequence[Group],
    unknown: Sequence[str],
    figures: Figures,
    limits: Mapping[str, float],
    queues: int,
) -> str:
    """Return the line, without its line break."""
    texts = [group.text for group in groups[:MOST_GROUPS]]
    more = len(groups) - MOST_GROUPS
    if more > 0:
        texts.append(f'and {count_of(more, "more warning")}')
    texts += unknown
    if not texts:
        texts = [count_of(queues, 'queue')]
    text = '; '.join(texts)
    if groups:
        text += f'. First of all: {groups[0].remedy}'
    if groups and groups[0].most:
        text += f' Most: {groups[0].most}.'
    data = {**figures, 'queues': queues, 'warnings': len(groups)}
    shown = [_datum(name, figure, limits.get(name)) for name, figure in data.items()]
    return of_state(status(groups, unknown), text, ' '.join(shown))


def of_state(state: int, text: str, data: str = '') -> str:
    """Return a line that says a state and why; the text is cut where it is too long."""
    words = printable(text).replace('|', '/')
    tail = ''
    if data:
        tail = f' | {data}'
    begin = f'SIAMESE {STATES[state]} - '
    room = MOST_BYTES - len(f'{begin}{tail}\n'.encode())
    return f'{begin}{_cut(words, room)}{tail}'


def _cut(text: str, room: int) -> str:
    """Return as much of a text as has room, in bytes of UTF-8."""
    encoded = text.encode(errors='replace')
    if len(encoded) <= room:
        return text
    kept = encoded[: room - len(ELLIPSIS.encode())]
    return kept.decode(errors='ignore') + ELLIPSIS


def _datum(name: str, figure: float | None, limit: float | None) -> str:
    """Return a figure as Nagios reads it: name=value;warning;critical."""
    value = UNKNOWN_FIGURE
    if figure is not None:
        value = f'{figure:.0f}'
    if figure is not None and name == 'oldest':
        value += 's'
    if limit is not None:
        value += f';;{limit:g}'
    return f'{name}={value}'
