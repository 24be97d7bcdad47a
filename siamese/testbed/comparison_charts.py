"""The charts of compare.py --html: a bar for each broker, with its spread, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from siamese.testbed.figures import LESS, MORE, number
from siamese.testbed.markup import Html, element
from siamese.text import shorten

Document = dict[str, Any]  # what --json writes, see docs/explanation/compare.md

# Sizes in the units of the drawing.
WIDTH = 420
VALUE_WIDTH = 110  # beside the longest bar
LABEL_HEIGHT = 20
BAR_HEIGHT = 18
BROKER_HEIGHT = 54  # a bar with its label
CAP_HEIGHT = 10  # of the ends of a spread
LABEL_CHARACTERS = 56

BETTER = {MORE: 'more is better', LESS: 'less is better'}
ONCE = 'measured once, so it is not compared'


class Bar(NamedTuple):
    """What one broker has of a figure; low and high are None where the spread is not known."""

    label: str
    median: float
    low: float | None
    high: float | None

    def most(self) -> float:
        """Return how far it reaches."""
        return max(self.median, self.high or 0)

    def text(self, unit: str) -> str:
        """Return it in words."""
        words = f'{self.label}: {number(self.median)} {unit}'
        if self.low is None or self.high is None:
            return words
        return f'{words} ({number(self.low)} to {number(self.high)})'


def charts(document: Document) -> Iterator[Html]:
    """Yield a figure for each quantity that was measured on any broker."""
    found: dict[tuple[str, str], Document] = {}
    for broker in document['brokers']:
        for check, cell in broker['checks'].items():
            for name, figure in cell['figures'].items():
                found.setdefault((check, name), figure)
    for place, ((check, name), figure) in enumerate(found.items(), 1):
        bars = list(bars_of(document['brokers'], check, name))
        if bars:
            texts = texts_about(document, check, name, figure)
            yield chart(place, f'{check}, {name}', figure, bars, texts)


def bars_of(brokers: Sequence[Document], check: str, name: str) -> Iterator[Bar]:
    """Yield a bar for each broker that has a value."""
    for broker in brokers:
        figure = broker['checks'][check]['figures'].get(name)
        if figure and figure['median'] is not None:
            yield Bar(broker['label'], figure['median'], figure['low'], figure['high'])


def texts_about(
    document: Document,
    check: str,
    name: str,
    figure: Document,
) -> list[str]:
    """Return how the brokers compare in a figure."""
    compared = [
        each['text']
        for each in document['comparisons']
        if (each['check'], each['figure']) == (check, name)
    ]
    if not compared and len(figure['rounds']) == 1:
        return [ONCE]
    return compared


def chart(
    place: int,
    title: str,
    figure: Document,
    bars: Sequence[Bar],
    texts: Sequence[str],
) -> Html:
    """Return a figure with its caption, its bars, and what they mean."""
    unit = figure['unit']
    caption = element(
        'figcaption',
        element('strong', title),
        f' in {unit}: ',
        element('em', BETTER[figure['better']]),
        element('small', figure['title']),
    )
    names = (f'chart-{place}-title', f'chart-{place}-text')
    described = '; '.join(bar.text(unit) for bar in bars)
    svg = element(
        'svg',
        element('title', f'{title}: {BETTER[figure["better"]]}', id=names[0]),
        element('desc', described, id=names[1]),
        *drawn(bars),
        role='img',
        aria_labelledby=' '.join(names),
        viewBox=f'0 0 {WIDTH} {len(bars) * BROKER_HEIGHT}',
    )
    return element('figure', caption, svg, *(element('p', text) for text in texts))


def drawn(bars: Sequence[Bar]) -> Iterator[Html]:
    """Yield the drawing of all bars, on one scale that begins at 0."""
    longest = max(bar.most() for bar in bars) or 1
    scale = (WIDTH - VALUE_WIDTH) / longest
    for place, bar in enumerate(bars):
        yield from one_bar(bar, place * BROKER_HEIGHT, scale)


def one_bar(bar: Bar, top: int, scale: float) -> Iterator[Html]:
    """Yield label, bar, spread and value; `scale` is the length of 1."""
    middle = top + LABEL_HEIGHT + BAR_HEIGHT / 2
    yield element('text', shorten(bar.label, LABEL_CHARACTERS), x=0, y=top + 14)
    yield element(
        'rect',
        x=0,
        y=top + LABEL_HEIGHT,
        width=f'{bar.median * scale:.1f}',
        height=BAR_HEIGHT,
    )
    if bar.low is not None and bar.high is not None:
        left, right = bar.low * scale, bar.high * scale
        yield stroke(left, middle, right, middle)
        for end in (left, right):
            yield stroke(end, middle - CAP_HEIGHT / 2, end, middle + CAP_HEIGHT / 2)
    value_x = bar.most() * scale + 8
    yield element('text', number(bar.median), x=f'{value_x:.1f}', y=middle + 5, class_='value')


def stroke(x1: float, y1: float, x2: float, y2: float) -> Html:
    """Return a line."""
    return element('line', x1=f'{x1:.1f}', y1=f'{y1:.1f}', x2=f'{x2:.1f}', y2=f'{y2:.1f}')
