"""The elements of the dashboard's pages: tiles, buttons, charts. For tables see tables.py.

Whatever comes from the broker is shown as text: through NiceGUI's text
elements and Vue's {{ }}, never as HTML, and never as the name of a property
(NiceGUI takes a name that begins with a colon for JavaScript).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from siamese.text import printable
from siamese.web.address import Address
from siamese.web.formats import Point

Refresh = Callable[[], Awaitable[None]]
NOTICE_MS = 8000
MINUTE_S = 60


# ---- texts and buttons


def say(tag: str, text: str = '', classes: str = '') -> TextElement:
    """Add an HTML element that shows a text."""
    return TextElement(tag=tag, text=text).classes(classes)


def box(tag: str = 'div', classes: str = '') -> ui.element:
    return ui.element(tag).classes(classes)


def tell(status: int, words: str) -> None:
    """Show for a while how something went; a status of 0 is that it went well."""
    colour = 'good'
    if status:
        colour = 'bad'
    ui.notify(
        printable(words),
        color=colour,
        textColor='words',
        multi_line=True,
        timeout=NOTICE_MS,
        close_button='Close',
    )


def button(
    text: str,
    on_click: Callable[..., Any],
    icon: str | None = None,
    plain: bool = False,
    **props: Any,
) -> ui.button:
    """Add a button in the accent colour; a plain one shows only its text."""
    element = ui.button(text, on_click=on_click, icon=icon, color=None)
    element.props('dense')
    if plain:
        element.props('flat text-color=siamese')
    else:
        element.props('unelevated color=siamese text-color=ground')
        element.props('padding="4px 12px"')
    element.props.update(props)
    return element


def toggle(
    name: str,
    options: list[str] | dict[str, str],
    value: str,
    on_change: Callable[..., Any],
) -> ui.toggle:
    """Add buttons of which one is chosen."""
    element = ui.toggle(options, value=value, on_change=on_change)
    element.props('dense no-caps unelevated padding="4px 12px"')
    element.props('toggle-color=siamese toggle-text-color=ground')
    element.props['aria-label'] = name
    return element


def finder(
    name: str,
    address: Address,
    on_change: Refresh,
) -> ui.input:
    """Add a field for a text to look for; it is in the address."""

    async def find() -> None:
        address.replace(find=element.value or '', page='')
        await on_change()

    found = address.get('find')
    element = ui.input(placeholder=name, value=found, on_change=find)
    element.props('dense outlined clearable debounce=200 type=search')
    element.props['aria-label'] = name
    return element


class Tile:
    """A number with its name above it and its unit or a remark below it.

    `unknown` says since when the number is not known any more, '' while it is.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        href: str,
        unknown: Callable[[], str],
    ) -> None:
        self.unit = unit
        self.unknown = unknown
        tag = 'div'
        if href:
            tag = 'a'
        with box(tag, 'tile') as self.element:
            say('span', name, 'name')
            self.value = say('span', '–', 'value')
            self.below = say('span', unit, 'unit')
        if href:
            self.element.props['href'] = href

    def show(self, text: str, remark: str | None = None) -> None:
        """Set the value and the remark, which stands in place of the unit."""
        unknown = self.unknown()
        if remark is None:
            remark = self.unit
        self.value.set_text(text)
        self.below.set_text(unknown or remark)
        mark(self.element, 'old', bool(unknown))


def local_time(at: float) -> ui.element:
    """Add a time (s since 1970) as the clock of the browser shows it; see dashboard.js."""
    element = ui.element('local-time')
    element.props['at'] = at
    return element


def mark(element: ui.element, name: str, holds: bool) -> None:
    """Give an element a class, or take it away."""
    if holds:
        element.classes(name)
    else:
        element.classes(remove=name)


class Empty:
    """What is shown in place of a table without rows."""

    def __init__(self) -> None:
        with box('div', 'empty') as self.element:
            self.title = say('b')
            self.remark = say('span')
        self.element.set_visibility(False)

    def show(self, title: str, remark: str) -> None:
        """The remark says what to do."""
        self.title.set_text(title)
        self.remark.set_text(remark)
        self.element.set_visibility(True)

    def hide(self) -> None:
        self.element.set_visibility(False)


# ---- charts

