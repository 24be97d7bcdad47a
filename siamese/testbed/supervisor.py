"""Run a command so that nothing stays behind of what it began, however it ends.

    python3 -m siamese.testbed.supervisor COMMAND [ARGUMENT ...]

The command and all that it starts are one process group. SUPERVISED_FOLDER names
a folder for its files. SIGINT, SIGTERM or SIGHUP becomes a SIGTERM to the whole
group; a second one ends it immediately. At the end, of the command or of this
process (also by SIGKILL), what is left of the group is killed and the folder is
removed. Exit status: the command's, 128+n if signal n killed it.
"""

from __future__ import annotations

if __name__ == '__main__':  # first of all, see siamese/start.py
    from siamese import start

    start.begin()

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from siamese.testbed.guard import Guard, NoFolder, Processes

SAME_REQUEST_S = 1  # timeout and make send a signal to us, and again to our group
GRACE_S = 15  # scripts may wait --stop-timeout for a broker that is gone
POLL_INTERVAL_S = 0.05
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM}


def supervise(command: Sequence[str]) -> int:
    """Run the command to its end; return its exit status. Raises NoFolder."""
    with contextlib.closing(Processes(Guard('demo'))) as processes:
        environment = {**os.environ, 'SUPERVISED_FOLDER': processes.guard.folder}
        leader = processes.start('command', command, env=environment)
        # A signal that comes before this ends our process, and the guard the command.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
        if wait_for_end(leader):
            wait_for_group(leader.pid)
    if leader.returncode < 0:
        return 128 - leader.returncode
    return leader.returncode


def wait_for_end(leader: subprocess.Popen[bytes]) -> bool:
    """Wait until the command has ended; return False after a second signal, or the alarm."""
    asked_at = 0.0
    while leader.poll() is None:
        number = signal.sigwait(STOP_SIGNALS | {signal.SIGCHLD})
        if number == signal.SIGCHLD:
            continue
        if not asked_at:
            asked_at = time.monotonic()
            os.killpg(leader.pid, signal.SIGTERM)
            signal.alarm(GRACE_S)
        elif time.monotonic() > asked_at + SAME_REQUEST_S:
            return False
    return True


def wait_for_group(group: int) -> None:
    """Let what the command left in the background finish; a signal ends the wait."""
    deadline = time.monotonic() + GRACE_S
    with contextlib.suppress(ProcessLookupError):  # when nothing is left
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline and not signal.sigpending() & STOP_SIGNALS:
            os.killpg(group, 0)
            time.sleep(POLL_INTERVAL_S)


def main() -> int:
    try:
        return supervise(sys.argv[1:])
    except NoFolder as error:
        print(f'supervisor: {error}', file=sys.stderr)
        return 3


if __name__ == '__main__':
    sys.exit(main())
