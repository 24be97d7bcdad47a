#!/usr/bin/env python3
"""Publish a fixed non-ASCII text as fast as the broker takes it, or at a fixed rate, and measure.

The body is JSON with Arabic, Chinese and Japanese keys and values and characters beyond 16 bits, in UTF-8 or UTF-16. It
goes to the queue siamese.perf: durable, mandatory, transient unless --persistent, and republished until the broker
confirms it. Pairs with perf_consumer.py; start any number of both. One process, one core.

    $ ./perf_producer.py --name alice --rate 1000 --count 3000
    queue siamese.perf (classic), 256 bytes of utf-8, transient, confirm window 200, 1000 msg/s
       1 s  sent 1,000 msg/s  confirmed 1,000 msg/s  confirm latency 0.35/0.54/0.88/80/109/118 ms
       2 s  sent 1,000 msg/s  confirmed 1,000 msg/s  confirm latency 0.31/0.47/0.53/2.93/5.63/9.79 ms
    3,000 sent, 3,000 confirmed, 0 republished; stopped: count reached
    1,000 msg/s, confirm latency min/median/p75/p95/p99/max 0.27/0.47/0.58/5.41/92/118 ms

A confirm latency counts from the moment when a message was due, so a broker that stalls does not hide what it delays.
Exit status: 0 every message accepted, 1 refused by the broker, 2 usage, 3 nothing sent, or no broker within
--give-up-after.

Examples:
    ./perf_producer.py --duration 30 --warm-up 5
    ./perf_producer.py --rate 1000 --csv run.csv      # then bench/plot.py run.csv draws it
    ./perf_producer.py --confirm 0                    # what confirms cost; then nothing is proved
    ./perf_producer.py --queue-type quorum --persistent --size 4096
"""

import math
import time

import pika

from siamese import flags, script
from siamese.messaging import framing as wire
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.scenarios import performance as perf

SETTINGS = 'queue {queue} ({queue_type}), {size} bytes of {encoding}, {mode}, confirm window {confirm}, {pace}'
SUMMARY = '{sent:,} sent, {confirms}, {republished:,} republished; stopped: {stopped}\n{figures}'


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.queue_declare(
        link.args.queue,
        durable=True,
        arguments=topology.queue_arguments(link.args),
        callback=None if link.args.confirm else link.on_ready,
    )
    if link.args.confirm:
        channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--confirm',
        type=flags.number(int, 0),
        default=200,
        metavar='N',
        help='messages that may wait for their confirm; 0: no confirms (default: %(default)s)',
    )
    parser.add_argument(
        '--encoding', choices=perf.ENCODINGS, default='utf-8', help='default: %(default)s'
    )
    parser.add_argument(
        '--size',
        type=flags.number(int, perf.LEAST_SIZE, 2**27),
        default=perf.LEAST_SIZE,
        metavar='B',
        help='bytes of the body (default: %(default)s)',
    )
    parser.add_argument(
        '--persistent', action='store_true', help='the broker writes messages to disk'
    )
    parser.add_argument(
        '--priority', type=flags.number(int, 0, 255), metavar='P', help='priority of the messages'
    )
    flags.add_ttl_flag(parser)
    flags.add_rate_flag(parser)
    perf.add_flags(parser)
    flags.add_broker_flags(parser, queue='siamese.perf', types=('classic', 'quorum', 'stream'))
    args = flags.parse(parser, argv)
    try:
        args.body, _ = perf.body_of(args.encoding, args.size)
    except ValueError as error:
        parser.error(f'--size: {error}')
    return args


def main(argv=None):
    args = parse_args(argv)
    sent = 0
    with delivery.connected(args, declare, window=args.confirm) as link:
        meter = perf.Meter(
            args, link, ('sent', 'confirmed') if args.confirm else ('sent',), 'confirm latency'
        )

        def accepted(messages):
            now = time.monotonic()
            meter.at(now)
            meter.counts['confirmed'] += len(messages)
            for message in messages:
                meter.latencies.add(int((now - message.due) * 1e6))

        link.on_confirmed = accepted
        meter.announce(
            SETTINGS,
            mode='persistent' if args.persistent else 'transient',
            pace=f'{args.rate:g} msg/s' if args.rate else 'as fast as possible',
        )
        properties = wire.template(
            len(perf.message_id(link.run, 0, 0)),
            pika.BasicProperties(
                content_type=f'application/json; charset={args.encoding}',
                app_id=args.name,
                priority=args.priority,
                delivery_mode=2 if args.persistent else 1,
                expiration=topology.expiration(args.ttl),
            ),
        )
        link.wait_until(lambda: link.is_ready or link.reason_to_stop())
        started, wall = time.monotonic(), time.time() - time.monotonic()
        meter.at(started)
        while link.keep_running(sent, started + sent / (args.rate or math.inf)):
            now = time.monotonic()
            ready = 1 + int((now - started) * args.rate) if args.rate else math.inf
            numbers = range(sent, min(ready, sent + link.free_window, args.count or math.inf))
            for number in numbers:
                due = started + number / args.rate if args.rate else time.monotonic()
                id = perf.message_id(link.run, number + 1, wall + due)
                link.publish('', args.queue, args.body, properties(id), due)
            sent += len(numbers)
            meter.counts['sent'] += len(numbers)
            meter.at(time.monotonic())
    if (
        sent
    ):  # it lasts until the next one would have been due, or as long as one waits for its confirm
        meter.at(
            max(
                meter.last,
                meter.began + sent / (args.rate or math.inf),
                link.unconfirmed_count and time.monotonic(),
            )
        )
    link.exit_status = link.exit_status or 3 * (not sent)
    confirms = (
        f'{link.counts["confirmed"]:,} confirmed'
        if args.confirm
        else 'no confirms, so nothing is proved'
    )
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            **meter.summary(),
            'sent': sent,
            'confirmed': link.counts['confirmed'],
            'confirms': confirms,
            'republished': link.counts['republished'],
            'nacked': link.counts['nacked'],
            'returned': link.counts['returned'],
            'body_bytes': len(args.body),
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
