"""What the dashboard shows of dead letters: a table, one of them with its body, and how they are sent back."""

import asyncio
import json
import os
import sys
from urllib.parse import quote

from nicegui import ui

from siamese import ROOT
from siamese.monitoring import dead_letters as dead
from siamese.text import printable, utc
from siamese.web.page import read_history
from siamese.web.widgets import (
    ROWS,
    SHOWN,
    box,
    button,
    column,
    count,
    empty,
    fill,
    finder,
    forms,
    say,
    since,
    size,
    table,
    toggle,
)

PATIENCE = 10  # s for a broker that is away, while somebody waits


DEAD_COLUMNS = [
    column('at', 'Died (UTC)', 'open', first=True),
    column('queue', 'Queue', 'wide'),
    column('reason', 'Reason'),
    column('sender', 'Sender', 'wide'),
    column('message_id', 'Message', 'wide'),
    column('size', 'Size', 'number'),
    column('state', 'State', 'state'),
]
DEAD_STATES = {'waiting': False, 'sent back': True, 'all': None}


def letter_row(letter):
    return {
        **{
            name: printable(letter[name] or '')
            for name in ('queue', 'reason', 'sender', 'message_id')
        },
        'id': letter['id'],
        'at': utc(letter['at']),
        'size': size(letter['size']),
        'state': 'sent back' if letter['requeued'] else 'waiting',
        'tone': 'good' if letter['requeued'] else 'warn',
    }


async def show_dead(page, queue):
    chosen = {'queue': queue or None}
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Dead letters')
            again = button(
                'Send back',
                lambda: ask_and_requeue(
                    page, again, chosen['queue'] or 'all', chosen['count'], refresh
                ),
                'undo',
            )
            hint = ui.link(
                'Log in as an administrator to send them back',
                f'/login?next={quote("/dead", safe="")}',
            )
        with box('div', 'filters'):

            def chooser(label, options, value):
                return ui.select(
                    options, label=label, value=value, on_change=lambda: restart()
                ).props('dense outlined options-dense')

            queues = chooser(
                'Queue', {'': 'all queues', **({queue: printable(queue)} if queue else {})}, queue
            )
            reasons = chooser('Reason', {'': 'any reason'}, '')
            states = chooser('State', [*DEAD_STATES], 'waiting')
            search = finder('Find a message', lambda: restart())
        nothing = empty(
            'No dead letters',
            'What expires in a queue, is rejected or does not fit into it is kept here, '
            'if the queue has the dead letter exchange siamese.dlx.',
        )
        rows = table('dead letters', DEAD_COLUMNS, lambda: refresh())
        rows.on('open', lambda event: open_letter(page, event.args, refresh))

    def read(db):
        letters, total = dead.letters(
            db,
            queues.value or None,
            reasons.value or None,
            requeued=DEAD_STATES[states.value],
            search=search.value or None,
            limit=ROWS,
            offset=(rows.pagination['page'] - 1) * ROWS,
        )
        return letters, total, dead.by_queue(db)

    async def restart():
        rows.pagination = {**rows.pagination, 'page': 1}
        await refresh()

    async def refresh():
        found, _ = await read_history(page, read)
        if not found:
            return
        letters, total, known = found
        for select, name, first in (
            (queues, 'queue', 'all queues'),
            (reasons, 'reason', 'any reason'),
        ):
            options = {'': first, **{row[name]: printable(row[name]) for row in known if row[name]}}
            options.setdefault(select.value, printable(select.value))
            if select.options != options:
                select.set_options(options)
        chosen['queue'] = queues.value
        chosen['count'] = sum(row['waiting'] for row in known if queues.value in ('', row['queue']))
        administrator = bool(page.session() and page.session().administrator)
        again.set_text(
            f'Send {count(chosen["count"])} back' + (' to this queue' if queues.value else '')
        )
        unclear = queues.value == 'all' or dead.ONE.fullmatch(
            queues.value
        )  # would be something else to monitor.py
        narrowed = (
            reasons.value or search.value or states.value == 'sent back'
        )  # and would not be heeded
        again.set_visibility(
            administrator and bool(chosen['count']) and not unclear and not narrowed
        )
        hint.set_visibility(not page.session() and bool(chosen['count']))
        fill(rows, [letter_row(letter) for letter in letters], total)
        nothing.set_visibility(not total)
        rows.set_visibility(bool(total))

    page.refreshers.append(refresh)


