"""What the ledgers of dashboard.py --ledger prove so far, on the page of verdicts."""

from __future__ import annotations

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from siamese.text import printable, utc
from siamese.watching import Standing, Watch
from siamese.web.formats import count
from siamese.web.page import Page
from siamese.web.widgets import box, local_time, say

LOOK_S = 1
NOT_KNOWN = ('warn', 'not known')
STATES = {  # by exit status, and whether all is over: the tone and the word
    (0, True): ('good', 'passed'),
    (0, False): ('good', 'goes on'),
    (1, True): ('bad', 'failed'),
    (1, False): ('bad', 'failed'),
}


class LedgersCard:
    """The verdict so far, and up to which time it holds; it changes when ledgers grow."""

    def __init__(self, page: Page, watch: Watch) -> None:
        self.page = page
        self.watch = watch
        self.shown: Standing | None = None
        with box('section', 'card lasting') as card:
            card.props['aria-label'] = 'ledgers'
            with box('div', 'head'):
                say('h2', 'What the ledgers prove so far')
                self.state = say('span')
            with box('dl', 'facts'):
                self.verdict = fact('verdict')
                say('dt', 'holds up to')
                self.at = box('dd')
                self.counts = fact('counted')
                self.faults = fact('found')
                self.paths = fact('read from')
        self.paths.set_text(printable(', '.join(watch.ledgers.paths)))
        self.look()
        ui.timer(LOOK_S, self.look)

    def look(self) -> None:
        """Show what is known now, if that is new."""
        standing = self.watch.standing
        if standing is not self.shown and self.page.is_open():
            self.shown = standing
            self.show(standing)

    def show(self, standing: Standing) -> None:
        tone, word = state_of(standing)
        self.state.set_text(word)
        self.state.classes(replace=f'state {tone}')
        self.verdict.set_text(printable(standing.problem or standing.verdict.text))
        self.show_time(standing.at)
        counted = [f'{count(number)} {name}' for name, number in standing.counts]
        self.counts.set_text(', '.join(counted) or 'nothing')
        self.faults.set_text('\n'.join(map(printable, standing.faults)) or 'no fault')

    def show_time(self, at: float) -> None:
        self.at.clear()
        with self.at:
            if not at:
                say('span', 'no line was read yet')
                return
            say('span', f'{utc(at)} UTC, ')
            local_time(at)


def fact(name: str) -> TextElement:
    """Add a line of a list, and return where its text is."""
    say('dt', name)
    return say('dd')


def state_of(standing: Standing) -> tuple[str, str]:
    """Return the tone and the word for a verdict."""
    if standing.problem:
        return NOT_KNOWN
    return STATES.get((standing.verdict.exit_status, standing.is_over), NOT_KNOWN)
