"""What a consumer of runs writes into the ledger: one line for what it acknowledges together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from siamese import numbered


class Receipts:
    """First deliveries of first attempts that are acknowledged, and not in the ledger yet.

    They are written before the broker is told, and before anything else; what is not
    acknowledged to the broker, at the next tick (0.1 s).
    """

    def __init__(self, record: Callable[..., None]) -> None:
        self.record = record
        self.names: numbered.Names = {}
        self.digest = ''

    def add(self, message_ids: Sequence[bytes], digest: str) -> None:
        """Take deliveries with one body; their ids are ours."""
        for names in numbered.batches(message_ids):
            if digest == self.digest and names['of'] == self.names.get('of'):
                numbered.extend(self.names, names)
            else:
                self.write()
                self.names = names
                self.digest = digest

    def write(self) -> None:
        """Write what was taken."""
        names = self.names
        if not names:
            return
        self.names = {}
        one = numbered.only_name(names)
        if one:
            names = {'id': one, 'attempt': 1, 'redelivered': False}
        self.record('acked', **names, digest=self.digest)
