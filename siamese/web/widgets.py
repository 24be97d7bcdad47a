"""The elements of the dashboard's pages: tiles, tables, charts, and bodies of messages as text.

Whatever comes from the broker is shown as text: through NiceGUI's text elements and Vue's {{ }}, never as HTML, and
never as the name of a property (NiceGUI takes one that begins with a colon for JavaScript).
"""

import contextlib
import json

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from siamese.text import duration, printable

ROWS = 25  # of a table at once
SHOWN = {'Text': 65_536, 'JSON': 65_536, 'Hex': 4_096}  # bytes of a body
SPARK = 120, 26  # pixels
WINDOW = 15  # s

# A cell by the kind of its column: see table(). Every value is a text or a number.
CELL = """
<q-td :props="props" :data-label="props.col.label"
      :class="['is-' + props.col.kind, {first: props.col.first, zero: props.value === '0'}]">
  <a v-if="props.col.kind == 'link'" :href="props.row.href">{{ props.value }}</a>
  <button v-else-if="props.col.kind == 'open'" type="button" class="link"
          @click="$parent.$emit('open', props.row.id)">{{ props.value }}</button>
  <span v-else-if="props.col.kind == 'state'" :class="['state', props.row.tone]">{{ props.value }}</span>
  <svg v-else-if="props.col.kind == 'spark'" class="spark" viewBox="0 0 120 26" preserveAspectRatio="none" role="img"
       :aria-label="props.row.peak"><polyline :points="props.value"/></svg>
  <template v-else>{{ props.value }}</template>
</q-td>"""
HEADING = """
<q-th :props="props" scope="col">
  <button v-if="props.col.sortable" type="button" :title="'sort by ' + props.col.label">{{ props.col.label }}</button>
  <template v-else>{{ props.col.label }}</template>
</q-th>"""


# ------------------------------------------------------------------------------------- texts for people


def visible(text):
    """Return a text of several lines as they are, but with escapes for what cannot be seen or changes its direction."""
    return ''.join(char if char in '\n\t' else printable(char) for char in text)


def count(number):
    return f'{number:,}'


def since(at, now):
    return '' if at is None else f'{duration(now - at)} ago'


def rate(number):
    """Return a rate, in messages/s, as people read it: 0, 0.25, 7.3, 1,234."""
    return (
        f'{number:,.0f}'
        if number >= 100 or not number
        else f'{number:.1f}'
        if number >= 1
        else f'{number:.2g}'
    )


def size(number):
    return f'{number:,} B' if number < 10_000 else f'{number / 1000:,.0f} kB'


def forms(body):
    """Return the ways to show a body as {'Text' | 'JSON' | 'Hex': text}, the best one first, and a remark."""
    hexed = hex_dump(body[: SHOWN['Hex']])
    cut = body[: SHOWN['Text']]
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return (
            {'Hex': hexed, 'Text': visible(cut.decode(errors='backslashreplace'))},
            f'not UTF-8 at byte {error.start:,}',
        )
    found = {'Text': visible(cut.decode(errors='ignore')), 'Hex': hexed}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body) if body[:1] in b'{[' and len(body) <= SHOWN['JSON'] else None
        if value:
            found = {'JSON': visible(json.dumps(value, indent=2, ensure_ascii=False)), **found}
    return found, 'empty' if not body else 'UTF-8'


def hex_dump(body):
    """Return bytes as people read them: offset, 16 bytes in hexadecimal, and what of them is ASCII."""
    rows = ((at, body[at : at + 16]) for at in range(0, len(body), 16))
    return '\n'.join(
        f'{at:08x}  {row[:8].hex(" "):23}  {row[8:].hex(" "):23}  '
        f'{"".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)}'
        for at, row in rows
    )


def smooth(samples):
    """Return samples of history.py, with their rates as means over WINDOW s.

    The broker brings its counters up to date every 5 s, so that collections see them stand still, and then jump.
    """
    found = []
    for number, sample in enumerate(samples):
        near = [
            other
            for other in samples[max(0, number - WINDOW) : number + 1]
            if other[0] > sample[0] - WINDOW
        ]
        found.append(
            (
                *sample[:3],
                *(sum(values) / len(near) for values in zip(*(other[3:] for other in near))),
            )
        )
    return found


def spark(values):
    """Return the points of a sparkline through values >= 0 as SVG wants them."""
    width, height = SPARK
    peak = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    return ' '.join(
        f'{n * step:.1f},{height - 2 - value / peak * (height - 4):.1f}'
        for n, value in enumerate(values)
    )


# ---------------------------------------------------------------------------------- elements used again


def say(tag, text='', classes=''):
    """Add an HTML element that shows a text."""
    return TextElement(tag=tag, text=text).classes(classes)


def box(tag='div', classes=''):
    return ui.element(tag).classes(classes)


def button(text, on_click, icon=None, plain=False, **props):
    """Add a button: in the accent colour or, where it is `plain`, only its text."""
    element = (
        ui.button(text, on_click=on_click, icon=icon, color=None)
        .props('dense')
        .props(
            'flat text-color=siamese'
            if printable
            else 'unelevated color=siamese text-color=ground padding="4px 12px"'
        )
    )
    element.props.update(props)
    return element


