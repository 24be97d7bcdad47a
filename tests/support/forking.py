"""Many scripts as processes, started from one that has loaded what all of them load.

A start takes some 20 ms of CPU in place of 300 ms. As a command it reads the
command lines from stdin, one JSON list a line, runs all at once, and prints how
they ended.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from types import SimpleNamespace

from siamese import ROOT

# How long one script may take before it is killed (s).
TIMEOUT_S = 60


def ends_of(commands):
    """Run scripts at the same time; return status, out and err of each, in order."""
    lines = [json.dumps([str(word) for word in command]) for command in commands]
    done = subprocess.run(
        [sys.executable, '-m', 'tests.support.forking'],
        input='\n'.join(lines),
        capture_output=True,
        encoding='utf-8',
        cwd=ROOT,
        env={**os.environ, 'PYTHONUTF8': '1'},
        timeout=2 * TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return [SimpleNamespace(**end) for end in json.loads(done.stdout)]


def start(command, base):
    """Run a script in a fork; return the id of its process."""
    number = os.fork()
    if number:
        return number
    status = 1
    signal.alarm(TIMEOUT_S)
    try:
        for descriptor, suffix in ((1, 'out'), (2, 'err')):
            file = os.open(f'{base}.{suffix}', os.O_WRONLY | os.O_CREAT)
            os.dup2(file, descriptor)
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # noqa: BLE001  as Python itself does
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def main():
    import compare  # noqa: F401  they bring all modules
    import monitor  # noqa: F401

    commands = [json.loads(line) for line in sys.stdin]
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        bases = [f'{folder}/{number}' for number, _ in enumerate(commands)]
        processes = [start(*each) for each in zip(commands, bases)]
        for process, base in zip(processes, bases):
            _, status = os.waitpid(process, 0)
            end = {'status': os.waitstatus_to_exitcode(status)}
            for suffix in 'out', 'err':
                end[suffix] = read(f'{base}.{suffix}')
            ends.append(end)
    print(json.dumps(ends))


if __name__ == '__main__':
    main()
