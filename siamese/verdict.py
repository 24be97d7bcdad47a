"""What the ledgers of a run prove: the verdict of audit.py.

Pure functions over the lines of ledgers (siamese/ledger.py). Attempted, ok, lost,
unexpected, duplicated and recovered are the words of Jepsen's queue checker.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from siamese.copies import ACK_LOST, REDELIVERED, REPLAYED, Copy, explain_all
from siamese.ledger import Event
from siamese.text import printable

# In the order of the report.
MEANING = {
    'attempted': 'by {producers}',
    'confirmed': 'by the broker',
    'ok': 'delivered and checked, by {consumers}',
    'lost': 'confirmed, but never delivered',
    'corrupt': 'delivered altered',
    'rejected_as_invalid': 'delivered as published, but a consumer found them invalid',
    'unexpected': 'delivered, but no producer published them',
    'duplicated': 'delivered again, and no fault explains it',
    'redelivered': 'delivered again: not acked, or the ack was lost with a connection',
    'ack_lost': 'delivered again: acked, but that was lost between nodes (quorum)',
    'republished': 'delivered again: the producer had seen no confirm',
    'recovered': 'delivered, though never confirmed',
    'expired': 'confirmed, but not consumed within their time to live',
    'delivery_limit': 'rejected or left unacked so often that the broker dropped them',
    'returned': 'unroutable: no queue took them',
    'in_doubt': 'neither confirmed nor seen again',
}
FAULTS = ('lost', 'corrupt', 'rejected_as_invalid', 'unexpected', 'duplicated')
CERTAIN = ('corrupt', 'rejected_as_invalid')  # also where lines of a ledger are missing
ANSWERS = ('confirmed', 'nacked', 'returned', 'in_doubt', 'set_aside')
SETTLED = ('acked', 'invalid', 'delivery_limit')  # the broker need not deliver again
DELIVERED = (*SETTLED, 'rejected', 'unacked')
NAMED_PER_FAULT = 20  # messages

VALID = 'valid: every confirmed message was delivered unaltered, and every copy is explained'

Process = tuple[str, str]  # name and run
ChannelKey = tuple[str, str, int]  # name, run and epoch
Found = dict[str, list[str]]


@dataclass
class ConsumerPresence:
    """When a channel of a consumer was open, by the times in its ledger (s since 1970)."""

    exchange: str
    queue: str
    first: float
    last: float


class Arrival(NamedTuple):
    """One delivery of a message, and what became of it."""

    copy: Copy
    event: str
    digest: str
    queue: str | None
    queue_type: str


class Verdict(NamedTuple):
    """What audit.py says: one line, the exit status, and the faults behind it."""

    text: str
    exit_status: int
    faults: list[str]


@dataclass
class Evidence:
    """The lines of all ledgers, sorted by message."""

    # By message and attempt: the digest of the body that was published.
    digests: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    answers: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    closed: set[ChannelKey] = field(default_factory=set)
    has_flags: bool = True  # whether the flag redelivered survives a restart of the broker
    queues: dict[Process, tuple[str | None, str]] = field(default_factory=dict)
    presences: dict[ChannelKey, ConsumerPresence] = field(default_factory=dict)
    expiring: dict[str, Event] = field(default_factory=dict)  # first attempts that have a TTL
    producers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Take one line of a ledger."""
        kind = event['event']
        if kind == 'unreadable':
            self.unreadable.add(event['where'])
            return
        channel = (event['by'], event['run'], event['epoch'])
        if kind == 'attempted':
            self._add_attempt(event)
        elif kind in ANSWERS:
            self.answers[event['id'], event['attempt']].add(kind)
        elif kind in DELIVERED:
            self._add_arrival(event, channel)
        elif kind == 'closed':
            self.closed.add(channel)
        elif kind == 'connected':
            self._add_connection(event, channel)
        if channel in self.presences:
            self.presences[channel].last = event['at']

    def _add_attempt(self, event: Event) -> None:
        self.digests[event['id']][event['attempt']] = event['digest']
        self.producers.add(event['by'])
        if re.fullmatch('[0-9]{1,12}', event.get('expiration', '')):
            self.expiring.setdefault(event['id'], event)

    def _add_arrival(self, event: Event, channel: ChannelKey) -> None:
        message_id = event['id']
        if message_id is None:
            message_id = f'without message_id: {event["digest"]:.16}'
        kind = event['event']
        copy = Copy(event['attempt'], channel, event['redelivered'], kind in SETTLED)
        queue, queue_type = self.queues.get(channel[:2], (None, ''))
        arrival = Arrival(copy, kind, event['digest'], queue, queue_type)
        self.arrivals[message_id].append(arrival)
        self.consumers.add(event['by'])

    def _add_connection(self, event: Event, channel: ChannelKey) -> None:
        # The flag redelivered does not survive a restart of LavinMQ (lavinmq#1911).
        self.has_flags = self.has_flags and 'LavinMQ' not in event['broker']
        exchange = event.get('exchange')
        queue = event.get('queue')
        self.queues[channel[:2]] = (queue, event.get('queue_type', ''))
        if exchange and queue:
            now = event['at']
            self.presences[channel] = ConsumerPresence(exchange, queue, first=now, last=now)

    def messages_with(self, answer: str) -> set[str]:
        """Return the messages of which an attempt got this answer from the broker."""
        return {message_id for (message_id, _), got in self.answers.items() if answer in got}

    def unconfirmed_attempts(self, message_id: str) -> set[int]:
        """Return the attempts that the producer saw returned, nacked, or cut off."""
        return {
            attempt
            for attempt in self.digests.get(message_id, ())
            if self.answers.get((message_id, attempt), set()) - {'confirmed'}
        }


