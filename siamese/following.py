"""Ledgers that grow while they are read: what is known so far, each second."""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from siamese import ledger, numbered, script, terminal, verdict
from siamese.clocks import NEVER, Process
from siamese.ledger import Event
from siamese.sieve import Sieve
from siamese.text import count_of, duration, printable
from siamese.verdict import Found

POLL_S = 0.1
LINE_S = 1
STEP = 500  # lines between two looks at the clock
# What no later line can explain; a message that waits may still come.
PROVEN = ('corrupt', 'rejected_as_invalid', 'duplicated', 'out_of_order')
WORKING = 20  # times what the judge took until it is asked again


def can_grow(path: str) -> bool:
    """Return whether this is a ledger that can be followed, or a folder of them."""
    return path != ledger.STDIN and not path.endswith('.gz')


class Tail:
    """One ledger that others append to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = open(path, 'rb')
        self.number = 0  # of the last whole line

    def new_events(self) -> Iterator[Event]:
        """Yield the lines that are whole since the last time."""
        while True:
            position = self.file.tell()
            line = self.file.readline()
            if not line.endswith(b'\n'):  # it is still being written
                self.file.seek(position)
                return
            self.number += 1
            event = ledger.parse(line.decode(errors='replace'))
            unreadable: Event = {'event': 'unreadable', 'where': f'{self.path}:{self.number}'}
            yield from ledger.as_told(event or unreadable)


class Ledgers:
    """Ledgers, and folders in which new ones may come; raises OSError."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.tails: dict[str, Tail] = {}
        for path in paths:
            if not os.path.isdir(path):
                self._join(path)

    def _join(self, path: str) -> None:
        real = os.path.realpath(path)
        if real not in self.tails:
            self.tails[real] = Tail(real)

    def new_events(self) -> Iterator[Event]:
        """Yield the lines that came since the last time, in the order of their times."""
        for folder in filter(os.path.isdir, self.paths):
            for path in ledger.in_folder(folder):
                if can_grow(path):
                    self._join(path)
        streams = [tail.new_events() for tail in self.tails.values()]
        return heapq.merge(*streams, key=ledger.time_of)


def show_fault(fault: str) -> None:
    """Show a fault, above the line that tells how far the run is."""
    terminal.clear_progress()
    print(printable(fault), file=sys.stderr)


class Follower:
    """Reads ledgers while they grow, and tells each fault once it is proven.

    late_s: what was confirmed so long ago and has not come is late. That is measured by the
    clock of this process, from when it could read of it: no other one is believed. told: the
    faults so far, as 'corrupt: ID'. latest: the time of the latest line, 0 before there is one.
    """

    def __init__(
        self,
        paths: Sequence[str],
        late_s: float,
        tell: Callable[[str], object] = show_fault,
    ) -> None:
        self.ledgers = Ledgers(paths)
        self.late_s = late_s
        self.tell = tell
        self.sieve = Sieve()
        self.counts: Counter[str] = Counter()
        self.told: dict[str, None] = {}
        self.latest = 0.0
        self.has_grown = False  # since the last verdict
        # By how much time.monotonic() is ahead of the ledger of a process, at least.
        self.ahead: dict[Process, float] = {}
        self.next_line = 0.0  # time.monotonic()
        self.next_verdict = 0.0

    def follow(self, until_closed: bool) -> Sieve:
        """Follow until a signal comes, or every process has closed its connection."""
        while not script.stop_requested():
            is_over = until_closed and self.has_closed()
            self.follow_once()
            self._show_line()
            if is_over:
                break
            time.sleep(POLL_S)
        else:  # a signal: what was written until then counts
            self.follow_once()
        terminal.clear_progress()
        return self.sieve

    def follow_once(self) -> None:
        """Take the lines that came, and judge them."""
        now = time.monotonic()
        for count, event in enumerate(self.ledgers.new_events(), 1):
            self._add(event, now)
            if count % STEP == 0:
                self._judge_in_time()
        self._judge_in_time()

    def _add(self, event: Event, now: float) -> None:
        self.has_grown = True
        self.sieve.add(event)
        self.latest = max(self.latest, ledger.time_of(event))
        if 'by' in event:
            process = (event['by'], event['run'])
            ahead = now - event['at']
            self.ahead[process] = min(ahead, self.ahead.get(process, NEVER))
        self.counts[event['event']] += 1
        if 'of' in event:
            self.counts[event['event']] += len(numbered.unpacked_numbers(event)) - 1

    def has_closed(self) -> bool:
        """Return whether producers and consumers were at work, and all have closed."""
        evidence = self.sieve.evidence
        latest = {key[:2]: key for key in evidence.channels}
        were_at_work = bool(evidence.producers and evidence.consumers)
        return were_at_work and evidence.ended.issuperset(latest.values())

    def _judge_in_time(self) -> None:
        """Judge what came, but for most of the time read on."""
        now = time.monotonic()
        if self.has_grown and now >= self.next_verdict:
            self.has_grown = False
            self.judge()
            took = time.monotonic() - now
            self.next_verdict = now + max(LINE_S / 2, WORKING * took)

    def judge(self) -> Found:
        """Tell each fault that is proven, once; return all that is known."""
        found = verdict.judge_all(self.sieve.evidence)
        for kind in PROVEN:
            for name in found[kind]:
                fault = f'{verdict.words(kind)}: {name}'
                if fault not in self.told:
                    self.told[fault] = None
                    self.tell(fault)
        return found

    def _show_line(self) -> None:
        """Show on a terminal how far the run is, if it is time."""
        now = time.monotonic()
        if now >= self.next_line and sys.stderr.isatty():
            self.next_line = now + LINE_S
            terminal.show_progress(self.line(now), sys.stderr)

    def line(self, now: float) -> str:
        """Return how far the run is; `now` as time.monotonic() has it."""
        counts = self.counts
        since = [at + self.ahead[process] for process, at in self.sieve.waiting_since()]
        words = (
            f'{counts["attempted"]:,} attempted, {counts["confirmed"]:,} confirmed, '
            f'{counts["acked"]:,} acked, {count_of(len(self.told), "fault")}'
        )
        if since:
            late = sum(at < now - self.late_s for at in since)
            oldest = duration(now - min(since))
            words += f', {len(since):,} wait for {oldest} at most, {late:,} late'
        return words
