"""How often a page looks at the history, or that it does not for now."""

from __future__ import annotations

import time

from nicegui import events, ui

from siamese.text import utc
from siamese.web.widgets import box, say

PERIODS_S = (2, 5, 10, 30)
COOKIE = 'pace'
YEAR_S = 31_536_000


class Pace:
    """The button that stops a page, and the choice of how often it looks."""

    def __init__(self, cookie: str) -> None:
        self.period_s = PERIODS_S[0]
        if cookie in map(str, PERIODS_S):
            self.period_s = int(cookie)
        self.is_paused = False
        self.timer: ui.timer | None = None
        with box('div', 'pace'):
            self.paused_at = say('span', '', 'muted')
            self.paused_at.props['role'] = 'status'
            with box('label'):
                say('span', 'every')
                self.add_choice()
            self.button = say('button', 'Pause', 'plain')
            self.button.props['type'] = 'button'
            self.button.on('click', self.turn)

    def add_choice(self) -> None:
        with box('select') as choice:
            for period_s in PERIODS_S:
                option = say('option', f'{period_s} s')
                option.props['value'] = period_s
                if period_s == self.period_s:
                    option.props['selected'] = True
        handler = '(event) => emit(event.target.value)'
        choice.on('change', self.choose, js_handler=handler)

    def choose(self, event: events.GenericEventArguments) -> None:
        self.period_s = int(event.args)
        if self.timer:
            self.timer.interval = self.period_s
        cookie = f'{COOKIE}={self.period_s};path=/;max-age={YEAR_S};samesite=lax'
        ui.run_javascript(f"document.cookie = '{cookie}'")

    def turn(self) -> None:
        self.is_paused = not self.is_paused
        words = ''
        label = 'Pause'
        if self.is_paused:
            words = f'paused at {utc(time.time(), "%H:%M:%S")} UTC'
            label = 'Go on'
        self.paused_at.set_text(words)
        self.button.set_text(label)
