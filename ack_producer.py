#!/usr/bin/env python3
"""Send 'Hello world' every second, for a consumer that acknowledges, rejects and loses.

Each message goes to the queue siamese.ack: durable, persistent, mandatory, and republished until the broker confirms it.
--priority lets a message overtake those that wait in a classic queue, --ttl gives it a time to live. What expires is
moved to siamese.dead. Pairs with ack_consumer.py; start any number of both, in any order.

    $ ./ack_producer.py --name alice --count 3 --rate 10 --ledger ack.jsonl
    alice 1 of 3  Hello world  priority 0
    alice 2 of 3  Hello world  priority 0
    alice 3 of 3  Hello world  priority 0
    3 sent, 3 confirmed, 0 republished; 0.4 s; stopped: count reached

Exit status: 0 every message accepted, 1 refused by the broker, 2 usage, 3 no broker within --give-up-after.

Examples:
    ./ack_producer.py                                 # one message/s until Ctrl-C
    ./ack_producer.py --count 10 --priority random    # priorities from 0 to 9
    ./ack_producer.py --count 10 --ttl 5              # ... that live for 5 s
    ./ack_producer.py --ledger ack.jsonl              # keep books for audit.py
"""

import random

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.scenarios import hello as greeting

LINE = '{name} {tally}  Hello world  priority {level}'
SUMMARY = '{sent} sent, {confirmed} confirmed, {republished} republished; {duration_s:.1f} s; stopped: {stopped}'


def declare(channel, link):
    topology.declare_dead_letters(channel)
    own = {'classic': {'x-max-priority': 9}, 'quorum': {'x-delivery-limit': 20}}[
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
    channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def priority(text):
    """An argparse type: a priority from 0 to 9, or random."""
    return text if text == 'random' else flags.number(int, 0, 9)(text)


def parse_args(argv):
    parser = flags.parser(__doc__)
    flags.add_rate_flag(parser, default=1)
    parser.add_argument(
        '--priority', type=priority, default=0, metavar='P', help='0 to 9, or random (default: 0)'
    )
    flags.add_ttl_flag(parser)
    flags.add_broker_flags(parser, queue='siamese.ack')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    sent = 0
    with delivery.connected(args, declare) as link:
        while link.keep_running(sent, link.started + sent / args.rate):
            sent += 1
            level = random.randint(0, 9) if args.priority == 'random' else args.priority
            body, properties = greeting.message(
                link, sent, priority=level, expiration=topology.expiration(args.ttl)
            )
            link.publish('', args.queue, body, properties)
            if not args.quiet:
                print(
                    LINE.format(name=args.name, tally=script.tally(sent, args.count), level=level)
                )
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'sent': sent,
            'confirmed': link.counts['confirmed'],
            'republished': link.counts['republished'],
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
