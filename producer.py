#!/usr/bin/env python3
"""Mine blocks with a proof of work and publish them.

Each block goes as JSON to the queue siamese.blocks: durable, persistent, mandatory, and republished until the broker
confirms it. Each producer mines a chain of its own, in one process on one core. Pairs with validate.py; start any
number of both, in any order, before or after the broker.

    $ ./producer.py --name alice --count 3 --ledger run.jsonl
    alice 1 of 3  00003a0b3944ee70…  proof 11618567    24,379 attempts  0.04 s
    alice 2 of 3  00001727621b6258…  proof 15056857    30,451 attempts  0.05 s
    alice 3 of 3  00001dc6289cfb17…  proof 16658137    71,908 attempts  0.06 s
    3 blocks mined, 3 confirmed, 0 republished; 0.2 s, 851,237 attempts/s; stopped: count reached

The hash is sha256(previous hash + previous proof + proof), of their text. Ctrl-C lets it finish the block in hand, a
second one ends it at once. Exit status: 0 every block accepted, 1 refused by the broker, 2 usage or a range without a
solution, 3 no broker within --give-up-after.

Examples:
    ./producer.py                                     # mine until Ctrl-C
    ./producer.py --count 100 --rate 2                # at most 2 blocks/s
    ./producer.py --difficulty 5 --max 500000000      # 16 times the work
    ./producer.py --ledger run.jsonl                  # keep books for audit.py
"""

import json
import logging
import math
import time

import pika

import common
from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.scenarios import mining

LINE = '{producer} {tally}  {hash:.16}…  proof {proof:8}  {tries:8,} attempts  {took:.2f} s'
SUMMARY = (
    '{mined} blocks mined, {confirmed} confirmed, {republished} republished; {duration_s:.1f} s, '
    '{attempts_per_s:,.0f} attempts/s; stopped: {stopped}'
)


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.queue_declare(
        link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': topology.DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
        },
    )
    channel.confirm_delivery(link.on_confirm, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    mining.add_proof_flags(parser)
    flags.add_rate_flag(parser)
    flags.add_broker_flags(parser, queue='siamese.blocks')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    if mining.warn_if_unsolvable(args.difficulty, args.min, args.max):
        logging.warning(mining.warn_if_unsolvable(args.difficulty, args.min, args.max))
    block, mined, attempts, busy = common.GENESIS, 0, 0, 0.0
    with delivery.connected(args, declare) as link:
        while link.keep_running(mined, link.started + mined / (args.rate or math.inf)):
            previous, started = block, time.monotonic()
            block, tries = mining.mine(
                previous, args.difficulty, args.min, args.max, idle=link.process_events
            )
            took = time.monotonic() - started
            attempts, busy = attempts + tries, busy + took
            if not block:  # --duration is over
                continue
            mined += 1
            body = {
                'producer': args.name,
                'run': link.run,
                'height': mined,
                'previous': previous,
                **block,
            }
            link.publish(
                '',
                args.queue,
                json.dumps(body).encode(),
                pika.BasicProperties(
                    message_id=f'{args.name}-{link.run}-{mined}',
                    content_type='application/json',
                    app_id=args.name,
                ),
            )
            if not args.quiet:
                print(
                    LINE.format(
                        tally=script.tally(mined, args.count), tries=tries, took=took, **body
                    )
                )
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'mined': mined,
            'confirmed': link.counts['confirmed'],
            'republished': link.counts['republished'],
            'attempts': attempts,
            'mining_s': round(busy, 3),
            'attempts_per_s': round(attempts / busy) if busy else 0,
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
