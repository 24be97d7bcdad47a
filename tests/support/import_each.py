"""A program that imports each module of its arguments, and prints what that did, as JSON.

Each is imported in a process of its own: a fork of one that has read the costly libraries.
"""

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import threading
import traceback

LIBRARIES = 'jwt', 'nicegui', 'pika', 'signxml'


def effects_of(module):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        importlib.import_module(module)
    return {
        'threads': threading.active_count(),
        'SIGINT': signal.getsignal(signal.SIGINT).__name__,
        'SIGTERM': signal.getsignal(signal.SIGTERM).name,
        'output': out.getvalue(),
    }


def effects_in_a_fork(module):
    """Return what an import did, or None if it failed; then a traceback is on stderr."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.write(write, json.dumps(effects_of(module)).encode())
        except BaseException:  # noqa: BLE001 - the fork must end here, whatever comes
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, 'rb') as pipe:
        found = pipe.read()
    os.wait()
    return json.loads(found) if found else None


if __name__ == '__main__':
    for library in LIBRARIES:
        importlib.import_module(library)
    print(json.dumps({module: effects_in_a_fork(module) for module in sys.argv[1:]}))
