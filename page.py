"""What the dashboard shows: four pages of NiceGUI, made from what history.py reads, new every PERIOD.

Whatever comes from the broker is shown as text: through NiceGUI's text elements and Vue's {{ }}, never as HTML, never
as the name of a property (NiceGUI takes one that begins with a colon for JavaScript), and in links only quoted.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from types import SimpleNamespace
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

import history
import login
from common import Failure

HERE = os.path.dirname(os.path.abspath(__file__))
PERIOD = 2.0  # s between two looks at the history
ROWS = 25  # of a table at once
DAY = 86_400  # s
NOTES = 5  # warnings shown at once
SHOWN = {'Text': 65_536, 'JSON': 65_536, 'Hex': 4_096}  # bytes of a body
SPARK = 120, 26  # pixels
THEMES = {'auto': (None, 'brightness_auto', 'light'), 'light': (False, 'light_mode', 'dark'),
          'dark': (True, 'dark_mode', 'auto')}
SPANS = {'hour': ('Hour', 48, '%d %b %H:%M'), 'day': ('Day', 31, '%d %b'), 'month': ('Month', 24, '%b %Y'),
         'year': ('Year', 10, '%Y')}  # of the history: label, how many, strftime
ERRORS = 'expired', 'rejected', 'other'

# A cell by the kind of its column: see table(). Every value is a text or a number.
CELL = """
<q-td :props="props" :data-label="props.col.label" :class="['is-' + props.col.kind, {first: props.col.first, zero: props.value === '0'}]">
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
    """Return a stranger's text with what cannot be seen, or would change how the rest is read, as an escape."""
    return ''.join(c if c.isprintable() or c in '\n\t' else ascii(c)[1:-1] for c in str(text))


def count(number):
    return f'{number:,}'


def rate(number):
    """Return a rate, in messages/s, as people read it: 0, 0.25, 7.3, 1,234."""
    return f'{number:,.0f}' if number >= 100 or not number else f'{number:.1f}' if number >= 1 else f'{number:.2g}'


def lasting(seconds):
    """Return a time span in its largest unit: '12 s', '3 min', '5 h', '2 days'."""
    for unit, size in (('days', DAY), ('h', 3600), ('min', 60)):
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {unit}'
    return f'{max(0, seconds):.0f} s'


def ago(at, now):
    return '' if at is None else f'{lasting(now - at)} ago'


def clock(at):
    return '' if at is None else time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))


def size(number):
    return f'{number:,} B' if number < 10_000 else f'{number / 1000:,.0f} kB'


def forms(body):
    """Return the ways to show a body as {'Text' | 'JSON' | 'Hex': text}, the best one first, and a remark."""
    hexed = hex_dump(body[:SHOWN['Hex']])
    cut = body[:SHOWN['Text']]
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return ({'Hex': hexed, 'Text': visible(cut.decode(errors='backslashreplace'))},
                f'not UTF-8 at byte {error.start:,}')
    found = {'Text': visible(cut.decode(errors='ignore')), 'Hex': hexed}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body) if body[:1] in b'{[' and len(body) <= SHOWN['JSON'] else None
        if value:
            found = {'JSON': visible(json.dumps(value, indent=2, ensure_ascii=False)), **found}
    return found, 'empty' if not body else 'UTF-8'


def hex_dump(body):
    """Return bytes as people read them: offset, 16 bytes in hexadecimal, and what of them is ASCII."""
    rows = ((at, body[at:at + 16]) for at in range(0, len(body), 16))
    return '\n'.join(f'{at:08x}  {row[:8].hex(" "):23}  {row[8:].hex(" "):23}  '
                     f'{"".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)}' for at, row in rows)


def spark(values):
    """Return the points of a sparkline through values >= 0 as SVG wants them."""
    width, height = SPARK
    peak = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    return ' '.join(f'{n * step:.1f},{height - 2 - value / peak * (height - 4):.1f}' for n, value in enumerate(values))


