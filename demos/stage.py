"""How the demo looks: lanes that move on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from lanes import CUT_OFF, DONE, STARTING, WORKING, Board, Lane

from siamese import terminal

TITLE = 'siamese: can this broker be trusted?'
PLAIN_EVERY_S = 2
EVENTS_SHOWN = 8
BAR_COLUMNS = 14
WIDE_COLUMNS = 76  # with room for the bars
STYLES = {STARTING: 'dim', WORKING: 'green', CUT_OFF: 'bold yellow', DONE: 'cyan'}
EVENT_STYLES = {terminal.RED: 'bold red', terminal.YELLOW: 'yellow', terminal.GREEN: 'green'}


@contextlib.contextmanager
def chosen(expected: int) -> Iterator[Plain]:
    """Yield the view that fits stdout. `expected` is how many blocks each producer sends."""
    if not terminal.has_colour() or not terminal.columns():
        yield Plain()
        return
    try:
        from rich.live import Live
    except ModuleNotFoundError:  # see requirements/demo.txt
        yield Plain()
        return
    with Live(auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield Lively(live, expected)


class Plain:
    """A line for what happens, and one every other second for how far it is."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.shown_at = self.began

    def event(self, text: str, colour: str = '') -> None:
        """Tell what happens."""
        terminal.show(f'{self._elapsed_s():5.1f} s  {text}', colour=colour, indent=9)

    def show(self, board: Board) -> None:
        """Show how far it is."""
        if time.monotonic() < self.shown_at + PLAIN_EVERY_S:
            return
        self.shown_at = time.monotonic()
        if board.count_in(STARTING) < len(board.lanes):
            self.event(
                f'sent {board.total("sent")}, confirmed {board.total("confirmed")}, '
                f'checked {board.total("checked")}; {states(board)}'
            )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.began


class Lively(Plain):
    """One lane for each process, and what has happened below."""

    def __init__(self, live: Any, expected: int) -> None:
        super().__init__()
        self.live = live
        self.expected = expected
        self.events: list[tuple[float, str, str]] = []
        self.board = Board({})

    def event(self, text: str, colour: str = '') -> None:
        self.events.append((self._elapsed_s(), text, colour))
        self.show(self.board)

    def show(self, board: Board) -> None:
        self.board = board
        self.live.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        title = Text(TITLE, style='bold')
        return Group(title, Text(), self._lanes(), Text(), self._events())

    def _lanes(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for lane in self.board.lanes.values():
            state = Text('● ' + lane.state, style=STYLES[lane.state])
            cells: list[Any] = [Text(lane.name, style='bold'), lane.role, counts(lane), state]
            if terminal.columns() >= WIDE_COLUMNS:
                cells.insert(2, terminal.bar(self._share(lane), BAR_COLUMNS))
            table.add_row(*cells)
        return table

    def _share(self, lane: Lane) -> float:
        return (lane.confirmed + lane.checked) / self.expected

    def _events(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for at, text, colour in self.events[-EVENTS_SHOWN:]:
            style = EVENT_STYLES.get(colour, '')
            table.add_row(Text(f'{at:5.1f} s', style='dim'), Text(text, style=style))
        return table


def counts(lane: Lane) -> str:
    """Return the numbers of a lane, always as wide."""
    if lane.role == 'producer':
        return f'sent {lane.sent:3}  confirmed {lane.confirmed:3}'
    return f'checked {lane.checked:3}'


def states(board: Board) -> str:
    """Return how the processes are: '4 working'."""
    counted = ((board.count_in(state), state) for state in STYLES)
    return ', '.join(f'{count} {state}' for count, state in counted if count)
