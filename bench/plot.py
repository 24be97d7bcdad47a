#!/usr/bin/env python3
"""Draw the rate and the latency over time of a run that wrote --csv.

    $ python bench/plot.py run.csv [more.csv ...] --out run.png

Needs matplotlib (requirements/dev.txt).
"""

import argparse
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot

COLUMNS = {'time_s', 'min_us', 'median_us', 'p95_us', 'p99_us', 'max_us'}
BAND = ('min_us', 'max_us')
DISAGREE = 'spoiled by clocks that disagree: latencies below 0'
LINES = {'median_us': '-', 'p95_us': '--', 'p99_us': ':'}


def read(path):
    """Return the columns of a CSV file as {name: [float or nan]}; raise OSError or ValueError."""
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError('no rows in it; did the run last a second?')
    if not rows[0].keys() >= COLUMNS:
        raise ValueError('not what --csv writes')
    return {name: [float(row[name] or 'nan') for row in rows] for name in rows[0]}


def drawn(runs):
    """Return a figure of `runs`, {label: columns}: rates above, latencies below."""
    figure, (rates, latencies) = pyplot.subplots(
        2, 1, sharex=True, figsize=(10, 7), layout='constrained'
    )
    for number, (label, columns) in enumerate(runs.items()):
        draw_rates(rates, label, columns, f'C{number}')
        draw_latencies(latencies, label, columns, f'C{number}')
    rates.set(ylabel='messages/s', ylim=(0, None), title='Rate')
    title = 'Latency (shaded: from min to max of each second)'
    if spoiled(runs):
        title += f'\n{DISAGREE} in {", ".join(spoiled(runs))}'
    latencies.set(xlabel='time [s]', ylabel='latency [ms]', yscale=scale_of(runs), title=title)
    for axes in (rates, latencies):
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    return figure


def spoiled(runs):
    """Return the labels of the runs with a latency below 0."""
    return [label for label, columns in runs.items() if any(us < 0 for us in columns['min_us'])]


def scale_of(runs):
    """Return the scale that shows every latency."""
    if spoiled(runs):
        return 'symlog'
    # None has a latency if the broker took nothing.
    has_latency = any(us > 0 for columns in runs.values() for us in columns['max_us'])
    return 'log' if has_latency else 'linear'


def draw_rates(axes, label, columns, color):
    for name in columns:
        if not name.endswith('_per_s'):
            continue
        style = '--' if name.startswith('confirmed') else '-'
        shown = f'{label}: {name[: -len("_per_s")]}'
        axes.plot(columns['time_s'], columns[name], style, color=color, label=shown)


def draw_latencies(axes, label, columns, color):
    time_s = columns['time_s']
    low, high = (in_ms(columns[name]) for name in BAND)
    axes.fill_between(time_s, low, high, color=color, alpha=0.12, linewidth=0)
    for name, style in LINES.items():
        shown = f'{label}: {name[: -len("_us")]}'
        axes.plot(time_s, in_ms(columns[name]), style, color=color, label=shown)


def in_ms(values_us):
    return [us / 1000 for us in values_us]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', metavar='CSV', help='what --csv wrote')
    parser.add_argument('--out', metavar='FILE', help='picture (default: the first file, as .png)')
    args = parser.parse_args(argv)
    out = args.out or Path(args.files[0]).with_suffix('.png')
    runs = {}
    for path in args.files:
        try:
            runs[path.removesuffix('.csv')] = read(path)
        except (OSError, ValueError) as error:  # noqa: PERF203
            parser.error(f'cannot draw {path}: {getattr(error, "strerror", None) or error}')
    try:
        drawn(runs).savefig(out, dpi=120)
    except (OSError, ValueError) as error:  # the latter: no format of a picture
        parser.error(f'cannot write {out}: {error}')
    for label in spoiled(runs):
        print(f'{label}: {DISAGREE}', file=sys.stderr)
    print(out)


if __name__ == '__main__':
    main()