# ---------------------------------------------------------------------------------- elements used again

def say(tag, text='', classes=''):
    """Add an HTML element that shows a text."""
    return TextElement(tag=tag, text=text).classes(classes)


def box(tag='div', classes=''):
    return ui.element(tag).classes(classes)


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
    return {'name': name, 'field': name, 'label': label, 'kind': kind, 'sortable': sortable, 'first': first,
            'align': 'right' if kind == 'number' else 'left'}


def table(name, columns, on_change=None, sort=''):
    """Add a table. With `on_change` it is paged, sorted by `sort` first, and filled with fill(); see view_of()."""
    paging = {'rowsPerPage': ROWS, 'page': 1, 'sortBy': sort, 'descending': bool(sort), 'rowsNumber': 0}
    element = ui.table(rows=[], columns=columns, row_key='id', pagination=paging if on_change else 0)
    element.props(f'flat hide-bottom :rows-per-page-options="[{ROWS}]" binary-state-sort')
    element.props['aria-label'] = name
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
        rows = sorted(rows, key=lambda row: row[view['sortBy']] or 0 if view['sortBy'] != 'name' else row['name'],
                      reverse=view['descending'])
    first = (view['page'] - 1) * ROWS
    return rows[first:first + ROWS]


def chart(name, kind, series, labels=()):
    """Add a chart: `kind` is bar (over `labels`) or line (over time), `series` maps names to colours."""
    element = ui.echart({
        'animation': False,
        'useUTC': True,
        'textStyle': {'fontFamily': 'inherit'},
        'grid': {'left': 8, 'right': 12, 'top': 34, 'bottom': 4, 'containLabel': True},
        'legend': {'top': 0, 'left': 0, 'itemWidth': 12, 'itemHeight': 8, 'icon': 'roundRect',
                   'selectedMode': kind == 'bar'},
        'tooltip': {'trigger': 'axis', 'confine': True, 'backgroundColor': 'var(--card)', 'borderColor': 'var(--line)',
                    'textStyle': {'color': 'var(--text)'}, 'axisPointer': {'type': 'none'}},
        'xAxis': {'type': 'category' if kind == 'bar' else 'time', 'data': [*labels], 'axisTick': {'show': False},
                  'axisLine': {'lineStyle': {'color': 'var(--line)'}}, 'splitLine': {'show': False},
                  'axisLabel': {'hideOverlap': True, **({} if kind == 'bar' else {'formatter': '{HH}:{mm}'})}},
        'yAxis': {'type': 'value', 'minInterval': 1 if kind == 'bar' else 0, 'splitNumber': 4,
                  'splitLine': {'lineStyle': {'color': 'var(--line)'}}},
        'series': [{'type': kind, 'name': label, 'data': [], 'itemStyle': {'color': colour},
                    'lineStyle': {'color': colour, 'width': 2}, 'showSymbol': False, 'barMaxWidth': 16,
                    'emphasis': {'disabled': True}} for label, colour in series.items()],
    }, renderer='svg').classes('chart')
    element.props['role'] = 'img'
    element.props['aria-label'] = name
    return element


# -------------------------------------------------------------------------------------- what is true now

def situation(db, args, now):
    """Return what every page shows of the broker: its facts, the words and tone of its state, and the notes."""
    known = history.broker(db)
    monitor = known['monitor'] or {'seen': None, 'interval': 0}
    silent = now - (monitor['seen'] or 0)
    warnings = history.warnings(db, args.unread_after, now - DAY, now)
    notes = [(warning['kind'] in ('broker', 'alarm'), warning['text'], link_of(warning)) for warning in warnings]
    name = f'{known["product"] or "broker"} {known["version"] or ""}'.strip()
    if monitor['seen'] is None or silent > 3 * monitor['interval'] + 10:
        when = f'for {lasting(silent)}' if monitor['seen'] else 'yet'
        notes.insert(0, (True, f'monitor.py has written nothing {when}, so this is how it was then. Start it: '
                               f'./monitor.py --history {args.history}', ''))
        words, tone = 'monitor silent', 'warn'
    elif known['state'] == 'up':
        words, tone = f'{name} up', 'good'
    elif known['state'] == 'away':
        words, tone = f'{name} away for {lasting(now - known["since"])}', 'bad'
    else:
        words, tone = 'looking for the broker', 'off'
    notes.sort(key=lambda note: not note[0])
    return SimpleNamespace(known=known, words=words, tone=tone, notes=notes, now=now,
                           dead=history.dead_letters(db, requeued=False, limit=0)[1])


