"""The log of what servers refuse: each kind at most once a second.

Who is refused may come back a thousand times a second, and fill the disk.
"""

from __future__ import annotations

import logging
import time

PERIOD_S = 1.0
MAX_KINDS = 1000


class Rarely(logging.Filter):
    """Lets a record of each kind pass once in PERIOD_S.

    The kind is the message before its values are put in, or `kind` of the
    record. The next one that passes says how many did not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, float] = {}  # by kind: time.monotonic()
        self.hidden: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = str(getattr(record, 'kind', record.msg))
        now = time.monotonic()
        if now - self.last.get(kind, -PERIOD_S) < PERIOD_S:
            self.hidden[kind] = self.hidden.get(kind, 0) + 1
            return False
        if len(self.last) >= MAX_KINDS:
            self.last.clear()
        self.last[kind] = now
        hidden = self.hidden.pop(kind, 0)
        if hidden:
            record.msg = f'{record.msg} (and {hidden:,} more like this before)'
        return True


def log_rarely(name: str) -> logging.Logger:
    """Return a logger by name, whose records pass Rarely."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, Rarely) for each in logger.filters):
        logger.addFilter(Rarely())
    return logger


log = log_rarely('siamese.refusals')
