#!/usr/bin/env python3
"""Check every block that arrives: its proof of work, and its place in its producer's chain.

Consumes the queue siamese.blocks with prefetch 200. Acknowledges a block
after the check; rejects invalid ones, which are dead-lettered (siamese.dlx
-> siamese.dead). Pairs with producer.py; start any number of both, in any
order.

    $ ./validate.py --name carol --count 3 --ledger runs/run.jsonl
    1 of 3  alice 1  00003a0b3944ee70…  valid
    2 of 3  alice 2  00001727621b6258…  valid
    3 of 3  alice 3  00001dc6289cfb17…  valid
    3 blocks valid, 0 invalid; copies: 0 redelivered, 0 republished; 0.1 s; stopped: count reached

A block is valid if it parses, its hash is right and begins with enough
zeros (--difficulty, never taken from the message), its proof is a prime
within the range, and it agrees with the neighbouring blocks this validator
has already seen. A duplicate caused by a lost connection (here or at the
producer) is counted. Any other duplicate is a replay, and invalid.
Exit status: 0 all valid, 1 something invalid, 2 usage, 3 nothing to check, fewer than
--count, refused by the broker, or broker unavailable for --give-up-after.

Examples:
    ./validate.py                                     # validate until Ctrl-C
    ./validate.py --idle 10                           # stop when no block came for 10 s
    ./validate.py --difficulty 5 --max 500000000      # as the producers
    ./validate.py --ledger runs/run.jsonl             # write a ledger for audit.py
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import json
import re
import sys
from collections import Counter, OrderedDict
from functools import lru_cache
from typing import NamedTuple

import common
from siamese import copies, flags, script
from siamese.messaging.deliveries import Invalid
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.scenarios import mining
from siamese.scenarios.timing import Span
from siamese.text import rate, time_and_rate

MAX_BODY_BYTES = 4096  # a block has about 350
REMEMBERED_BLOCKS = 50_000  # the latest that this validator knows: 20 MB
HASH = re.compile('[0-9a-f]{64}')
VERDICTS = {
    copies.FIRST: 'valid',
    copies.REDELIVERED: 'redelivered',
    copies.ACK_LOST: 'redelivered',
    copies.REPUBLISHED: 'republished',
}

LINE = '{tally}  {producer} {height}  {hash:.16}…  {verdict}'
SUMMARY = (
    '{valid:block} valid, {invalid} invalid; '
    'copies: {redelivered} redelivered, {republished} republished; '
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
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(
        queue=link.args.queue,
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
    )


def parse_block(properties, body):
    """Return the block in a message, a dict; raise Invalid unless every field has its type."""
    if properties.content_type != 'application/json':
        raise Invalid('foreign content type', properties.content_type)
    if len(body) > MAX_BODY_BYTES:
        raise Invalid('too large', f'{len(body)} bytes')
    try:
        block = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid('not JSON in UTF-8', str(error)) from None
    try:
        has_types = fields_have_types(block)
    except (TypeError, KeyError, IndexError) as error:
        raise Invalid('field missing', str(error)) from None
    if not has_types:
        raise Invalid('field of a wrong type', str(block)[:100])
    message_id = f'{block["producer"]}-{block["run"]}-{block["height"]}'
    if properties.message_id not in (None, message_id):
        raise Invalid('message_id of another block', properties.message_id)
    return block


def fields_have_types(block):
    """Return whether each field of a block has its type; a missing one raises an exception."""
    previous = block['previous']
    producer = block['producer']
    run = block['run']
    return (
        type(block['height']) is int
        and type(block['proof']) is int
        and type(previous['proof']) is int
        and type(block['hash']) is str
        and type(previous['hash']) is str
        and type(producer) is str
        and type(run) is str
        and producer.isprintable()
        and run.isalnum()
    )


def check_alone(block, zeros, lowest, highest):
    """Check what needs no other block: parent, hash, proof of work; raise Invalid."""
    previous = block['previous']
    if not may_be_parent(previous, block['height'], zeros):
        raise Invalid('wrong parent', f'at height {block["height"]}: {previous}')
    if block['hash'] != common.block_hash(previous, block['proof']):
        raise Invalid('wrong hash', block['hash'])
    if not block['hash'].startswith('0' * zeros):
        raise Invalid('too few zeros', block['hash'])
    if not lowest < block['proof'] <= highest:
        raise Invalid('proof out of range', block['proof'])
    if not common.is_prime(block['proof']):
        raise Invalid('proof not prime', block['proof'])


def may_be_parent(previous, height, zeros):
    """Return whether a chain may hold `previous` below a block at this height."""
    if height == 1:
        return previous == common.GENESIS
    return (
        height > 1 and HASH.fullmatch(previous['hash']) and previous['hash'].startswith('0' * zeros)
    )


class Known(NamedTuple):
    """What this validator knows of a block."""

    identity: str  # block_identity()
    deliveries: tuple  # a copies.Copy for each; none for a parent that only its child named


def block_identity(block):
    """Return what tells a block from any other: a hash leaves open which digits are the proof."""
    return f'{block["hash"]} {block["proof"]}'


def check_neighbours(block, known, parent):
    """Raise Invalid if another block is known at the height of a block, or of its parent."""
    if parent and parent.identity != block_identity(block['previous']):
        parent_hash = block['previous']['hash']
        raise Invalid('wrong parent', f'{parent_hash[:16]} at height {block["height"]}')
    if known and known.identity != block_identity(block):
        raise Invalid(
            'second block at a height', f'{block["hash"][:16]} at height {block["height"]}'
        )


@lru_cache(maxsize=16)  # most deliveries over a channel are alike, and share one Copy
def copy_of(attempt, channel, redelivered):
    """Return a delivery as copies.py judges it; main() acknowledges or rejects it for good."""
    return copies.Copy(attempt=attempt, channel=channel, redelivered=redelivered, settled=True)


class Chains:
    """The latest blocks that this validator knows, of every producer and run."""

    def __init__(self, link):
        self.link = link
        self.known = OrderedDict()  # (producer, run, height) -> Known

    def check(self, block, delivery):
        """Return 'valid', or 'redelivered' or 'republished' for an explained copy.

        Raises Invalid if the block contradicts its neighbours, or is a replay.
        """
        height = block['height']
        producer = sys.intern(block['producer'])  # one for all blocks of a chain: 0.1 kB less each
        run = sys.intern(block['run'])
        place = (producer, run, height)
        place_of_parent = (producer, run, height - 1)
        known = self.known.get(place)
        parent = self.known.get(place_of_parent)
        check_neighbours(block, known, parent)
        earlier = known.deliveries if known else ()
        copy = copy_of(delivery.attempt, self.link.epoch, delivery.redelivered)
        explanation = copies.explain(earlier, copy, self.link.args.queue_type)
        if explanation == copies.REPLAYED:
            raise Invalid('replayed', f'height {height}')
        self._remember(place, Known(block_identity(block), (*earlier, copy)))
        if not parent:
            self._remember(place_of_parent, Known(block_identity(block['previous']), ()))
        return VERDICTS[explanation]

    def _remember(self, place, known):
        self.known[place] = known
        if len(self.known) > REMEMBERED_BLOCKS:
            self.known.popitem(last=False)


def parse_args(argv):
    parser = flags.parser(__doc__)
    mining.add_proof_flags(parser)
    flags.add_consumer_flags(parser, prefetch=200)
    flags.add_broker_flags(parser, queue='siamese.blocks')
    args = flags.parse(parser, argv)
    mining.check_range(parser, args)
    return args


def main(argv=None):
    args = parse_args(argv)
    # Our producers stay below --max; the next prime after a number up to there is valid as well.
    highest = mining.next_prime(args.max)
    counts = Counter()
    span = Span()
    with connected(args, declare) as link:
        chains = Chains(link)
        for delivery in link.deliveries(args.idle):
            span.mark()
            try:
                block = parse_block(delivery.properties, delivery.body)
                check_alone(block, args.difficulty, args.min, highest)
                verdict = chains.check(block, delivery)
            except Invalid as invalid:
                delivery.reject(invalid)
                continue
            counts[verdict] += 1
            delivery.ack()
            if not args.quiet:
                tally = script.tally(link.done, args.count)
                print(LINE.format(tally=tally, verdict=verdict, **block))
    checked = sum(counts.values()) + link.invalid_count
    link.set_exit_status(checked, link.invalid_count)
    summary = {
        **link.summary(),
        'valid': counts['valid'],
        'redelivered': counts['redelivered'],
        'republished': counts['republished'],
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'blocks_per_s': span.rate(checked),
    }
    per_s = rate(checked, summary['blocks_per_s'], ' blocks/s')
    script.report(args, SUMMARY, summary, took=time_and_rate(summary['duration_s'], per_s))
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