def link_of(warning):
    name = quote(warning['name'], safe='')
    return {'unread': f'/queue?name={name}', 'dead': f'/dead?queue={name}', 'interrupted': '/clients'}.get(
        warning['kind'], '')


async def look(args, read):
    """Return read(db) of the history, and None; or None and why it cannot be read. In a thread, for others wait."""
    def reading():
        with contextlib.closing(history.open_for_reading(args.history)) as db:
            return read(db)
    try:
        return await asyncio.to_thread(reading), None
    except Failure as failure:
        return None, str(failure)


# --------------------------------------------------------------------------------- the frame of each page

@contextlib.asynccontextmanager
async def frame(args, request, here):
    """Make the header of a page and what stands above its content; yield a Page, and refresh it from then on."""
    cookie = request.cookies.get(args.cookie)
    theme = request.cookies.get('theme') if request.cookies.get('theme') in THEMES else 'auto'
    ui.colors(primary='#2468d6')
    ui.add_head_html('<link rel="stylesheet" href="/dashboard.css">')
    dark = ui.dark_mode(THEMES[theme][0])
    page = SimpleNamespace(args=args, refreshers=[], session=lambda: login.session_of(cookie), now=time.time())

    def turn():
        nonlocal theme
        theme = THEMES[theme][2]
        dark.value = THEMES[theme][0]
        button.props['icon'] = THEMES[theme][1]
        button.props['aria-label'] = button.props['title'] = f'colours: {theme}'
        ui.run_javascript(f"document.cookie = 'theme={theme};path=/;max-age=31536000;samesite=lax'")

    def leave():
        login.end(cookie)
        ui.navigate.to('/login')

    with box('header', 'top'):
        ui.link('siamese', '/').classes('brand')
        state = say('span', '', 'state')
        with box('nav', 'tabs') as tabs:
            tabs.props['aria-label'] = 'pages'
            links = [ui.link(text, path) for text, path in
                     (('Queues', '/'), ('Dead letters', '/dead'), ('Clients', '/clients'))]
            for link in links:
                if link.props['href'] == re.sub('^/queue.*', '/', here):
                    link.props['aria-current'] = 'page'
        with box('div', 'who'):
            button = ui.button(icon=THEMES[theme][1], on_click=turn).props('flat round dense')
            button.props['aria-label'] = button.props['title'] = f'colours: {theme}'
            session = page.session()
            if session:
                say('span', visible(session.user), 'muted')
                ui.button('Log out', on_click=leave).props('flat dense no-caps')
            else:
                ui.link('Log in', f'/login?next={quote(here, safe="")}')
    with box('main', 'main'):
        notes = box('div', 'notes')
        yield page
        foot = say('div', '', 'foot')
    shown = None

    async def tick():
        nonlocal shown
        page.now = time.time()
        if (args.login or session) and not page.session():
            timer.deactivate()
            ui.navigate.to(f'/login?ended&next={quote(here, safe="")}')
            return
        found, failure = await look(args, lambda db: situation(db, args, page.now))
        if failure:
            wanted = [(True, failure, '')]
            state.set_text('no history')
            state.classes(replace='state off')
        else:
            notable = [note for note in found.notes if note[0] or here == '/']
            wanted = notable[:NOTES]
            if len(notable) > NOTES:
                wanted.append((False, f'and {len(notable) - NOTES} more: ./monitor.py --once lists them', ''))
            state.set_text(found.words)
            state.classes(replace=f'state {found.tone}')
            links[1].set_text(f'Dead letters {count(found.dead)}' if found.dead else 'Dead letters')
            foot.set_text(f'{found.known["place"] or ""}  ·  collected {ago(found.known["collected"], page.now) or "never"}'
                          f'  ·  all times are UTC  ·  {args.history}')
        if wanted != shown:
            shown = wanted
            notes.clear()
            with notes:
                for bad, text, link in shown:
                    with box('div', 'note bad' if bad else 'note').props('role=status'):
                        ui.link(visible(text), link) if link else say('span', visible(text))
        if not failure:
            for refresh in page.refreshers:
                await refresh()
    timer = ui.timer(PERIOD, tick, immediate=False)
    await tick()


