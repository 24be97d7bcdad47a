"""What the dashboard shows: queues, one queue, dead letters, clients, made of what history.py reads."""

import asyncio
import json
import os
import re
import sys
import time
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from nicegui import ui

import history
from page import DAY, frame, look
from tables import ago, plain, when
from widgets import (
    ROWS,
    SHOWN,
    box,
    button,
    chart,
    column,
    count,
    empty,
    fill,
    finder,
    forms,
    rate,
    say,
    since,
    size,
    smooth,
    spark,
    table,
    tile,
    toggle,
    view_of,
)

HERE = os.path.dirname(os.path.abspath(__file__))
SPANS = {'hour': ('Hour', 48, '%d %b %H:%M'), 'day': ('Day', 31, '%d %b'), 'month': ('Month', 24, '%b %Y'),
         'year': ('Year', 10, '%Y')}  # of the history: label, how many, strftime


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
    values = [sample[3] for sample in smooth(recent)]
    return {'id': row['name'], 'name': plain(row['name']), 'href': f'/queue?name={quote(row["name"], safe="")}',
            'state': state, 'tone': tone, 'ready': count(row['ready']), 'unacked': count(row['unacked']),
            'consumers': count(row['consumers']), 'publish_rate': rate(row['publish_rate']),
            'deliver_rate': rate(row['deliver_rate']), 'spark': spark(values),
            'oldest': ago(now - row['oldest_since']) if row['oldest_since'] else '–',
            'peak': f'sent in the last 15 minutes: at most {rate(max(values, default=0))} messages/s'}


async def show_queues(page):
    with box('div', 'tiles'):
        ready, sent, received = tile('Waiting'), tile('Sent', 'messages/s'), tile('Received', 'messages/s')
        dead, clients, queues = tile('Dead letters'), tile('Clients'), tile('Queues')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Queues')
            search = finder('Find a queue', lambda: refresh())
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
        found, _ = await look(page, read)
        if not found:
            return
        all, matching, shown, there, today, waiting = found
        ready(count(sum(row['ready'] for row in all)), f'ready, {count(sum(row["unacked"] for row in all))} unacked')
        sent(rate(sum(row['publish_rate'] for row in all)))
        received(rate(sum(row['deliver_rate'] for row in all)))
        dead(count(waiting), f'waiting, {count(today)} in 24 h')
        clients(count(sum(there)), f'connected, {count(len(there) - sum(there))} gone')
        queues(count(len(all)), f'{count(sum(bool(row["alone_since"]) for row in all))} without a consumer')
        nothing.set_visibility(not all)
        rows.set_visibility(bool(all))
        fill(rows, shown, matching)
    page.refreshers.append(refresh)
    add_history(page, None)


