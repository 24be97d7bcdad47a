#!/usr/bin/env python3
"""Receive the messages of perf_producer.py, compare every byte, and measure.

Consumes the queue siamese.perf with manual acknowledgements. Compares each
body with the expected one, decodes it, and rejects bodies that differ,
which are dead-lettered (siamese.dlx -> siamese.dead). Messages that follow on
each other and differ in delivery tag and message_id only come as one run, and
are compared together. Pairs with perf_producer.py; start any number of both.
One process, one core.

    $ ./perf_consumer.py --name carol --count 2500
    queue siamese.perf (classic), prefetch 500, acknowledged 100 at a time
    2,500 delivered, 0 invalid, 0 redelivered; stopped: count reached
    22,092 msg/s, latency min/median/p75/p95/p99/max 3506/4686/5276/5767/5865/5898 ms

The latency runs from the moment when the message was due at the producer
until this script has it; between two machines it is as good as their clocks
agree; where one is below 0 the result is "spoiled by clocks that disagree".
Exit status: 0 every body right, 1 one invalid, 2 usage, 3 nothing
delivered, fewer than --count, refused by the broker, or broker unavailable for
--give-up-after.

Examples:
    ./perf_consumer.py --prefetch 500 --ack-every 100
    ./perf_consumer.py --exit-when-empty
    ./perf_consumer.py --auto-ack                     # what acks cost; messages may get lost
    ./perf_consumer.py --queue-type stream            # from its beginning
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import time
from functools import lru_cache

from siamese import flags, script
from siamese.messaging.deliveries import Invalid, ack_batch
from siamese.messaging.link import connected
from siamese.messaging.topology import declare_dead_letters, queue_arguments
from siamese.scenarios import performance
from siamese.scenarios.performance import Meter

SETTINGS = 'queue {queue} ({queue_type}), prefetch {prefetch}, {mode}'
SUMMARY = (
    '{delivered:,} delivered, {invalid:,} invalid, {redelivered:,} redelivered; '
    'stopped: {stopped}\n{result}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments=queue_arguments(link.args),
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(
        queue=link.args.queue,
        on_message_callback=link.on_delivery,
        on_run_callback=link.on_run,
        auto_ack=link.args.auto_ack,
        arguments=consumer_arguments(link.args),
        callback=link.on_ready,
    )


def consumer_arguments(args):
    """Return where in a stream to begin."""
    if args.queue_type == 'stream':
        return {'x-stream-offset': args.offset}
    return None


@lru_cache(maxsize=8)
def expected(encoding, size):
    """Return the body that a message of this encoding and size should have, as (bytes, text)."""
    try:
        return performance.body_of(encoding, size)
    except ValueError:  # a size that perf_producer.py never publishes
        return performance.body_of(encoding, performance.LEAST_SIZE)


def compare(content_type, body):
    """Raise Invalid unless a body is as perf_producer.py publishes it, in bytes and text."""
    encoding = performance.CONTENT_TYPES.get(content_type)
    if not encoding:
        raise Invalid('foreign content type', content_type)
    right, text = expected(encoding, len(body))
    if body != right:
        raise Invalid('corrupt', first_difference(right, body))
    if body.decode(performance.ENCODINGS[encoding]) != text:
        raise Invalid('decoded otherwise', encoding)


def first_difference(right, body):
    """Return in words where a body differs for the first time."""
    at = 0
    while right[at : at + 1] == body[at : at + 1]:
        at += 1
    theirs = body[at : at + 1].hex() or 'the end'
    ours = right[at : at + 1].hex() or 'the end'
    return f'byte {at} is {theirs}, not {ours}'


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
        help='the broker forgets a message once it is delivered, also an invalid one '
        '(default: manual acknowledgements)',
    )
    parser.group(flags.STOP).add_argument(
        '--exit-when-empty',
        action='store_true',
        help='stop when the queue is empty (default: wait for more)',
    )
    flags.add_consumer_flags(parser, prefetch=500)
    performance.add_flags(parser)
    flags.add_broker_flags(parser, queue='siamese.perf', types=performance.QUEUE_TYPES)
    args = flags.parse(parser, argv)
    args.offset = 'first'  # where to begin in a stream; after a lost connection it is later
    args.ack_every = ack_batch(args.ack_every, args.prefetch)
    if args.queue_type == 'stream' and (args.auto_ack or args.exit_when_empty):
        parser.error('a stream has no --auto-ack and is never empty')
    return args


def main(argv=None):
    args = parse_args(argv)
    redelivered = 0
    with connected(args, declare) as link:
        meter = Meter(args, link, ('delivered',), latency_name='latency')
        meter.announce(SETTINGS, mode=mode(args))
        for run in link.runs(args.idle, args.ack_every, until_empty=args.exit_when_empty):
            now = int(meter.clock.now() * 1e6)
            meter.counts['delivered'] += run.count
            if not meter.last:  # the first message only starts the clock
                meter.counts['delivered'] -= 1
            meter.measured_until(time.monotonic())
            if run.redelivered:
                redelivered += run.count
            delivery = run.first
            if args.queue_type == 'stream':
                remember_offset(args, delivery.properties)
            try:
                compare(delivery.properties.content_type, delivery.body)
            except Invalid as invalid:
                run.reject(invalid)
                continue
            for due, times in performance.dues_of(run.message_ids).items():
                meter.latencies.add(now - due, times)
            run.ack()
    link.set_exit_status(link.done, link.invalid_count)
    summary = {
        **link.summary(),
        **meter.summary(),
        'delivered': link.done,
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'redelivered': redelivered,
    }
    script.report(args, SUMMARY, summary)
    return link.exit_status


def mode(args):
    if args.auto_ack:
        return 'acknowledged by delivery'
    return f'acknowledged {args.ack_every} at a time'


def remember_offset(args, properties):
    """Remember where in the stream to resume after a lost connection."""
    headers = properties.headers or {}
    if 'x-stream-offset' in headers:
        args.offset = headers['x-stream-offset'] + 1


if __name__ == '__main__':
    script.run(main)