def audit(events: Iterable[Event]) -> Found:
    """Judge the ledgers of a run.

    `events` are their lines, those of each process in order (ledger.read). Returns a
    sorted list of message ids for each key of MEANING, and of names for 'unreadable',
    'producers' and 'consumers'.
    """
    evidence = Evidence()
    for event in events:
        evidence.add(event)
    found: dict[str, set[str]] = {name: set() for name in MEANING}
    found['attempted'] = set(evidence.digests)
    found['confirmed'] = evidence.messages_with('confirmed')
    found['returned'] = evidence.messages_with('returned')
    settled_in = judge_arrivals(evidence, found)
    judge_absent(evidence, found, settled_in)
    names = {
        'unreadable': evidence.unreadable,
        'producers': evidence.producers,
        'consumers': evidence.consumers,
    }
    return {name: sorted(map(str, ids)) for name, ids in {**found, **names}.items()}


def judge_arrivals(evidence: Evidence, found: dict[str, set[str]]) -> dict[str, set[str | None]]:
    """Add to `found` what became of the messages that were delivered.

    Return the queues from which each message was delivered and settled.
    """
    settled_in: dict[str, set[str | None]] = {}
    for message_id, arrivals in evidence.arrivals.items():
        for label in judge_content(arrivals, evidence.digests.get(message_id, {})):
            found[label].add(message_id)
        queues = {arrival.queue for arrival in arrivals if arrival.copy.settled}
        if queues:
            settled_in[message_id] = queues
        for label in judge_copies(message_id, arrivals, evidence):
            found[label].add(message_id)
    # The copy that a consumer rejected as replayed.
    found['rejected_as_invalid'] -= found['duplicated']
    return settled_in


def judge_absent(
    evidence: Evidence, found: dict[str, set[str]], settled_in: dict[str, set[str | None]]
) -> None:
    """Add to `found` what became of the messages that were not delivered."""
    confirmed = found['confirmed']
    for message_id in confirmed & evidence.expiring.keys():
        first = evidence.expiring[message_id]
        queues = settled_in.get(message_id, set())
        for label, where in judge_expiring(first, queues, evidence.presences.values()):
            found[label].add(message_id + where)
    found['lost'] |= confirmed - settled_in.keys() - evidence.expiring.keys()
    found['recovered'] = found['ok'] - confirmed
    found['returned'] -= confirmed | settled_in.keys()
    found['in_doubt'] = found['attempted'] - confirmed - found['returned'] - settled_in.keys()


