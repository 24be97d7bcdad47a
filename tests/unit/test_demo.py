"""What the demo makes of the ledger, and of a URL."""

import json

import lanes
import pytest
import story
import venue

PRODUCER = {'by': 'alice', 'run': 'r', 'epoch': 1, 'at': 1.0}
VALIDATOR = {**PRODUCER, 'by': 'carol'}
DELIVERY = {'digest': 'd', 'redelivered': False, 'attempt': 1}
LINES = [
    {**PRODUCER, 'event': 'connected', 'broker': 'b'},
    {**PRODUCER, 'event': 'attempted', 'id': 'a', 'attempt': 1, 'digest': 'd'},
    {**PRODUCER, 'event': 'disconnected'},
    {**PRODUCER, 'event': 'attempted', 'id': 'a', 'attempt': 2, 'digest': 'd'},
    {**PRODUCER, 'event': 'confirmed', 'id': 'a', 'attempt': 2},
    {**VALIDATOR, 'event': 'acked', 'id': 'a', **DELIVERY},
    {**VALIDATOR, 'event': 'acked', 'id': 'a', **DELIVERY},
    {**VALIDATOR, 'event': 'closed'},
]


@pytest.fixture
def board():
    producer = lanes.Lane('alice', 'producer')
    validator = lanes.Lane('carol', 'validator')
    return lanes.Board({'alice': producer, 'carol': validator})


def test_a_board_counts_what_the_ledger_says(board, tmp_path):
    path = tmp_path / 'ledger'
    tail = lanes.Tail(str(path))
    text = ''.join(json.dumps(line) + '\n' for line in LINES)
    with path.open('a') as file:
        for part in text[:400], text[400:-5], text[-5:]:  # lines come in pieces
            file.write(part)
            file.flush()
            tail.read(board)
    alice = board.lanes['alice']
    assert (alice.sent, alice.confirmed, alice.state) == (1, 1, lanes.CUT_OFF)
    assert (board.arrived, board.twice, board.total('checked')) == (1, 1, 2)
    assert board.count_in(lanes.DONE) == 1


def test_what_was_proved_takes_one_sentence():
    found = {'redelivered': [], 'republished': [], 'ack_lost': [], 'confirmed': ['a', 'b']}
    once = story.proved(found, 'the broker was killed', 'two validators')
    assert 'all 2 blocks' in once and once.endswith('unaltered, each of them once.')
    twice = story.proved({**found, 'redelivered': ['a'], 'republished': ['a']}, 'it was', 'all')
    assert twice.endswith('; 1 came twice, and the fault explains why.')


@pytest.mark.parametrize(
    'url, expected',
    [
        ('amqp://h/v', 'amqp://h/v'),
        ('amqps://h:5/v', 'amqps://h:5/v?server_name_indication=h'),
        ('amqps://h/v?verify=x', 'amqps://h/v?verify=x&server_name_indication=h'),
        ('amqps://h/v?server_name_indication=o', 'amqps://h/v?server_name_indication=o'),
    ],
)
def test_behind_a_proxy_a_url_names_its_host(url, expected):
    assert venue.with_server_name(url) == expected
