"""Processes that end when ours does, however it ends: also by SIGKILL.

Standard library only: broker.py runs before there is a virtual environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, Any

# Only the guard cleans up, in a session of its own. When its stdin closes,
# because we closed it or our process ended, it kills the processes that the last
# line named, and removes the folder. It also made the folder, so there is no
# moment without a guard.
GUARD = """
trap '' HUP INT TERM
exec 2>/dev/null
folder=$(mktemp -d "$1/siamese-$2-XXXXXX") || exit
echo "$folder"
while read -r line; do targets=$line; done
[ -z "$targets" ] || kill -s KILL -- $targets
for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$folder" && break; sleep 0.2; done
"""
# A guarded process begins when told that the guard knows of it. It ends if our
# process ends before that.
GUARDED = 'read -r go && exec "$@" </dev/null'


class NoFolder(Exception):
    """The guard could not make its folder; the message names the remedy."""


class Guard:
    """The shell process that cleans up after us, however our process ends.

    folder: the folder that it made, for a `purpose` in one word. Raises NoFolder.
    """

    def __init__(self, purpose: str) -> None:
        parent = tempfile.gettempdir()
        self.process = subprocess.Popen(
            ['sh', '-c', GUARD, 'guard', parent, purpose],
            cwd='/',
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.pipe = self.process.stdin
        line = self.process.stdout.readline()
        self.folder = os.fsdecode(line.rstrip(b'\n'))
        if not self.folder:
            self.close()
            raise NoFolder(f'No folder could be made in {parent}. Let TMPDIR name another place.')

    def write(self, name: str, text: str) -> None:
        """Write a file into the folder; only this user can read it."""
        path = f'{self.folder}/{name}'
        with open(path, 'w', encoding='utf-8') as file:
            os.chmod(path, 0o600)  # Erlang insists, for the cookie
            file.write(text)

    def set_targets(self, targets: Iterable[str]) -> None:
        """Name the processes (and -GROUPs) to be killed at the end."""
        line = ' '.join(targets) + '\n'
        self.pipe.write(line.encode())
        self.pipe.flush()

    def close(self) -> None:
        """Have the guard clean up, and wait for its end."""
        with self.process:  # leaving the block closes the pipe: that is the sign
            pass


class Processes:
    """Guarded processes by name, each in a session of its own: Ctrl-C is for us."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def is_running(self, name: str) -> bool:
        """Return whether this process was started and has not ended."""
        process = self.started.get(name)
        return process is not None and process.poll() is None

    def start(
        self,
        name: str,
        command: Sequence[str],
        output: IO[bytes] | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process once the guard knows of it; return it.

        `output` takes its stdout and stderr, None leaves it ours. `options` are
        those of Popen: env, cwd.
        """
        process = subprocess.Popen(
            ['sh', '-c', GUARDED, 'guarded', *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,
        )
        self.started[name] = process
        self.tell_guard()
        assert process.stdin
        with process.stdin as pipe:
            pipe.write(b'go\n')
        return process

    def tell_guard(self, *pids: int) -> None:
        """Tell the guard the groups of our processes, and `pids`."""
        groups = [
            f'-{process.pid}' for name, process in self.started.items() if self.is_running(name)
        ]
        self.guard.set_targets([*groups, *map(str, pids)])

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and its children if it is running."""
        if self.is_running(name):
            os.killpg(self.started[name].pid, number)

    def kill(self, name: str) -> None:
        """Kill a process and its children, and wait for its end."""
        self.signal(name, signal.SIGKILL)
        self.started[name].wait()

    def close(self) -> None:
        """End all processes, and remove the folder of the guard."""
        self.guard.close()
        for process in self.started.values():
            process.wait()
