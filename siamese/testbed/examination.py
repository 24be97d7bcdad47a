"""How compare.py examines brokers: in rounds what is measured, one by one what is checked.

Whatever happens, every check has a cell at the end, and nothing is left on a broker.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from siamese import script, terminal
from siamese.messaging import blocking, errors
from siamese.testbed import checks, measured, rounds
from siamese.testbed.candidate import (
    Candidate,
    Failed,
    NotPossible,
    Stopped,
    Unavailable,
    stop_if_asked,
)
from siamese.testbed.checks import Result
from siamese.testbed.comparison import Cell
from siamese.testbed.machine import Load

# A broker that lets us connect owes us answers and confirms.
OWED = re.compile('no answer|messages? not confirmed')

Cells = dict[str, Cell]  # by the name of the check


def examine_all(
    brokers: Sequence[Candidate],
    names: Sequence[str],
    count: int,
    load: Load,
) -> list[Cells]:
    """Examine brokers; return the cells of each. `count` is how many rounds there are.

    A second signal ends a check at once, and one that comes later the clean-up.
    """
    cells: list[Cells] = [{} for _ in brokers]
    with tempfile.TemporaryDirectory(prefix='siamese-compare-') as folder:
        give_folders(brokers, folder)
        try:
            in_rounds = [name for name in names if name in measured.MEASURED]
            if in_rounds:
                measure(brokers, in_rounds, count, cells, load)
            for broker, found in zip(brokers, cells):
                examine(broker, [name for name in names if name in checks.CHECKS], found)
        except KeyboardInterrupt:
            for broker in brokers:
                broker.stop(patience_s=0)
        for broker in brokers:
            with contextlib.suppress(KeyboardInterrupt):
                broker.remove()
    interrupted = Cell('not known', 'interrupted')
    return [{name: found.get(name, interrupted) for name in names} for found in cells]


def give_folders(brokers: Sequence[Candidate], folder: str) -> None:
    """Give each broker a folder of its own for the files of its scripts."""
    for number, broker in enumerate(brokers):
        path = Path(folder, str(number))
        path.mkdir()
        broker.folder = str(path)


# ---- measuring in rounds


class Series:
    """A measurement on one broker, round by round, until one does not pass."""

    def __init__(self, broker: Candidate, name: str, rounds: int) -> None:
        self.broker = broker
        self.name = name
        self.rounds = rounds
        self.cells: list[Cell] = []  # of the rounds so far

    def has_ended(self) -> bool:
        """Return whether a round has not passed."""
        return bool(self.cells) and self.cells[-1].verdict != 'pass'

    def measure(self) -> None:
        """Measure in one more round."""
        if self.has_ended():
            return
        measurement = measured.MEASURED[self.name]
        cell = run_check(self.broker, lambda broker: measurement(broker, self.rounds))
        self.cells.append(cell)

    def cell(self) -> Cell:
        """Return the cell of all rounds. Where one did not pass, it says which and why."""
        passed = [cell for cell in self.cells if cell.verdict == 'pass']
        result = measured.in_all_rounds([Result(cell.text, cell.figures) for cell in passed])
        took_s = sum(cell.took_s for cell in self.cells)
        if len(passed) == self.rounds:
            return Cell('pass', result.text, result.figures, took_s)
        last = Cell('not known', 'interrupted')
        if self.has_ended():
            last = self.cells[-1]
        text = last.text
        if passed:
            text = f'in round {len(passed) + 1} of {self.rounds}: {text}'
        return Cell(last.verdict, text, result.figures, took_s)


def measure(
    brokers: Sequence[Candidate],
    names: Sequence[str],
    count: int,
    cells: list[Cells],
    load: Load,
) -> None:
    """Measure all brokers in each of `count` rounds, one figure after the other."""
    tell_of_load_before(load)
    table = [[Series(broker, name, count) for broker in brokers] for name in names]
    try:
        for number, order in enumerate(rounds.orders(range(len(brokers)), count), 1):
            if all(series.has_ended() for row in table for series in row):
                break
            show_progress(number, count)
            load.look_between()
            for row in table:
                for place in order:
                    row[place].measure()
    finally:
        terminal.clear_progress()
        for row in table:
            for found, series in zip(cells, row):
                found[series.name] = series.cell()
                tell(series.broker, series.name, found[series.name])


def tell_of_load_before(load: Load) -> None:
    """Look at what other processes do, and warn if that is much."""
    load.look_before()
    if load.spoils:
        logging.warning('%s', load.text)


def show_progress(number: int, count: int) -> None:
    """Show on a terminal which round it is."""
    if sys.stderr.isatty():
        share = (number - 1) / count
        bar = terminal.bar(share, terminal.PROGRESS_COLUMNS, sys.stderr)
        terminal.show_progress(f'{bar}  round {number} of {count}', sys.stderr)


# ---- checking one by one


def examine(broker: Candidate, names: Sequence[str], cells: Cells) -> None:
    """Run checks, until a signal comes or the broker is gone; then nothing more is known."""
    gone = None
    for name in names:
        if gone:
            cells[name] = gone
            continue
        cell = run_check(broker, checks.CHECKS[name])
        cells[name] = cell
        tell(broker, name, cell)
        if cell.verdict == 'not known' and is_over(broker):
            gone = cell


def run_check(broker: Candidate, check: Callable[[Candidate], Result]) -> Cell:
    """Run a check, and end its scripts; return how it went."""
    began = time.monotonic()
    cell = outcome(broker, check)
    broker.stop()
    cell.took_s = time.monotonic() - began
    return cell


def outcome(broker: Candidate, check: Callable[[Candidate], Result]) -> Cell:
    """Run a check; return how it went."""
    try:
        stop_if_asked()
        broker.connect()
        result = check(broker)
    except NotPossible as error:
        return Cell('not possible', str(error))
    except Failed as error:
        return Cell('FAIL', str(error))
    except Unavailable as error:
        return judged_again(broker, str(error))
    except (*blocking.ERRORS, sqlite3.Error) as error:
        cause = errors.cause(error)
        return Cell('not known', f'cannot go on ({cause})')
    except Stopped:
        return Cell('not known', f'stopped by {script.stop_requested()}')
    return Cell('pass', result.text, result.figures)


def tell(broker: Candidate, name: str, cell: Cell) -> None:
    """Log how a check went."""
    logging.info(
        '%s: %s: %s, %s; %.1f s',
        broker.address,
        name,
        cell.verdict,
        cell.text,
        cell.took_s,
    )


def judged_again(broker: Candidate, text: str) -> Cell:
    """Return 'not known' for what met no broker; FAIL if one is there, and owes us an answer."""
    if OWED.search(text) and not is_over(broker):
        return Cell('FAIL', text.partition(';')[0])
    return Cell('not known', text)


def is_over(broker: Candidate) -> bool:
    """Return whether nothing more can be told: after a signal, or if the broker is gone."""
    if script.stop_requested():
        return True
    try:
        broker.connect()
    except (Unavailable, Stopped):
        return True
    return False