async def open_letter(page, id, refresh):
    """Show one dead letter: where it comes from, its properties, its body."""
    letter, _ = await read_history(page, lambda db: dead.letter(db, id))
    if not letter:
        return
    body, properties = letter['body'], dict(letter['properties'])
    headers = properties.pop('headers', None) or {}
    shown, remark = forms(body)
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        with box('div', 'head'):
            say('h2', f'Dead letter {id}, {printable(letter["reason"])}')
            button('', dialog.close, 'close', plain=True, **{'aria-label': 'close'})
        show_facts(
            {
                'died': f'{utc(letter["at"])} UTC, {since(letter["at"], page.now)}',
                'in queue': letter['queue'],
                'published to': letter['exchange'] or 'the default exchange',
                'routing key': letter['routing_key'],
                'sender': letter['sender'] or 'unknown',
                **properties,
                'sent back': f'{utc(letter["requeued"])} UTC' if letter['requeued'] else 'not yet',
            }
        )
        if headers:
            say('h2', 'Headers').style('margin-top: 14px')
            show_facts(headers)
        with box('div', 'head').style('margin: 14px 0 0'):
            say('h2', f'Body, {size(len(body))}')
            form = toggle('form', [*shown], next(iter(shown)), lambda: turn())
        note, text = say('div', '', 'muted'), say('pre', '', 'body')
        with box('div', 'head').style('margin: 14px 0 0'):
            button(
                'Download the body',
                lambda: ui.download.content(
                    body, f'dead-letter-{id}.bin', 'application/octet-stream'
                ),
                'download',
                printable=True,
            )
            if page.session() and page.session().administrator and not letter['requeued']:
                one = button(
                    'Send it back',
                    lambda: ask_and_requeue(page, one, f'#{id}', 1, refresh, dialog),
                    'undo',
                )

    def turn():
        text.set_text(shown[form.value])
        text.classes(replace='body hex' if form.value == 'Hex' else 'body')
        cut = (
            f', the first {size(SHOWN[form.value])} of it' if len(body) > SHOWN[form.value] else ''
        )
        note.set_text(remark + cut)

    turn()
    dialog.on('hide', dialog.delete)


def show_facts(facts):
    with box('dl', 'facts'):
        for name, value in facts.items():
            say('dt', printable(name))
            say(
                'dd',
                printable(
                    value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                ),
            )


async def ask_and_requeue(page, pressed, which, number, refresh, above=None):
    """Ask an administrator, and let monitor.py send dead letters back: those of a queue, 'all', or one ('#17').

    The button that was `pressed` cannot be pressed again meanwhile; the dialog `above` is closed if all went well.
    """
    what = '1 dead letter' if number == 1 else f'{count(number)} dead letters'
    target = (
        printable(which)
        if which != 'all' and which[0] != '#'
        else 'its queue'
        if number == 1
        else 'their queues'
    )
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        say('h2', f'Send {what} back to {target}?')
        say(
            'p',
            'They are published again as they were, and ticked off once the broker has confirmed them.',
            'muted',
        )
        with box('div', 'head'):
            button('Cancel', lambda: dialog.submit(False), plain=True)
            button('Send back', lambda: dialog.submit(True))
    sure = await dialog
    dialog.delete()
    if not sure or not page.session() or not page.session().administrator:
        return
    pressed.disable()
    wait = ui.notification('sending back ...', textColor='words', spinner=True, timeout=None)
    try:
        status, words = await requeue(page.args, which)
    finally:
        wait.dismiss()
        pressed.enable()
    ui.notify(
        printable(words),
        color='bad' if status else 'good',
        textColor='words',
        multi_line=True,
        timeout=8000,
        close_button='Close',
    )
    if above and not status:
        above.close()
    await refresh()


async def requeue(args, which):
    """Run monitor.py --requeue-dead; return its exit status and its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        ROOT / 'monitor.py',
        f'--requeue-dead={which}',
        f'--history={args.history}',
        f'--give-up-after={PATIENCE}',
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, 'AMQP_URL': args.url},
    )  # not as a flag, where others on this machine could read it
    try:
        out = (await process.communicate())[0].decode(errors='replace').strip()
    finally:
        if process.returncode is None:  # dashboard.py ends, and so does what it began
            process.terminate()
            await process.wait()
    return process.returncode, out.splitlines()[
        -1
    ] if out else f'monitor.py ended with status {process.returncode}'
