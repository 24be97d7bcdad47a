"""Dead letters sent back into the queues they died in."""

import re
import time
from collections import Counter

from common import Failure
from siamese import script
from siamese.messaging import link as delivery
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.monitoring import raw_properties as letters
from siamese.text import count_of, printable

NACKS = 4  # after so many a queue is full; a quorum queue that elects its leader says no as well, but not for long
PATIENCE = 5  # s in which the broker confirms a letter
SUMMARY = (
    '{sent_back} of {found} dead letters sent back, {returned} returned, {unknown} from no known queue; '
    '{duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def send_back(args):
    """Send dead letters back into the queues they died in; return the exit status."""
    ids = dead.ids(history.open_for_reading(args.history), args.requeue_dead)
    which = re.sub('//.*@', '//***@', printable(args.requeue_dead))  # it may be a URL by mistake
    if not ids:
        raise Failure(f'no dead letter of {which} waits in {args.history} to be sent back', 3)
    if not history.lock(f'{args.history}-requeue'):
        raise Failure(
            f'another one is sending back dead letters of {args.history}; try again when it has ended',
            3,
        )
    db = history.open_for_writing(args.history)
    accepted, full, sent_back, unknown = [], Counter(), 0, 0

    def tick_off():
        nonlocal sent_back
        if accepted:
            dead.mark_requeued(db, [id], time.time())
            sent_back += 1
            accepted.clear()

    if args.json != '-':
        print(f'{count_of(len(ids), "dead letter")} of {which} to send back')
    with delivery.connected(args, declare, retry_returned=False) as link:
        link.on_confirmed = accepted.extend
        for number, id in enumerate(ids):
            if not link.keep_running(number):
                break
            letter = dead.letter(db, id)
            if not letter or letter['requeued']:  # somebody else was faster
                continue
            if not letter['queue']:
                unknown += 1
            elif letter['queue'] in full or not fits(link, letter, len(ids) - number):
                full[letter['queue']] += 1
            tick_off()
        else:
            link.stop_reason = 'all are sent'
        if full:
            link.fail(
                Failure(
                    f'{count_of(sum(full.values()), "dead letter")} not sent back: no room in '
                    f'{", ".join(map(printable, full))}; make room, and try again',
                    1,
                )
            )
    tick_off()  # what was confirmed while the connection was closed
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'sent_back': sent_back,
            'found': len(ids),
            'unknown': unknown,
            'returned': link.counts['returned'],
        },
    )
    return link.exit_status or (0 if sent_back == len(ids) else 1)


def fits(link, letter, left):
    """Publish a dead letter, one of so many that are `left`; return False if its queue is full, and raise Failure if
    the broker does not say."""
    outbox, enough = link.outbox, link.counts['nacked'] + NACKS
    link.publish(
        '',
        letter['queue'],
        letter['body'],
        letters.back(letter, link.endpoint.credentials.username),
    )
    link.wait_until(
        lambda: (
            not link.unconfirmed_count
            or link.counts['nacked'] >= enough
            or (
                time.monotonic() - outbox.oldest().sent_at > PATIENCE
                if outbox.unconfirmed
                else script.stop_requested()
            )
        )
    )
    if outbox.unconfirmed:
        link.failure = Failure(
            f'{count_of(left, "dead letter")} not sent back: '
            f'{link.problem or f"no confirm for {PATIENCE} s"}; try again later',
            3,
        )
        raise link.failure  # which nothing waits for
    there_is_room = not outbox.backlog or script.stop_requested()
    outbox.backlog.clear()
    return there_is_room
