#!/usr/bin/env python3
"""Receive the broadcast of fanout_producer.py through your own queue.

Declares the queue (default: the name of this host), binds it to the fanout
exchange siamese.fanout, and acknowledges each message, with prefetch 100.
The queue outlives the script and keeps collecting. Messages expire after 10
seconds, so about ten are waiting when you come back. After an hour without
a consumer the queue is deleted. Two consumers with different queues both
get every message, two with the same queue share them. Pairs with
fanout_producer.py; start any number of both, in any order.

    $ ./fanout_consumer.py bert --name carol --count 3 --ledger runs/fanout.jsonl
    1 of 3  alice 1  Hello world, 0.9 s old
    2 of 3  alice 2  Hello world, 0.8 s old
    3 of 3  alice 3  Hello world, 0.7 s old
    3 delivered, 0 missed, 0 invalid; the oldest 0.9 s old; 0 redelivered, 0 republished; 0.1 s; stopped: count reached

Missed are the numbers that did not come here: expired, published before the
queue existed, or taken by another consumer of the same queue. Messages not
sent by fanout_producer.py, and copies that no lost connection explains, are
dead-lettered (siamese.dlx -> siamese.dead). Exit status: 0 done, 1
something invalid, 2 usage, 3 nothing came, fewer than --count, refused by the
broker, or broker unavailable for --give-up-after.

Examples:
    ./fanout_consumer.py                              # the queue of this host, until Ctrl-C
    ./fanout_consumer.py bert --idle 20               # stop when nothing came for 20 s
    ./fanout_consumer.py --ledger runs/fanout.jsonl   # write a ledger for audit.py
"""  # noqa: E501 - sample output is as printed

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import socket
from collections import Counter

from siamese import flags, script
from siamese.messaging.deliveries import Invalid
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.scenarios import hello

LINE = '{tally}  {producer} {number}  Hello world, {age:.1f} s old{remarks}'
SUMMARY = (
    '{delivered} delivered, {missed} missed, {invalid} invalid; the oldest {oldest_s:.1f} s old; '
    '{redelivered} redelivered, {republished} republished; '
    '{duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.exchange_declare(
        exchange=link.args.exchange,
        exchange_type='fanout',
        durable=True,
    )
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            'x-expires': hello.QUEUE_EXPIRES_MS,
        },
    )
    channel.queue_bind(queue=link.args.queue, exchange=link.args.exchange)
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(
        queue=link.args.queue,
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
    )


def remarks_on(message, delivery):
    """Return what is unusual about a delivery."""
    remarks = []
    if message.overdue:
        remarks.append('overdue')
    if delivery.redelivered:
        remarks.append('redelivered')
    if delivery.attempt > 1:
        remarks.append('republished')
    return remarks


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        'queue',
        nargs='?',
        type=flags.name,
        default=socket.gethostname(),
        metavar='QUEUE',
        help='your own queue (default: the name of this host, %(default)s)',
    )
    hello.add_exchange_flag(parser)
    flags.add_queue_type_flag(parser)
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser)
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    counts = Counter()
    gaps = hello.Gaps()
    oldest_s = 0.0
    with connected(args, declare) as link:
        received = hello.Received(link)
        for delivery in link.deliveries(args.idle):
            try:
                message = hello.parse_hello(delivery.properties, delivery.body)
                copy_number = received.add(delivery)
            except Invalid as invalid:
                delivery.reject(invalid)
                continue
            delivery.ack()
            gap = gaps.add(message, is_first=copy_number == 1)
            remarks = remarks_on(message, delivery)
            counts.update(remarks)
            oldest_s = max(oldest_s, message.age)
            if gap:
                remarks.append(f'{gap} before it missed')
            if not args.quiet:
                show(message, script.tally(link.done, args.count), remarks)
    link.set_exit_status(link.done, link.invalid_count)
    script.report(args, SUMMARY, summarize(link, counts, gaps, oldest_s))
    return link.exit_status


def show(message, tally, remarks):
    text = ''.join(f', {remark}' for remark in remarks)
    print(LINE.format(tally=tally, remarks=text, **message._asdict()))


def summarize(link, counts, gaps, oldest_s):
    return {
        **link.summary(),
        'delivered': link.done,
        'missed': gaps.missed(),
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'oldest_s': round(oldest_s, 3),
        'overdue': counts['overdue'],
        'redelivered': counts['redelivered'],
        'republished': counts['republished'],
    }


if __name__ == '__main__':
    script.run(main)
