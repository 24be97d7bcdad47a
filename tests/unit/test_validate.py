"""validate.py: what makes a block valid, which copies are explained; without a broker."""

from types import SimpleNamespace

import pytest
from support.bad_blocks import BAD, NEXT, ONE, TWO, with_body
from support.block_messages import GENESIS, GOLDEN, chain, follow, message

import common
import validate
from siamese.messaging.properties import Properties
from siamese.scenarios import mining


def new_chains(queue_type='classic'):
    link = SimpleNamespace(epoch=1, args=SimpleNamespace(queue_type=queue_type))
    return validate.Chains(link)


def judge(properties, body, chains=None, attempt=1, epoch=1, zeros=4, redelivered=False):
    """Return what validate.py says of one message."""
    chains = chains or new_chains()
    chains.link.epoch = epoch
    delivery = SimpleNamespace(attempt=attempt, redelivered=redelivered)
    try:
        block = validate.parse_block(properties, body)
        validate.check_alone(block, zeros, 100_000, 25_000_009)
        return chains.check(block, delivery)
    except validate.Invalid as invalid:
        return invalid.args[0]


def test_the_block_of_the_wiki_is_valid():
    assert judge(*ONE) == 'valid' and judge(*TWO) == 'valid'
    assert judge(*with_body(ONE[1])) == 'valid'  # a producer that sets no message_id


@pytest.mark.parametrize('case', BAD)
def test_a_bad_block_is_rejected_for_its_reason(case):
    (properties, body), reason = BAD[case]
    assert judge(Properties(b''.join(properties.encode())), body) == reason


def test_the_next_prime_after_max_is_the_highest_valid_proof():
    last = mining.next_prime(25_000_000)
    for proof, verdict in (
        (100_000, 'proof out of range'),
        (100_003, 'valid'),
        (last, 'valid'),
        (last + 2, 'proof out of range'),
    ):
        block = {'hash': common.block_hash(GENESIS, proof), 'proof': proof}
        properties, body = message('a', 'b', 1, GENESIS, block)
        try:
            validate.check_alone(validate.parse_block(properties, body), 0, 100_000, last)
        except validate.Invalid as invalid:
            assert invalid.args[0] == verdict
        else:
            assert verdict == 'valid'


def test_parent_and_child_must_agree_with_the_blocks_seen_before():
    other, third = follow(GENESIS, 4, 910_000), follow(NEXT, 4)
    forged = message('alice', 'cafe', 2, other, follow(other, 4))
    assert other != GOLDEN
    chains = new_chains()
    assert judge(*ONE, chains) == 'valid'
    assert judge(*forged, chains) == 'wrong parent'
    assert (
        judge(*message('alice', 'beef', 2, other, follow(other, 4)), chains) == 'valid'
    )  # another chain
    assert judge(*message('alice', 'cafe', 1, GENESIS, other), chains) == 'second block at a height'
    assert (
        judge(*message('alice', 'cafe', 3, NEXT, third), chains) == 'valid'
    )  # block 2 went to another validator
    assert judge(*TWO, chains) == 'valid'  # ... and came back
    chains = new_chains()
    assert judge(*message('alice', 'cafe', 3, NEXT, third), chains) == 'valid'
    assert judge(*forged, chains) == 'second block at a height'  # block 3 told who its parent is


@pytest.mark.parametrize(
    ('attempt', 'epoch', 'verdict'),
    [(1, 1, 'replayed'), (2, 1, 'republished'), (1, 2, 'redelivered'), (2, 2, 'republished')],
)
def test_what_explains_a_second_delivery(attempt, epoch, verdict):
    chains = new_chains()
    assert judge(*ONE, chains, attempt=1, epoch=1) == 'valid'
    assert judge(*ONE, chains, attempt=attempt, epoch=epoch) == verdict


@pytest.mark.parametrize(
    ('kind', 'redelivered', 'verdict'),
    [('quorum', True, 'redelivered'), ('quorum', False, 'replayed'), ('classic', True, 'replayed')],
)
def test_only_a_quorum_queue_may_redeliver_an_acknowledged_block(kind, redelivered, verdict):
    chains = new_chains(kind)
    assert judge(*ONE, chains) == 'valid'
    assert judge(*ONE, chains, redelivered=redelivered) == verdict


def test_the_number_of_remembered_blocks_is_bounded(monkeypatch):
    monkeypatch.setattr(validate, 'REMEMBERED_BLOCKS', 10)
    chains = new_chains()
    messages = chain('alice', 30)
    assert [judge(*one, chains, zeros=1) for one in messages] == ['valid'] * 30
    assert len(chains.known) == 10
    assert judge(*messages[-1], chains, zeros=1) == 'replayed'
