#!/usr/bin/env python3
"""Broadcast 'Hello world' every second; each message lives for 10 seconds.

Publishes to the fanout exchange siamese.fanout: persistent, mandatory, and
republished until the broker confirms it. The exchange puts a copy into each
queue bound to it. A copy that no consumer takes in time is moved to
siamese.dead. Pairs with fanout_consumer.py; start any number of both, in
any order.

    $ ./fanout_producer.py --name alice --count 3 --rate 10 --ledger runs/fanout.jsonl
    alice 1 of 3  Hello world
    alice 2 of 3  Hello world
    alice 3 of 3  Hello world
    3 published, 3 confirmed, 0 unroutable, 0 republished; 0.3 s; stopped: count reached

Exit status: 0 every message confirmed, 1 the broker cannot take a message, 2
usage, 3 some were unroutable, refused by the broker, or broker unavailable for
--give-up-after.

Examples:
    ./fanout_producer.py                              # one message/s until Ctrl-C
    ./fanout_producer.py --ttl 60 --rate 5            # five, that live for a minute
    ./fanout_producer.py --ledger runs/fanout.jsonl   # write a ledger for audit.py
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

from siamese import flags, script
from siamese.messaging.link import connected
from siamese.messaging.topology import expiration
from siamese.scenarios import hello

LINE = '{name} {tally}  Hello world'
SUMMARY = (
    '{published} published, {confirmed} confirmed, '
    '{unroutable} unroutable, {republished} republished; '
    '{duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    channel.exchange_declare(
        exchange=link.args.exchange,
        exchange_type='fanout',
        durable=True,
    )
    channel.confirm_delivery(ack_nack_callback=link.on_confirm, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    hello.add_exchange_flag(parser)
    flags.add_rate_flag(parser, default=1)
    flags.add_ttl_flag(parser, default=10)
    flags.add_broker_flags(parser)
    flags.add_stop_timeout_flag(parser, 'confirms')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    published = 0
    with connected(args, declare, retry_returned=False) as link:
        for number in link.paced(args.rate):
            published = number
            body, properties = hello.message(link, number, expiration=expiration(args.ttl))
            link.publish(
                exchange=args.exchange,
                routing_key='',
                body=body,
                properties=properties,
            )
            if not args.quiet:
                print(LINE.format(name=args.name, tally=script.tally(number, args.count)))
    unroutable = link.counts['returned']
    if unroutable and not link.exit_status:
        link.exit_status = 3
    summary = {
        **link.summary(),
        'published': published,
        'confirmed': link.counts['confirmed'],
        'unroutable': unroutable,
        'republished': link.counts['republished'],
    }
    script.report(args, SUMMARY, summary)
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
