"""What the ledgers of a run prove: the verdict of audit.py."""

import re
from collections import defaultdict

from siamese.text import printable

SHOWN = 20  # messages named for each fault
MEANING = {  # in the order of the report; the faults are those that make a run invalid
    'attempted': 'by {producers}',
    'confirmed': 'confirmed by the broker',
    'ok': 'came out and were checked, by {consumers}',
    'lost': 'accepted, but never came out',
    'corrupt': 'came out altered',
    'rejected_as_invalid': 'came out as sent, but a consumer found them invalid',
    'unexpected': 'came out, but nobody had sent them',
    'duplicated': 'came out again, and no fault explains it',
    'redelivered': 'came out again: not acknowledged, or that was lost with a connection',
    'ack_lost': 'came out again: acknowledged, but that was lost between nodes (quorum queue)',
    'republished': 'came out again: the producer had seen no confirm',
    'recovered': 'came out, though never confirmed',
    'expired': 'accepted, but nobody took them within their time to live',
    'delivery_limit': 'rejected or lost so often that the broker gave them up',
    'returned': 'no queue took them: nobody listened',
    'in_doubt': 'neither confirmed nor seen again',
}
FAULTS = ('lost', 'corrupt', 'rejected_as_invalid', 'unexpected', 'duplicated')
CERTAIN = ('corrupt', 'rejected_as_invalid')  # also where lines are missing
SETTLED = (
    'acked',
    'invalid',
    'delivery_limit',
)  # deliveries after which the broker need not deliver again


def audit(events):
    """Judge the books of a run.

    `events` are the lines of its ledgers as dicts, each process's own in order (books.read). Returns a dict
    from each key of MEANING to the sorted list of message ids, and 'unreadable', 'producers', 'consumers' likewise.
    """
    sent = defaultdict(dict)  # id -> {attempt: digest of the body}
    answers = defaultdict(set)  # (id, attempt) -> what the producer heard of it
    came_out = defaultdict(list)  # id -> deliveries
    closed, has_flags = set(), True  # (by, run, epoch) that ended in good order
    queues = {}  # (by, run) -> (queue, its type)
    spans = {}  # (by, run, epoch) -> [exchange, queue, first time, last time]
    mortal = {}  # id -> the first attempt of a message with a time to live
    found = {name: set() for name in (*MEANING, 'unreadable', 'producers', 'consumers')}
    for event in events:
        kind = event['event']
        if kind == 'unreadable':
            found[kind].add(event['where'])
            continue
        process = event['by'], event['run']
        if kind == 'attempted':
            sent[event['id']][event['attempt']] = event['digest']
            found['producers'].add(event['by'])
            if re.fullmatch('[0-9]{1,12}', event.get('expiration', '')):
                mortal.setdefault(event['id'], event)
        elif kind in ('confirmed', 'nacked', 'returned', 'in_doubt', 'set_aside'):
            answers[event['id'], event['attempt']].add(kind)
        elif kind in SETTLED or kind in ('rejected', 'unsettled'):
            queue, queue_type = queues.get(process, (None, None))
            id = (
                f'without message_id: {event["digest"]:.16}' if event['id'] is None else event['id']
            )
            came_out[id].append({**event, 'queue': queue, 'queue_type': queue_type})
            found['consumers'].add(event['by'])
        elif kind == 'closed':
            closed.add((*process, event['epoch']))
        elif kind == 'connected':
            has_flags &= (
                'LavinMQ' not in event['broker']
            )  # redelivered does not survive its restart (lavinmq#1911)
            queues[process] = event.get('queue'), event.get('queue_type')
            if event.get('exchange') and event.get('queue'):
                spans[(*process, event['epoch'])] = [
                    event['exchange'],
                    event['queue'],
                    event['at'],
                    event['at'],
                ]
        if (*process, event['epoch']) in spans:
            spans[(*process, event['epoch'])][-1] = event['at']
    found['attempted'].update(sent)
    found['confirmed'].update(id for (id, _), heard in answers.items() if 'confirmed' in heard)
    found['returned'].update(id for (id, _), heard in answers.items() if 'returned' in heard)
    took = defaultdict(set)  # id -> queues from which it came out, and was settled
    for id, copies in came_out.items():
        unanswered = {attempt for attempt in sent[id] if answers[id, attempt] - {'confirmed'}}
        for label in judge_content(copies, sent[id]):
            found[label].add(id)
        for queue in {copy['queue'] for copy in copies}:
            of_queue = [copy for copy in copies if copy['queue'] == queue]
            if any(copy['event'] in SETTLED for copy in of_queue):
                took[id].add(queue)
            for label in judge_copies(of_queue, unanswered, closed, has_flags):
                found[label].add(id)
    found['rejected_as_invalid'] -= found[
        'duplicated'
    ]  # the copy that a consumer refused as replayed
    for id in found['confirmed'] & mortal.keys():
        for label, where in judge_absence(mortal[id], took.get(id, ()), spans.values()):
            found[label].add(id + where)
    found['lost'] |= found['confirmed'] - took.keys() - mortal.keys()
    found['recovered'] = found['ok'] - found['confirmed']
    found['returned'] -= found['confirmed'] | took.keys()
    found['in_doubt'] = found['attempted'] - found['confirmed'] - found['returned'] - took.keys()
    return {name: sorted(map(str, ids)) for name, ids in found.items()}


