#!/usr/bin/env python3
"""Publish a fixed non-ASCII text as fast as the broker takes it, or at a fixed rate.

The body is JSON with Arabic, Chinese and Japanese keys and values and
characters beyond 16 bits, in UTF-8 or UTF-16. It goes to the queue
siamese.perf: durable, mandatory, transient unless --persistent, and
republished until the broker confirms it. Pairs with perf_consumer.py; start
any number of both. One process, one core.

    $ ./perf_producer.py --name alice --rate 1000 --count 2500
    queue siamese.perf (classic), 256 bytes of utf-8, transient, confirm window 200, 1000 msg/s
     time  published  confirmed    min median   p75   p95   p99   max
      1 s      990/s      990/s   0.17   0.24  0.30  3.44    11    18 ms
      2 s    1,010/s    1,010/s   0.16   0.28  0.37  3.18  7.81    11 ms
    2,500 published, 2,500 confirmed, 0 republished; stopped: count reached
    999 msg/s, confirm latency min/median/p75/p95/p99/max 0.16/0.27/0.37/3.31/9.15/18 ms

A confirm latency counts from the moment when a message was due, so a broker
that stalls does not hide what it delays. Exit status: 0 every message
confirmed, 1 the broker cannot take a message, 2 usage, 3 nothing published,
refused by the broker, or broker unavailable for --give-up-after.

Examples:
    ./perf_producer.py --duration 30 --warm-up 5
    ./perf_producer.py --rate 1000 --csv runs/run.csv # bench/plot.py runs/run.csv draws it
    ./perf_producer.py --confirm 0                    # what confirms cost; proves nothing
    ./perf_producer.py --queue-type quorum --persistent --size 4096
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

from siamese import flags, script
from siamese.messaging.link import connected
from siamese.messaging.topology import declare_dead_letters, queue_arguments
from siamese.scenarios import performance
from siamese.scenarios.performance import Load, Meter

SETTINGS = (
    'queue {queue} ({queue_type}), {size} bytes of {encoding}, {mode}, '
    'confirm window {confirm}, {pace}'
)
SUMMARY = (
    '{published:,} published, {confirms}, {republished:,} republished; stopped: {stopped}\n{result}'
)


def declare(channel, link):
    on_declared = None
    if not link.args.confirm:
        on_declared = link.on_ready
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments=queue_arguments(link.args),
        callback=on_declared,
    )
    if link.args.confirm:
        channel.confirm_delivery(ack_nack_callback=link.on_confirm, callback=link.on_ready)


def add_scenario_flags(parser):
    parser.add_argument(
        '--confirm',
        type=flags.number(int, 0),
        default=200,
        metavar='N',
        help='messages that may wait for their confirm; 0: no confirms (default: %(default)s)',
    )
    parser.add_argument(
        '--encoding',
        choices=performance.ENCODINGS,
        default='utf-8',
        help='encoding of the body (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=flags.number(int, performance.LEAST_SIZE, 2**27),
        default=performance.LEAST_SIZE,
        metavar='B',
        help='bytes of the body (default: %(default)s)',
    )
    parser.add_argument(
        '--persistent',
        action='store_true',
        help='the broker writes messages to disk (default: transient)',
    )
    parser.add_argument(
        '--priority',
        type=flags.number(int, 0, 255),
        metavar='P',
        help='priority of the messages (default: none)',
    )


def parse_args(argv):
    parser = flags.parser(__doc__)
    add_scenario_flags(parser)
    flags.add_ttl_flag(parser)
    flags.add_rate_flag(parser)
    performance.add_flags(parser)
    flags.add_broker_flags(parser, queue='siamese.perf', types=performance.QUEUE_TYPES)
    flags.add_stop_timeout_flag(parser, 'confirms')
    args = flags.parse(parser, argv)
    try:
        args.body, _ = performance.body_of(args.encoding, args.size)
    except ValueError as error:
        parser.error(f'--size: {error}')
    return args


def main(argv=None):
    args = parse_args(argv)
    with connected(args, declare, window=args.confirm) as link:
        meter = Meter(args, link, counted(args), latency_name='confirm latency')
        meter.announce(SETTINGS, mode=mode(args), pace=pace(args))
        load = Load(args, link, meter)
        load.publish()
    load.finish()
    if not load.published and not link.exit_status:
        link.exit_status = 3
    summary = {
        **link.summary(),
        **meter.summary(),
        'published': load.published,
        'confirmed': link.counts['confirmed'],
        'confirms': confirms(args, link),
        'republished': link.counts['republished'],
        'nacked': link.counts['nacked'],
        'unroutable': link.counts['returned'],
        'body_bytes': len(args.body),
    }
    script.report(args, SUMMARY, summary)
    return link.exit_status


def counted(args):
    if args.confirm:
        return ('published', 'confirmed')
    return ('published',)


def mode(args):
    if args.persistent:
        return 'persistent'
    return 'transient'


def pace(args):
    if args.rate:
        return f'{args.rate:g} msg/s'
    return 'as fast as possible'


def confirms(args, link):
    if args.confirm:
        return f'{link.counts["confirmed"]:,} confirmed'
    return 'no confirms, so nothing is proved'


if __name__ == '__main__':
    script.run(main)
