"""limits.py: what a queue was told to drop explains what is missing, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulated_queue import SimulatedQueue

from siamese import verdict
from siamese.limits import Limits

STEPS = st.lists(
    st.sampled_from(['publish', 'publish', 'deliver', 'take', 'ack', 'cut', 'join', 'leave']),
    max_size=60,
)
LIMITS = {
    'x-max-length': st.integers(0, 6),
    'x-message-ttl': st.integers(0, 20_000),
    'x-expires': st.integers(1, 20_000),
    'x-delivery-limit': st.integers(0, 3),
}
ARGUMENTS = st.fixed_dictionaries({}, optional=LIMITS)


def judged(queue):
    """Return what the audit finds in the ledgers of a queue: the kinds that are no 'notes'."""
    found = verdict.audit(queue.ledger)
    kinds = verdict.MEANING.keys() - {'attempted', 'confirmed'}
    return {kind: found[kind] for kind in kinds if found[kind]}


def lost(queue):
    return judged(queue).get('lost', [])


def after(steps, arguments, queue_type='classic'):
    """Return a queue after some steps, before it is drained."""
    queue = SimulatedQueue(arguments, queue_type)
    queue.step('join')
    for step in steps:
        queue.step(step)
    return queue


@given(STEPS, ARGUMENTS, st.sampled_from(['classic', 'quorum']))
def test_a_queue_that_does_what_it_was_told_is_not_accused(steps, arguments, queue_type):
    queue = after(steps, arguments, queue_type)
    queue.drain()
    found = verdict.audit(queue.ledger)
    assert verdict.judge(found).exit_status in (0, 3), judged(queue)  # 3: nothing was delivered
    gone = len(found['attempted']) - len(found['ok'])
    assert len(found['dropped']) == gone


@given(STEPS, st.sampled_from(['classic', 'quorum']), st.data())
def test_without_a_limit_each_loss_is_seen(steps, queue_type, data):
    queue = after([*steps, 'leave', *['publish'] * 3], {'x-delivery-limit': 60}, queue_type)
    # One of the last three: the others may have been acknowledged before they came back.
    waiting = len(queue.ready)
    id = queue.lose(data.draw(st.integers(waiting - 3, waiting - 1)))
    queue.drain()
    assert lost(queue) == [id]


@given(st.integers(1, 6), st.sampled_from(['classic', 'quorum']), st.data())
def test_a_full_queue_has_to_give_what_it_holds(longest, queue_type, data):
    """It kept exactly `longest`: without one of them too few come out, whichever it is."""
    steps = ['leave', *['publish'] * (longest + 2)]
    queue = after(steps, {'x-max-length': longest}, queue_type)
    queue.lose(data.draw(st.integers(0, longest - 1)))
    queue.drain()
    assert len(lost(queue)) == 1


@given(STEPS, st.integers(2, 6), st.data())
def test_a_classic_queue_never_drops_what_was_published_last(steps, longest, data):
    last = [*steps, 'leave', *['publish'] * longest]
    queue = after(last, {'x-max-length': longest})
    id = queue.lose(data.draw(st.integers(0, longest - 1)))
    queue.drain()
    assert id in lost(queue)


def test_what_is_too_young_to_expire_is_lost():
    queue = after(['publish'] * 3, {'x-message-ttl': 60_000})
    id = queue.lose(1)
    queue.drain()
    assert lost(queue) == [id]


def test_what_expired_at_the_last_moment_is_not_lost():
    queue = after(['leave', 'publish', *['ack'] * 4, 'publish'], {'x-message-ttl': 4_000})
    queue.drain()
    assert judged(queue) == {'ok': ['m2'], 'dropped': ['m1 (x-message-ttl=4000 of q)']}


def test_an_expired_queue_explains_only_what_was_in_it():
    away = ['leave', *['ack'] * 6, 'join']
    queue = after(['publish', *away, 'publish', 'publish'], {'x-expires': 5_000})
    queue.lose(1)
    queue.drain()
    dropped = ['m1 (x-expires=5000 of q)']
    assert judged(queue) == {'ok': ['m2'], 'dropped': dropped, 'lost': ['m3']}


def test_a_queue_with_a_consumer_does_not_expire():
    queue = after(['publish'] * 30, {'x-expires': 5_000})
    id = queue.lose(1)
    queue.drain()
    assert lost(queue) == [id]


def test_a_delivery_limit_needs_so_many_returns():
    queue = after(['publish', 'publish', 'take', 'cut'], {'x-delivery-limit': 2}, 'quorum')
    id = queue.lose(1)
    queue.drain()
    assert lost(queue) == [id]


@pytest.mark.parametrize('overflow', ['reject-publish', 'reject-publish-dlx'])
def test_a_queue_that_refuses_messages_drops_none(overflow):
    queue = after(['publish'] * 5, {'x-max-length': 2, 'x-overflow': overflow})
    queue.drain()
    assert len(lost(queue)) == 3


def test_the_drops_are_counted_by_their_limit():
    queue = after(['leave', *['publish'] * 50], {'x-max-length': 10})
    queue.drain()
    found = judged(queue)
    assert len(found['dropped']) == 40
    assert [*verdict.reasons(verdict.audit(queue.ledger))] == ['dropped: 40 (x-max-length=10 of q)']


def test_a_policy_is_a_limit_too_and_the_lower_one_holds():
    limits = Limits()
    limits.add_arguments({'x-max-length': 10}, 'classic')
    limits.add_policy({'max-length': 3, 'max-length-bytes': 10_000, 'message-ttl': 'soon'})
    assert limits.kept(largest=None) == (0, 'policy max-length-bytes=10000')
    assert limits.kept(largest=100) == (3, 'policy max-length=3')
    assert limits.kept(largest=2_000) == (2, 'policy max-length-bytes=10000')
    assert limits.told.get('message-ttl') is None


def dead(id, reason, digest='d'):
    line = {'at': 0, 'by': '', 'run': '', 'epoch': 0, 'event': 'dead_lettered'}
    return {**line, 'id': id, 'digest': digest, 'queue': 'q', 'reason': reason}


def test_a_message_among_the_dead_letters_is_not_lost():
    queue = after(['publish'] * 3, {})
    for id in (queue.lose(0), queue.lose(0)):
        queue.ledger.append(dead(id, 'maxlen'))
    queue.ledger.append(dead('of another run', 'rejected'))
    queue.drain()
    assert judged(queue) == {'ok': ['m3'], 'dead_lettered': ['m1 (maxlen)', 'm2 (maxlen)']}


@pytest.mark.parametrize('arguments', [{}, {'x-max-length': 1}])
def test_a_dead_letter_that_no_consumer_rejected_is_lost(arguments):
    queue = after(['publish'] * 3, arguments)
    if not arguments:
        queue.lose(0)
    queue.ledger.append(dead('m1', 'rejected'))
    queue.drain()
    assert lost(queue) == ['m1']
    assert verdict.audit(queue.ledger)['notes'] == [
        'rejected, and no ledger tells by whom: 1 dead letter of those that are lost'
    ]


def test_a_dead_letter_with_another_body_is_corrupt():
    queue = after(['publish'] * 2, {})
    queue.ledger.append(dead(queue.lose(0), 'maxlen', digest='x'))
    queue.drain()
    assert judged(queue)['corrupt'] == ['m1']


def test_an_unconfirmed_message_that_died_is_not_in_doubt():
    queue = after(['publish'] * 2, {})
    confirmed = next(line for line in queue.ledger if line['event'] == 'confirmed')
    queue.ledger.remove(confirmed)
    queue.ledger.append(dead(queue.lose(0), 'expired'))
    queue.drain()
    assert judged(queue) == {'ok': ['m2'], 'dead_lettered': ['m1 (expired)']}
