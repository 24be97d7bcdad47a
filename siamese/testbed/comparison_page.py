"""The page of compare.py --html: a table and charts in one file that needs nothing else."""

import itertools
from html import escape

STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; margin: 1rem 0 2rem; }
th, td { border-bottom: 1px solid #8886; padding: .4rem .6rem; text-align: left; vertical-align: top; }
th, td { overflow-wrap: anywhere; }
td:first-child, th:first-child { width: 9rem; }
small { display: block; font-weight: normal; opacity: .75; }
b { display: inline-block; border-radius: .3rem; padding: 0 .4rem; margin-right: .4rem; color: #fff; }
.pass { background: #1a7f37; } .FAIL { background: #cf222e; } .not { background: #6e7781; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: bold; } svg { width: 100%; height: auto; }
"""
HUES = 210, 160, 45, 280, 100  # of the brokers
BAR, ROOM, WIDTH = 22, 34, 360  # heights of a bar and of a broker with its label; width of a chart


def html(columns, differences, verdicts):
    """Return the page. `columns` are what compare.compare() returns, `differences` [(what, [text of each])]."""
    head = ''.join(
        f'<th>{escape(column["broker"])}<small>{escape(column["place"])}</small></th>'
        for column in columns
    )
    rows = [(name, [column['checks'][name] for column in columns]) for name in columns[0]['checks']]
    body = ''.join(
        f'<tr><th>{escape(name)}</th>{"".join(map(cell, cells))}</tr>' for name, cells in rows
    )
    others = ''.join(
        f'<tr><th>{escape(what)}</th>{"".join(f"<td>{escape(text)}</td>" for text in texts)}</tr>'
        for what, texts in differences
    )
    legal = (
        f'<h2>Differences, all of them legal</h2><table><tr><td></td>{head}</tr>{others}</table>'
        if others
        else ''
    )
    said = '<br>'.join(map(escape, verdicts))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Brokers compared</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f'<h1>Brokers compared</h1><p>{said}</p><table><tr><td></td>{head}</tr>{body}</table>'
        f'<div class="charts">{"".join(charts(columns))}</div>{legal}</html>\n'
    )


def cell(result):
    """Return a cell of the table: the verdict and its reason or figure."""
    verdict = result['verdict']
    return f'<td><b class="{verdict.split()[0]}">{verdict}</b>{escape(result["text"])}</td>'


def charts(columns):
    """Yield a bar chart for each figure, with a bar for each broker that has it."""
    figures = dict.fromkeys(
        (check, figure)
        for column in columns
        for check, result in column['checks'].items()
        for figure in result['figures']
    )
    for check, figure in figures:
        values = [(column, column['checks'][check]['figures'].get(figure)) for column in columns]
        values = [
            (hue, f'{column["broker"]}, {column["place"]}', value)
            for hue, (column, value) in zip(itertools.cycle(HUES), values)
            if value is not None
        ]
        most = max(value for _, _, value in values) or 1
        bars = ''.join(
            f'<text x="0" y="{ROOM * 2 * at + 14}" font-size="12" fill="currentColor">{escape(label)}</text>'
            f'<rect x="0" y="{ROOM * 2 * at + 20}" width="{(WIDTH - 80) * value / most:.1f}" height="{BAR}"'
            f' fill="hsl({hue} 60% 45%)"/>'
            f'<text x="{(WIDTH - 80) * value / most + 6:.1f}" y="{ROOM * 2 * at + 36}" font-size="14"'
            f' fill="currentColor">{value:,.{0 if value > 100 else 2}f}</text>'
            for at, (hue, label, value) in enumerate(values)
        )
        yield (
            f'<figure><figcaption>{escape(check)}: {escape(figure)}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {ROOM * 2 * len(values)}" role="img">{bars}</svg></figure>'
        )
