"""ledger.py: the lines that a script writes, and when."""

import json
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese import ledger


class Code(IntEnum):
    REFUSED = 403


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(['id', 'reason', 'attempt', 'arguments', 'äöü']), JSON))
def test_every_fact_is_written_as_json_has_it(facts):
    assert json.loads(f'{{"event": "x"{ledger.members(facts)}}}') == {'event': 'x', **facts}


@pytest.mark.parametrize(
    ('fact', 'written'), [(b'\xff', "b'\\xff'"), (Code.REFUSED, 403), ((1, 2), [1, 2])]
)
def test_what_json_does_not_know_is_written_as_it_is_shown(fact, written):
    assert json.loads(f'{{"event": "x"{ledger.members({"reason": fact})}}}')['reason'] == written


def test_lines_are_written_together_when_that_is_asked_for(tmp_path):
    path = tmp_path / 'run.jsonl'
    writer = ledger.Writer(str(path), by='älice "1"', run='cafe0001')
    writer.note('connected', epoch=1, broker='b')
    writer.note('confirmed', epoch=1, id='x', attempt=1)
    assert path.read_text() == ''
    writer.flush()
    writer.flush()
    first, second = ledger.read([str(path)])
    assert (first['by'], first['event'], second['id']) == ('älice "1"', 'connected', 'x')
    assert 0 <= second['at'] - first['at'] < 60 and round(first['at'], 6) == first['at']


def test_without_a_path_nothing_is_written():
    writer = ledger.Writer(None, by='alice')
    writer.note('connected', broker='b')
    writer.flush()
    assert not writer.lines


def test_a_disk_that_is_full_is_told(tmp_path):
    writer = ledger.Writer('/dev/full', by='alice')
    writer.note('connected', broker='b')
    with pytest.raises(OSError, match='No space left'):
        writer.flush()


@given(st.integers(1, 10_000))
def test_a_line_that_was_cut_off_does_not_spoil_the_next_one(cut):
    """kill -9 ends a write() between two pages, and others append to the file."""
    acked = {'id': 'alice-cafe-1', 'attempt': 1, 'digest': 'd', 'redelivered': False}
    line = {'at': 1.5, 'by': 'carol', 'run': 'cafe', 'epoch': 1, 'event': 'acked', **acked}
    text = json.dumps(line)
    following = {**line, 'id': 'alice-cafe-2'}
    beginning = text[: cut % len(text) + 1]
    assert ledger.parse(beginning + json.dumps(following)) == following
    assert ledger.parse(f'x{beginning}{json.dumps(following)}') is None
