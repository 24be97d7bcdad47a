"""How an administrator requeues dead letters: a question, then monitor.py."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from nicegui import ui

from siamese import ROOT
from siamese.text import count_of, printable
from siamese.web.page import Page
from siamese.web.widgets import Refresh, box, button, say, tell

BROKER_TIMEOUT_S = 10  # somebody waits


async def ask_and_requeue(
    page: Page,
    pressed: ui.button,
    which: str,
    number: int,
    refresh: Refresh,
) -> bool:
    """Ask, then let monitor.py requeue `number` dead letters.

    `which` is a queue, 'all', or one dead letter ('#17'). Meanwhile the button
    that was pressed is disabled, and then the page is refreshed. Returns
    whether all went well.
    """
    sure = await ask(which, number)
    if not sure or not page.is_for_administrator():
        return False
    pressed.disable()
    wait = ui.notification(
        'requeuing ...',
        textColor='words',
        spinner=True,
        timeout=None,
    )
    try:
        status, words = await requeue(page.args, which)
    finally:
        wait.dismiss()
        pressed.enable()
    tell(status, words)
    await refresh()
    return status == 0


async def ask(which: str, number: int) -> bool:
    what = count_of(number, 'dead letter')
    question = f'Requeue {what} to {target_of(which, number)}?'
    with ui.dialog(value=True) as dialog, box('div', 'card'):
        dialog.props['aria-label'] = question
        say('h2', question)
        say(
            'p',
            'They are published again as they were, '
            'and marked as requeued once the broker has confirmed them.',
            'muted',
        )
        with box('div', 'head'):
            button('Cancel', lambda: dialog.submit(False), plain=True)
            button('Requeue', lambda: dialog.submit(True))
    sure = await dialog
    dialog.delete()
    return bool(sure)


def target_of(which: str, number: int) -> str:
    """Return in words where dead letters go."""
    if which != 'all' and not which.startswith('#'):
        return printable(which)
    if number == 1:
        return 'its queue'
    return 'their queues'


async def requeue(args: argparse.Namespace, which: str) -> tuple[int, str]:
    """Run monitor.py --requeue; return its status and its last line."""
    # A flag could be read by others on this machine, the environment cannot.
    environment = {**os.environ, 'AMQP_URL': args.url}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        ROOT / 'monitor.py',
        f'--requeue={which}',
        f'--history={args.history}',
        f'--give-up-after={BROKER_TIMEOUT_S}',
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:  # dashboard.py ends, so this must too
            process.terminate()
            await process.wait()
    status = process.returncode or 0
    lines = output.decode(errors='replace').strip().splitlines()
    if not lines:
        return status, f'monitor.py ended with status {status}'
    return status, lines[-1]