async def show_queue(page, name):
    with box('div', 'head'):
        heading = say('h1', plain(name))
        kind = say('span', '', 'muted')
    with box('div', 'tiles'):
        ready, unacked, consumers = tile('Ready', 'messages'), tile('Unacked', 'messages'), tile('Consumers')
        oldest, sent, received = tile('Oldest message'), tile('Sent', 'messages/s'), tile('Received', 'messages/s')
    heading.classes('wide')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'The last 15 minutes, messages/s')
        live = chart(f'messages per second of {plain(name)}', 'line', {
            'sent': 'var(--sent)', 'received': 'var(--received)', 'acknowledged': 'var(--warn)'})
    add_history(page, name)

    def read(db):
        row = next((row for row in history.queues(db, gone=True) if row['name'] == name), None)
        return row, history.samples(db, name).get(name, []), history.dead_by_queue(db)

    async def refresh():
        found, _ = await look(page, read)
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
        consumers(count(row['consumers']),
                  f'none for {ago(page.now - row["alone_since"])}' if row['alone_since'] else '')
        oldest(ago(page.now - row['oldest_since']) if row['oldest_since'] else 'none',
               'is waiting' if row['oldest_since'] else 'the queue is empty')
        sent(rate(row['publish_rate']))
        received(rate(row['deliver_rate']))
        for number, line in enumerate(live.options['series'], 3):
            line['data'] = [[round(sample[0] * 1000), round(sample[number], 2)] for sample in smooth(recent)]
        live.options['xAxis'].update(min=(page.now - history.RECENT) * 1000, max=page.now * 1000)
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
            choice = toggle('period', {period: label for period, (label, _, _) in SPANS.items()}, 'day',
                            lambda: refresh())
        nothing = empty('Nothing yet', 'What is sent and received is counted here, by hour, day, month and year.')
        with box('div', 'history') as both:
            bars = chart('sent, received and errors', 'bar', {
                'sent': 'var(--sent)', 'received': 'var(--received)', 'errors': 'var(--errors)'})
            rows = table('history', HISTORY_COLUMNS)

    async def refresh():
        period = choice.value
        starts = periods(period, page.now)
        found, _ = await look(page, lambda db: history.report(db, period, queue, starts[0], total=queue is None))
        if found is None or seen == {period: found}:
            return
        seen.clear()
        seen[period] = found
        by_start = {row['start']: row for row in found}
        label = {start: time.strftime(SPANS[period][2], time.gmtime(start)) for start in starts}
        bars.options['xAxis']['data'] = [*label.values()]
        for line, figures in zip(bars.options['series'], (['published'], ['delivered'], history.ERRORS)):
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
    return {**{name: plain(letter[name] or '') for name in ('queue', 'reason', 'sender', 'message_id')},
            'id': letter['id'], 'at': when(letter['at']), 'size': size(letter['size']),
            'state': 'sent back' if letter['requeued'] else 'waiting', 'tone': 'good' if letter['requeued'] else 'warn'}


async def show_dead(page, queue):
    chosen = {'queue': queue or None}
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Dead letters')
            again = button('Send back', lambda: ask_and_requeue(
                page, chosen['queue'] or 'all', chosen['count'], refresh), 'undo')
            hint = ui.link('Log in as an administrator to send them back', f'/login?next={quote("/dead", safe="")}')
        with box('div', 'filters'):
            def chooser(label, options, value):
                return ui.select(options, label=label, value=value, on_change=lambda: restart()).props(
                    'dense outlined options-dense')
            queues = chooser('Queue', {'': 'all queues', **({queue: plain(queue)} if queue else {})}, queue)
            reasons = chooser('Reason', {'': 'any reason'}, '')
            states = chooser('State', [*DEAD_STATES], 'waiting')
            search = finder('Find a message', lambda: restart())
        nothing = empty('No dead letters', 'What expires in a queue, is rejected or does not fit into it is kept here, '
                                           'if the queue has the dead letter exchange siamese.dlx.')
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
        found, _ = await look(page, read)
        if not found:
            return
        letters, total, known, waiting = found
        for select, name, first in ((queues, 'queue', 'all queues'), (reasons, 'reason', 'any reason')):
            options = {'': first, **{row[name]: plain(row[name]) for row in known if row[name]}}
            options.setdefault(select.value, plain(select.value))
            if select.options != options:
                select.set_options(options)
        chosen['queue'] = queues.value
        chosen['count'] = sum(row['count'] for row in waiting if queues.value in ('', row['queue']))
        administrator = bool(page.session() and page.session().administrator)
        again.set_text(f'Send {count(chosen["count"])} back' + (' to this queue' if queues.value else ''))
        unclear = re.fullmatch(r'all|#\d+', queues.value)  # would mean something else to monitor.py
        again.set_visibility(administrator and bool(chosen['count']) and not unclear)
        hint.set_visibility(not page.session() and bool(chosen['count']))
        fill(rows, [letter_row(letter) for letter in letters], total)
        nothing.set_visibility(not total)
        rows.set_visibility(bool(total))
    page.refreshers.append(refresh)


