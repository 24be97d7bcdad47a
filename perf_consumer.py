#!/usr/bin/env python3
"""Receive what perf_producer.py sends, compare every byte, and measure.

Consumes the queue siamese.perf with manual acknowledgements; compares each body with the one it should be, decodes it,
and rejects what differs into siamese.dlx -> siamese.dead. Pairs with perf_producer.py; start any number of both. One
process, one core.

    $ ./perf_consumer.py --name carol --count 3000
    queue siamese.perf (classic), prefetch 500, acknowledged 100 at a time
    3,000 received, 0 corrupt, 0 redelivered; stopped: count reached
    21,031 msg/s, latency min/median/p75/p95/p99/max 350/1786/2490/3064/3178/3195 ms

The latency runs from the moment when the message was due at the producer until it is checked here; between two
machines it is as good as their clocks agree. Exit status: 0 every body right, 1 one corrupt or refused by the broker,
2 usage, 3 nothing received, fewer than --count, or no broker within --give-up-after.

Examples:
    ./perf_consumer.py --prefetch 500 --ack-every 100
    ./perf_consumer.py --exit-when-empty
    ./perf_consumer.py --auto-ack                     # what acknowledgements cost; then messages may get lost
    ./perf_consumer.py --queue-type stream            # from its beginning
"""

import time
from functools import lru_cache

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import performance as perf

SETTINGS = 'queue {queue} ({queue_type}), prefetch {prefetch}, {mode}'
SUMMARY = '{received:,} received, {corrupt:,} corrupt, {redelivered:,} redelivered; stopped: {stopped}\n{figures}'


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.queue_declare(
        link.args.queue, durable=True, arguments=topology.queue_arguments(link.args)
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    where = {'x-stream-offset': link.args.offset} if link.args.queue_type == 'stream' else None
    channel.basic_consume(
        link.args.queue,
        link.on_delivery,
        auto_ack=link.args.auto_ack,
        arguments=where,
        callback=link.on_ready,
    )


@lru_cache(maxsize=8)
def expected(encoding, size):
    """Return the body that a message of this encoding and size should have, as (bytes, text)."""
    try:
        return perf.body_of(encoding, size)
    except ValueError:  # a size that perf_producer.py never sends
        return perf.body_of(encoding, perf.LEAST_SIZE)


def compare(content_type, body):
    """Raise Invalid unless a body is what perf_producer.py sends, byte for byte and decoded."""
    if content_type not in perf.CONTENT_TYPES:
        raise Invalid('foreign content type', content_type)
    encoding = perf.CONTENT_TYPES[content_type]
    right, text = expected(encoding, len(body))
    if body != right:
        at = next(
            (at for at, pair in enumerate(zip(right, body)) if pair[0] != pair[1]),
            min(len(right), len(body)),
        )
        ours, theirs = (data[at : at + 1].hex() or 'the end' for data in (right, body))
        raise Invalid('corrupt', f'byte {at} is {theirs}, not {ours}')
    if body.decode(perf.ENCODINGS[encoding]) != text:
        raise Invalid('decoded otherwise', encoding)


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--ack-every',
        type=flags.number(int, 1),
        default=100,
        metavar='N',
        help='messages acknowledged at once, at most half of --prefetch (default: %(default)s)',
    )
    parser.add_argument(
        '--auto-ack',
        action='store_true',
        help='the broker forgets a message once it is sent to us, also one that is wrong',
    )
    parser.add_argument(
        '--exit-when-empty', action='store_true', help='stop when the queue is empty'
    )
    flags.add_consumer_flags(parser, prefetch=500)
    perf.add_flags(parser)
    flags.add_broker_flags(parser, queue='siamese.perf', types=('classic', 'quorum', 'stream'))
    parser.set_defaults(offset='first')
    args = flags.parse(parser, argv)
    args.ack_every = min(
        args.ack_every, max(1, args.prefetch // 2)
    )  # a broker that waits for acks sends nothing
    if args.queue_type == 'stream' and (args.auto_ack or args.exit_when_empty):
        parser.error('a stream has no --auto-ack and is never empty')
    return args


def main(argv=None):
    args = parse_args(argv)
    redelivered = 0
    with delivery.connected(args, declare) as link:
        meter = perf.Meter(args, link, ('received',), 'latency')
        meter.announce(
            SETTINGS,
            mode='acknowledged by sending'
            if args.auto_ack
            else f'acknowledged {args.ack_every} at a time',
        )
        if args.exit_when_empty:
            link.on_tick = lambda: (meter.tick(), stop_if_empty(link))
        for delivered in link.deliveries(args.idle, args.ack_every):
            channel, method = delivered.channel, delivered.method
            properties, body = delivered.properties, delivered.body
            meter.counts['received'] += (
                meter.last is not None
            )  # the first one only starts the clock
            meter.at(time.monotonic())
            redelivered += method.redelivered
            if args.queue_type == 'stream' and 'x-stream-offset' in (properties.headers or {}):
                args.offset = (
                    properties.headers['x-stream-offset'] + 1
                )  # where to go on after a lost connection
            try:
                compare(properties.content_type, body)
            except Invalid as invalid:
                delivered.reject(invalid)
                continue
            due = perf.due_of(properties.message_id)
            if due:
                meter.latencies.add(time.time_ns() // 1000 - due)
            delivered.ack()
    corrupt = sum(link.rejections.values())
    link.set_exit_status(link.done, corrupt)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            **meter.summary(),
            'received': link.done,
            'corrupt': corrupt,
            'reasons': link.rejections,
            'redelivered': redelivered,
        },
    )
    return link.exit_status


def stop_if_empty(link):
    """End the run if nothing came for a second and the broker says that the queue is empty."""

    def answer(frame):
        if not frame.method.message_count and not link.inbox:
            link.stop_reason = 'queue empty'

    if link.is_ready and link.channel.is_open and time.monotonic() - link.last_activity > 1:
        link.channel.queue_declare(link.args.queue, passive=True, callback=answer)


if __name__ == '__main__':
    script.run(main)
