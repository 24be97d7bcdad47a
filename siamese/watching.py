"""Ledgers that are followed in a thread: what they prove so far, and up to when."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from siamese import verdict
from siamese.evidence import Evidence
from siamese.following import POLL_S, PROVEN, Follower, show_fault
from siamese.verdict import FAULTS, UNDECIDED, Found, Verdict

COUNTED = ('attempted', 'confirmed', 'acked')
MOST_NAMED = 50  # faults
NOTHING = Verdict('nothing was read yet', 3, [])
SO_FAR = Verdict('no fault so far', 0, [])


class Standing(NamedTuple):
    """What ledgers prove up to the time of their latest line.

    at: that time, s since 1970; 0 before there is a line. is_over: every script has
    closed its connection; before that nothing is lost that waits. faults: the first of
    them, as 'corrupt: ID', and hints where to look. problem: why nothing more is read.
    """

    verdict: Verdict = NOTHING
    at: float = 0
    is_over: bool = False
    counts: Sequence[tuple[str, int]] = ()
    faults: Sequence[str] = ()
    problem: str = ''


class Watch(Follower):
    """Follows ledgers in a thread, from start() to finish(); raises OSError.

    `tell` gets each fault once it is proven, in that thread.
    """

    def __init__(
        self,
        paths: Sequence[str],
        tell: Callable[[str], object] = show_fault,
    ) -> None:
        super().__init__(paths, math.inf, tell)
        self.standing = Standing()
        self.is_finished = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self.thread.start()

    def finish(self) -> Evidence:
        """Read what is left; return all that is to be judged."""
        self.is_finished.set()
        self.thread.join()
        self.follow_once()
        self.judge()
        return self.sieve.finish()

    def _follow(self) -> None:
        try:
            while not self.is_finished.wait(POLL_S):
                self.follow_once()
        except OSError as error:
            problem = f'{error.filename}: {error.strerror}'
            self.standing = self.standing._replace(problem=problem)

    def judge(self) -> Found:
        """Do what a Follower does, and keep what is known now."""
        found = super().judge()
        is_over = self.has_closed()
        faults = [*self.told]
        if is_over:
            evidence = self.sieve.finish()
            found = verdict.judge_all(evidence)
            judged = verdict.judge(found, evidence.plain)
            faults = named(found, judged.faults) + verdict.hints(judged.faults)
        else:
            judged = judge_so_far(found, self.counts['attempted'])
        waiting = sum(1 for _ in self.sieve.waiting_since())
        counts = [*((name, self.counts[name]) for name in COUNTED), ('waiting', waiting)]
        self.standing = Standing(judged, self.latest, is_over, counts, faults[:MOST_NAMED])
        return found


def judge_so_far(found: Found, attempted: int) -> Verdict:
    """Return the verdict of a run that goes on: what waits is not lost."""
    proven = {**found, **{kind: [] for kind in (*FAULTS, *UNDECIDED) if kind not in PROVEN}}
    judged = verdict.judge(proven, attempted)
    return judged if judged.exit_status else SO_FAR


def named(found: Found, kinds: Sequence[str]) -> list[str]:
    """Return faults of these kinds, as 'corrupt: ID'."""
    return [f'{verdict.words(kind)}: {name}' for kind in kinds for name in found[kind]]
