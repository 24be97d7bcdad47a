#!/usr/bin/env python3
"""Receive what fanout_producer.py sends to everybody, through a queue of one's own.

Declares the queue (default: the name of this host), binds it to the fanout exchange siamese.fanout, and acknowledges
what comes, with prefetch 100. The queue stays when this script ends, and gathers what is sent; since a message lives
for 10 seconds, about ten are there on return. After an hour without a consumer it is deleted. Two consumers with
different queues both get everything, two with the same queue share. Pairs with fanout_producer.py; start any number
of both, in any order.

    $ ./fanout_consumer.py bert --name carol --count 3 --ledger fanout.jsonl
    1 of 3  alice 1  Hello world, 0.9 s old
    2 of 3  alice 2  Hello world, 0.8 s old
    3 of 3  alice 3  Hello world, 0.7 s old
    3 received, 0 missed, 0 invalid; the oldest 0.9 s old; 0 redelivered, 0 republished; 0.1 s; stopped: count reached

Missed are the numbers that did not come here: expired, sent before the queue was there, or taken by another consumer of
the same queue. What is no message of fanout_producer.py, or a copy that no lost connection explains, is rejected into
siamese.dlx -> siamese.dead. Exit status: 0 done, 1 something invalid or refused by the broker, 2 usage, 3 nothing
came, fewer than --count, or no broker within --give-up-after.

Examples:
    ./fanout_consumer.py                              # the queue of this host, until Ctrl-C
    ./fanout_consumer.py bert --idle 20               # the queue bert, until nothing came for 20 s
    ./fanout_consumer.py --ledger fanout.jsonl        # keep books for audit.py
"""

import socket
from collections import Counter, OrderedDict

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import hello as greeting

UNUSED = 3_600_000  # ms without a consumer after which the broker deletes the queue

LINE = '{tally}  {producer} {number}  Hello world, {age:.1f} s old{remarks}'
SUMMARY = (
    '{received} received, {missed} missed, {invalid} invalid; the oldest {oldest_s:.1f} s old; {redelivered} '
    'redelivered, {republished} republished; {duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.exchange_declare(link.args.exchange, 'fanout', durable=True)
    channel.queue_declare(
        link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': topology.DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            'x-expires': UNUSED,
        },
    )
    channel.queue_bind(link.args.queue, link.args.exchange)
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(link.args.queue, link.on_delivery, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        'queue',
        nargs='?',
        type=flags.name,
        default=socket.gethostname(),
        metavar='QUEUE',
        help='a queue of your own (default: %(default)s)',
    )
    parser.add_argument(
        '--exchange', type=flags.name, default='siamese.fanout', help='default: %(default)s'
    )
    flags.add_queue_type_flag(parser)
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser)
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    known, books, oldest = OrderedDict(), Counter(), 0.0
    last, different = (
        Counter(),
        Counter(),
    )  # of each run of a producer: its highest number, how many came
    with delivery.connected(args, declare) as link:
        for delivered in link.deliveries(args.idle):
            channel, method = delivered.channel, delivered.method
            properties, body = delivered.properties, delivered.body
            try:
                hello = greeting.read(properties, body)
                times = greeting.count_copies(known, link, method, properties)
            except Invalid as invalid:
                delivered.reject(invalid)
                continue
            delivered.ack()
            run, gap = (
                (hello.producer, hello.run),
                hello.number - last[hello.producer, hello.run] - 1,
            )
            last[run], different[run] = max(last[run], hello.number), different[run] + (times == 1)
            if len(last) > greeting.REMEMBERED:
                oldest_run = next(iter(last))
                books['missed'] += max(0, last.pop(oldest_run) - different.pop(oldest_run))
            remarks = {
                'overdue': hello.overdue,
                'redelivered': method.redelivered,
                'republished': delivered.attempt > 1,
            }
            remarks = [remark for remark, applies in remarks.items() if applies]
            books.update(['received', *remarks])
            oldest = max(oldest, hello.age)
            if not args.quiet:
                remarks += [f'{gap} before it missed'] if gap > 0 else []
                print(
                    LINE.format(
                        tally=script.tally(link.done, args.count),
                        remarks=''.join(f', {remark}' for remark in remarks),
                        **hello._asdict(),
                    )
                )
    invalid = sum(link.rejections.values())
    link.set_exit_status(books['received'] + invalid, invalid)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'received': books['received'],
            'missed': books['missed'] + sum((last - different).values()),
            'invalid': invalid,
            'reasons': link.rejections,
            'oldest_s': round(oldest, 3),
            'overdue': books['overdue'],
            'redelivered': books['redelivered'],
            'republished': books['republished'],
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
