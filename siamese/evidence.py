"""The lines of all ledgers of a run, sorted by message, queue and channel.

What is alike is kept once: ledgers hold the same names and digests a million times.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from siamese import ledger
from siamese.clocks import NEVER, Clocks, Moment, Process
from siamese.copies import Copy
from siamese.ledger import Event
from siamese.lifetimes import Life, Passages
from siamese.limits import Channel, Flow, Limits, Origin
from siamese.order import ChannelKey, Early, Order, Origins, Sender, Way
from siamese.restarts import Restarts

# What became of an attempt to publish, each as a bit of Message.answers.
ANSWERS = ('confirmed', 'nacked', 'returned', 'in_doubt', 'set_aside')
BITS = {answer: 1 << number for number, answer in enumerate(ANSWERS)}
SETTLED = ('acked', 'invalid', 'delivery_limit')  # the broker need not deliver again
DELIVERED = (*SETTLED, 'rejected', 'unacked')


def mark(digest: str) -> int:
    """Return 64 bits that stand for a digest: the audit only asks whether two are equal."""
    return hash(digest)


class Arrival(NamedTuple):
    """One delivery of a message, and what became of it."""

    copy: Copy
    event: str
    digest: int  # mark() of it, as below
    queue: str | None
    queue_type: str


class Came(NamedTuple):
    """Over which channel an attempt came, and when by the ledger of its consumer."""

    key: ChannelKey
    at: float
    attempt: int


class DeadLetter(NamedTuple):
    """What is known of a message that was dead-lettered."""

    reason: str
    digest: int


@lru_cache(maxsize=4096)  # most deliveries over a channel are alike, and share one Arrival
def shared(
    copy: Copy,
    event: str,
    digest: int,
    queue: str | None,
    queue_type: str,
) -> Arrival:
    return Arrival(copy, event, digest, queue, queue_type)


# So few facts are kept once for all messages that have the same ones.
FEW = 4


@lru_cache(maxsize=4096)
def one_dict(*items: tuple[int, int]) -> dict[int, int]:
    return dict(items)


@lru_cache(maxsize=4096)
def one_list(*arrivals: Arrival) -> list[Arrival]:
    return [*arrivals]


@lru_cache(maxsize=4096)
def one_sender(sender: Sender) -> Sender:
    return sender


def changed(
    facts: dict[int, int],
    attempt: int,
    fact: int,
) -> dict[int, int]:
    """Return facts with another one. Others may have the same dict while it is small."""
    if len(facts) > FEW:
        facts[attempt] = fact
        return facts
    facts = {**facts, attempt: fact}
    return facts if len(facts) > FEW else one_dict(*facts.items())


def longer(arrivals: list[Arrival], arrival: Arrival) -> list[Arrival]:
    """Return a list with one more. Others may have the same list while it is short."""
    if len(arrivals) > FEW:
        arrivals.append(arrival)
        return arrivals
    arrivals = [*arrivals, arrival]
    return arrivals if len(arrivals) > FEW else one_list(*arrivals)


NONE: dict[str, DeadLetter] = {}  # one for all that have none


class Message:
    """What the ledgers say of one message."""

    __slots__ = ('answers', 'arrivals', 'confirmed_at', 'dead', 'digests', 'origin')

    def __init__(self) -> None:
        self.digests = one_dict()  # by attempt: of the body that was published
        self.answers = one_dict()  # by attempt: BITS
        self.arrivals = one_list()
        self.origin: Origin | None = None  # its first attempt
        self.confirmed_at = 0.0  # the last time, by the ledger of its producer
        self.dead: dict[str, DeadLetter] = NONE  # by the queue that it was in

    def add_digest(self, attempt: int, digest: int) -> None:
        """Note what was published."""
        self.digests = changed(self.digests, attempt, digest)

    def add_answer(self, attempt: int, answer: str) -> None:
        """Note what became of an attempt."""
        bits = self.answers.get(attempt, 0) | BITS[answer]
        self.answers = changed(self.answers, attempt, bits)

    def add_arrival(self, arrival: Arrival) -> None:
        """Note a delivery."""
        self.arrivals = longer(self.arrivals, arrival)

    def settled_in(self) -> set[str | None]:
        """Return the queues from which it was delivered and settled."""
        return {arrival.queue for arrival in self.arrivals if arrival.copy.settled}

    def got(self, answer: str) -> bool:
        """Return whether an attempt got this answer from the broker."""
        return any(answers & BITS[answer] for answers in self.answers.values())

    def unconfirmed_attempts(self) -> list[int]:
        """Return the attempts that the producer saw returned, nacked, or cut off, sorted."""
        confirmed = BITS['confirmed']
        return sorted(
            attempt
            for attempt in self.digests
            if attempt > 0 and self.answers.get(attempt, 0) & ~confirmed
        )


@dataclass
class Evidence:
    """The lines of all ledgers, apart from those that the sieve has counted as plain.

    plain: how many messages were published, confirmed, and delivered and acknowledged
    once; plain_from: from which queues.
    """

    plain: int = 0
    plain_from: Counter[str | None] = field(default_factory=Counter)
    messages: dict[str, Message] = field(default_factory=lambda: defaultdict(Message))
    lost: set[ChannelKey] = field(default_factory=set)
    ended: set[ChannelKey] = field(default_factory=set)  # the last channel of each script
    closed: set[ChannelKey] = field(default_factory=set)  # as agreed: all was acknowledged
    channels: dict[ChannelKey, Channel] = field(default_factory=dict)
    keys: dict[ChannelKey, ChannelKey] = field(default_factory=dict)  # each of them once
    queues: dict[Process, tuple[str | None, str]] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=lambda: defaultdict(Limits))
    # How many attempts a process made to publish to an exchange, or a queue.
    sent: dict[tuple[str, str | None], Counter[Process]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    vhosts: dict[str, str] = field(default_factory=dict)  # by queue
    # How many messages are still in a queue, None if that is not known; of those asked for.
    remaining: dict[str, int | None] = field(default_factory=dict)
    largest: dict[str | None, int] = field(default_factory=dict)  # bodies, bytes by queue
    has_flags: bool = True  # whether the broker sets the flag redelivered
    producers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    order: Order = field(default_factory=Order)
    clocks: Clocks = field(default_factory=Clocks)
    ends: dict[str, float] = field(default_factory=dict)  # the last time by each clock
    passages: Passages = field(default_factory=Passages)
    # What came before its attempt was read, by id.
    early: dict[str, list[Came]] = field(default_factory=lambda: defaultdict(list))
    restarts: Restarts = field(default_factory=Restarts)

    def add_all(self, events: Iterable[Event]) -> None:
        """Take lines of ledgers, and those that witnesses.py makes."""
        for event in events:
            for one in ledger.singly(event):
                self.add(one)

    def add(self, event: Event) -> None:
        """Take one line of a ledger that names one message, or none."""
        kind = event['event']
        if kind == 'unreadable':
            self.unreadable.add(event['where'])
            return
        key = self.key_of(event)
        if kind == 'attempted':
            self._add_attempt(event, key)
        elif kind in BITS:
            self._add_answer(event, kind)
        elif kind in DELIVERED:
            self._add_arrival(event, key)
        elif kind == 'connected':
            self._add_connection(event, key)
        elif kind == 'dead_lettered':
            self._add_dead_letter(event)
        elif kind == 'queue':
            self.limits[event['queue']].add_policy(event['policy'])
            self.remaining[event['queue']] = event.get('messages')
        else:
            self._add_end(kind, key)
        self.note_time(event['at'], key)

    def key_of(self, event: Event) -> ChannelKey:
        """Return the channel that a line tells of."""
        key = (event['by'], event['run'], event['epoch'])
        return self.keys.setdefault(key, key)

    def note_time(self, at: float, key: ChannelKey) -> None:
        """Note that a channel did something."""
        channel = self.channels.get(key)
        if not channel:
            return
        channel.last = at + channel.zero
        if channel.end != 'disconnected':  # that may be noticed late
            channel.heard = channel.last
        if channel.last > self.ends.get(channel.clock, -NEVER):
            self.ends[channel.clock] = channel.last

    def note_passage(self, origin: Origin, key: ChannelKey, at: float, attempt: int) -> None:
        """Note over which channel an attempt came, `at` by the ledger of the consumer."""
        self.note_crossing(origin.sender, origin.at, key, at)
        if origin.expiration and attempt == 1:
            queue, _ = self.queues.get(key[:2], (None, ''))
            self.passages.came(queue, origin, key)

    def note_crossing(self, sender: Sender, sent_at: float, key: ChannelKey, at: float) -> None:
        """Note when a message was sent, and came, each by its ledger."""
        sent = self.clocks.moment(sender.key[:2], sent_at)
        self.clocks.crossed(sent, self.clocks.moment(key[:2], at))

    def published(self, origin: Origin) -> Moment:
        """Return when a message was published first."""
        return self.clocks.moment(origin.sender.key[:2], origin.at)

    def note_sent(self, event: Event, key: ChannelKey, count: int) -> tuple[Sender, int]:
        """Note attempts; return who made them, and how many that process made so far."""
        self.producers.add(key[0])
        process = key[:2]
        queue, _ = self.queues.get(process, (None, ''))
        exchange = sys.intern(event.get('exchange', ''))
        if 'bytes' in event:
            self.largest[queue] = max(self.largest.get(queue, 0), event['bytes'])
        sender = one_sender(Sender(key, exchange, queue, event.get('priority')))
        counter = self.sent[sender.target()]
        counter[process] += count
        return sender, counter[process]

    def _add_attempt(self, event: Event, key: ChannelKey) -> None:
        message = self.messages[event['id']]
        message.add_digest(event['attempt'], mark(event['digest']))
        sender, number = self.note_sent(event, key, 1)
        expiration = event.get('expiration', '')
        if not re.fullmatch('[0-9]{1,12}', expiration):
            expiration = ''
        origin = message.origin
        if origin is None or (expiration and not origin.expiration):
            origin = Origin(sender, event['at'], number, sys.intern(expiration))
            message.origin = origin
        for came in self.early.pop(event['id'], ()):
            self._settle(origin, came)

    def _settle(self, origin: Origin, came: Came) -> None:
        """Look at an arrival that was read before its attempt."""
        self.note_passage(origin, *came)
        if came.key in self.order.waiting:
            self.order.settle(came.key, origins_in(self.messages))

    def _add_answer(self, event: Event, kind: str) -> None:
        message = self.messages[event['id']]
        message.add_answer(event['attempt'], kind)
        if kind == 'confirmed':
            message.confirmed_at = event['at']

    def _add_arrival(self, event: Event, key: ChannelKey) -> None:
        message_id = event['id']
        if message_id is None:
            message_id = f'without message_id: {event["digest"]:.16}'
        kind = event['event']
        copy = Copy(event['attempt'], key, event['redelivered'], kind in SETTLED)
        queue, queue_type = self.queues.get(key[:2], (None, ''))
        arrival = shared(copy, sys.intern(kind), mark(event['digest']), queue, queue_type)
        message = self.messages[message_id]
        is_first = copy.attempt == 1 and not copy.redelivered and 'died' not in event
        is_first = is_first and not message.arrivals
        message.add_arrival(arrival)
        self.consumers.add(event['by'])
        origin = message.origin
        if origin:
            self.note_passage(origin, key, event['at'], copy.attempt)
            if is_first:
                self.order.came(Way(origin.sender, queue, key), origin.number, message_id)
            return
        self.early[message_id].append(Came(key, event['at'], copy.attempt))
        if is_first:
            self.order.came_early(key, Early(queue, message_id))

    def _add_connection(self, event: Event, key: ChannelKey) -> None:
        if event.get('flags_redelivered') is False:
            self.has_flags = False
        queue = event.get('queue')
        queue_type = event.get('queue_type', '')
        self.queues[key[:2]] = (queue, queue_type)
        self.clocks.begin(key[:2], event)
        clock, now = self.clocks.moment(key[:2], event['at'])
        self.channels[key] = Channel(
            exchange=event.get('exchange'),
            queue=queue,
            consumes=event.get('consumes', False),
            clock=clock,
            zero=now - event['at'],
            first=now,
            last=now,
            heard=now,
        )
        if queue and 'vhost' in event:
            self.vhosts[queue] = event['vhost']
        if queue and 'arguments' in event:
            self.limits[queue].add_arguments(event['arguments'], queue_type)

    def _add_end(self, kind: str, key: ChannelKey) -> None:
        is_lost = kind == 'disconnected' or key in self.lost  # maybe its acknowledgements, too
        (self.lost if is_lost else self.closed).add(key)
        if kind == 'closed':
            self.ended.add(key)
        if key in self.channels:
            self.channels[key].end = 'disconnected' if is_lost else 'closed'

    def _add_dead_letter(self, event: Event) -> None:
        if event['id'] is None:
            return
        message = self.messages[event['id']]
        dead = DeadLetter(sys.intern(str(event['reason'])), mark(event['digest']))
        message.dead = {**message.dead, event['queue']: dead}


def origins_in(messages: Mapping[str, Message]) -> Origins:
    """Return a function that tells who published a message, and which one of its own it was.

    None if that is not known.
    """

    def origin_of(message_id: str) -> tuple[Sender, int] | None:
        message = messages.get(message_id)
        if not message or not message.origin:
            return None
        return message.origin.sender, message.origin.number

    return origin_of


def life_of(evidence: Evidence, message: Message) -> Life:
    """Return when a message lived that was confirmed: at most until its time was over."""
    origin = message.origin
    assert origin
    confirmed_at = max(message.confirmed_at, origin.at)
    _, until = evidence.clocks.moment(origin.sender.key[:2], confirmed_at)
    is_first_attempt = message.digests.keys() == {1}
    lived_s = int(origin.expiration) / 1000
    return Life(origin, evidence.published(origin), until + lived_s, is_first_attempt)


def flow_of(evidence: Evidence, queue: str) -> Flow:
    """Return what went through a queue. It looks at all messages: ask once for each."""
    channels = [channel for channel in evidence.channels.values() if channel.queue == queue]
    exchanges = {channel.exchange for channel in channels if channel.exchange}
    targets = [('', queue), *((exchange, None) for exchange in exchanges)]
    sent_by: Counter[Process] = Counter()
    for target in targets:
        sent_by.update(evidence.sent.get(target, {}))
    unconfirmed = 0
    came_out = evidence.plain_from[queue]
    for message in evidence.messages.values():
        if message.origin and message.origin.sender.target() in targets:
            confirmed = sum(bits & BITS['confirmed'] for bits in message.answers.values())
            unconfirmed += len(message.digests) - confirmed
        out = {one.copy.attempt for one in message.arrivals if one.queue == queue}
        has_died = queue in message.dead and message.dead[queue].reason != 'maxlen'
        came_out += len(out) or has_died
    return Flow(
        sent_by,
        unconfirmed,
        came_out,
        evidence.largest.get(queue),
        channels,
        evidence.clocks,
        evidence.ends,
    )
