#!/usr/bin/env python3
"""Acknowledge, reject or lose each message, at random.

Consumes the queue siamese.ack with prefetch 100, and settles each delivery by itself, or not at all:

    acked      acknowledged: the broker removes the message
    rejected   with requeue: the broker delivers it again, flagged as redelivered
    lost       neither: the broker keeps it as unacknowledged until this process ends, then it is back in the queue

Pairs with ack_producer.py; start any number of both, in any order.

    $ ./ack_consumer.py --name carol --count 4 --seed 17 --ledger ack.jsonl
    1 of 4  alice 1  Hello world  priority 0, 0.4 s old  acked
    2 of 4  alice 2  Hello world  priority 0, 0.4 s old  rejected
    3 of 4  alice 3  Hello world  priority 0, 0.3 s old  lost
    4 of 4  alice 2  Hello world  priority 0, 0.4 s old, redelivered  acked
    4 received = 2 acked + 1 rejected + 1 lost + 0 invalid; 1 redelivered; 0.1 s; stopped: count reached

Of --ack, --reject and --lose those not given are 0, or what is left for --ack; --seed makes the decisions repeatable.
Given up: rejected or lost so often that a quorum queue moves it to siamese.dead. Overdue: delivered after its time to
live. What is no message of ack_producer.py, or comes again though it was acknowledged, is rejected into siamese.dlx ->
siamese.dead. Exit status: 0 done, 1 something invalid or refused by the broker, 2 usage, 3 nothing came, fewer than
--count, or no broker within --give-up-after.

Examples:
    ./ack_consumer.py                                 # 60 % acked, 30 % rejected, 10 % lost, until Ctrl-C
    ./ack_consumer.py --ack 100 --idle 5              # empty the queue
    ./ack_consumer.py --lose 100 --prefetch 10        # hold 10 messages until Ctrl-C
    ./ack_consumer.py --ledger ack.jsonl              # keep books for audit.py
"""

import logging
import random
from collections import Counter, OrderedDict

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import hello as greeting

LIMIT = 20  # a quorum queue gives a message up when it was not acknowledged once more than this, a classic one never
EVENTS = {
    'acked': 'acked',
    'rejected': 'rejected',
    'lost': 'unsettled',
}  # what the ledger calls each decision

LINE = '{tally}  {producer} {number}  Hello world  priority {priority}, {age:.1f} s old{remarks}  {decision}'
SUMMARY = (
    '{received} received = {acked} acked + {rejected} rejected + {lost} lost + {invalid} invalid; '
    '{redelivered} redelivered; {duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    topology.declare_dead_letters(channel)
    own = {'classic': {'x-max-priority': 9}, 'quorum': {'x-delivery-limit': LIMIT}}[
        link.args.queue_type
    ]
    channel.queue_declare(
        link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': topology.DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            **own,
        },
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(link.args.queue, link.on_delivery, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    for flag, what in (
        ('--ack', 'acknowledged (60)'),
        ('--reject', 'rejected (30)'),
        ('--lose', 'lost (10)'),
    ):
        parser.add_argument(
            flag, type=flags.number(float, 0, 100), metavar='PERCENT', help=f'chance to be {what}'
        )
    parser.add_argument(
        '--seed', type=int, metavar='N', help='decide as every run with this seed does'
    )
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser, queue='siamese.ack')
    args = flags.parse(parser, argv)
    if args.ack is args.reject is args.lose is None:
        args.reject, args.lose = 30, 10
    args.reject, args.lose = args.reject or 0, args.lose or 0
    args.ack = max(0, 100 - args.reject - args.lose) if args.ack is None else args.ack
    if round(args.ack + args.reject + args.lose, 6) != 100:
        parser.error(
            f'--ack {args.ack:g} --reject {args.reject:g} --lose {args.lose:g} do not make 100 %'
        )
    return args


def warn(hello, ends, forever, stuck):
    """Log the trap that a delivery shows: its last one, rejected for ever, or all that --prefetch allows is lost."""
    if ends:
        logging.warning(
            '%s %d: delivered %d times, the broker gives it up and moves it to %s',
            hello.producer,
            hello.number,
            LIMIT + 1,
            topology.DEAD_LETTER_QUEUE,
        )
    elif forever:
        logging.warning(
            '%s %d: rejected %d times; a classic queue never gives up, see --queue-type quorum',
            hello.producer,
            hello.number,
            LIMIT,
        )
    if stuck:
        logging.warning(
            'all that --prefetch allows is lost: the broker sends no more until this process ends; then '
            'they are back in the queue'
        )


def main(argv=None):
    args = parse_args(argv)
    decide, known, books, held = random.Random(args.seed), OrderedDict(), Counter(), Counter()
    with delivery.connected(args, declare) as link:
        for delivered in link.deliveries(args.idle):
            channel, method = delivered.channel, delivered.method
            properties, body = delivered.properties, delivered.body
            (decision,) = decide.choices(list(EVENTS), (args.ack, args.reject, args.lose))
            try:
                hello = greeting.read(properties, body)
                times = greeting.count_copies(
                    known, link, method, properties, settled=decision == 'acked'
                )
            except Invalid as invalid:
                delivered.reject(invalid)
                continue
            ends = (
                decision != 'acked' and (properties.headers or {}).get('x-delivery-count') == LIMIT
            )
            delivered.record('delivery_limit' if ends else EVENTS[decision])
            if decision == 'acked':
                channel.basic_ack(method.delivery_tag)
            elif decision == 'rejected':
                channel.basic_reject(method.delivery_tag, requeue=True)
            else:
                held[link.epoch] += 1  # and the broker is told nothing
            remarks = {
                'redelivered': method.redelivered,
                'overdue': hello.overdue,
                'delivery_limit': ends,
            }
            remarks = [remark for remark, applies in remarks.items() if applies]
            books.update([decision, *remarks])
            if not args.quiet:
                print(
                    LINE.format(
                        tally=script.tally(link.done, args.count),
                        priority=properties.priority or 0,
                        remarks=''.join(f', {remark}' for remark in remarks),
                        decision=decision,
                        **hello._asdict(),
                    )
                )
            if decision != 'acked':
                forever = decision == 'rejected' and times == LIMIT and args.queue_type == 'classic'
                warn(hello, ends, forever, held[link.epoch] == args.prefetch)
    received, invalid = (
        books['acked'] + books['rejected'] + books['lost'],
        sum(link.rejections.values()),
    )
    link.set_exit_status(received + invalid, invalid)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'received': received + invalid,
            'acked': books['acked'],
            'rejected': books['rejected'],
            'lost': books['lost'],
            'invalid': invalid,
            'reasons': link.rejections,
            'redelivered': books['redelivered'],
            'delivery_limit': books['delivery_limit'],
            'overdue': books['overdue'],
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
