"""ordering.py: what is in order, in lines of ledgers."""

import pytest

from siamese.testbed import ordering
from siamese.testbed.candidate import Failed


def took(number, by='carol', epoch=1, redelivered=False):
    return {
        'event': 'acked',
        'by': by,
        'run': 'cafe0001',
        'epoch': epoch,
        'id': f'alice-cafe0002-{number}',
        'redelivered': redelivered,
    }


@pytest.mark.parametrize(
    'events',
    [
        [took(1), took(2), took(3)],
        [took(2, by='dave'), took(1), took(3)],  # each of two has its own order
        [took(2), took(3), took(1, redelivered=True)],
        [took(2), took(3), took(1, epoch=2)],  # another channel
    ],
)
def test_what_is_in_order(events):
    ordering.check('a queue', events, count=3)


@pytest.mark.parametrize(
    ('events', 'problem'),
    [
        ([took(1), took(3), took(2)], 'message 2 came after 3'),
        ([took(1), took(2), took(2)], '2 of 3 messages came'),
        ([{**took(1), 'id': None}], 'without its id'),
    ],
)
def test_what_is_not(events, problem):
    with pytest.raises(Failed, match=problem):
        ordering.check('a queue', events, count=3)


def test_the_lines_of_many_messages_are_read_too():
    many = {**took(0), 'of': 'cafe0002', 'each': [1, 3, 2], 'due': [5, 3], 'digest': 'd'}
    del many['id'], many['redelivered']
    with pytest.raises(Failed, match='message 2 came after 3'):
        ordering.check('a queue', [many], count=3)
