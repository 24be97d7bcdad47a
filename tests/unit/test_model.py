"""The audit beside a model of a broker: it accuses no honest one, and names what another does.

Hypothesis chooses histories, and makes one short that fails; chance chooses many more.
SIAMESE_HISTORIES=2000000 tries as many, SIAMESE_SEED=7 those of that seed; pytest -s prints it.
"""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model import NOT_OF_QUORUM, SPOILED, STEPS, Model

from siamese import verdict
from siamese.sieve import evidence_of

HISTORIES = int(os.environ.get('SIAMESE_HISTORIES', '20000'))
SEED = os.environ.get('SIAMESE_SEED') or random.randrange(2**32)
LONGEST = 40  # steps
MOST = 4  # messages of a step
HONEST = 'honest'
KINDS = [HONEST, *SPOILED]
AFTER_A_RESTART = ('twice', 'twice_after_a_good_end', 'flag', 'order')  # brokers may do these

HISTORY = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, MOST)), max_size=LONGEST)
MODELS = st.builds(
    Model,
    st.sampled_from(['classic', 'quorum']),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3]),
)


def live(model, history):
    """Let a model take the steps of a history."""
    for step, count in history:
        getattr(model, step)(count)


def judged(model):
    """Return what the audit finds wrong or cannot tell, and the exit status of its verdict."""
    evidence = evidence_of(model.ledger)
    found = verdict.judge_all(evidence)
    kinds = (*verdict.FAULTS, 'cannot_tell')
    faults = {kind: found[kind] for kind in kinds if found[kind]}
    return faults, verdict.judge(found, evidence.plain).exit_status


def is_judged_right(model, kind):
    """Return whether the audit finds what is spoiled after a history, and nothing else.

    Where connections of all of a host were lost the broker may have restarted. When that
    was, by the clock of another host, nobody can tell: then it says so.
    """
    faults = {}
    statuses = 0, 3
    if kind != HONEST:
        fault, name = getattr(model, f'spoil_{kind}')()
        faults = {fault: [name]}
        statuses = (1,)
    model.settle()
    found, status = judged(model)
    if model.hosts > 1 and kind in AFTER_A_RESTART and 'cannot_tell' in found:
        faults = {'cannot_tell': [name]}
        statuses = (3,)
    return found == faults and status in statuses


@settings(max_examples=200)
@given(MODELS, HISTORY)
def test_sound_no_honest_broker_is_accused(model, history):
    live(model, history)
    assert is_judged_right(model, HONEST)


@pytest.mark.parametrize('kind', SPOILED)
@settings(max_examples=40)
@given(model=MODELS, history=HISTORY)
def test_complete_what_a_broker_does_wrong_is_named(kind, model, history):
    if kind in NOT_OF_QUORUM:
        model = Model('classic', model.many, model.priorities, model.hosts)
    live(model, history)
    assert is_judged_right(model, kind)


@pytest.mark.parametrize('kind', KINDS)
def test_many_more_histories(kind):
    print(f'SIAMESE_SEED={SEED}')
    chance = random.Random(f'{SEED} {kind}')
    types = ['classic', 'classic' if kind in NOT_OF_QUORUM else 'quorum']
    for number in range(HISTORIES // len(KINDS)):
        how = chance.choice(types), chance.choice([True, False]), chance.choice([1, 2])
        how += (chance.choice([1, 3]),)
        steps = chance.choices(STEPS, k=chance.randint(0, LONGEST))
        history = [(step, chance.randint(1, MOST)) for step in steps]
        model = Model(*how)
        live(model, history)
        assert is_judged_right(model, kind), (number, how, history)
