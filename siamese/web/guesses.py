"""Who guesses passwords has to wait: per user and per address, longer each time."""

from __future__ import annotations

import time
from typing import NamedTuple

from siamese import hosts

FREE = 4  # wrong passwords that cost nothing but their delay
LONGEST_WAIT_S = {'user': 8, 'address': 60}  # a user must not be kept out by a stranger
FORGET_AFTER_S = 600
MAX_KEYS = 10_000
LONGEST_USER = 200


class Record(NamedTuple):
    tries: int  # since the last login that was right
    last: float  # time.monotonic()


class Guesses:
    """Counts the logins that were not right, of each user and from each address.

    A login counts as wrong until right() is called, so that many at once gain nothing.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}  # the longest not tried is first

    def wait_s(self, user: str, address: str, now: float | None = None) -> float:
        """Return 0, and count a login; or for how many seconds none is taken."""
        if now is None:
            now = time.monotonic()
        keys = keys_of(user, address)
        wait = max(self._wait_s(key, now) for key in keys)
        if wait > 0:
            return wait
        for key in keys:
            tries = self._tries(key, now)
            self.records.pop(key, None)
            self.records[key] = Record(tries + 1, now)
        while len(self.records) > MAX_KEYS:
            del self.records[next(iter(self.records))]
        return 0

    def right(self, user: str, address: str) -> None:
        """Note that the last login was right.

        What came from the address before still counts: a guesser may have a password of his own.
        """
        self.records.pop(('user', user[:LONGEST_USER]), None)
        key = ('address', hosts.sender(address))
        if key in self.records:
            tries, last = self.records[key]
            self.records[key] = Record(tries - 1, last)

    def _tries(self, key: tuple[str, str], now: float) -> int:
        record = self.records.get(key)
        if record is None or now - record.last > FORGET_AFTER_S:
            return 0
        return record.tries

    def _wait_s(self, key: tuple[str, str], now: float) -> float:
        tries = self._tries(key, now)
        if tries < FREE:
            return 0
        kind, _ = key
        pause = min(2 ** min(tries - FREE + 1, 16), LONGEST_WAIT_S[kind])
        return self.records[key].last + pause - now


def keys_of(user: str, address: str) -> list[tuple[str, str]]:
    """Return what a login is counted by; a token names no user."""
    keys = [('address', hosts.sender(address))]
    if user:
        keys.append(('user', user[:LONGEST_USER]))
    return keys
