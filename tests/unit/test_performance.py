"""performance.py: the body is the wiki's in any size, message IDs, queue arguments."""

import argparse
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from siamese.scenarios import performance


@given(st.sampled_from(['utf-8', 'utf-16']), st.integers(performance.LEAST_SIZE, 3000))
@example('utf-16', performance.LEAST_SIZE)
@example('utf-8', 1_000_000)
def test_the_body_is_the_wikis_text_in_any_size(encoding, size):
    size -= size % 2 if encoding == 'utf-16' else 0
    body, text = performance.body_of(encoding, size)
    content = json.loads(body)  # finds out the encoding by itself
    assert len(body) == size == content['size'] and body.decode(encoding).lstrip(
        '\ufeff'
    ) == text.lstrip('\ufeff')
    wiki = content['testdict']
    assert wiki['مفتاح'] == 'قيمة' and wiki['键'] == '值' and wiki['キー'] == '値'
    assert max(map(ord, text)) > 0xFFFF  # needs a surrogate pair in UTF-16


def test_bodies_of_two_sizes_differ_before_the_shorter_ends():
    long, _ = performance.body_of('utf-8', 500)
    for size in range(performance.LEAST_SIZE, 500):
        assert not long.startswith(performance.body_of('utf-8', size)[0])


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match='do not hold'):
        performance.body_of('utf-16', performance.LEAST_SIZE + 1)
    with pytest.raises(ValueError, match='10 bytes do not hold'):
        performance.body_of('utf-8', 10)


@pytest.mark.parametrize(
    'text, pair',
    [
        ('x-max-length=10', ('x-max-length', 10)),
        ('x-overflow=reject-publish', ('x-overflow', 'reject-publish')),
        ('x-single-active-consumer=true', ('x-single-active-consumer', True)),
        ('a=b=c', ('a', 'b=c')),
        ('a=-1', ('a', -1)),
        ('a=', ('a', '')),
    ],
)
def test_queue_arguments(text, pair):
    assert performance.queue_arg(text) == pair


@given(st.integers(1, 10**9), st.floats(0, 4e9))
def test_message_ids_name_the_time_when_they_were_due(number, due):
    message_id = performance.message_id('cafe0123', number, due)
    assert performance.dues_of([message_id]) == {int(due * 1e6): 1}
    assert len(message_id) == len(performance.message_id('cafe0123', 0, 0))


@pytest.mark.parametrize('text', ['x', '=1', 'x=\udcff', 'x=\n', 'x' * 256 + '=1'])
def test_malformed_queue_arguments_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match='is not KEY=VALUE'):
        performance.queue_arg(text)


@pytest.mark.parametrize(
    'stranger',
    [
        b'',
        b'hello',
        'ünïcode'.encode(),
        b'order 4000000000000000',
        b'cafe0123-0000000001-400000000000000x',
        b'CAFE0123-0000000001-4000000000000000',
        b'cafe0123-0000000001-+000000000000000',
        b'cafe0123-0000000001-4000_000_000_000',
        b'cafe0123 0000000001 4000000000000000',
    ],
)
def test_a_message_id_of_a_stranger_names_no_time(stranger):
    ours = performance.message_id('cafe0123', 1, 4e9)
    assert performance.dues_of([stranger]) == {}
    if len(stranger) == len(ours):
        assert performance.dues_of([ours, stranger, ours]) == {}
    assert performance.dues_of([ours, ours]) == {4 * 10**15: 2}


def test_message_ids_that_are_due_together_are_those_of_each():
    many = performance.message_ids('cafe0123', range(1, 4), 4e9)
    assert many == [performance.message_id('cafe0123', number, 4e9) for number in (1, 2, 3)]
