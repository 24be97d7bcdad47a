"""following.py: what is known of ledgers while they grow."""

import json
import time

import pytest

from siamese.following import Follower


def line(by, event, at=0.0, **facts):
    return {'at': at, 'by': by, 'run': 'cafe0001', 'epoch': 1, 'event': event, **facts}


def about(number, by, event, at=0.0, **facts):
    id = f'alice-cafe0001-{number}'
    return line(by, event, at, id=id, attempt=1, **facts)


def sent(number, at=0.0):
    return [
        about(number, 'alice', 'attempted', at, digest='d', priority=0),
        about(number, 'alice', 'confirmed', at),
    ]


def came(number, **facts):
    return about(number, 'carol', 'acked', **{'digest': 'd', 'redelivered': False, **facts})


def opened(by):
    return line(by, 'connected', broker='b', queue='q')


class Books:
    """A folder of ledgers; append() writes lines, or whatever text, into one of them."""

    def __init__(self, folder):
        self.folder = folder

    def append(self, name, *lines):
        with open(self.folder / f'{name}.jsonl', 'a') as file:
            for each in lines:
                file.write(each if isinstance(each, str) else json.dumps(each) + '\n')


@pytest.fixture
def books(tmp_path):
    return Books(tmp_path)


@pytest.fixture
def follower(tmp_path):
    return Follower([str(tmp_path)], late_s=10)


def look(follower):
    """Let a follower read what is there."""
    follower.follow_once()
    return follower.line(now=time.monotonic())


def test_a_ledger_that_appears_is_joined_in(books, follower):
    assert look(follower) == '0 attempted, 0 confirmed, 0 acked, 0 faults'
    books.append('alice', opened('alice'), *sent(1, at=95.0), *sent(2, at=50.0))
    told = '2 attempted, 2 confirmed, 0 acked, 0 faults, 2 wait for 45 s at most, 1 late'
    assert look(follower) == told
    books.append('carol', opened('carol'), came(1), came(2))
    assert look(follower) == '2 attempted, 2 confirmed, 2 acked, 0 faults'


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(books, follower):
    whole = json.dumps(sent(1)[0])
    books.append('alice', whole[:20])
    assert look(follower).startswith('0 attempted')
    books.append('alice', whole[20:] + '\n')
    assert look(follower).startswith('1 attempted')
    assert not follower.sieve.evidence.unreadable


@pytest.mark.parametrize(
    ('lines', 'told'),
    [
        ([came(1), came(2, digest='x')], 'corrupt: alice-cafe0001-2\n'),
        ([came(1), came(1)], 'duplicated: alice-cafe0001-1\n'),
        ([came(2), came(1)], 'out of order: alice-cafe0001-1 (after alice-cafe0001-2)\n'),
        ([came(2)], ''),
    ],
)
def test_a_fault_is_told_once_it_is_proven_and_only_once(books, follower, capsys, lines, told):
    books.append('alice', opened('alice'), *sent(1), *sent(2))
    books.append('carol', opened('carol'), *lines)
    look(follower)
    follower.next_verdict = 0.0
    look(follower)
    assert capsys.readouterr().err == told


def test_it_is_over_when_all_have_closed_their_latest_connection(books, follower):
    books.append('alice', opened('alice'), *sent(1), line('alice', 'closed'))
    look(follower)
    assert not follower.has_closed()  # a consumer is still to come
    books.append('carol', opened('carol'), came(1), line('carol', 'disconnected'))
    look(follower)
    assert not follower.has_closed()
    again = {**opened('carol'), 'epoch': 2}
    books.append('carol', again, {**line('carol', 'closed'), 'epoch': 2})
    look(follower)
    assert follower.has_closed()
