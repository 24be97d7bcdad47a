#!/usr/bin/env python3
"""Draw the rate and the latency over time of a run that wrote --csv.

    $ python bench/plot.py run.csv [more.csv ...] --out run.png

Needs matplotlib (requirements/dev.txt).
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot

COLUMNS = {'time_s', 'min_us', 'median_us', 'p95_us', 'p99_us', 'max_us'}
BAND, LINES = ('min_us', 'max_us'), {'median_us': '-', 'p95_us': '--', 'p99_us': ':'}


def read(path):
    """Return the columns of a CSV file as {name: [float or nan]}; raise OSError or ValueError."""
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError('no rows in it; did the run last a second?')
    if not rows[0].keys() >= COLUMNS:
        raise ValueError('not what --csv writes')
    return {name: [float(row[name] or 'nan') for row in rows] for name in rows[0]}


def draw(runs, out):
    """Draw `runs`, {label: columns}, into the file `out`: rates above, latencies below."""
    figure, (rates, latencies) = pyplot.subplots(
        2, 1, sharex=True, figsize=(10, 7), layout='constrained'
    )
    for number, (label, columns) in enumerate(runs.items()):
        color, time_s = f'C{number}', columns['time_s']
        for name in (name for name in columns if name.endswith('_per_s')):
            style = '--' if name.startswith('confirmed') else '-'
            rates.plot(time_s, columns[name], style, color=color, label=f'{label}: {name[:-6]}')
        low, high = ([us / 1000 for us in columns[name]] for name in BAND)
        latencies.fill_between(time_s, low, high, color=color, alpha=0.12, linewidth=0)
        for name, style in LINES.items():
            latencies.plot(
                time_s,
                [us / 1000 for us in columns[name]],
                style,
                color=color,
                label=f'{label}: {name[:-3]}',
            )
    some = any(
        us > 0 for columns in runs.values() for us in columns['max_us']
    )  # none if the broker took nothing
    rates.set(ylabel='messages/s', ylim=(0, None), title='Rate')
    latencies.set(
        xlabel='time [s]',
        ylabel='latency [ms]',
        yscale='log' if some else 'linear',
        title='Latency (shaded: from min to max of each second)',
    )
    for axes in (rates, latencies):
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    figure.savefig(out, dpi=120)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', metavar='CSV', help='what --csv wrote')
    parser.add_argument('--out', metavar='FILE', help='picture (default: the first file, as .png)')
    args = parser.parse_args(argv)
    out, runs = args.out or Path(args.files[0]).with_suffix('.png'), {}
    for path in args.files:
        try:
            runs[path.removesuffix('.csv')] = read(path)
        except (OSError, ValueError) as error:  # noqa: PERF203
            parser.error(f'cannot draw {path}: {getattr(error, "strerror", None) or error}')
    try:
        draw(runs, out)
    except (OSError, ValueError) as error:  # the latter: no format of a picture
        parser.error(f'cannot write {out}: {error}')
    print(out)


if __name__ == '__main__':
    main()
