"""copies.py: which copies of a message are explained, and which are replays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese import copies
from siamese.copies import ACK_LOST, FIRST, REDELIVERED, REPLAYED, REPUBLISHED, Copy

QUEUE_TYPES = ('classic', 'quorum', 'stream')

COPIES = st.builds(
    Copy,
    attempt=st.integers(1, 3),
    channel=st.integers(1, 3),
    redelivered=st.booleans(),
    settled=st.booleans(),
)
EARLIER = st.lists(COPIES, min_size=1, max_size=4)


def copy(attempt=1, channel=1, redelivered=False, settled=True):
    return Copy(attempt=attempt, channel=channel, redelivered=redelivered, settled=settled)


# ---- what one consumer can tell


@pytest.mark.parametrize(
    ('earlier', 'later', 'explanation'),
    [
        # not acknowledged, and flagged
        (copy(settled=False), copy(redelivered=True), REDELIVERED),
        # the acknowledgement was lost with the connection
        (copy(), copy(channel=2, redelivered=True), REDELIVERED),
        # a broker that lost the flag as well
        (copy(), copy(channel=2), REDELIVERED),
        # the publisher confirm was lost
        (copy(), copy(attempt=2), REPUBLISHED),
        # acknowledged over this very channel
        (copy(), copy(redelivered=True), REPLAYED),
        (copy(), copy(), REPLAYED),
        # not acknowledged, but the flag is missing
        (copy(settled=False), copy(), REPLAYED),
    ],
)
def test_a_second_copy(earlier, later, explanation):
    assert copies.explain([earlier], later, 'classic') == explanation


@pytest.mark.parametrize(('redelivered', 'explanation'), [(True, ACK_LOST), (False, REPLAYED)])
def test_a_quorum_queue_may_lose_acknowledgements_but_not_the_flag(redelivered, explanation):
    later = copy(redelivered=redelivered)
    assert copies.explain([copy()], later, 'quorum') == explanation
    assert copies.explain_all([copy(), later], set(), True, 'quorum') == explanation


@given(COPIES, st.sampled_from(QUEUE_TYPES))
def test_the_first_copy_needs_no_explanation(only, queue_type):
    assert copies.explain([], only, queue_type) == FIRST
    assert copies.explain_all([only], set(), True, queue_type) == FIRST


@given(EARLIER, COPIES, st.sampled_from(QUEUE_TYPES))
def test_a_new_attempt_is_always_explained(earlier, later, queue_type):
    new = later._replace(attempt=4)
    assert copies.explain(earlier, new, queue_type) == REPUBLISHED


@given(EARLIER, COPIES, st.sampled_from(QUEUE_TYPES))
def test_a_copy_over_a_new_channel_is_never_a_replay(earlier, later, queue_type):
    new = later._replace(channel=4)
    assert copies.explain(earlier, new, queue_type) in (REDELIVERED, REPUBLISHED)


@given(EARLIER, COPIES)
def test_what_a_classic_queue_may_deliver_a_quorum_queue_may(earlier, later):
    classic = copies.explain(earlier, later, 'classic')
    quorum = copies.explain(earlier, later, 'quorum')
    if classic == REPLAYED:
        assert quorum == (ACK_LOST if later.redelivered else REPLAYED)
    else:
        assert quorum == classic


@given(EARLIER, COPIES, st.sampled_from(QUEUE_TYPES), st.randoms())
def test_the_order_of_the_earlier_copies_does_not_matter(earlier, later, queue_type, random):
    shuffled = random.sample(earlier, len(earlier))
    assert copies.explain(shuffled, later, queue_type) == copies.explain(earlier, later, queue_type)


def test_where_nothing_is_flagged_only_an_acknowledgement_contradicts_a_copy():
    held = copy(settled=False)
    assert copies.explain([held], copy(), 'classic', has_flags=False) == REDELIVERED
    assert copies.explain([copy()], copy(), 'classic', has_flags=False) == REPLAYED


# ---- what the audit can tell


@pytest.mark.parametrize('channel, explanation', [(1, REPLAYED), (2, REDELIVERED)])
def test_a_broker_that_restarted_may_forget_the_flag_but_not_on_an_open_channel(
    channel, explanation
):
    both = [copy(settled=False), copy(channel=channel)]
    found = copies.explain_all(both, set(), True, 'classic', may_forget=True)
    assert found == explanation


@pytest.mark.parametrize(
    ('closed', 'queue_type', 'explanation'),
    [
        (set(), 'classic', REDELIVERED),
        ({1}, 'classic', REDELIVERED),
        ({1, 2}, 'classic', REPLAYED),
        ({1, 2}, 'quorum', ACK_LOST),
    ],
)
def test_two_acknowledgements_are_a_replay_if_the_broker_had_both(closed, queue_type, explanation):
    both = [copy(), copy(channel=2, redelivered=True)]
    assert copies.explain_all(both, closed, True, queue_type) == explanation


@pytest.mark.parametrize(('has_flags', 'explanation'), [(True, REPLAYED), (False, REDELIVERED)])
def test_two_copies_without_the_flag(has_flags, explanation):
    """explain() believes in a lost acknowledgement here; the audit knows that flags are kept."""
    both = [copy(settled=False), copy(channel=2)]
    assert copies.explain(both[:1], both[1], 'classic') == REDELIVERED
    assert copies.explain_all(both, set(), has_flags, 'classic') == explanation


def of_one_attempt(arrived):
    return [arrival._replace(attempt=1) for arrival in arrived]


@given(EARLIER, COPIES, st.sets(st.integers(1, 3)), st.sampled_from(QUEUE_TYPES))
def test_the_audit_passes_no_replay_that_a_consumer_sees(earlier, later, closed, queue_type):
    first, *between, later = of_one_attempt([*earlier, later])
    earlier = [first._replace(redelivered=False), *between]  # the audit sees the first one
    if copies.explain(earlier, later, queue_type) == REPLAYED:
        found = copies.explain_all([*earlier, later], closed, True, queue_type)
        assert found in (REPLAYED, ACK_LOST)


@given(EARLIER, st.sets(st.integers(1, 3)), st.booleans(), st.sampled_from(QUEUE_TYPES))
def test_a_flag_explains_more_than_none(arrived, closed, has_flags, queue_type):
    arrived = of_one_attempt(arrived)
    flagged = [arrival._replace(redelivered=True) for arrival in arrived]
    if copies.explain_all(flagged, closed, has_flags, queue_type) == REPLAYED:
        assert copies.explain_all(arrived, closed, has_flags, queue_type) == REPLAYED