def judge_content(copies, sent):
    """Yield what the copies of one message are by their content; `sent` maps attempts to digests."""
    ends = {copy['event'] for copy in copies} & {*SETTLED}
    if not {copy['attempt'] for copy in copies} <= sent.keys():
        yield 'unexpected'
    elif not {copy['digest'] for copy in copies} <= set(sent.values()):
        yield 'corrupt'
    elif ends:
        yield (
            'rejected_as_invalid'
            if 'invalid' in ends
            else 'delivery_limit'
            if 'delivery_limit' in ends
            else 'ok'
        )


def judge_copies(copies, unanswered, closed, has_flags):
    """Yield the labels that tell why there is more than one copy of a message in one queue.

    Nothing may come over a connection that acknowledged it before; it may be acknowledged over one connection that was
    closed in good order, for then the broker had that; and only one copy of each attempt may lack the flag redelivered,
    which RabbitMQ sets on all but the first delivery. A quorum queue that sets it may lose what was acknowledged
    (delivery.may_repeat). A later attempt needs an earlier one that the producer saw returned, nacked or cut off
    (`unanswered`).
    """
    by_attempt = defaultdict(list)
    for copy in copies:
        by_attempt[copy['attempt']].append(copy)
    for attempt, again in by_attempt.items():
        settled, replayed = set(), False
        for copy in again:
            connection = copy['by'], copy['run'], copy['epoch']
            replayed |= connection in settled
            settled |= {connection} if copy['event'] in SETTLED else set()
        first = sum(not copy['redelivered'] for copy in again)
        known_as_settled = replayed or len(settled & closed) > 1
        if (
            known_as_settled
            and first <= 1
            and all(copy['queue_type'] == 'quorum' for copy in again)
        ):
            yield 'ack_lost'
        elif known_as_settled or (first > 1 and has_flags):
            yield 'duplicated'
        elif len(again) > 1:
            yield 'redelivered'
        if attempt > min(by_attempt):
            excused = sum(0 < earlier < attempt for earlier in unanswered) == attempt - 1
            yield 'republished' if excused else 'duplicated'


def judge(found):
    """Return the verdict on what audit() found, the exit status, and the faults behind it."""
    complete = found['attempted'] and found['consumers'] and not found['unreadable']
    faults = [name for name in (FAULTS if complete else CERTAIN) if found[name]]
    if faults:
        return f'invalid: {", ".join(f"{len(found[name])} {name}" for name in faults)}', 1, faults
    if found['unreadable']:
        return (
            f'unknown: {printable(", ".join(found["unreadable"][:SHOWN]))} cannot be read',
            3,
            faults,
        )
    if not complete:
        return (
            f'unknown: the ledgers know of no {"consumer" if found["attempted"] else "producer"}',
            3,
            faults,
        )
    return 'valid: all that was accepted came out, unaltered, every copy explained', 0, faults


def judge_absence(sent, took, spans):
    """Yield (label, where) for each queue that should have handed out an accepted message with a time to live.

    `sent` is the line of its first attempt, `took` the queues it came out of. `spans` tell who listened: [exchange,
    queue, first time, last time]. Lost is what did not come out though a consumer was there from before it was sent
    until after its end; what was sent before the first consumer of a queue is not expected there.
    """
    dies = sent['at'] + int(sent['expiration']) / 1000
    listening = [
        (queue, last)
        for exchange, queue, first, last in spans
        if exchange == sent.get('exchange') and first < sent['at']
    ]
    for queue in {queue for queue, _ in listening} - {*took}:
        lost = any(last > dies for other, last in listening if other == queue)
        yield 'lost' if lost else 'expired', f' in {queue}'
    if not listening and not took:
        yield 'expired', ''
