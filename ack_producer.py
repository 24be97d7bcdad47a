#!/usr/bin/env python3
"""Publish 'Hello world' every second, for a consumer that does not acknowledge all of it.

Each message goes to the queue siamese.ack: durable, persistent, mandatory,
and republished until the broker confirms it. --priority lets a message
overtake those that wait in a classic queue, --ttl gives it a time to live.
Expired messages are moved to siamese.dead. Pairs with ack_consumer.py;
start any number of both, in any order.

    $ ./ack_producer.py --name alice --count 3 --rate 10 --ledger runs/ack.jsonl
    alice 1 of 3  Hello world  priority 0
    alice 2 of 3  Hello world  priority 0
    alice 3 of 3  Hello world  priority 0
    3 published, 3 confirmed, 0 republished; 0.4 s; stopped: count reached

Exit status: 0 every message confirmed, 1 the broker cannot take a message, 2
usage, 3 refused by the broker, or broker unavailable for --give-up-after.

Examples:
    ./ack_producer.py                                 # one message/s until Ctrl-C
    ./ack_producer.py --count 10 --priority random    # priorities from 0 to 9
    ./ack_producer.py --count 10 --ttl 5              # ... that live for 5 s
    ./ack_producer.py --ledger runs/ack.jsonl         # write a ledger for audit.py
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import random

from siamese import flags, script
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters, expiration
from siamese.scenarios import hello

LINE = '{name} {tally}  Hello world  priority {priority}'
SUMMARY = (
    '{published} published, {confirmed} confirmed, {republished} republished; '
    '{duration_s:.1f} s; stopped: {stopped}'
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
    channel.confirm_delivery(ack_nack_callback=link.on_confirm, callback=link.on_ready)


def priority(text):
    """An argparse type: a priority from 0 to 9, or random."""
    if text == 'random':
        return text
    return flags.number(int, 0, 9)(text)


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--priority',
        type=priority,
        default=0,
        metavar='P',
        help='priority of the messages: 0 to 9, or random (default: 0)',
    )
    flags.add_rate_flag(parser, default=1)
    flags.add_ttl_flag(parser)
    flags.add_broker_flags(parser, queue='siamese.ack')
    flags.add_stop_timeout_flag(parser, 'confirms')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    published = 0
    with connected(args, declare) as link:
        for number in link.paced(args.rate):
            published = number
            level = args.priority
            if level == 'random':
                level = random.randint(0, 9)
            body, properties = hello.message(
                link, number, priority=level, expiration=expiration(args.ttl)
            )
            link.publish(
                exchange='',
                routing_key=args.queue,
                body=body,
                properties=properties,
            )
            if not args.quiet:
                tally = script.tally(number, args.count)
                print(LINE.format(name=args.name, tally=tally, priority=level))
    summary = {
        **link.summary(),
        'published': published,
        'confirmed': link.counts['confirmed'],
        'republished': link.counts['republished'],
    }
    script.report(args, SUMMARY, summary)
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
