"""The lines that perf scripts print: one each second, aligned under a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from siamese import terminal
from siamese.scenarios.timing import QUANTILES, format_ms
from siamese.text import printable

HEAD_EVERY = 20  # lines
TIME_COLUMNS = 5
RATE_COLUMNS = 9
LATENCY_COLUMNS = 5
BAR_COLUMNS = 10
UNIT = ' ms'
SHOWN_WHERE_NARROW = ('median', 'p99', 'max')


class Rows:
    """Lines on stdout: the time, a rate for each of the `names`, the quantiles of latencies.

    A terminal that is wide enough also gets a bar: the last rate beside the highest so far.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.highest_rate = 0.0
        self.shown = 0

    def show(
        self,
        elapsed_s: float,
        rates: Sequence[float],
        percentiles: Mapping[str, int],
        problem: str,
    ) -> None:
        """Print a line, and the head before each HEAD_EVERY lines."""
        terminal.clear_progress()
        width = terminal.columns()
        quantiles = self._quantiles(width)
        if self.shown % HEAD_EVERY == 0:
            print(self._head(quantiles))
        self.shown += 1
        times = (format_ms(percentiles[name]) for name in quantiles if percentiles)
        unit = UNIT if percentiles else ''
        shown_rates = [f'{rate:,.0f}/s' for rate in rates]
        line = self._line(f'{elapsed_s:.0f} s', shown_rates, times, quantiles) + unit
        self.highest_rate = max(self.highest_rate, rates[-1])
        print(line.rstrip() + self._rest(line, rates[-1], problem, width))

    def _quantiles(self, width: int) -> Sequence[str]:
        every = tuple(QUANTILES)
        if 0 < width < len(self._head(every) + UNIT):
            return SHOWN_WHERE_NARROW
        return every

    def _head(self, quantiles: Sequence[str]) -> str:
        return self._line('time', self.names, quantiles, quantiles)

    def _line(
        self,
        time: str,
        rates: Iterable[str],
        times: Iterable[str],
        quantiles: Sequence[str],
    ) -> str:
        cells = [time.rjust(TIME_COLUMNS)]
        cells += ['  ' + rate.rjust(RATE_COLUMNS) for rate in rates]
        cells.append(' ')
        for name, text in zip(quantiles, times):
            cells.append(' ' + text.rjust(max(LATENCY_COLUMNS, len(name))))
        return ''.join(cells)

    def _rest(self, line: str, rate: float, problem: str, width: int) -> str:
        """Return what stands behind the numbers: a problem, else the bar if it fits."""
        if problem:
            return '  ' + terminal.coloured(printable(problem), terminal.YELLOW)
        before = len(self._head(tuple(QUANTILES)) + UNIT) + 2
        if width < before + BAR_COLUMNS or not self.highest_rate:
            return ''
        room = ' ' * (before - len(line.rstrip()))
        return room + terminal.bar(rate / self.highest_rate, BAR_COLUMNS)
