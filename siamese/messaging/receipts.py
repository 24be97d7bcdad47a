"""Lines of the ledger that tell of many messages, put together until they must be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from siamese import numbered


class Receipts:
    """What was confirmed, or acknowledged by a consumer of runs, and is not in the ledger yet.

    Acknowledgements are written before the broker is told. Anything else but first attempts
    comes behind these; what nothing comes behind is written at the next tick (0.1 s).
    `record` makes a line.
    """

    def __init__(self, record: Callable[..., None]) -> None:
        self.record = record
        self.event = ''
        self.names: numbered.Names = {}
        self.facts: dict[str, object] = {}

    def add(self, event: str, lines: Iterable[numbered.Names], **facts: object) -> None:
        """Take what lines say of first attempts: their names by numbered.batches(), and facts."""
        for names in lines:
            if (event, names['of'], facts) == (self.event, self.names.get('of'), self.facts):
                numbered.extend(self.names, names)
            else:
                self.write()
                self.event = event
                self.names = names
                self.facts = facts

    def write(self) -> None:
        """Write what was taken."""
        names = self.names
        if not names:
            return
        self.names = {}
        one = numbered.only_name(names)
        if one:
            names = {'id': one, 'attempt': 1}
            if self.event == 'acked':
                names['redelivered'] = False
        self.record(self.event, **names, **self.facts)
