"""The elements of the dashboard's pages: tiles, tables, buttons, charts.

Whatever comes from the broker is shown as text: through NiceGUI's text
elements and Vue's {{ }}, never as HTML, and never as the name of a property
(NiceGUI takes a name that begins with a colon for JavaScript).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from nicegui import events, ui
from nicegui.elements.mixins.text_element import TextElement

ROWS_PER_PAGE = 25

Row = dict[str, Any]  # of a table: texts, numbers, and what CELL needs
Stored = TypeVar('Stored', bound=Mapping[str, Any])  # a row of the history
Refresh = Callable[[], Awaitable[None]]

# A cell by the kind of its column; see column(). Values are texts or numbers.
CELL = """
<q-td
  :props="props"
  :data-label="props.col.label"
  :class="[
    'is-' + props.col.kind,
    {first: props.col.first, zero: props.value === '0'},
  ]"
>
  <a
    v-if="props.col.kind == 'link'"
    :href="props.row.href"
  >{{ props.value }}</a>
  <button
    v-else-if="props.col.kind == 'open'"
    type="button"
    class="link"
    @click="$parent.$emit('open', props.row.id)"
  >{{ props.value }}</button>
  <span
    v-else-if="props.col.kind == 'state'"
    :class="['state', props.row.tone]"
  >{{ props.value }}</span>
  <svg
    v-else-if="props.col.kind == 'spark'"
    class="spark"
    viewBox="0 0 120 26"
    preserveAspectRatio="none"
    role="img"
    :aria-label="props.row.peak"
  ><polyline :points="props.value"/></svg>
  <template v-else>{{ props.value }}</template>
</q-td>
"""
HEADING = """
<q-th :props="props" scope="col">
  <button
    v-if="props.col.sortable"
    type="button"
    :title="'sort by ' + props.col.label"
  >{{ props.col.label }}</button>
  <template v-else>{{ props.col.label }}</template>
</q-th>
"""


# ---- texts and buttons


def say(tag: str, text: str = '', classes: str = '') -> TextElement:
    """Add an HTML element that shows a text."""
    return TextElement(tag=tag, text=text).classes(classes)


def box(tag: str = 'div', classes: str = '') -> ui.element:
    return ui.element(tag).classes(classes)


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


def finder(name: str, on_change: Callable[..., Any]) -> ui.input:
    """Add a field for a text to look for."""
    element = ui.input(placeholder=name, on_change=on_change)
    element.props('dense outlined clearable debounce=200 type=search')
    element.props['aria-label'] = name
    return element


class Tile:
    """A number with its name above it and its unit or a remark below it."""

    def __init__(self, name: str, unit: str = '') -> None:
        self.unit = unit
        with box('div', 'tile'):
            say('div', name, 'name')
            self.value = say('div', '–', 'value')
            self.below = say('div', unit, 'unit')

    def show(self, text: str, remark: str | None = None) -> None:
        """Set the value and the remark, which stands in place of the unit."""
        self.value.set_text(text)
        if remark is None:
            remark = self.unit
        self.below.set_text(remark)


def empty(title: str, remark: str) -> ui.element:
    """Add what is shown in place of a table without rows.

    The remark says what to do.
    """
    with box('div', 'empty') as element:
        say('b', title)
        say('span', remark)
    return element


# ---- tables


def column(
    name: str,
    label: str,
    kind: str = 'text',
    sortable: bool = False,
    first: bool = False,
) -> dict[str, Any]:
    """Return a column of a table.

    Its kind is text, number, wide (may wrap), or one of those in CELL: link,
    open, state, spark.
    """
    align = 'left'
    if kind == 'number':
        align = 'right'
    return {
        'name': name,
        'field': name,
        'label': label,
        'kind': kind,
        'sortable': sortable,
        'first': first,
        'align': align,
    }


def table(name: str, columns: list[dict[str, Any]]) -> ui.table:
    """Add a table that shows all its rows."""
    element = ui.table(
        rows=[],
        columns=columns,
        row_key='id',
        pagination=0,
    )
    dress(element, name)
    return element


def paged_table(
    name: str,
    columns: list[dict[str, Any]],
    on_change: Refresh,
    sort_by: str = '',
) -> ui.table:
    """Add a table that shows ROWS_PER_PAGE rows; see fill() and view_of().

    It is sorted by the column `sort_by` first, the largest value on top.
    """
    pagination = {
        'rowsPerPage': ROWS_PER_PAGE,
        'page': 1,
        'sortBy': sort_by,
        'descending': bool(sort_by),
        'rowsNumber': 0,
    }
    element = ui.table(
        rows=[],
        columns=columns,
        row_key='id',
        pagination=pagination,
    )
    dress(element, name)

    async def on_request(event: events.GenericEventArguments) -> None:
        change_pagination(element, **event.args['pagination'])
        await on_change()

    element.on('request', on_request, ['pagination'])
    return element


def dress(element: ui.table, name: str) -> None:
    """Give a table its looks, its name for screen readers, and its cells."""
    element.props('flat hide-bottom binary-state-sort')
    element.props(f':rows-per-page-options="[{ROWS_PER_PAGE}]"')
    element.props.update({'role': 'region', 'aria-label': name})
    element.classes('cards')
    element.add_slot('body-cell', CELL)
    element.add_slot('header-cell', HEADING)


def change_pagination(element: ui.table, **changes: Any) -> None:
    element.pagination = {**element.pagination, **changes}


def first_shown(element: ui.table) -> int:
    """Return how many rows are on the pages before the one that is shown."""
    return (element.pagination['page'] - 1) * ROWS_PER_PAGE


def fill(element: ui.table, rows: list[Row], total: int) -> None:
    """Show rows in a paged table that has `total` rows on all its pages."""
    element.rows = rows
    if element.pagination['rowsNumber'] != total:
        change_pagination(element, rowsNumber=total)
    element.props['hide-bottom'] = total <= ROWS_PER_PAGE


def view_of(element: ui.table, rows: Sequence[Stored]) -> Sequence[Stored]:
    """Return the rows that a paged table shows now, in its order."""
    name = element.pagination['sortBy']

    def sort_key(row: Stored) -> Any:
        if name == 'name':
            return row[name]
        return row[name] or 0

    if name:
        descending = element.pagination['descending']
        rows = sorted(rows, key=sort_key, reverse=descending)
    first = first_shown(element)
    return rows[first : first + ROWS_PER_PAGE]


# ---- charts

LINE_WIDTHS = (4, 2.5, 1)  # lines that are equal stay visible
GRID = {
    'left': 8,
    'right': 12,
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
    options['xAxis']['axisLabel']['formatter'] = '{HH}:{mm}'
    return chart(name, options)


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
