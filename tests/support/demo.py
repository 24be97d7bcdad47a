"""demos/story.py, and whether anything is left of it."""

import contextlib
import os
import re
import signal
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import psutil
from support.processes import TEST_TIMEOUT_S, wait_until
from support.pseudo_terminal import OnTerminal

COMMAND = (sys.executable, 'demos/story.py')
MARK = 'SIAMESE_TEST_MARK'
LONGEST_END_S = 3


class Traces:
    """Tells what a demo leaves that was started with `env`."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.env = {MARK: self.mark, 'TMPDIR': str(folder)}

    def processes(self):
        """Return the processes that have our mark in their environment."""
        return [one for one in psutil.process_iter() if self._is_ours(one)]

    def _is_ours(self, process):
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False

    def assert_none(self):
        wait_until(lambda: not self.processes(), 'the end of all processes', TEST_TIMEOUT_S)
        assert os.listdir(self.folder) == []


def catches_sigterm(pid):
    """Return whether a process handles SIGTERM: before that Python itself hears signals."""
    caught = re.search(r'SigCgt:\s*(\w+)', Path(f'/proc/{pid}/status').read_text())
    return bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def interrupt(folder, number, after_s, **env):
    """Start the demo, send it a signal after a while; return its end.

    A number of None is Ctrl-C, typed into its terminal.
    """
    traces = Traces(folder)
    demo = OnTerminal(*COMMAND, env={**traces.env, **env})
    over = demo.began + after_s
    wait_until(
        lambda: (
            demo.process.poll() is not None
            or (time.monotonic() > over and catches_sigterm(demo.process.pid))
        ),
        'the moment',
    )
    asked = time.monotonic()
    with contextlib.suppress(OSError):  # its terminal is closed once it has ended
        if number is None:
            demo.type(b'\x03')
        else:
            demo.process.send_signal(number)
    done = demo.end()
    took_s = time.monotonic() - asked
    traces.assert_none()
    return SimpleNamespace(
        after_s=after_s, status=done.status, text=done.text, took_s=took_s, number=number
    )
