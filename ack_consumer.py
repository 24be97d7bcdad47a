#!/usr/bin/env python3
"""Acknowledge each message, reject it, or leave it unacked, at random.

Consumes the queue siamese.ack with prefetch 100, and settles each delivery
separately, or not at all:

    acked      acknowledged: the broker removes the message
    rejected   requeued: the broker delivers it again, flagged as redelivered
    unacked    neither (--lose): the broker keeps it until this process ends, or the
               consumer timeout is over; then it is back in the queue

Pairs with ack_producer.py; start any number of both, in any order.

    $ ./ack_consumer.py --name carol --count 4 --seed 17 --ledger runs/ack.jsonl
    1 of 4  alice 1  Hello world  priority 0, 0.4 s old  acked
    2 of 4  alice 2  Hello world  priority 0, 0.4 s old  rejected
    3 of 4  alice 3  Hello world  priority 0, 0.3 s old  unacked
    4 of 4  alice 2  Hello world  priority 0, 0.4 s old, redelivered  acked
    4 delivered = 2 acked + 1 rejected + 1 unacked + 0 invalid; 1 redelivered; 0.1 s; stopped: count reached

Of --ack, --reject and --lose those not given are 0, or the rest for --ack;
--seed makes the decisions repeatable. Delivery limit reached: rejected or
left unacked so often that a quorum queue moves it to siamese.dead. Overdue:
delivered after its time to live. Invalid are messages not published by
ack_producer.py, and messages redelivered after an acknowledgement: they are
dead-lettered (siamese.dlx -> siamese.dead), and --json counts them by
reason under rejections. Exit status: 0 done, 1 something invalid, 2 usage, 3
nothing came, fewer than --count, refused by the broker, or broker unavailable
for --give-up-after.

Examples:
    ./ack_consumer.py                                 # 60 % acked, 30 % rejected, 10 % unacked
    ./ack_consumer.py --ack 100 --idle 5              # empty the queue
    ./ack_consumer.py --lose 100 --prefetch 10        # hold 10 messages until Ctrl-C
    ./ack_consumer.py --ledger runs/ack.jsonl         # write a ledger for audit.py
"""  # noqa: E501 - sample output is as printed

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import logging
import random
from collections import Counter

from siamese import flags, script
from siamese.messaging.deliveries import Invalid
from siamese.messaging.link import connected
from siamese.messaging.topology import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_QUEUE,
    declare_dead_letters,
)
from siamese.scenarios import hello

DECISIONS = ('acked', 'rejected', 'unacked')  # also the events in the ledger

LINE = (
    '{tally}  {producer} {number}  Hello world  '
    'priority {priority}, {age:.1f} s old{remarks}  {decision}'
)
SUMMARY = (
    '{delivered} delivered = '
    '{acked} acked + {rejected} rejected + {unacked} unacked + {invalid} invalid; '
    '{redelivered} redelivered; {duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            **hello.ACK_QUEUE_ARGUMENTS[link.args.queue_type],
        },
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(
        queue=link.args.queue,
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
        arguments=consumer_arguments(link.args),
    )


def consumer_arguments(args):
    if args.consumer_timeout is None:
        return {}
    return {'x-consumer-timeout': round(args.consumer_timeout * 1000)}


def parse_args(argv):
    parser = flags.parser(__doc__)
    add_percent_flag(parser, '--ack', 'acknowledge (default: 60, or the rest)')
    add_percent_flag(parser, '--reject', 'reject (default: 30, or 0 if one is given)')
    add_percent_flag(parser, '--lose', 'leave unacked (default: 10, or 0 if one is given)')
    parser.add_argument(
        '--seed',
        type=int,
        metavar='N',
        help='decide as every run with this seed does (default: at random)',
    )
    parser.add_argument(
        '--consumer-timeout',
        type=flags.number(float, 0.001),
        metavar='S',
        help='ask the broker to take back what is not acknowledged for S s: quorum queues '
        'of RabbitMQ from 4.3 on (default: as the broker is configured, 30 minutes)',
    )
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser, queue='siamese.ack')
    args = flags.parse(parser, argv)
    fill_percents(args)
    if round(args.ack + args.reject + args.lose, 6) != 100:
        percents = f'--ack {args.ack:g} --reject {args.reject:g} --lose {args.lose:g}'
        parser.error(f'{percents} do not make 100 %')
    return args


def add_percent_flag(parser, flag, what):
    parser.add_argument(
        flag,
        type=flags.number(float, 0, 100),
        metavar='PERCENT',
        help=f'percentage of deliveries to {what}',
    )