async def open_letter(page, id, refresh):
    """Show one dead letter: where it comes from, its properties, its body."""
    letter, _ = await look(page, lambda db: history.dead_letter(db, id))
    if not letter:
        return
    body, properties = letter['body'], dict(letter['properties'])
    headers = properties.pop('headers', None) or {}
    shown, remark = forms(body)
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        with box('div', 'head'):
            say('h2', f'Dead letter {id}, {plain(letter["reason"])}')
            button('', dialog.close, 'close', plain=True, **{'aria-label': 'close'})
        show_facts({'died': f'{when(letter["at"])} UTC, {since(letter["at"], page.now)}', 'in queue': letter['queue'],
                    'published to': letter['exchange'] or 'the default exchange', 'routing key': letter['routing_key'],
                    'sender': letter['sender'] or 'unknown', **properties,
                    'sent back': f'{when(letter["requeued"])} UTC' if letter['requeued'] else 'not yet'})
        if headers:
            say('h2', 'Headers').style('margin-top: 14px')
            show_facts(headers)
        with box('div', 'head').style('margin: 14px 0 0'):
            say('h2', f'Body, {size(len(body))}')
            form = toggle('form', [*shown], next(iter(shown)), lambda: turn())
        note, text = say('div', '', 'muted'), say('pre', '', 'body')
        with box('div', 'head').style('margin: 14px 0 0'):
            button('Download the body', lambda: ui.download.content(
                body, f'dead-letter-{id}.bin', 'application/octet-stream'), 'download', plain=True)
            if page.session() and page.session().administrator and not letter['requeued']:
                button('Send it back', lambda: ask_and_requeue(page, f'#{id}', 1, refresh, dialog), 'undo')

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
            say('dt', plain(name))
            say('dd', plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


async def ask_and_requeue(page, which, number, refresh, above=None):
    """Ask an administrator, and let monitor.py send dead letters back: those of a queue, 'all', or one ('#17')."""
    what = '1 dead letter' if number == 1 else f'{count(number)} dead letters'
    target = plain(which) if which != 'all' and which[0] != '#' else 'its queue' if number == 1 else 'their queues'
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        say('h2', f'Send {what} back to {target}?')
        say('p', 'They are published again as they were, and ticked off once the broker has confirmed them.', 'muted')
        with box('div', 'head'):
            button('Cancel', lambda: dialog.submit(False), plain=True)
            button('Send back', lambda: dialog.submit(True))
    sure = await dialog
    dialog.delete()
    if not sure or not page.session() or not page.session().administrator:
        return
    wait = ui.notification('sending back ...', spinner=True, timeout=None)
    status, words = await requeue(page.args, which)
    wait.dismiss()
    ui.notify(plain(words), type='negative' if status else 'positive', multi_line=True, timeout=8000,
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
    column('name', 'Client', 'wide', True, first=True), column('user', 'User'), column('state', 'State', 'state'),
    column('does', 'Does', 'wide'), column('since', 'Since', 'number', True),
    column('sent', 'Sent', 'number', True), column('received', 'Received', 'number', True),
    column('interruptions', 'Interruptions', 'number', True),
    column('last_interruption', 'Last interruption', 'number', True)]


def client_row(row, now):
    tone = {'gone': 'off', 'blocked': 'bad', 'idle': 'off'}.get(row['state'], 'good')
    return {'id': f'{row["name"]} {row["user"]}', 'tone': tone,
            **{name: plain(row[name] or '') for name in ('name', 'user', 'state', 'does')},
            **{name: count(row[name]) for name in ('sent', 'received', 'interruptions')},
            'since': since(row['since'], now), 'last_interruption': since(row['last_interruption'], now) or 'none'}


async def show_clients(page):
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Clients')
            search = finder('Find a client', lambda: refresh())
        nothing = empty('No clients yet', 'Whoever connects is listed here, and stays listed when it is gone.')
        rows = table('clients', CLIENT_COLUMNS, lambda: refresh(), 'last_interruption')

    async def refresh():
        found, _ = await look(page, history.clients)
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
