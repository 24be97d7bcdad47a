"""What an outbox writes into the ledger: a line for each message, or one for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from siamese import numbered
from siamese.messaging.fast_path import BatchMessage
from siamese.messaging.messages import Message, facts_of
from siamese.messaging.receipts import Receipts

Record = Union[Callable[..., None], None]


class Books:
    """Writes what becomes of messages, by `record`; false without a ledger.

    A line is written before its messages are published, and after their confirm came.
    `receipts` takes what one line can tell of many.
    """

    def __init__(self, record: Record, receipts: Receipts) -> None:
        self.record = record
        self.receipts = receipts

    def __bool__(self) -> bool:
        return self.record is not None

    def note(self, event: str, message: Message, **facts: object) -> None:
        """Write what becomes of one message."""
        if self.record:
            message_id = message.properties.message_id
            self.record(event, id=message_id, attempt=message.attempt, **facts)

    def attempted(self, message: Message) -> None:
        """Write that a message is about to be published."""
        if is_plain(message):
            self.receipts.add_single('attempted', message)
        else:
            self.note('attempted', message, **facts_of(message))

    def batch_attempted(self, batch: Sequence[BatchMessage]) -> None:
        """Write that messages of one template are about to be published for the first time."""
        self.receipts.write_singles()  # they are published before these
        facts = facts_of(batch[0])
        lines = lines_of(batch)
        for names in lines:
            self.receipts.record('attempted', **names, **facts)
        if not lines:
            for message in batch:
                self.note('attempted', message, **facts)

    def confirmed(self, messages: Sequence[Message]) -> None:
        """Write that the broker has confirmed messages."""
        batch = []
        for message in messages:
            if isinstance(message, BatchMessage) and message.attempt == 1:
                batch.append(message)
            elif is_plain(message):
                self.receipts.add_single('confirmed', message)
            else:
                self.note('confirmed', message)
        lines = lines_of(batch)
        if lines:
            self.receipts.add('confirmed', lines)
            return
        for message in batch:
            self.note('confirmed', message)


def is_plain(message: Message) -> bool:
    """Return whether a message may be in one line with others: a first attempt, with an id."""
    return message.attempt == 1 and isinstance(message.properties.message_id, str)


def lines_of(batch: Sequence[BatchMessage]) -> list[numbered.Names]:
    """Return what lines say to name several first attempts; none if each has its own line."""
    if len(batch) > 1:
        return numbered.batches([message.message_id for message in batch])
    return []
