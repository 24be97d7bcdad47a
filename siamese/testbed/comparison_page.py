"""The page of compare.py --html: a table and charts, in one file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from html import escape

from siamese.testbed.comparison import Cell, Column, Difference

STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; table-layout: fixed; }
table { width: 100%; margin: 1rem 0 2rem; }
th, td { border-bottom: 1px solid #8886; padding: .4rem .6rem; }
th, td { text-align: left; vertical-align: top; }
th, td { overflow-wrap: anywhere; }
td:first-child, th:first-child { width: 9rem; }
small { display: block; font-weight: normal; opacity: .75; }
b { display: inline-block; border-radius: .3rem; color: #fff; }
b { padding: 0 .4rem; margin-right: .4rem; }
.pass { background: #1a7f37; }
.FAIL { background: #cf222e; }
.not { background: #6e7781; }
.charts { display: grid; gap: 1.5rem; }
.charts { grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
figure { margin: 0; }
figcaption { font-weight: bold; }
svg { width: 100%; height: auto; }
"""
PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8">
<title>Brokers compared</title>
<meta name="viewport" content="width=device-width">
<style>{style}</style>
<h1>Brokers compared</h1><p>{verdicts}</p>
<table>{head}{rows}</table>
<div class="charts">{charts}</div>{differences}</html>
"""
DIFFERENCES = """
<h2>Differences, all of them legal</h2>
<table>{head}{rows}</table>
"""
CHART = """
<figure><figcaption>{title}</figcaption>
<svg viewBox="0 0 {width} {height}" role="img">{bars}</svg></figure>
"""
BAR = """
<text x="0" y="{label_y}" font-size="12" fill="currentColor">{label}</text>
<rect x="0" y="{bar_y}" width="{width:.1f}" height="{height}"
 fill="hsl({hue} 60% 45%)"/>
<text x="{value_x:.1f}" y="{value_y}" font-size="14"
 fill="currentColor">{value}</text>
"""
HUES = (210, 160, 45, 280, 100)  # of the brokers, in degrees
# Sizes in the units of the drawing.
BAR_HEIGHT = 22
BROKER_HEIGHT = 68  # a bar with its label
CHART_WIDTH = 360
VALUE_WIDTH = 80  # beside the longest bar


def html(
    columns: Sequence[Column],
    differences: Sequence[Difference],
    verdicts: Sequence[str],
) -> str:
    """Return the page; `verdicts` are lines of text."""
    head = '<tr><td></td>' + ''.join(map(heading, columns)) + '</tr>'
    rows = ''
    for name in columns[0].checks:
        cells = [column.checks[name] for column in columns]
        rows += row(name, ''.join(map(cell_of, cells)))
    return PAGE.format(
        style=STYLE,
        verdicts='<br>'.join(map(escape, verdicts)),
        head=head,
        rows=rows,
        charts=''.join(charts(columns)),
        differences=differences_of(differences, head),
    )


def heading(column: Column) -> str:
    """Return the heading of a column."""
    address = f'<small>{escape(column.address)}</small>'
    return f'<th>{escape(column.broker)}{address}</th>'


def row(name: str, cells: str) -> str:
    """Return a row of a table; `cells` are HTML."""
    return f'<tr><th>{escape(name)}</th>{cells}</tr>'


def cell_of(cell: Cell) -> str:
    """Return a cell of the table: the verdict and its reason or metric."""
    css_class = cell.verdict.split()[0]
    verdict = f'<b class="{css_class}">{cell.verdict}</b>'
    return f'<td>{verdict}{escape(cell.text)}</td>'


def differences_of(differences: Sequence[Difference], head: str) -> str:
    """Return the table of differences, or '' if there are none."""
    if not differences:
        return ''
    rows = ''
    for difference in differences:
        cells = [f'<td>{escape(text)}</td>' for text in difference.texts]
        rows += row(difference.name, ''.join(cells))
    return DIFFERENCES.format(head=head, rows=rows)


def charts(columns: Sequence[Column]) -> Iterator[str]:
    """Yield a bar chart for each metric that a broker has."""
    names: dict[tuple[str, str], None] = {}
    for column in columns:
        for check, cell in column.checks.items():
            names.update(dict.fromkeys((check, name) for name in cell.metrics))
    for check, metric in names:
        yield chart(columns, check, metric)


def chart(columns: Sequence[Column], check: str, metric: str) -> str:
    """Return a chart with a bar for each broker that has this metric."""
    values = [column.checks[check].metrics.get(metric) for column in columns]
    known = [value for value in values if value is not None]
    longest = max(known) or 1
    unit = (CHART_WIDTH - VALUE_WIDTH) / longest
    bars = ''
    top = 0
    for column, hue, value in zip(columns, itertools.cycle(HUES), values):
        if value is None:
            continue
        label = f'{column.broker}, {column.address}'
        bars += bar(top, label, hue, value, unit)
        top += BROKER_HEIGHT
    return CHART.format(
        title=f'{escape(check)}: {escape(metric)}',
        width=CHART_WIDTH,
        height=top,
        bars=bars,
    )


def bar(top: int, label: str, hue: int, value: float, unit: float) -> str:
    """Return the bar of one broker with its label; `unit` is its width for 1."""
    width = value * unit
    number = f'{value:,.2f}'
    if value > 100:
        number = f'{value:,.0f}'
    return BAR.format(
        label=escape(label),
        label_y=top + 14,
        bar_y=top + 20,
        width=width,
        height=BAR_HEIGHT,
        hue=hue,
        value_x=width + 6,
        value_y=top + 36,
        value=number,
    )