def judge_content(arrivals: list[Arrival], published: dict[int, str]) -> Iterator[str]:
    """Yield what the copies of a message are by their content.

    `published` maps the attempts of the producer to the digests of their bodies.
    """
    attempts = {arrival.copy.attempt for arrival in arrivals}
    digests = {arrival.digest for arrival in arrivals}
    ends = {arrival.event for arrival in arrivals if arrival.copy.settled}
    if not attempts <= published.keys():
        yield 'unexpected'
    elif not digests <= set(published.values()):
        yield 'corrupt'
    elif 'invalid' in ends:
        yield 'rejected_as_invalid'
    elif 'delivery_limit' in ends:
        yield 'delivery_limit'
    elif ends:
        yield 'ok'


def judge_copies(message_id: str, arrivals: list[Arrival], evidence: Evidence) -> Iterator[str]:
    """Yield the labels that tell why there is more than one copy of a message in a queue."""
    by_queue = defaultdict(list)
    for arrival in arrivals:
        by_queue[arrival.queue].append(arrival)
    unconfirmed = evidence.unconfirmed_attempts(message_id)
    for of_queue in by_queue.values():
        yield from judge_queue(of_queue, unconfirmed, evidence)


def judge_queue(
    arrivals: list[Arrival], unconfirmed: set[int], evidence: Evidence
) -> Iterator[str]:
    """Yield the same for one queue.

    siamese/copies.py has the rule for copies of one attempt. A later attempt is explained
    if the producer saw each earlier one unconfirmed.
    """
    by_attempt = defaultdict(list)
    for arrival in arrivals:
        by_attempt[arrival.copy.attempt].append(arrival)
    labels = {REPLAYED: 'duplicated', ACK_LOST: 'ack_lost', REDELIVERED: 'redelivered'}
    for attempt, same in by_attempt.items():
        copies = [arrival.copy for arrival in same]
        is_quorum = all(arrival.queue_type == 'quorum' for arrival in same)
        queue_type = 'quorum' if is_quorum else ''
        why = explain_all(copies, evidence.closed, evidence.has_flags, queue_type)
        if why in labels:
            yield labels[why]
        if attempt > min(by_attempt):
            excuses = sum(0 < earlier < attempt for earlier in unconfirmed)
            yield 'republished' if excuses == attempt - 1 else 'duplicated'


def judge_expiring(
    first: Event, settled_in: set[str | None], presences: Iterable[ConsumerPresence]
) -> Iterator[tuple[str, str]]:
    """Yield (label, where) for each queue that should have delivered a confirmed message.

    `first` is the line of its first attempt, with a time to live; `settled_in` are the
    queues that delivered it. It is lost if a queue did not, though a consumer was
    connected from before it was published until after it expired. What was published
    before the first consumer of a queue is not expected there.
    """
    expires = first['at'] + int(first['expiration']) / 1000
    listening = [
        presence
        for presence in presences
        if presence.exchange == first.get('exchange') and presence.first < first['at']
    ]
    for queue in {presence.queue for presence in listening} - settled_in:
        lasts = [presence.last for presence in listening if presence.queue == queue]
        outlived = max(lasts) > expires
        yield ('lost' if outlived else 'expired'), f' in {queue}'
    if not listening and not settled_in:
        yield 'expired', ''


def judge(found: Found) -> Verdict:
    """Return the verdict on what audit() found."""
    unreadable = found['unreadable']
    complete = found['attempted'] and found['consumers'] and not unreadable
    judged = FAULTS if complete else CERTAIN
    faults = [name for name in judged if found[name]]
    if faults:
        counts = ', '.join(f'{len(found[name])} {words(name)}' for name in faults)
        return Verdict(f'invalid: {counts}', 1, faults)
    if unreadable:
        where = printable(', '.join(unreadable[:NAMED_PER_FAULT]))
        remedy = 'written by an older version? use a fresh ledger'
        return Verdict(f'unknown: {where} cannot be read; {remedy}', 3, [])
    if not complete:
        missing = 'consumer' if found['attempted'] else 'producer'
        return Verdict(f'unknown: the ledgers know of no {missing}', 3, [])
    return Verdict(VALID, 0, [])


def words(kind: str) -> str:
    """Return a kind as the report shows it: 'ack lost'."""
    return kind.replace('_', ' ')
