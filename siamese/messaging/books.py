"""What an outbox writes into the ledger: a line for each message, or one for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from siamese import numbered
from siamese.messaging.fast_path import BatchMessage
from siamese.messaging.messages import Message, facts_of

Record = Union[Callable[..., None], None]


class Books:
    """Writes what becomes of messages, by `record`; false without a ledger.

    A line is written before its messages are published, and after their confirm came.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    def __bool__(self) -> bool:
        return self.record is not None

    def note(self, event: str, message: Message, **facts: object) -> None:
        """Write what becomes of one message."""
        if self.record:
            message_id = message.properties.message_id
            self.record(event, id=message_id, attempt=message.attempt, **facts)

    def attempted(self, message: Message) -> None:
        """Write that a message is about to be published."""
        self.note('attempted', message, **facts_of(message))

    def batch_attempted(self, batch: Sequence[BatchMessage]) -> None:
        """Write that messages of one template are about to be published for the first time."""
        self._note_batch('attempted', batch, **facts_of(batch[0]))

    def confirmed(self, messages: Sequence[Message]) -> None:
        """Write that the broker has confirmed messages."""
        batch = []
        for message in messages:
            if isinstance(message, BatchMessage) and message.attempt == 1:
                batch.append(message)
            else:
                self.note('confirmed', message)
        if batch:
            self._note_batch('confirmed', batch)

    def _note_batch(
        self,
        event: str,
        batch: Sequence[BatchMessage],
        **facts: object,
    ) -> None:
        """Write one line for first attempts, if there are several, and their ids allow that."""
        ids = [message.message_id for message in batch]
        if self.record and len(ids) > 1 and numbered.are_ours(ids):
            for names in numbered.batches(ids):
                self.record(event, **names, **facts)
            return
        for message in batch:
            self.note(event, message, **facts)