def toggle(name, options, value, on_change):
    """Add buttons of which one is chosen."""
    element = ui.toggle(options, value=value, on_change=on_change).props(
        'dense no-caps unelevated padding="4px 12px" toggle-color=siamese toggle-text-color=ground'
    )
    element.props['aria-label'] = name
    return element


def finder(name, on_change):
    """Add a field for a text to look for."""
    element = ui.input(placeholder=name, on_change=on_change).props(
        'dense outlined clearable debounce=200 type=search'
    )
    element.props['aria-label'] = name
    return element


def tile(name, unit=''):
    """Add a tile; return a function that sets its value and what stands below it."""
    with box('div', 'tile'):
        say('div', name, 'name')
        value, below = say('div', '–', 'value'), say('div', unit, 'unit')

    def show(text, remark=unit):
        value.set_text(text)
        below.set_text(remark)

    return show


def empty(title, remark):
    """Add what is shown in place of a table without rows; `remark` says what to do."""
    with box('div', 'empty') as element:
        say('b', title)
        say('span', remark)
    return element


def column(name, label, kind='text', sortable=False, first=False):
    """Return a column of a table. kind: text, number, wide (may wrap), preview, or what CELL makes of it."""
    return {
        'name': name,
        'field': name,
        'label': label,
        'kind': kind,
        'sortable': sortable,
        'first': first,
        'align': 'right' if kind == 'number' else 'left',
    }


def table(name, columns, on_change=None, sort=''):
    """Add a table. With `on_change` it is paged, sorted by `sort` first, and filled with fill(); see view_of()."""
    paging = {
        'rowsPerPage': ROWS,
        'page': 1,
        'sortBy': sort,
        'descending': bool(sort),
        'rowsNumber': 0,
    }
    element = ui.table(
        rows=[], columns=columns, row_key='id', pagination=paging if on_change else 0
    )
    element.props(f'flat hide-bottom :rows-per-page-options="[{ROWS}]" binary-state-sort')
    element.props.update({'role': 'region', 'aria-label': name})
    element.classes('cards')
    element.add_slot('body-cell', CELL)
    element.add_slot('header-cell', HEADING)
    if on_change:

        async def changed(event):
            element.pagination = {**element.pagination, **event.args['pagination']}
            await on_change()

        element.on('request', changed, ['pagination'])
    return element


def fill(element, rows, total):
    """Show rows in a table that is paged; `total` is how many there are on all its pages."""
    element.rows = rows
    if element.pagination['rowsNumber'] != total:
        element.pagination = {**element.pagination, 'rowsNumber': total}
    element.props['hide-bottom'] = total <= ROWS


def view_of(element, rows):
    """Return of all `rows` those that a table shows, sorted as it says."""
    view = element.pagination
    if view['sortBy']:
        rows = sorted(
            rows,
            key=lambda row: row[view['sortBy']] or 0 if view['sortBy'] != 'name' else row['name'],
            reverse=view['descending'],
        )
    first = (view['page'] - 1) * ROWS
    return rows[first : first + ROWS]


def chart(name, kind, series, labels=()):
    """Add a chart: `kind` is bar (over `labels`) or line (over time), `series` maps names to colours."""
    element = ui.echart(
        {
            'animation': False,
            'useUTC': True,
            'textStyle': {'fontFamily': 'system-ui, sans-serif'},
            'grid': {'left': 8, 'right': 12, 'top': 34, 'bottom': 4, 'containLabel': True},
            'legend': {
                'top': 0,
                'left': 0,
                'itemWidth': 12,
                'itemHeight': 8,
                'icon': 'roundRect',
                'selectedMode': kind == 'bar',
            },
            'tooltip': {
                'trigger': 'axis',
                'confine': True,
                'backgroundColor': 'var(--card)',
                'borderColor': 'var(--line)',
                'textStyle': {'color': 'var(--text)'},
                'axisPointer': {'type': 'none'},
            },
            'xAxis': {
                'type': 'category' if kind == 'bar' else 'time',
                'data': [*labels],
                'axisTick': {'show': False},
                'axisLine': {'lineStyle': {'color': 'var(--line)'}},
                'splitLine': {'show': False},
                'axisLabel': {
                    'hideOverlap': True,
                    **({} if kind == 'bar' else {'formatter': '{HH}:{mm}'}),
                },
            },
            'yAxis': {
                'type': 'value',
                'minInterval': 1 if kind == 'bar' else 0,
                'splitNumber': 4,
                'splitLine': {'lineStyle': {'color': 'var(--line)'}},
            },
            'series': [
                {
                    'type': kind,
                    'name': label,
                    'data': [],
                    'itemStyle': {'color': colour},
                    'showSymbol': False,
                    'lineStyle': {'color': colour, 'width': width},
                    'barMaxWidth': 16,
                    'emphasis': {'disabled': True},
                }
                for (label, colour), width in zip(series.items(), (4, 2.5, 1))
            ],  # lines that are equal stay visible
        },
        renderer='svg',
    ).classes('chart')
    element.props.update({'role': 'img', 'aria-label': name})
    return element
