"""Commands on a pseudo-terminal: what a person sees who has one."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from types import SimpleNamespace

from support.processes import TEST_TIMEOUT_S

from siamese import ROOT

LINES = 40


class OnTerminal:
    """A command whose stdin, stdout and stderr are a terminal of so many columns.

    `chunks` are (seconds since the start, bytes), as they came.
    """

    def __init__(self, *argv, columns=80, lines=LINES, cwd=ROOT, env=None):
        self.terminal, its_end = pty.openpty()
        size = struct.pack('HHHH', lines, columns, 0, 0)
        fcntl.ioctl(its_end, termios.TIOCSWINSZ, size)
        variables = {**os.environ, 'TERM': 'xterm-256color', 'PYTHONUTF8': '1', **(env or {})}
        for name in ('NO_COLOR', 'COLUMNS', 'LINES', 'CI'):
            if name not in (env or {}):
                variables.pop(name, None)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            cwd=cwd,
            env=variables,
        )
        os.close(its_end)
        self.chunks = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # nobody has the other end open any more
                return
            if not data:
                return
            self.chunks.append((time.monotonic() - self.began, data))

    @property
    def text(self):
        return b''.join(data for _, data in self.chunks).decode(errors='replace')

    def type(self, keys):
        os.write(self.terminal, keys)

    def end(self, patience=TEST_TIMEOUT_S):
        """Wait for its end; return the status, and all that it showed."""
        self.process.wait(patience)
        self.reader.join(patience)
        os.close(self.terminal)
        return SimpleNamespace(status=self.process.returncode, text=self.text)
