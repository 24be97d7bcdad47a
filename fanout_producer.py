#!/usr/bin/env python3
"""Send 'Hello world' every second to everybody who listens; each message lives for 10 seconds.

Publishes to the fanout exchange siamese.fanout: persistent, mandatory, and republished until the broker confirms it. The
exchange puts a copy into each queue that is bound to it; what nobody takes from there in time is moved to siamese.dead.
Pairs with fanout_consumer.py; start any number of both, in any order.

    $ ./fanout_producer.py --name alice --count 3 --rate 10 --ledger fanout.jsonl
    alice 1 of 3  Hello world
    alice 2 of 3  Hello world
    alice 3 of 3  Hello world
    3 sent, 3 confirmed, 0 unroutable, 0 republished; 0.3 s; stopped: count reached

Exit status: 0 every message accepted, 1 refused by the broker, 2 usage, 3 unroutable some, or no broker within
--give-up-after.

Examples:
    ./fanout_producer.py                              # one message/s until Ctrl-C
    ./fanout_producer.py --ttl 60 --rate 5            # five, that live for a minute
    ./fanout_producer.py --ledger fanout.jsonl        # keep books for audit.py
"""

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.scenarios import hello as greeting

LINE = '{name} {tally}  Hello world'
SUMMARY = (
    '{sent} sent, {confirmed} confirmed, {unroutable} unroutable, {republished} republished; '
    '{duration_s:.1f} s; stopped: {stopped}'
)


def declare(channel, link):
    channel.exchange_declare(link.args.exchange, 'fanout', durable=True)
    channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    flags.add_rate_flag(parser, default=1)
    flags.add_ttl_flag(parser, default=10)
    parser.add_argument(
        '--exchange', type=flags.name, default='siamese.fanout', help='default: %(default)s'
    )
    flags.add_broker_flags(parser)
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    sent = 0
    with delivery.connected(args, declare, retry_returned=False) as link:
        while link.keep_running(sent, link.started + sent / args.rate):
            sent += 1
            body, properties = greeting.message(
                link, sent, expiration=topology.expiration(args.ttl)
            )
            link.publish(args.exchange, '', body, properties)
            if not args.quiet:
                print(LINE.format(name=args.name, tally=script.tally(sent, args.count)))
    unroutable = link.counts['returned']
    link.exit_status = link.exit_status or 3 * bool(unroutable)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'sent': sent,
            'confirmed': link.counts['confirmed'],
            'unroutable': unroutable,
            'republished': link.counts['republished'],
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
