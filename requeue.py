"""Dead letters sent back into the queues they died in."""

import time

import dead
import delivery
import history
import letters
import script
from common import Failure
from tables import many, plain

SUMMARY = ('{sent_back} of {found} dead letters sent back, {returned} returned, {unknown} from no known queue; '
           '{duration_s:.1f} s; stopped: {stopped}')


def declare(channel, link):
    channel.confirm_delivery(link.confirmed, callback=link.ready)


def send_back(args):
    """Send dead letters back into the queues they died in; return the exit status."""
    db, sent_back, unknown = history.open_for_writing(args.history), 0, 0
    ids = dead.ids(db, args.requeue_dead)
    if not ids:
        raise Failure(f'no dead letter of {args.requeue_dead} waits in {args.history} to be sent back', 3)
    print(f'{many(len(ids), "dead letter")} of {plain(args.requeue_dead)} to send back')
    accepted = []
    with delivery.connected(args, declare, window=1, retry_returned=False) as link:
        link.on_accepted = accepted.extend
        for number, id in enumerate(ids):
            if not link.goes_on(number):
                break
            letter = dead.letter(db, id)
            if not letter or letter['requeued']:  # somebody else was faster
                continue
            if not letter['queue']:
                unknown += 1
                continue
            link.publish('', letter['queue'], letter['body'],
                         letters.back(letter, link.endpoint.credentials.username))
            link.flush()
            if accepted:
                dead.mark_requeued(db, [id], time.time())
                sent_back += len(accepted)
                accepted.clear()
        else:
            link.reason = 'all are sent'
    script.report(args, SUMMARY, {**link.summary(), 'sent_back': sent_back, 'found': len(ids), 'unknown': unknown,
                               'returned': link.counts['returned']})
    return link.status or (0 if sent_back == len(ids) else 1)
