"""Lines of the ledger that tell of many messages, put together until they must be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

import pika

from siamese import numbered
from siamese.messaging.messages import Message, digest_of, facts_but_body

Facts = dict[str, Any]


class Plain(Protocol):
    """A first attempt, or its first delivery, with a message_id that is a text."""

    body: bytes
    properties: pika.BasicProperties


class Receipts:
    """What was published, confirmed or acknowledged, and is not in the ledger yet.

    What becomes of runs is collected until they are acknowledged, or until the next tick
    (0.1 s); of single messages, until anything is sent. Then one line tells of as many as it
    can name. Any other line comes behind these. `record` makes a line.
    """

    def __init__(self, record: Callable[..., None]) -> None:
        self.record = record
        self.event = ''  # of a run
        self.names: numbered.Names = {}
        self.facts: Facts = {}
        self.singles: dict[str, list[Any]] = {'attempted': [], 'confirmed': [], 'acked': []}

    def add(self, event: str, lines: Iterable[numbered.Names], **facts: object) -> None:
        """Take what lines say of first attempts: their names by numbered.batches(), and facts."""
        self.write_singles()
        for names in lines:
            if (event, names['of'], facts) == (self.event, self.names.get('of'), self.facts):
                numbered.extend(self.names, names)
            else:
                self._write_run()
                self.event = event
                self.names = names
                self.facts = facts

    def add_single(self, event: str, message: Plain) -> None:
        """Take a first attempt, its confirm, or the acknowledgement of its first delivery."""
        if self.names:
            self._write_run()
        self.singles[event].append(message)

    def write(self) -> None:
        """Write what was taken."""
        self._write_run()
        self.write_singles()

    def write_singles(self) -> None:
        """Write what was taken, but for runs."""
        for event, messages in self.singles.items():
            if messages:
                self.singles[event] = []
                for facts in LINES[event](messages):
                    self.record(event, **facts)

    def _write_run(self) -> None:
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


def attempted(messages: Sequence[Message]) -> Iterator[Facts]:
    """Yield what lines say of messages that are published, in their order."""
    for (_, facts), alike in groupby(messages, way_of):
        for names, those in named_together(alike):
            yield {**names, **digests_of(those), **sizes_of(those), **facts}


def confirmed(messages: Sequence[Message]) -> Iterator[Facts]:
    """Yield what lines say of messages that are confirmed."""
    for names, _ in named_together(messages):
        yield names


def acked(deliveries: Sequence[Plain]) -> Iterator[Facts]:
    """Yield what lines say of deliveries that are acknowledged."""
    for names, those in named_together(deliveries):
        if 'id' in names:
            names['redelivered'] = False
        yield {**names, **digests_of(those)}


LINES: dict[str, Callable[[Any], Iterator[Facts]]] = {
    'attempted': attempted,
    'confirmed': confirmed,
    'acked': acked,
}


def run_of(message: Plain) -> str:
    """Return what the id of a message has in common with the others of its run."""
    message_id: str = message.properties.message_id
    return message_id[: message_id.rfind('-') + 1]


def way_of(message: Message) -> tuple[str, Facts]:
    """Return the run of a message, and what it shares with those published in the same way."""
    return run_of(message), facts_but_body(message)


def named_together(messages: Iterable[Any]) -> Iterator[tuple[Facts, list[Any]]]:
    """Yield what a line says to name messages, and these: those of one run, in their order.

    The order of messages of different runs is lost: each process publishes as one run.
    """
    runs: dict[str, list[Any]] = {}
    for message in messages:
        runs.setdefault(run_of(message), []).append(message)
    for group in runs.values():
        ids = [message.properties.message_id for message in group]
        names = numbered.names_of_texts(ids)
        if names:
            yield names, group
            continue
        for one, message in zip(ids, group):
            yield {'id': one, 'attempt': 1}, [message]


def digests_of(messages: Sequence[Plain]) -> Facts:
    """Return the digest that all bodies have, else the digests of each."""
    bodies = [message.body for message in messages]
    if bodies.count(bodies[0]) == len(bodies):
        return {'digest': digest_of(bodies[0])}
    return {'digests': [*map(digest_of, bodies)]}


def sizes_of(messages: Sequence[Plain]) -> Facts:
    """Return the size that all bodies have, else the sizes of each, in bytes."""
    sizes = [len(message.body) for message in messages]
    if sizes.count(sizes[0]) == len(sizes):
        return {'bytes': sizes[0]}
    return {'sizes': sizes}