# ---------------------------------------------------------------------------------------------- queues

QUEUE_COLUMNS = [
    column('name', 'Queue', 'link', True, first=True), column('state', 'State', 'state'),
    column('ready', 'Ready', 'number', True), column('unacked', 'Unacked', 'number', True),
    column('consumers', 'Consumers', 'number', True), column('oldest', 'Oldest', 'number', True),
    column('publish_rate', 'Sent/s', 'number', True), column('deliver_rate', 'Received/s', 'number', True),
    column('spark', 'Sent, 15 min', 'spark')]


def queue_row(row, recent, now):
    tone, state = (('off', row['state'] or 'new') if row['state'] != 'running' else
                   ('warn', 'no consumer') if row['alone_since'] else
                   ('good', 'active') if row['publish_rate'] or row['deliver_rate'] else ('off', 'idle'))
    values = [sample[3] for sample in recent]
    return {'id': row['name'], 'name': visible(row['name']), 'href': f'/queue?name={quote(row["name"], safe="")}',
            'state': state, 'tone': tone, 'ready': count(row['ready']), 'unacked': count(row['unacked']),
            'consumers': count(row['consumers']), 'publish_rate': rate(row['publish_rate']),
            'deliver_rate': rate(row['deliver_rate']), 'spark': spark(values),
            'oldest': lasting(now - row['oldest_since']) if row['oldest_since'] else '',
            'peak': f'sent in the last 15 minutes: at most {rate(max(values, default=0))} messages/s'}


async def show_queues(page):
    with box('div', 'tiles'):
        ready, sent, received = tile('Waiting'), tile('Sent', 'messages/s'), tile('Received', 'messages/s')
        dead, clients, queues = tile('Dead letters'), tile('Clients'), tile('Queues')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Queues')
            search = ui.input(placeholder='find a queue', on_change=lambda: refresh()).props(
                'dense outlined clearable debounce=200 aria-label="find a queue" type=search')
        nothing = empty('No queues yet', 'Run something, ./fanout_producer.py say, and look here again.')
        rows = table('queues', QUEUE_COLUMNS, lambda: refresh(), 'ready')

    def read(db):
        all = [{**row, 'oldest': page.now - row['oldest_since'] if row['oldest_since'] else 0}
               for row in history.queues(db)]
        matching = [row for row in all if (search.value or '').lower() in row['name'].lower()]
        there = [client['state'] != 'gone' for client in history.clients(db)]
        today = sum(row['count'] for row in history.dead_by_queue(db, page.now - DAY))
        return (all, len(matching), [queue_row(row, history.samples(db, row['name']).get(row['name'], []), page.now)
                                     for row in view_of(rows, matching)],
                there, today, history.dead_letters(db, requeued=False, limit=0)[1])

    async def refresh():
        found, _ = await look(page.args, read)
        if not found:
            return
        all, matching, shown, there, today, waiting = found
        ready(count(sum(row['ready'] for row in all)), f'ready, {count(sum(row["unacked"] for row in all))} unacked')
        sent(rate(sum(row['publish_rate'] for row in all)))
        received(rate(sum(row['deliver_rate'] for row in all)))
        dead(count(waiting), f'waiting, {count(today)} died in 24 h')
        clients(count(sum(there)), f'connected, {count(len(there) - sum(there))} gone')
        queues(count(len(all)), f'{count(sum(bool(row["alone_since"]) for row in all))} without a consumer')
        nothing.set_visibility(not all)
        rows.set_visibility(bool(all))
        fill(rows, shown, matching)
    page.refreshers.append(refresh)
    add_history(page, None)


