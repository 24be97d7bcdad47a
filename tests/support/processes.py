"""Scripts as processes, and waiting for what they do."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from siamese import ROOT

# s until a test that waits for something gives up; a stalled machine must not fail it.
TEST_TIMEOUT_S = 120


def wait_until(condition, what='condition', patience=TEST_TIMEOUT_S):
    """Return the first true value of `condition()`; fail when there is none in time.

    What Playwright keeps of a page, as `tab.url`, stands still meanwhile: expect() it.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.05)
    pytest.fail(f'{what} did not come about within {patience} s')


def wait_for_value(ask, expected):
    """Wait until `ask()` returns the expected value; else fail, and show the last one."""
    deadline = time.monotonic() + TEST_TIMEOUT_S
    while (found := ask()) != expected and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert found == expected, f'{found} is not {expected}'


def let_fault_last(seconds):
    """Let a fault last: nothing tells from outside that a script has tried in vain."""
    threading.Event().wait(seconds)


def replace_once(old, new):
    """Return a function for proxy.in_front_of(alter=), and a list.

    The function replaces the first `old` that it sees, and puts it into the list.
    """
    done = []

    def alter(data):
        if old in data and not done:
            done.append(old)
            return data.replace(old, new, 1)
        return data

    return alter, done


def replace_after(marker, old, new):
    """Return a function for proxy.in_front_of(alter=).

    It replaces the first `old` that comes after the first `marker`.
    """
    wanted = [marker, old]  # what to look for, one after the other

    def alter(data):
        at = 0
        while wanted and wanted[0] in data[at:]:
            at = data.index(wanted[0], at)
            if wanted.pop(0) == old:
                return data[:at] + new + data[at + len(old) :]
        return data

    return alter


class Running:
    """A script as a process.

    Its output is read as it comes, so that a test can wait for a line.
    """

    def __init__(self, *argv, env=None, cwd=ROOT):
        argv = [sys.executable, *argv] if str(argv[0]).endswith('.py') else argv
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            encoding='utf-8',
            cwd=cwd,
            env={**os.environ, 'PYTHONUTF8': '1', 'PYTHONUNBUFFERED': '', **(env or {})},
        )
        self.out, self.err = [], []
        self.readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in ((self.out, self.process.stdout), (self.err, self.process.stderr))
        ]
        for reader in self.readers:
            reader.start()

    def wait_for(self, text, lines=None):
        """Wait for `text` in the log (or in `lines`, self.out say), and return its line."""
        lines = self.err if lines is None else lines

        def found():
            is_over = self.process.poll() is not None and not any(
                reader.is_alive() for reader in self.readers
            )
            for line in list(lines):
                if text in line:
                    return line
            if is_over:
                pytest.fail(f'{self} ended with {self.process.returncode}, and without {text!r}')
            return None

        return wait_until(found, f'{text!r} in {self}')

    def __str__(self):
        return f'{self.process.args[1:]} (log: {"".join(self.err)})'

    def send(self, number):
        self.process.send_signal(number)

    def end(self, patience=TEST_TIMEOUT_S):
        """Wait until it ends; return status, out and err."""
        self.process.wait(patience)
        for reader in self.readers:
            reader.join(patience)
        return SimpleNamespace(
            status=self.process.returncode, out=''.join(self.out), err=''.join(self.err)
        )

    def stop(self, number=signal.SIGINT):
        """Send a signal, and return how it ended."""
        self.send(number)
        return self.end()
