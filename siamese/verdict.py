"""What the ledgers of a run prove: the verdict of audit.py.

Pure functions over the lines of ledgers (siamese/ledger.py). Attempted, ok, lost,
unexpected, duplicated and recovered are the words of Jepsen's queue checker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from siamese.copies import ACK_LOST, REDELIVERED, REPLAYED, explain_all
from siamese.evidence import Arrival, Evidence, Message, flow_of, life_of, origins_in
from siamese.ledger import Event
from siamese.lifetimes import CANNOT_TELL, EXPIRED, LOST, Presence, presences_of
from siamese.limits import Absent, Origin, explained
from siamese.order import Overtaken, Sender
from siamese.restarts import MAYBE, YES, Restarts
from siamese.text import count_of, printable

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
    'out_of_order': 'delivered after one that was published later',
    'redelivered': 'delivered again: not acked, or the ack was lost with a connection',
    'ack_lost': 'delivered again: acked, but that was lost between nodes (quorum)',
    'republished': 'delivered again: the producer had seen no confirm',
    'recovered': 'delivered, though never confirmed',
    'dead_lettered': 'not delivered: they are among the dead letters',
    'dropped': "dropped by the queue's limit, as configured",
    'expired': 'confirmed, but not consumed within their time to live',
    'delivery_limit': 'rejected or left unacked so often that the broker dropped them',
    'returned': 'unroutable: no queue took them',
    'in_doubt': 'neither confirmed nor seen again',
    'cannot_tell': 'right or wrong: that depends on how far two clocks are apart',
}
WORDS = {'dead_lettered': 'dead-lettered'}
FAULTS = ('lost', 'corrupt', 'rejected_as_invalid', 'unexpected', 'duplicated', 'out_of_order')
PLAIN_KINDS = ('attempted', 'confirmed', 'ok')  # that a message is which went plainly
CERTAIN = ('corrupt', 'rejected_as_invalid')  # also where lines of a ledger are missing
NAMED_PER_FAULT = 20  # messages

VALID = 'valid: every confirmed message was delivered unaltered, and every copy is explained'
VALID_WITH_LIMITS = (
    'valid: every confirmed message was delivered unaltered, or dropped as configured, '
    'and every copy is explained'
)
DEPENDS_ON_CLOCKS = 'unknown: cannot tell of {count}, nothing tells how far clocks are apart'
UNDECIDED = ['cannot_tell']
NOBODY = Sender(('', '', 0), '', None, None)
NO_ORIGIN = Origin(NOBODY, 0, 0, '')  # its attempt is in no ledger
NOT_FLAGGED = 'this broker does not flag redeliveries'
FORGOTTEN = 'this broker does not flag redeliveries after its restart'
NOT_DRAINED = (
    'not drained: {count} still in {queue} (a figure that may be 5 s old); '
    'consume what is there with --ledger, and audit that ledger too'
)
NOT_KNOWN = 'not known: how many messages are still in {queue}; the management API has no figure'
REJECTED_BY_NOBODY = 'rejected, and no ledger tells by whom: {letters} of those that are lost'
REORDERED = 'a quorum queue delivered {count} out of order, as it may after a failover'

# Where to look next.
HINTS = {
    'lost': 'lost: is the queue drained, or did a policy drop them (--management-url)? '
    'are they dead letters (--dead)? is the ledger of a consumer missing?',
    'unexpected': 'unexpected: is there another sender, or the ledger of a producer missing?',
    'cannot_tell': 'cannot tell: these scripts ran on machines whose clocks nothing compares; '
    'see docs/how-to/several-machines.md',
}

Found = dict[str, list[str]]


class Verdict(NamedTuple):
    """What audit.py says: one line, the exit status, and the faults behind it."""

    text: str
    exit_status: int
    faults: list[str]


def audit(events: Iterable[Event]) -> Found:
    """Judge the ledgers of a run.

    `events` are their lines, those of each process in order (ledger.read). Returns a
    sorted list of message ids for each key of MEANING, of names for 'unreadable',
    'producers' and 'consumers', and of sentences for 'notes'. The judge alone: with
    millions of messages sieve.evidence_of() takes a fraction of the memory.
    """
    evidence = Evidence()
    evidence.add_all(events)
    return judge_all(evidence)


def judge_all(evidence: Evidence) -> Found:
    """Return what audit() does."""
    found: dict[str, set[str]] = {name: set() for name in (*MEANING, 'notes')}
    evidence.restarts = Restarts(evidence.channels, evidence.clocks)
    judge_arrivals(evidence, found)
    judge_order(evidence, found)
    judge_absent(evidence, found)
    if found['lost']:
        found['notes'].update(not_drained(evidence))
    names = {
        'unreadable': evidence.unreadable,
        'producers': evidence.producers,
        'consumers': evidence.consumers,
        'attempted': names_of(evidence, is_attempted),
        'confirmed': names_of(evidence, is_confirmed),
        'ok': names_of(evidence, is_ok),
    }
    return {name: sorted(map(str, ids)) for name, ids in {**found, **names}.items()}


def names_of(evidence: Evidence, wanted: Callable[[Message], bool]) -> Iterator[str]:
    """Yield the messages of which that is true: most of them, so there is no set."""
    return (name for name, message in evidence.messages.items() if wanted(message))


def is_attempted(message: Message) -> bool:
    return bool(message.digests)


def is_confirmed(message: Message) -> bool:
    return message.got('confirmed')


def is_ok(message: Message) -> bool:
    """Return whether it was delivered as it was published, and settled."""
    return 'ok' in judge_content(message.arrivals, message.digests)


def judge_arrivals(
    evidence: Evidence,
    found: dict[str, set[str]],
) -> None:
    """Add to `found` what became of the messages that were delivered."""
    for message_id, message in evidence.messages.items():
        if not message.arrivals:
            continue
        for label in judge_content(message.arrivals, message.digests):
            if label != 'ok':
                found[label].add(message_id)
        for label in judge_copies(message, evidence, found['notes']):
            found[label].add(message_id)
    # The copy that a consumer rejected as replayed.
    found['rejected_as_invalid'] -= found['duplicated']


def judge_order(
    evidence: Evidence,
    found: dict[str, set[str]],
) -> None:
    """Add to `found` which messages came after one that was published later, as pairs."""
    of_quorum = 0
    for one in evidence.order.all_overtaken(origins_in(evidence.messages)):
        if one.message_id in found['duplicated'] or is_excused(one, evidence):
            continue
        _, queue_type = evidence.queues.get(one.way.receiver[:2], (None, ''))
        restarted = evidence.restarts.between([one.way.sender.key, one.way.receiver])
        pair = f'{one.message_id} (after {one.later_one})'
        if restarted == YES:
            continue
        if queue_type == 'quorum':
            of_quorum += 1
        elif restarted == MAYBE:
            found['cannot_tell'].add(pair)
        else:
            found['out_of_order'].add(pair)
    if of_quorum:
        found['notes'].add(REORDERED.format(count=of_quorum))


def is_excused(one: Overtaken, evidence: Evidence) -> bool:
    """Return whether it may have been published again, or requeued without a flag."""
    queue = one.way.queue
    if not evidence.has_flags:
        return True
    return queue in evidence.limits and evidence.limits[queue].may_drop()


def judge_absent(
    evidence: Evidence,
    found: dict[str, set[str]],
) -> None:
    """Add to `found` what became of the messages that were not delivered, or not confirmed."""
    missing = find_dead_letters(evidence, found, absentees(evidence))
    for queue, absent in missing.items():
        judge_missing(queue, absent, evidence, found)
    dead = judge_dead_letters(evidence, found)
    for message_id, message in evidence.messages.items():
        if not is_confirmed(message):
            for label in judge_unconfirmed(message, message_id in dead):
                found[label].add(message_id)


def judge_unconfirmed(message: Message, is_dead: bool) -> Iterator[str]:
    """Yield what a message is that was never confirmed."""
    was_settled = bool(message.settled_in())
    if is_ok(message):
        yield 'recovered'
    if message.got('returned') and not was_settled:
        yield 'returned'
    elif is_attempted(message) and not (was_settled or is_dead):
        yield 'in_doubt'


def absentees(evidence: Evidence) -> Iterator[tuple[str, Absent]]:
    """Yield (label, Absent) of each message and queue that did not deliver it.

    The label is LOST, EXPIRED or CANNOT_TELL.
    """
    presences = presences_of(evidence.channels, evidence.passages, evidence.clocks)
    for message_id, message in evidence.messages.items():
        if not is_confirmed(message):
            continue
        origin = message.origin
        queues = message.settled_in()
        rejected = sum(arrival.event == 'rejected' for arrival in message.arrivals)
        if not origin:
            if not queues:
                yield 'lost', Absent(message_id, None, '', NO_ORIGIN, rejected)
        elif origin.expiration:
            there = presences.get(origin.sender.exchange, {})
            for label, queue, where in judge_expiring(message, there, evidence):
                yield label, Absent(message_id, queue, where, origin, rejected)
        elif not queues:
            _, queue = origin.sender.target()
            yield 'lost', Absent(message_id, queue, '', origin, rejected)


def find_dead_letters(
    evidence: Evidence,
    found: dict[str, set[str]],
    absent: Iterable[tuple[str, Absent]],
) -> dict[str | None, list[Absent]]:
    """Add to `found` what is dead-lettered, expired or not known; return the others by queue.

    A letter that nobody rejected is lost: who rejects a message notes that first.
    """
    missing: dict[str | None, list[Absent]] = defaultdict(list)
    rejected = []
    for label, one in absent:
        reason = reason_of_death(evidence.messages[one.message_id], one)
        if reason == 'rejected':
            rejected.append(one.message_id + one.where)
        elif reason:
            found['dead_lettered'].add(f'{one.message_id}{one.where} ({reason})')
        elif label == EXPIRED:
            found['expired'].add(one.message_id + one.where)
        elif label == CANNOT_TELL:
            found['cannot_tell'].add(f'{one.message_id}{one.where} (lost or expired)')
        else:
            missing[one.queue].append(one)
    if rejected:
        found['lost'].update(rejected)
        letters = count_of(len(rejected), 'dead letter')
        found['notes'].add(REJECTED_BY_NOBODY.format(letters=letters))
    return missing


def judge_dead_letters(
    evidence: Evidence,
    found: dict[str, set[str]],
) -> set[str]:
    """Return the messages of the run that are dead-lettered; add to `found` what they tell."""
    dead = set()
    for message_id, message in evidence.messages.items():
        if not message.dead or not message.digests:  # there are those of other runs, too
            continue
        dead.add(message_id)
        for letter in message.dead.values():
            if letter.digest not in message.digests.values():
                found['corrupt'].add(message_id)
        if not message.arrivals and not message.got('confirmed'):
            reason = next(iter(message.dead.values())).reason
            found['dead_lettered'].add(f'{message_id} ({reason})')
    return dead


def reason_of_death(message: Message, absent: Absent) -> str:
    """Return why a message that is absent from a queue was dead-lettered, '' if it was not."""
    for queue, letter in message.dead.items():
        if not absent.where or queue == absent.queue:  # where there are several queues
            return letter.reason
    return ''


def judge_missing(
    queue: str | None,
    absent: list[Absent],
    evidence: Evidence,
    found: dict[str, set[str]],
) -> None:
    """Add to `found` which of the messages that a queue did not deliver are lost."""
    if queue not in evidence.limits:  # nothing was told; nor is it of a type that has limits
        found['lost'].update(one.message_id + one.where for one in absent)
        return
    limits = evidence.limits[queue]
    lost = set(absent)
    for one, why, is_known in explained(absent, limits, flow_of(evidence, queue)):
        lost.discard(one)
        if is_known:
            found['dropped'].add(f'{one.message_id} ({why} of {queue})')
        else:
            found['cannot_tell'].add(f'{one.message_id} (lost, or {why} of {queue})')
    found['lost'].update(one.message_id + one.where for one in lost)


def judge_content(
    arrivals: list[Arrival],
    published: dict[int, int],
) -> Iterator[str]:
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


def judge_copies(
    message: Message,
    evidence: Evidence,
    notes: set[str],
) -> Iterator[str]:
    """Yield the labels that tell why there is more than one copy of a message in a queue."""
    if len(message.arrivals) < 2:
        return
    by_reader = defaultdict(list)
    for arrival in message.arrivals:
        by_reader[reader_of(arrival)].append(arrival)
    unconfirmed = message.unconfirmed_attempts()
    for of_one in by_reader.values():
        yield from judge_queue(of_one, unconfirmed, evidence, notes)


def reader_of(arrival: Arrival) -> object:
    """Return the queue of a copy; of a stream, which everybody reads as a whole, also by whom."""
    channel: Any = arrival.copy.channel
    if arrival.queue_type == 'stream':
        return arrival.queue, channel[:2]
    return arrival.queue


def judge_queue(
    arrivals: list[Arrival],
    unconfirmed: list[int],
    evidence: Evidence,
    notes: set[str],
) -> Iterator[str]:
    """Yield the same for one queue.

    A later attempt is explained if the producer saw each earlier one unconfirmed.
    """
    by_attempt = defaultdict(list)
    for arrival in arrivals:
        by_attempt[arrival.copy.attempt].append(arrival)
    labels = {
        REPLAYED: 'duplicated',
        CANNOT_TELL: CANNOT_TELL,
        ACK_LOST: 'ack_lost',
        REDELIVERED: 'redelivered',
    }
    first = min(by_attempt)
    for attempt, same in by_attempt.items():
        why = explain_copies(same, evidence, notes)
        if why in labels:
            yield labels[why]
        if attempt > first:
            excuses = bisect_left(unconfirmed, attempt)
            yield 'republished' if excuses == attempt - 1 else 'duplicated'


def explain_copies(
    same: list[Arrival],
    evidence: Evidence,
    notes: set[str],
) -> str:
    """Return what explains the copies of one attempt; siamese/copies.py has the rule.

    Note it where they lack a flag that this broker does not set.
    """
    copies = [arrival.copy for arrival in same]
    is_quorum = all(arrival.queue_type == 'quorum' for arrival in same)
    queue_type = 'quorum' if is_quorum else ''
    unflagged: set[Any] = {copy.channel for copy in copies if not copy.redelivered}
    channels: set[Any] = {copy.channel for copy in copies}
    forgot = evidence.restarts.between(unflagged)
    restarted = evidence.restarts.between(channels)

    def why_if(lowest: str) -> str:
        """Return the same if what happened for certain, or maybe, did happen."""
        may_forget = forgot >= lowest
        knows_first = evidence.has_flags and restarted < lowest
        return explain_all(
            copies, evidence.closed, evidence.has_flags, queue_type, may_forget, knows_first
        )

    why = why_if(YES)
    if why == REPLAYED and why_if(MAYBE) != REPLAYED:
        return CANNOT_TELL
    if why == REDELIVERED and sum(not copy.redelivered for copy in copies) > 1:
        notes.add(FORGOTTEN if evidence.has_flags else NOT_FLAGGED)
    return why


def not_drained(evidence: Evidence) -> Iterator[str]:
    """Yield a line for each queue that is not empty, as far as somebody was asked."""
    for queue, count in evidence.remaining.items():
        name = printable(queue)
        if count is None:
            yield NOT_KNOWN.format(queue=name)
        elif count:
            yield NOT_DRAINED.format(count=count_of(count, 'message'), queue=name)


def judge_expiring(
    message: Message,
    presences: dict[str, Presence],
    evidence: Evidence,
) -> Iterator[tuple[str, str | None, str]]:
    """Yield (label, queue, where) for each queue that should have delivered a message.

    It has a time to live, see lifetimes.py.
    """
    life = life_of(evidence, message)
    settled_in = message.settled_in()
    has_listeners = False
    absent: dict[str, list[str]] = {LOST: [], EXPIRED: [], CANNOT_TELL: []}
    for queue, presence in presences.items():
        label = '' if queue in settled_in else presence.judge(life)
        has_listeners = has_listeners or bool(label) or queue in settled_in
        if label:
            absent[label].append(queue)
    for label, queues in absent.items():
        named = queues
        if len(queues) > NAMED_PER_FAULT:  # there may be millions
            named = [queue for queue in queues if queue in evidence.limits]
            if len(named) < len(queues):
                yield label, None, f' in {len(queues) - len(named)} queues'
        for queue in named:
            yield label, queue, f' in {queue}'
    if not has_listeners and not settled_in:
        yield EXPIRED, None, ''


def reasons(found: Found) -> Iterator[str]:
    """Yield a line for each reason for which messages are dead-lettered or dropped."""
    for kind in ('dead_lettered', 'dropped'):
        tally = Counter(name.rpartition(' (')[2].rstrip(')') for name in found[kind])
        for why, count in tally.most_common():
            yield f'{words(kind)}: {count} ({why})'


def hints(faults: list[str]) -> list[str]:
    """Return where to look next, a line for each kind of fault that has one."""
    return [HINTS[kind] for kind in faults if kind in HINTS]


def counts(found: Found, plain: int) -> dict[str, int]:
    """Return how many messages there are of each kind; `plain` more went plainly."""
    numbers = {kind: len(found[kind]) for kind in MEANING}
    for kind in PLAIN_KINDS:
        numbers[kind] += plain
    return numbers


def judge(
    found: Found,
    plain: int = 0,
    interrupted: str = '',
) -> Verdict:
    """Return the verdict on what audit() found, where `plain` messages more went plainly.

    `interrupted` tells, if the ledgers were not read to their end, how far they were.
    """
    unreadable = found['unreadable']
    attempted = plain or found['attempted']
    if interrupted:
        faults = [name for name in CERTAIN if found[name]]
        return Verdict(f'unknown: interrupted after {interrupted}', 3, faults)
    complete = attempted and found['consumers'] and not unreadable
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
        missing = 'consumer' if attempted else 'producer'
        return Verdict(f'unknown: the ledgers know of no {missing}', 3, [])
    if found['cannot_tell']:
        return Verdict(DEPENDS_ON_CLOCKS.format(count=len(found['cannot_tell'])), 3, UNDECIDED)
    if found['dropped'] or found['dead_lettered']:
        return Verdict(VALID_WITH_LIMITS, 0, [])
    return Verdict(VALID, 0, [])


def words(kind: str) -> str:
    """Return a kind as the report shows it: 'ack lost'."""
    return WORDS.get(kind, kind.replace('_', ' '))