async def show_queue(page, name):
    with box('div', 'head'):
        heading = say('h1', visible(name))
        kind = say('span', '', 'muted')
    with box('div', 'tiles'):
        ready, unacked, consumers = tile('Ready', 'messages'), tile('Unacked', 'messages'), tile('Consumers')
        oldest, sent, received = tile('Oldest message'), tile('Sent', 'messages/s'), tile('Received', 'messages/s')
    heading.classes('wide')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'The last 15 minutes, messages/s')
        live = chart(f'messages per second of {visible(name)}', 'line', {
            'sent': 'var(--sent)', 'received': 'var(--received)', 'acknowledged': 'var(--warn)'})
    add_history(page, name)

    def read(db):
        row = next((row for row in history.queues(db, gone=True) if row['name'] == name), None)
        return row, history.samples(db, name).get(name, []), history.dead_by_queue(db)

    async def refresh():
        found, _ = await look(page.args, read)
        if not found:
            return
        row, recent, letters = found
        if row is None:
            kind.set_text('no such queue in this history')
            return
        died = sum(letter['count'] for letter in letters if letter['queue'] == name)
        kind.set_text(f'{row["type"] or ""} queue, {row["state"] or "new"}, {count(died)} dead letters')
        ready(count(row['ready']))
        unacked(count(row['unacked']))
        consumers(count(row['consumers']), f'none for {lasting(page.now - row["alone_since"])}' if row['alone_since'] else '')
        oldest(lasting(page.now - row['oldest_since']) if row['oldest_since'] else 'none',
               'is waiting' if row['oldest_since'] else 'the queue is empty')
        sent(rate(row['publish_rate']))
        received(rate(row['deliver_rate']))
        for number, line in enumerate(live.options['series'], 3):
            line['data'] = [[round(sample[0] * 1000), sample[number]] for sample in recent]
        live.update()
    page.refreshers.append(refresh)


def periods(period, now):
    """Return when the last periods of that kind began, as many as SPANS says, oldest first."""
    starts = [history.start_of(period, now)]
    while len(starts) < SPANS[period][1]:
        starts.insert(0, history.start_of(period, starts[0] - 1))
    return starts


HISTORY_COLUMNS = [column('label', 'Time', first=True), column('published', 'Sent', 'number'),
                   column('delivered', 'Received', 'number'), column('acked', 'Acked', 'number'),
                   column('redelivered', 'Again', 'number'), column('expired', 'Expired', 'number'),
                   column('rejected', 'Rejected', 'number'), column('other', 'Other', 'number')]