def fill_percents(args):
    """Set the percentages that were not given."""
    if args.ack is None and args.reject is None and args.lose is None:
        args.reject = 30
        args.lose = 10
    args.reject = args.reject or 0
    args.lose = args.lose or 0
    if args.ack is None:
        args.ack = max(0, 100 - args.reject - args.lose)


def main(argv=None):
    args = parse_args(argv)
    chance = random.Random(args.seed)
    percents = (args.ack, args.reject, args.lose)
    counts = Counter()
    with connected(args, declare) as link:
        received = hello.Received(link)
        traps = Traps(link)
        for delivery in link.deliveries(args.idle):
            # Also for a message that turns out invalid, so that a seed repeats the others.
            decision = chance.choices(DECISIONS, percents)[0]
            try:
                message = hello.parse_hello(delivery.properties, delivery.body)
                copy_number = received.add(delivery, settled=decision == 'acked')
            except Invalid as invalid:
                delivery.reject(invalid)
                continue
            remarks = remarks_on(message, delivery, decision)
            settle(delivery, decision, remarks)
            counts.update([decision, *remarks])
            if not args.quiet:
                show(message, delivery, script.tally(link.done, args.count), remarks, decision)
            traps.warn(message, decision, copy_number, remarks)
    delivered = sum(counts[decision] for decision in DECISIONS) + link.invalid_count
    link.set_exit_status(delivered, link.invalid_count)
    script.report(args, SUMMARY, summarize(link, counts, delivered))
    return link.exit_status


def summarize(link, counts, delivered):
    return {
        **link.summary(),
        'delivered': delivered,
        'acked': counts['acked'],
        'rejected': counts['rejected'],
        'unacked': counts['unacked'],
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'redelivered': counts['redelivered'],
        'delivery_limit': counts['delivery_limit'],
        'overdue': counts['overdue'],
    }


def remarks_on(message, delivery, decision):
    """Return what is unusual about a delivery."""
    remarks = []
    if delivery.redelivered:
        remarks.append('redelivered')
    if message.overdue:
        remarks.append('overdue')
    headers = delivery.properties.headers or {}
    is_last = headers.get('x-delivery-count') == hello.DELIVERY_LIMIT
    if is_last and decision != 'acked':  # the quorum queue will not deliver it again
        remarks.append('delivery_limit')
    return remarks


def settle(delivery, decision, remarks):
    """Acknowledge or reject a delivery, or leave it unacked; the ledger has it first."""
    if 'delivery_limit' in remarks:
        delivery.record('delivery_limit')
    else:
        delivery.record(decision)
    if decision == 'acked':
        # Not delivery.ack(): that acknowledges all earlier deliveries too, and would
        # settle those left unacked.
        delivery.channel.basic_ack(delivery_tag=delivery.method.delivery_tag)
    elif decision == 'rejected':
        delivery.channel.basic_reject(delivery_tag=delivery.method.delivery_tag, requeue=True)
    # Unacked has no verb: the broker waits for an acknowledgement in vain.


def show(message, delivery, tally, remarks, decision):
    text = ''.join(f', {remark.replace("_", " ")}' for remark in remarks)
    line = LINE.format(
        tally=tally,
        priority=delivery.properties.priority or 0,
        remarks=text,
        decision=decision,
        **message._asdict(),
    )
    print(line)


class Traps:
    """Warnings of what goes wrong when messages are rejected or left unacked too often."""

    def __init__(self, link):
        self.link = link
        self.unacked = Counter()  # epoch -> how many deliveries the broker waits for in vain

    def warn(self, message, decision, copy_number, remarks):
        """Log the trap that a delivery shows; `copy_number` is how often the message came."""
        if 'delivery_limit' in remarks:
            logging.warning(
                '%s %d: delivered %d times, delivery limit reached; the broker moves it to %s',
                message.producer,
                message.number,
                hello.DELIVERY_LIMIT + 1,
                DEAD_LETTER_QUEUE,
            )
        elif self.is_rejected_again_and_again(decision, copy_number):
            logging.warning(
                '%s %d: rejected %d times; a classic queue has no delivery limit, '
                'see --queue-type quorum',
                message.producer,
                message.number,
                copy_number,
            )
        if decision == 'unacked':
            self.warn_of_full_prefetch()

    def is_rejected_again_and_again(self, decision, copy_number):
        return (
            decision == 'rejected'
            and copy_number == hello.DELIVERY_LIMIT
            and self.link.args.queue_type == 'classic'
        )

    def warn_of_full_prefetch(self):
        self.unacked[self.link.epoch] += 1
        if self.unacked[self.link.epoch] == self.link.args.prefetch:
            logging.warning(
                'all deliveries that --prefetch allows are unacked: the broker delivers no more '
                'until this process ends; then they are back in the queue'
            )


if __name__ == '__main__':
    script.run(main)
