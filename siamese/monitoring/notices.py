"""When news are told, by mail or by a webhook, and what their recipients know then.

There is no queue of mails or calls. The history remembers (fact `mail`, `webhook`) what
the recipients were told: not until when, for the clock may have been wrong, but which
dead letters, alerts and interruptions. While a server is unavailable that stays as it
is, so the next mail or call tells of everything since then.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, NamedTuple, TypedDict

from siamese.monitoring import alerts, database
from siamese.monitoring.alerts import News

END_TIMEOUT_S = 5  # for what is on its way when monitor.py ends
CHECK_INTERVAL_S = 5  # between checks whether something is due
CHECKS_BEFORE_RETRY = 6


class State(TypedDict):
    """The fact: what a history remembers of mails, or of calls."""

    told: alerts.Told
    until: float  # when that was, for people
    sent: float  # when the last one was sent, 0 if none was
    failure: alerts.Failure | None


class Notice(NamedTuple):
    """What is to be told."""

    news: News
    after: int  # the id of the latest dead letter that was told
    since: float
    now: float


class Notifier:
    """Tells news when there are some and they are due. A subclass says how.

    `state` is the fact, which holds here even where it cannot be stored.
    """

    fact = ''  # one of alerts.TOLD_BY

    def __init__(
        self,
        db: Connection,
        args: argparse.Namespace,
        every_s: float,
        retry_s: float,
    ) -> None:
        self.db = db
        self.args = args
        self.every_s = every_s
        self.retry_s = retry_s
        self.sent = 0
        now = time.time()
        self.stored: State | None = database.get_fact(db, self.fact)
        self.state = self.first_state(now)
        if self.stored and 'told' in self.stored:  # not by an older version
            self.state = self.stored
        self.remember()
        self.due = time.monotonic() + self._wait_s(now)  # of the next one

    # ---- how

    def write(self, notice: Notice) -> Any:
        """Return what is to be sent; called in a transaction, so all of it is of one time."""
        raise NotImplementedError

    def send(self, written: Any, notice: Notice) -> str:
        """Send it, and return for the log what was sent; raise what is wrong."""
        raise NotImplementedError

    def reason(self, error: Exception) -> str:
        """Return why it could not be sent, without secrets."""
        raise NotImplementedError

    # ---- when

    def first_state(self, now: float) -> State:
        told = alerts.told_now(self.db, self.args.unread_after, now)
        return State(told=told, until=now, sent=0, failure=None)

    def _wait_s(self, now: float) -> float:
        """Return how long to wait after what another process has sent.

        What is from a time that has not come yet was sent now.
        """
        sent = min(self.state['sent'], now)
        return sent + self.every_s - now

    def send_if_due(self) -> None:
        """Send what is due, if there is something to tell."""
        now = time.time()
        try:
            with database.transaction(self.db):
                notice = self.notice(now)
                if not notice.news.is_new:
                    self.remember(failure=None)
                    return
                if time.monotonic() < self.due:
                    return
                written = self.write(notice)
            what = self.send(written, notice)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  the next one will tell it, whatever failed
            self.postpone(error, now)
            return
        logging.info('%s sent: %s', self.fact, what)
        self.due = time.monotonic() + self.every_s
        self.sent += 1
        self.remember(told=notice.news.then, until=now, sent=now, failure=None)

    def notice(self, now: float) -> Notice:
        """Return what is new; forget what was told of alerts that are over."""
        told = self.state['told']
        news = alerts.news(self.db, self.args.unread_after, told, now)
        told = alerts.remembered(told, news.then)
        self.remember(told=told)
        since = min(self.state['until'], now)
        return Notice(news, told['letter'], since, now)

    def postpone(self, error: Exception, now: float) -> None:
        """Note that nothing could be sent, and when to retry; log each new reason."""
        since = now
        failure = self.state['failure']
        why = self.reason(error)
        if failure:
            since = min(failure['since'], now)
        if not failure or failure['reason'] != why:
            text = '%s not sent, retrying every %g s: %s'
            logging.warning(text, self.fact, self.retry_s, why)
        self.due = time.monotonic() + self.retry_s
        self.remember(failure=alerts.Failure(since=since, reason=why))

    def remember(self, **changes: Any) -> None:
        """Change the state, and store it if it is not stored like that."""
        state: Any = {**self.state, **changes}
        self.state = state
        if self.stored != state:
            database.set_facts(self.db, **{self.fact: state})
            self.stored = state


# (history, flags, seconds between attempts) -> the notifier
Make = Callable[[Connection, argparse.Namespace, float], Notifier]


def start_thread(
    args: argparse.Namespace,
    fact: str,
    make: Make | None,
) -> Callable[[], int]:
    """Tell news from now on, as the flags say; without `make` nobody is told.

    Returns a function that ends it and returns how often something was sent. It is done
    in a thread with its own connection to the history: a server may take minutes.
    """
    db = database.open_for_writing(args.history)
    if not make:
        # Without recipients there is nothing to catch up with later.
        database.set_facts(db, **{fact: None})
        return lambda: 0
    check_s = min(args.interval, CHECK_INTERVAL_S)
    notifier = make(db, args, check_s * CHECKS_BEFORE_RETRY)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(check_s):
            # The main thread says what is wrong with the file.
            with contextlib.suppress(*database.FAULTS):
                notifier.send_if_due()

    def end() -> int:
        stop.set()
        thread.join(END_TIMEOUT_S)
        return notifier.sent

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return end