def add_history(page, queue):
    """Add the history of a queue, or of all (None), by hour, day, month or year: a chart and a table."""
    seen = {}
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'History of this queue' if queue else 'History of all queues')
            choice = ui.toggle({period: label for period, (label, _, _) in SPANS.items()}, value='day',
                               on_change=lambda: refresh()).props('dense no-caps unelevated padding="4px 12px"')
            choice.props['aria-label'] = 'period'
        nothing = empty('Nothing yet', 'What is sent and received from now on is counted here, by hour, day, month and year.')
        with box('div', 'history') as both:
            bars = chart('sent, received and errors', 'bar', {
                'sent': 'var(--sent)', 'received': 'var(--received)', 'errors': 'var(--errors)'})
            rows = table('history', HISTORY_COLUMNS)
            rows.props('dense')

    async def refresh():
        period = choice.value
        starts = periods(period, page.now)
        found, _ = await look(page.args, lambda db: history.report(db, period, queue, starts[0], total=queue is None))
        if found is None or seen == {period: found}:
            return
        seen.clear()
        seen[period] = found
        by_start = {row['start']: row for row in found}
        label = {start: time.strftime(SPANS[period][2], time.gmtime(start)) for start in starts}
        bars.options['xAxis']['data'] = [*label.values()]
        for line, figures in zip(bars.options['series'], (['published'], ['delivered'], ERRORS)):
            line['data'] = [sum(by_start.get(start, {}).get(name, 0) for name in figures) for start in starts]
        bars.update()
        rows.rows = [{**{name: count(value) for name, value in row.items() if name in history.FIGURES},
                      'id': row['start'], 'label': label[row['start']]} for row in reversed(found)]
        nothing.set_visibility(not found)
        both.set_visibility(bool(found))
    page.refreshers.append(refresh)


# ----------------------------------------------------------------------------------------- dead letters

DEAD_COLUMNS = [column('at', 'Died (UTC)', 'open', first=True), column('queue', 'Queue', 'wide'),
                column('reason', 'Reason'), column('sender', 'Sender', 'wide'), column('message_id', 'Message', 'wide'),
                column('size', 'Size', 'number'), column('state', 'State', 'state')]
DEAD_STATES = {'waiting': False, 'sent back': True, 'all': None}


def letter_row(letter):
    return {**{name: visible(letter[name] or '') for name in ('queue', 'reason', 'sender', 'message_id')},
            'id': letter['id'], 'at': clock(letter['at']), 'size': size(letter['size']),
            'state': 'sent back' if letter['requeued'] else 'waiting', 'tone': 'good' if letter['requeued'] else 'warn'}


async def show_dead(page, queue):
    chosen = {'queue': queue or None}
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Dead letters')
            again = ui.button('Send back', icon='undo', on_click=lambda: ask_and_requeue(
                page, chosen['queue'] or 'all', chosen['count'], refresh)).props('unelevated dense padding="4px 12px"')
            hint = ui.link('Log in as an administrator to send them back', f'/login?next={quote("/dead", safe="")}')
        with box('div', 'filters'):
            def chooser(label, options, value):
                return ui.select(options, label=label, value=value, on_change=lambda: restart()).props(
                    'dense outlined options-dense')
            queues = chooser('Queue', {'': 'all queues', **({queue: visible(queue)} if queue else {})}, queue)
            reasons = chooser('Reason', {'': 'any reason'}, '')
            states = chooser('State', [*DEAD_STATES], 'waiting')
            search = ui.input('Find in message, sender, key', on_change=lambda: restart()).props(
                'dense outlined clearable debounce=200 type=search')
        nothing = empty('No dead letters', 'What expires, is rejected or does not fit into its queue is kept here, if its '
                                           'queue has the dead letter exchange siamese.dlx.')
        rows = table('dead letters', DEAD_COLUMNS, lambda: refresh())
        rows.on('open', lambda event: open_letter(page, event.args, refresh))
    def read(db):
        letters, total = history.dead_letters(
            db, queues.value or None, reasons.value or None, requeued=DEAD_STATES[states.value],
            search=search.value or None, limit=ROWS, offset=(rows.pagination['page'] - 1) * ROWS)
        return letters, total, history.dead_by_queue(db), history.dead_by_queue(db, requeued=False)

    async def restart():
        rows.pagination = {**rows.pagination, 'page': 1}
        await refresh()

    async def refresh():
        found, _ = await look(page.args, read)
        if not found:
            return
        letters, total, known, waiting = found
        for select, name, first in ((queues, 'queue', 'all queues'), (reasons, 'reason', 'any reason')):
            options = {'': first, **{row[name]: visible(row[name]) for row in known if row[name]}}
            options.setdefault(select.value, visible(select.value))
            if select.options != options:
                select.set_options(options)
        chosen['queue'] = queues.value
        chosen['count'] = sum(row['count'] for row in waiting if queues.value in ('', row['queue']))
        administrator = bool(page.session() and page.session().administrator)
        again.set_text(f'Send {count(chosen["count"])} back' + (' to this queue' if queues.value else ''))
        again.set_visibility(administrator and bool(chosen['count']))
        hint.set_visibility(not page.session() and bool(chosen['count']))
        fill(rows, [letter_row(letter) for letter in letters], total)
        nothing.set_visibility(not total)
        rows.set_visibility(bool(total))
    page.refreshers.append(refresh)