LINE_WIDTHS = (4, 2.5, 1)  # lines that are equal stay visible
GRID = {
    'left': 28,  # with the labels of the axis: half of the first label
    'right': 40,  # half of the last one
    'top': 34,
    'bottom': 4,
    'containLabel': True,
}
LEGEND = {
    'top': 0,
    'left': 0,
    'itemWidth': 12,
    'itemHeight': 8,
    'icon': 'roundRect',
}
TOOLTIP = {
    'trigger': 'axis',
    'confine': True,
    'backgroundColor': 'var(--card)',
    'borderColor': 'var(--line)',
    'textStyle': {'color': 'var(--text)'},
    'axisPointer': {'type': 'none'},
}
BAND = {
    'silent': True,
    'itemStyle': {'color': 'var(--errors)', 'opacity': 0.16},
    'label': {'position': 'insideTopRight', 'color': 'var(--bad)'},
}
RULE = {'lineStyle': {'color': 'var(--line)'}}


def bar_chart(name: str, series: Mapping[str, str]) -> ui.echart:
    """Add a bar chart; `series` maps the names of the bars to colours."""
    options = chart_options('bar', series)
    options['legend']['selectedMode'] = True
    options['xAxis']['type'] = 'category'
    options['yAxis']['minInterval'] = 1
    return chart(name, options)


def line_chart(name: str, series: Mapping[str, str]) -> ui.echart:
    """Add lines over time; `series` maps the names of lines to colours."""
    options = chart_options('line', series)
    options['legend']['selectedMode'] = False
    options['xAxis']['type'] = 'time'
    return chart(name, options)


def show_lines(
    element: ui.echart,
    lines: Mapping[str, Iterable[Point]],
    shown: tuple[float, float],
    outages: Iterable[tuple[float, float]],
) -> None:
    """Show the points of each line of a line chart from one time to another.

    Where the broker was unavailable there is a band.
    """
    first, last = shown
    options = element.options
    options['xAxis'].update(min=in_ms(first), max=in_ms(last))
    with_seconds = last - first <= MINUTE_S
    options['xAxis']['axisLabel']['formatter'] = '{HH}:{mm}:{ss}' if with_seconds else '{HH}:{mm}'
    for series in options['series']:
        points = lines[series['name']]
        series['data'] = [in_chart(*point) for point in points]
    bands = [band(max(first, began), ended) for began, ended in outages if ended > first]
    options['series'][0]['markArea'] = {**BAND, 'data': bands}
    element.update()


def in_ms(at: float) -> int:
    return round(at * 1000)


def in_chart(at: float, value: float | None) -> list[float | None]:
    """Return a point as ECharts takes it."""
    if value is None:
        return [in_ms(at), None]
    return [in_ms(at), round(value, 2)]


def band(began: float, ended: float) -> list[dict[str, Any]]:
    begin = {'name': 'broker unavailable', 'xAxis': in_ms(began)}
    return [begin, {'xAxis': in_ms(ended)}]


def chart(name: str, options: dict[str, Any]) -> ui.echart:
    element = ui.echart(options, renderer='svg')
    element.classes('chart')
    element.props.update({'role': 'img', 'aria-label': name})
    return element


def chart_options(kind: str, colours: Mapping[str, str]) -> dict[str, Any]:
    """Return what both kinds of charts have in common, for ECharts."""
    series = []
    for (name, colour), width in zip(colours.items(), LINE_WIDTHS):
        series.append(one_series(kind, name, colour, width))
    return {
        'animation': False,
        'useUTC': True,
        'textStyle': {'fontFamily': 'system-ui, sans-serif'},
        'grid': GRID,
        'legend': dict(LEGEND),
        'tooltip': TOOLTIP,
        'xAxis': {
            'data': [],
            'axisTick': {'show': False},
            'axisLine': RULE,
            'splitLine': {'show': False},
            'axisLabel': {'hideOverlap': True},
        },
        'yAxis': {
            'type': 'value',
            'minInterval': 0,
            'splitNumber': 4,
            'splitLine': RULE,
            'axisLabel': {':formatter': 'siamese.compact'},
        },
        'series': series,
    }


def one_series(
    kind: str,
    name: str,
    colour: str,
    width: float,
) -> dict[str, Any]:
    return {
        'type': kind,
        'name': name,
        'data': [],
        'itemStyle': {'color': colour},
        'showSymbol': False,
        'lineStyle': {'color': colour, 'width': width},
        'barMaxWidth': 16,
        'emphasis': {'disabled': True},
    }
