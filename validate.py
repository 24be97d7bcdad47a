#!/usr/bin/env python3
"""Check every block that arrives: its proof of work, and its place in the chain of its producer.

Consumes the queue siamese.blocks with prefetch 200; acknowledges a block after the check, rejects what is invalid into
siamese.dlx -> siamese.dead. Pairs with producer.py; start any number of both, in any order.

    $ ./validate.py --name carol --count 3 --ledger run.jsonl
    1 of 3  alice 1  00003a0b3944ee70…  valid
    2 of 3  alice 2  00001727621b6258…  valid
    3 of 3  alice 3  00001dc6289cfb17…  valid
    3 blocks valid, 0 invalid; again: 0 redelivered, 0 republished; 0.1 s, 8,660 blocks/s; stopped: count reached

A block is valid if it parses, its hash is right and begins with enough zeros (--difficulty, never taken from the
message), its proof is a prime of the range, and it is the block, the child and the parent that this validator knows of,
if it does. A copy is counted if a lost connection explains it, here or at the producer; any other is a replay, and
invalid. Exit status: 0 all valid, 1 something invalid or refused by the broker, 2 usage, 3 nothing to check, fewer
than --count, or no broker within --give-up-after.

Examples:
    ./validate.py                                     # validate until Ctrl-C
    ./validate.py --idle 10                           # ... until nothing came for 10 s
    ./validate.py --difficulty 5 --max 500000000      # as the producers
    ./validate.py --ledger run.jsonl                  # keep books for audit.py
"""

import json
import re
import time
from collections import Counter, OrderedDict

import common
from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import mining

MAX_BODY = 4096  # bytes; a block has about 350
REMEMBERED = 50_000  # blocks this validator knows of, the latest: 20 MB

LINE = '{tally}  {producer} {height}  {hash:.16}…  {verdict}'
SUMMARY = (
    '{valid} blocks valid, {invalid} invalid; again: {redelivered} redelivered, {republished} republished; '
    '{duration_s:.1f} s, {blocks_per_s:,.0f} blocks/s; stopped: {stopped}'
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
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(link.args.queue, link.on_delivery, callback=link.on_ready)


def parse_block(properties, body):
    """Return the block a message holds, a dict with every field of its type; raise Invalid."""
    if properties.content_type != 'application/json':
        raise Invalid('foreign content type', properties.content_type)
    if len(body) > MAX_BODY:
        raise Invalid('too large', f'{len(body)} bytes')
    try:
        block = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid('not JSON in UTF-8', str(error)) from None
    try:
        previous, producer, run = block['previous'], block['producer'], block['run']
        right = (
            type(block['proof']) is type(previous['proof']) is type(block['height']) is int
            and type(block['hash']) is type(previous['hash']) is type(producer) is type(run) is str
            and producer.isprintable()
            and run.isalnum()
        )
    except (TypeError, KeyError, IndexError) as error:
        raise Invalid('field missing', str(error)) from None
    if not right:
        raise Invalid('field of a wrong type', str(block)[:100])
    if properties.message_id not in (None, f'{producer}-{run}-{block["height"]}'):
        raise Invalid('message_id of another block', properties.message_id)
    return block


def check_alone(block, zeros, lowest, highest):
    """Check what a block shows by itself: proof of work, range, genesis; raise Invalid."""
    previous = block['previous']
    if not (
        previous == common.GENESIS
        if block['height'] == 1
        else block['height'] > 1
        and re.fullmatch('[0-9a-f]{64}', previous['hash'])
        and previous['hash'].startswith('0' * zeros)
    ):
        raise Invalid('wrong parent', f'at height {block["height"]}: {previous}')
    if block['hash'] != common.block_hash(previous, block['proof']):
        raise Invalid('wrong hash', block['hash'])
    if not block['hash'].startswith('0' * zeros):
        raise Invalid('too few zeros', block['hash'])
    if not lowest < block['proof'] <= highest:
        raise Invalid('proof out of range', block['proof'])
    if not common.is_prime(block['proof']):
        raise Invalid('proof not prime', block['proof'])


def check_chain(block, known, attempt, epoch, may_repeat=False):
    """Check a block against those `known` of its chain, and add it; return 'valid', or how this copy came about.

    `known` maps (producer, run, height) to the hash and proof, followed by (attempt, epoch) of each copy; of a parent
    that only its child told of there is none. The same attempt within one epoch (connection) is a replay: the broker
    had our acknowledgement, unless it `may_repeat` (delivery.may_repeat). A later epoch means that the acknowledgement
    may have been lost, another attempt that the producer saw no confirm. Raises Invalid.
    """
    chain, height, previous = (block['producer'], block['run']), block['height'], block['previous']
    itself, parent = f'{block["hash"]} {block["proof"]}', f'{previous["hash"]} {previous["proof"]}'
    if known.get((*chain, height - 1), (parent,))[0] != parent:
        raise Invalid('wrong parent', f'{previous["hash"][:16]} at height {height}')
    before, *copies = known.get((*chain, height), (itself,))
    if before != itself:
        raise Invalid('second block at a height', f'{block["hash"][:16]} at height {height}')
    if (attempt, epoch) in copies and not may_repeat:
        raise Invalid('replayed', f'height {height}')
    known[(*chain, height)] = (itself, *copies, (attempt, epoch))
    known.setdefault((*chain, height - 1), (parent,))
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return 'valid' if not copies else 'redelivered' if attempt in dict(copies) else 'republished'


def parse_args(argv):
    parser = flags.parser(__doc__)
    mining.add_proof_flags(parser)
    flags.add_consumer_flags(parser, prefetch=200)
    flags.add_broker_flags(parser, queue='siamese.blocks')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    highest = mining.next_prime(args.max)
    known, books, first, last = OrderedDict(), Counter(), 0.0, 0.0
    with delivery.connected(args, declare) as link:
        for delivered in link.deliveries(args.idle):
            channel, method = delivered.channel, delivered.method
            properties, body = delivered.properties, delivered.body
            last = time.monotonic()
            first = first or last
            try:
                block = parse_block(properties, body)
                check_alone(block, args.difficulty, args.min, highest)
                verdict = check_chain(
                    block,
                    known,
                    delivered.attempt,
                    link.epoch,
                    method.redelivered and args.queue_type == 'quorum',
                )
            except Invalid as invalid:
                delivered.reject(invalid)
                continue
            books[verdict] += 1
            delivered.ack()
            if not args.quiet:
                print(
                    LINE.format(tally=script.tally(link.done, args.count), verdict=verdict, **block)
                )
    invalid = sum(link.rejections.values())
    checked = sum(books.values()) + invalid
    link.set_exit_status(checked, invalid)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'valid': books['valid'],
            'redelivered': books['redelivered'],
            'republished': books['republished'],
            'invalid': invalid,
            'reasons': link.rejections,
            'blocks_per_s': round(checked / (last - first), 1) if last > first else 0,
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
