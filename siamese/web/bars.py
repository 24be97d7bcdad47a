"""Two charts of the past: errors by reason, and traffic; each has an axis of its own."""

from __future__ import annotations

from collections.abc import Mapping

from siamese.monitoring.database import Row
from siamese.web.widgets import bar_chart, box

TRAFFIC = {
    'published': 'var(--published)',
    'delivered': 'var(--delivered)',
}
ERRORS = {
    'expired': 'var(--warn)',
    'rejected': 'var(--errors)',
    'other': 'var(--muted)',
}


class BarsView:
    """Bars for rows of database.by_period(): beside millions nobody sees nine errors."""

    def __init__(self) -> None:
        with box('div', 'history') as self.element:
            self.traffic = bar_chart('published and delivered', TRAFFIC)
            self.errors = bar_chart('errors by reason', ERRORS)
        for bars in self.errors.options['series']:
            bars['stack'] = 'errors'
        self.shown: tuple[list[str], list[Row]] | None = None

    def show(self, labels: Mapping[int, str], rows: list[Row]) -> None:
        """Show rows by when they start; `labels` has a name for each start."""
        shown = ([*labels.values()], rows)
        if shown == self.shown:
            return
        self.shown = shown
        by_start = {row['start']: row for row in rows}
        for chart in self.traffic, self.errors:
            options = chart.options
            options['xAxis']['data'] = shown[0]
            for bars in options['series']:
                name = bars['name']
                bars['data'] = [by_start.get(start, {}).get(name, 0) for start in labels]
            chart.update()
