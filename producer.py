#!/usr/bin/env python3
"""Mine blocks with a proof of work and publish them.

Each block goes as JSON to the queue siamese.blocks: durable, persistent,
mandatory, and republished until the broker confirms it. Each producer mines
its own chain, in one process on one core. Pairs with validate.py; start any
number of both, in any order, before or after the broker.

    $ ./producer.py --name alice --count 3 --ledger runs/run.jsonl
    alice 1 of 3  00003a0b3944ee70…  proof 11618567    24,379 attempts  0.04 s
    alice 2 of 3  00001727621b6258…  proof 15056857    30,451 attempts  0.05 s
    alice 3 of 3  00001dc6289cfb17…  proof 16658137    71,908 attempts  0.06 s
    3 blocks mined, 3 confirmed, 0 republished; 0.2 s, 851,237 attempts/s; stopped: count reached

The hash is the SHA-256 of the texts of previous hash, previous proof and
proof, concatenated. Ctrl-C finishes the current block; a second Ctrl-C
stops immediately. Exit status: 0 every block confirmed, 1 the broker cannot take a
block, 2 usage or a range without a solution, 3 refused by the broker, or
broker unavailable for --give-up-after.

Examples:
    ./producer.py                                     # mine until Ctrl-C
    ./producer.py --count 100 --rate 2                # at most 2 blocks/s
    ./producer.py --difficulty 5 --max 500000000      # 16 times the work
    ./producer.py --ledger runs/run.jsonl             # write a ledger for audit.py
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import json
import logging
import time

import pika

import common
from siamese import flags, script
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.scenarios import mining
from siamese.text import rate, time_and_rate

LINE = '{producer} {tally}  {hash:.16}…  proof {proof:8}  {attempts:8,} attempts  {took:.2f} s'
SUMMARY = (
    '{published:block} mined, {confirmed} confirmed, {republished} republished; '
    '{took}; stopped: {stopped}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
        },
    )
    channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def publish(link, block):
    """Publish a block as JSON."""
    link.publish(
        exchange='',
        routing_key=link.args.queue,
        body=json.dumps(block).encode(),
        properties=pika.BasicProperties(
            message_id=f'{block["producer"]}-{block["run"]}-{block["height"]}',
            content_type='application/json',
            app_id=block['producer'],
        ),
    )


def parse_args(argv):
    parser = flags.parser(__doc__)
    mining.add_proof_flags(parser)
    flags.add_rate_flag(parser)
    flags.add_broker_flags(parser, queue='siamese.blocks')
    flags.add_stop_timeout_flag(parser, 'confirms')
    args = flags.parse(parser, argv)
    mining.check_range(parser, args)
    return args


def main(argv=None):
    args = parse_args(argv)
    warning = mining.unsolvable_warning(args.difficulty, args.min, args.max)
    if warning:
        logging.warning(warning)
    previous = common.GENESIS
    published = 0
    attempts = 0
    mining_s = 0.0
    with connected(args, declare) as link:
        for height in link.paced(args.rate):
            started = time.monotonic()
            solution, tried = mining.mine(
                previous, args.difficulty, args.min, args.max, keep_going=link.process_events
            )
            took = time.monotonic() - started
            mining_s += took
            attempts += tried
            if not solution:  # --duration or --stop-timeout is over
                link.stop_reason = link.reason_to_stop()
                break
            block = {
                'producer': args.name,
                'run': link.run,
                'height': height,
                'previous': previous,
                **solution,
            }
            published += 1
            publish(link, block)
            previous = solution
            if not args.quiet:
                tally = script.tally(published, args.count)
                print(LINE.format(tally=tally, attempts=tried, took=took, **block))
    summary = summarize(link, published, attempts, mining_s)
    per_s = rate(attempts, summary['attempts_per_s'], ' attempts/s')
    script.report(args, SUMMARY, summary, took=time_and_rate(summary['duration_s'], per_s))
    return link.exit_status


def summarize(link, published, attempts, mining_s):
    attempts_per_s = 0
    if mining_s:
        attempts_per_s = round(attempts / mining_s)
    return {
        **link.summary(),
        'published': published,
        'confirmed': link.counts['confirmed'],
        'republished': link.counts['republished'],
        'attempts': attempts,
        'mining_s': round(mining_s, 3),
        'attempts_per_s': attempts_per_s,
    }


if __name__ == '__main__':
    script.run(main)
