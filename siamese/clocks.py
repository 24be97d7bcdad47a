"""The clocks of processes, and what ledgers tell of them: two are never taken to agree.

A ledger says which clock its process reads (own_clock), and what that showed when a
channel was opened. Processes of one machine read the same one, and nobody sets it: a
clock that is set, or faked, is another one. Of two clocks only this is known: a message
comes after it was sent. So what takes the shortest time, by both clocks, tells by how
much the second one is ahead of the first *at most*.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from typing import Any, NamedTuple

Process = tuple[str, str]  # name and run

BOOT_ID = '/proc/sys/kernel/random/boot_id'
UPTIME = '/proc/uptime'
TIME_NAMESPACE = '/proc/self/ns/time'
UPTIME_STEP_S = 0.1  # more than what it is rounded to
MOST_S = 1e12  # what no clock shows
NEVER = math.inf


def steady() -> float:
    """Return s since this machine was started, by a clock that nobody sets."""
    if hasattr(time, 'CLOCK_BOOTTIME'):  # runs on while the machine sleeps
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def own_clock() -> str:
    """Return which clock steady() is: 12 hex digits, the same in all processes that share it.

    It is one of its own where that is not known: no Linux, or a clock that is faked.
    """
    try:
        secret = machine()
    except (OSError, ValueError):
        secret = os.urandom(16)
    return hashlib.sha256(secret).hexdigest()[:12]


def machine() -> bytes:
    """Return what tells this machine, since it was started, from others."""
    before = steady() - UPTIME_STEP_S
    with open(UPTIME, 'rb') as file:
        uptime = float(file.read().split()[0])
    if not before <= uptime <= steady() + UPTIME_STEP_S:
        raise ValueError('another clock than that of the machine')
    with open(BOOT_ID, 'rb') as file:
        boot_id = file.read()
    namespace = ''
    if os.path.exists(TIME_NAMESPACE):
        namespace = os.readlink(TIME_NAMESPACE)
    return boot_id + f'{socket.gethostname()} {namespace}'.encode()


class Moment(NamedTuple):
    """A time by a clock, in s; one clock must not be compared with another."""

    clock: str
    at: float


class Clocks:
    """Which clock each process reads, and by how much one may be ahead of another.

    Ledgers of earlier versions do not say it. Those processes share the clock '', as
    their audit took it.
    """

    def __init__(self) -> None:
        self.read_by: dict[Process, Moment] = {}  # what it shows at time 0 of the ledger
        self.leads: dict[tuple[str, str], float] = {}

    def begin(
        self,
        process: Process,
        event: Any,
    ) -> None:
        """Take the line of a ledger that tells of a new channel."""
        uptime = event.get('uptime', NEVER)
        if 'clock' in event and abs(uptime) < MOST_S and abs(event['at']) < MOST_S:
            zero = Moment(event['clock'], uptime - event['at'])
            self.read_by.setdefault(process, zero)

    def moment(
        self,
        process: Process,
        at: float,
    ) -> Moment:
        """Return when a process wrote a line, `at` in its ledger."""
        clock, zero = self.read_by.get(process, ('', 0.0))
        return Moment(clock, zero + at)

    def crossed(
        self,
        sent: Moment,
        came: Moment,
    ) -> None:
        """Note that a message came from one process to another."""
        if sent.clock != came.clock:
            lead = came.at - sent.at
            pair = (sent.clock, came.clock)
            self.leads[pair] = min(lead, self.leads.get(pair, NEVER))

    def lead(
        self,
        clock: str,
        other: str,
    ) -> float:
        """Return by how much the other clock is ahead of this one at most, NEVER if unknown."""
        if clock == other:
            return 0.0
        return self.leads.get((clock, other), NEVER)

    def earliest(
        self,
        moment: Moment,
        clock: str,
    ) -> float:
        """Return when that was at the earliest, by another clock."""
        return moment.at - self.lead(clock, moment.clock)

    def latest(
        self,
        moment: Moment,
        clock: str,
    ) -> float:
        """Return when that was at the latest, by another clock."""
        return moment.at + self.lead(moment.clock, clock)
