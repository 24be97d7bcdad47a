#!/usr/bin/env python3
"""Draw the rate and the latency over time of a run that wrote --csv.

    $ python bench/plot.py run.csv [more.csv ...] --out run.png

Needs matplotlib (requirements-dev.txt).
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot

BAND, LINES = ('min_us', 'max_us'), {'median_us': '-', 'p95_us': '--', 'p99_us': ':'}


def read(path):
    """Return the columns of a CSV file as {name: [float or nan]}."""
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or 'nan') for row in rows] for name in (rows[0] if rows else {})}


def draw(runs, out):
    """Draw `runs`, {label: columns}, into the file `out`: rates above, latencies below."""
    figure, (rates, latencies) = pyplot.subplots(2, 1, sharex=True, figsize=(10, 7), layout='constrained')
    for number, (label, columns) in enumerate(runs.items()):
        color, time_s = f'C{number}', columns['time_s']
        for name in (name for name in columns if name.endswith('_per_s')):
            style = '--' if name.startswith('accepted') else '-'
            rates.plot(time_s, columns[name], style, color=color, label=f'{label}: {name[:-6]}')
        low, high = ([us / 1000 for us in columns[name]] for name in BAND)
        latencies.fill_between(time_s, low, high, color=color, alpha=0.12, linewidth=0)
        for name, style in LINES.items():
            latencies.plot(time_s, [us / 1000 for us in columns[name]], style, color=color,
                           label=f'{label}: {name[:-3]}')
    rates.set(ylabel='messages/s', ylim=(0, None), title='Rate')
    latencies.set(xlabel='time [s]', ylabel='latency [ms]', yscale='log',
                  title='Latency (shaded: from min to max of each second)')
    for axes in (rates, latencies):
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    figure.savefig(out, dpi=120)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', metavar='CSV', help='what --csv wrote')
    parser.add_argument('--out', metavar='FILE', help='picture (default: the first file, as .png)')
    args = parser.parse_args(argv)
    runs = {Path(path).stem: read(path) for path in args.files}
    empty = [label for label, columns in runs.items() if not columns]
    if empty:
        parser.error(f'no rows in {", ".join(empty)}: did the run last a second?')
    out = args.out or Path(args.files[0]).with_suffix('.png')
    draw(runs, out)
    print(out)


if __name__ == '__main__':
    main()