async def open_letter(page, id, refresh):
    """Show one dead letter: where it comes from, its properties, its body."""
    letter, _ = await look(page.args, lambda db: history.dead_letter(db, id))
    if not letter or (page.args.login and not page.session()):
        return
    body, properties = letter['body'], dict(letter['properties'])
    headers = properties.pop('headers', None) or {}
    shown, remark = forms(body)
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        with box('div', 'head'):
            say('h2', f'Dead letter {id}, {visible(letter["reason"])}')
            ui.button(icon='close', on_click=dialog.close).props('flat round dense aria-label=close')
        show_facts({'died': f'{clock(letter["at"])} UTC, {ago(letter["at"], page.now)}', 'in queue': letter['queue'],
                    'published to': f'{letter["exchange"] or "the default exchange"}, key {letter["routing_key"]}',
                    'sender': letter['sender'] or 'unknown', **properties,
                    'sent back': f'{clock(letter["requeued"])} UTC' if letter['requeued'] else 'not yet'})
        if headers:
            say('h2', 'Headers').style('margin-top: 14px')
            show_facts(headers)
        with box('div', 'head').style('margin: 14px 0 0'):
            say('h2', f'Body, {size(len(body))}')
            form = ui.toggle([*shown], value=next(iter(shown)), on_change=lambda: turn()).props(
                'dense no-caps unelevated padding="2px 10px"')
        note, text = say('div', '', 'muted'), say('pre', '', 'body')
        with box('div', 'head').style('margin: 14px 0 0'):
            ui.button('Download the body', icon='download', on_click=lambda: ui.download.content(
                body, f'dead-letter-{id}.bin', 'application/octet-stream')).props('flat dense')
            if page.session() and page.session().administrator and not letter['requeued']:
                ui.button('Send it back', icon='undo', on_click=lambda: ask_and_requeue(
                    page, f'#{id}', 1, refresh, dialog)).props('unelevated dense padding="4px 12px"')

    def turn():
        text.set_text(shown[form.value])
        text.classes(replace='body hex' if form.value == 'Hex' else 'body')
        cut = f', the first {size(SHOWN[form.value])} of it' if len(body) > SHOWN[form.value] else ''
        note.set_text(remark + cut)
    turn()
    dialog.on('hide', dialog.delete)


