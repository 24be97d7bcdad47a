"""What the measurements share: programs are run and weighed, numbers become
tables, tables go to RESULTS.md.
"""

import argparse
import contextlib
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for those who import this before broker or common
RESULTS = ROOT / 'bench' / 'RESULTS.md'
HEAD = """# Measured

By `make bench`, which writes this file. All numbers of a section come from one run on one machine;
rounds alternate, medians are shown. Compare within a table: the ratios hold, the absolute numbers
are those of the machine.
"""
PROGRAM_TIMEOUT_S = 300  # for one run
READY_CHECK_S = 0.005
# Of ru_maxrss, in MB. Bytes on macOS, else kB.
RSS_UNIT = 1024**2 if sys.platform == 'darwin' else 1024


class RunFailed(Exception):
    """A program did not do its work; the message says what it said last."""


def weigh(*commands, ready=None):
    """Run programs side by side; return (their outputs, CPU s, peak MB, ns since
    epoch at which the first began).

    CPU and memory are the sums over the programs, from start to end of each. If
    `ready` is given, each program but the first begins when it returns true.
    Raises RunFailed when a program fails or takes longer than
    PROGRAM_TIMEOUT_S.
    """
    began = time.time_ns()
    processes: list[subprocess.Popen] = []
    watchdog = threading.Timer(PROGRAM_TIMEOUT_S, kill_all, [processes])
    with tempfile.TemporaryFile() as errors:
        watchdog.start()
        try:
            for command in commands:
                if processes and ready:
                    wait_until_ready(ready, processes[-1])
                processes.append(start(command, errors))
            outputs, cpu, peak = collect(processes)
        finally:
            watchdog.cancel()
            clean_up(processes)
        for process in processes:
            if process.returncode:
                errors.seek(0)
                printed = ''.join(outputs) + errors.read().decode(errors='replace')
                raise RunFailed(failure_of(process, printed))
    return outputs, cpu, peak, began


def start(command, errors):
    """Start a program, whose stderr goes to the file `errors`; raise RunFailed."""
    try:
        return subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    except OSError as error:
        raise RunFailed(f'{Path(command[0]).name}: {error.strerror}') from None


def wait_until_ready(ready, process):
    """Wait until ready() is true, or the process has ended: then it has failed."""
    while not ready():
        if process.poll() is not None:
            return
        time.sleep(READY_CHECK_S)


def collect(processes):
    """Wait for the end of all; return (outputs, CPU s, peak MB)."""
    outputs = []
    cpu = 0.0
    peak = 0.0
    for process in processes:
        outputs.append(process.stdout.read().decode())
        if process.returncode is None:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            peak += usage.ru_maxrss / RSS_UNIT
    return outputs, cpu, peak


def kill_all(processes):
    for process in processes:
        process.kill()


def clean_up(processes):
    """Kill what still runs, and close the pipes."""
    for process in processes:
        process.stdout.close()
        if process.returncode is None:
            process.kill()
            process.wait()


def failure_of(process, printed):
    """Return why a program failed: its status, and its last line with an error."""
    lines = printed.splitlines()
    errors = [line for line in lines if 'rror' in line]
    why = errors or lines or ['(nothing)']
    name = ' '.join([Path(process.args[0]).name, *process.args[1:2]])
    return f'{name} ended with status {process.returncode}: {why[-1].strip()[:200]}'


@contextlib.contextmanager
def running(*command, **env):
    """Run a script for as long as the with-block runs; yield its process."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **env},
        encoding='utf-8',
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def own_peak():
    """Return the peak memory of this process in MB: what its children's peak
    begins with, a lower bound of theirs.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_UNIT


def percentile(values, percent):
    """Return the nearest-rank percentile: the smallest value that at least
    `percent` % of the values do not exceed.
    """
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def table(header, rows):
    """Return the lines of a Markdown table of strings; a column whose first one
    is a number is aligned to the right.
    """
    rulers = [ruler(cell) for cell in rows[0]]
    return [
        f'| {" | ".join(header)} |',
        f'|{"|".join(rulers)}|',
        *(f'| {" | ".join(row)} |' for row in rows),
    ]


def ruler(cell):
    """Return the line below the header of a column whose first cell this is."""
    is_number = cell.lstrip('≤ ')[:1].isdigit()
    return '---:' if is_number else '---'


def machine():
    """Return the conditions that all sections state, as words."""
    return (
        f'Python {platform.python_version()}, {platform.system()} {platform.machine()}, '
        f'{os.cpu_count()} cores, '
        f'load average at the start {os.getloadavg()[0]:.1f}'
    )


def put(title, lines, file=RESULTS):
    """Write a section into RESULTS.md, in place of the one with this title, and print it."""
    text = HEAD
    if file.exists():
        text = file.read_text()
    sections = {}
    for section in text.split('\n## ')[1:]:
        name = section.partition('\n')[0]
        sections[name] = section.rstrip('\n') + '\n'
    sections[title] = '\n'.join([title, '', *lines, ''])
    file.write_text('\n## '.join([HEAD, *sections.values()]))
    print(*lines, sep='\n')


def rotated(names, number):
    """Return the names in another order in each round, so that none is always first."""
    order = list(names)
    start = number % max(1, len(order))
    return order[start:] + order[:start]


def log(message):
    print(time.strftime('%H:%M:%S'), message, file=sys.stderr, flush=True)


def bench_parser(docstring, rounds=None):
    """Return a parser whose --help is the docstring, with the flags of most measurements:
    --write, and --rounds if there are rounds.
    """
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    if rounds:
        parser.add_argument(
            '--rounds', metavar='N', type=int, default=rounds, help='default: %(default)s'
        )
    return parser


def report(title, lines, write):
    """Write a section into RESULTS.md, or only print it."""
    if write:
        put(title, lines)
    else:
        print(*lines, sep='\n')
