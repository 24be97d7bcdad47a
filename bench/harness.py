"""What the measurements share: programs are run and weighed, numbers become
tables, tables go to RESULTS.md.
"""

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
RSS_UNIT = 1024**2 if sys.platform == 'darwin' else 1024  # of ru_maxrss, in MB


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
    processes, outputs, cpu, peak, began = [], [], 0, 0, time.time_ns()
    watchdog = threading.Timer(PROGRAM_TIMEOUT_S, lambda: [process.kill() for process in processes])
    with tempfile.TemporaryFile() as errors:
        watchdog.start()
        try:
            for command in commands:
                while processes and ready and not ready():
                    if processes[-1].poll() is not None:
                        break  # which is a failure, or will be found to be one
                    time.sleep(0.005)
                processes.append(
                    subprocess.Popen(
                        [*map(str, command)],
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                    )
                )
            for process in processes:
                outputs.append(process.stdout.read().decode())
                if process.returncode is None:
                    _, status, usage = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                    cpu += usage.ru_utime + usage.ru_stime
                    peak += usage.ru_maxrss / RSS_UNIT
        except OSError as error:
            raise RunFailed(f'{Path(command[0]).name}: {error.strerror}') from None
        finally:
            watchdog.cancel()
            for process in processes:
                process.stdout.close()
                if process.returncode is None:
                    process.kill()
                    process.wait()
        for process in processes:
            if process.returncode:
                errors.seek(0)
                said = (''.join(outputs) + errors.read().decode(errors='replace')).splitlines()
                why = [line for line in said if 'rror' in line] or said or ['(nothing)']
                name = ' '.join([Path(process.args[0]).name, *process.args[1:2]])
                raise RunFailed(
                    f'{name} ended with status {process.returncode}: {why[-1].strip()[:200]}'
                )
    return outputs, cpu, peak, began


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
    numbers = [cell.lstrip('≤ ')[:1].isdigit() for cell in rows[0]]
    return [
        f'| {" | ".join(header)} |',
        '|' + '|'.join('---:' if number else '---' for number in numbers) + '|',
        *(f'| {" | ".join(row)} |' for row in rows),
    ]


def machine():
    """Return the conditions that all sections state, as words."""
    return (
        f'Python {platform.python_version()}, {platform.system()} {platform.machine()}, '
        f'{os.cpu_count()} cores, '
        f'load average at the start {os.getloadavg()[0]:.1f}'
    )


def put(title, lines, file=RESULTS):
    """Write a section into RESULTS.md, in place of the one with this title, and print it."""
    text = file.read_text() if file.exists() else HEAD
    _, *sections = text.split('\n## ')
    sections = {section.partition('\n')[0]: section.rstrip('\n') + '\n' for section in sections}
    sections[title] = '\n'.join([title, '', *lines, ''])
    file.write_text('\n## '.join([HEAD, *sections.values()]))
    print(*lines, sep='\n')