def show_facts(facts):
    with box('dl', 'facts'):
        for name, value in facts.items():
            say('dt', visible(name))
            say('dd', visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


async def ask_and_requeue(page, which, number, refresh, above=None):
    """Ask an administrator, and let monitor.py send dead letters back: those of a queue, 'all', or one ('#17')."""
    target = 'to where they came from' if which == 'all' else 'to where it came from' if which[0] == '#' else (
        f'to {visible(which)}')
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        say('h2', f'Send {count(number)} dead letter{"s" * (number != 1)} back {target}?')
        say('p', 'Each is published again as it was, and marked as sent back once the broker has confirmed it.', 'muted')
        with box('div', 'head'):
            ui.button('Cancel', on_click=lambda: dialog.submit(False)).props('flat')
            ui.button('Send back', on_click=lambda: dialog.submit(True)).props('unelevated')
    sure = await dialog
    dialog.delete()
    if not sure or not page.session() or not page.session().administrator:
        return
    wait = ui.notification('sending back ...', spinner=True, timeout=None)
    status, words = await requeue(page.args, which)
    wait.dismiss()
    ui.notify(visible(words), type='negative' if status else 'positive', multi_line=True, timeout=8000,
              close_button='Close')
    if above and not status:
        above.close()
    await refresh()


async def requeue(args, which):
    """Run monitor.py --requeue-dead; return its exit status and its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, os.path.join(HERE, 'monitor.py'), f'--requeue-dead={which}', f'--history={args.history}',
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, 'AMQP_URL': args.url})  # not as a flag, where others on this machine could read it
    out = (await process.communicate())[0].decode(errors='replace').strip()
    return process.returncode, out.splitlines()[-1] if out else f'monitor.py ended with status {process.returncode}'


# ---------------------------------------------------------------------------------------------- clients

CLIENT_COLUMNS = [
    column('name', 'Client', 'wide', True, first=True), column('user', 'User', 'wide'), column('state', 'State', 'state'),
    column('does', 'Does', 'wide'), column('since', 'Since', 'number', True),
    column('sent', 'Sent', 'number', True), column('received', 'Received', 'number', True),
    column('interruptions', 'Interruptions', 'number', True), column('last_interruption', 'Last interruption', 'number', True)]


def client_row(row, now):
    tone = {'gone': 'off', 'blocked': 'bad', 'idle': 'off'}.get(row['state'], 'good')
    return {'id': f'{row["name"]} {row["user"]}', 'tone': tone,
            **{name: visible(row[name] or '') for name in ('name', 'user', 'state', 'does')},
            **{name: count(row[name]) for name in ('sent', 'received', 'interruptions')},
            'since': ago(row['since'], now), 'last_interruption': ago(row['last_interruption'], now) or 'none'}


async def show_clients(page):
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Clients')
            search = ui.input(placeholder='find a client', on_change=lambda: refresh()).props(
                'dense outlined clearable debounce=200 aria-label="find a client" type=search')
        nothing = empty('No clients yet', 'Whoever connects is listed here, and stays listed when it is gone.')
        rows = table('clients', CLIENT_COLUMNS, lambda: refresh(), 'last_interruption')

    async def refresh():
        found, _ = await look(page.args, history.clients)
        if found is None:
            return
        wanted = (search.value or '').lower()
        matching = [row for row in found if wanted in f'{row["name"]} {row["user"]} {row["does"]}'.lower()]
        nothing.set_visibility(not found)
        rows.set_visibility(bool(found))
        fill(rows, [client_row(row, page.now) for row in view_of(rows, matching)], len(matching))
    page.refreshers.append(refresh)


# -------------------------------------------------------------------------------------------- the pages

def site(args):
    """Return the ASGI application of all pages; `args` are the parsed flags of dashboard.py."""
    @ui.page('/', title='Queues - siamese')
    async def queues_page(request: Request):
        async with frame(args, request, '/') as page:
            await show_queues(page)

    @ui.page('/queue', title='Queue - siamese')
    async def queue_page(request: Request, name: str = ''):
        async with frame(args, request, f'/queue?name={quote(name, safe="")}') as page:
            await show_queue(page, name)

    @ui.page('/dead', title='Dead letters - siamese')
    async def dead_page(request: Request, queue: str = ''):
        async with frame(args, request, '/dead') as page:
            await show_dead(page, queue)

    @ui.page('/clients', title='Clients - siamese')
    async def clients_page(request: Request):
        async with frame(args, request, '/clients') as page:
            await show_clients(page)

    site = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @site.get('/dashboard.css')
    def style():
        return FileResponse(os.path.join(HERE, 'dashboard.css'), headers={'cache-control': 'no-cache'})

    ui.run_with(site, title='siamese', dark=None, tailwind=False, show_welcome_message=False)
    return site
