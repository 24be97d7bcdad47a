"""monitor.py: what is delivered is stored first, and acknowledged then."""

from collections import deque
from types import SimpleNamespace

import pika
import pytest

from siamese.messaging import raw_fields
from siamese.monitoring import clients, daemon, database, dead_letters


class Channel:
    """A channel that notes what was stored when it acknowledges."""

    is_open = True

    def __init__(self, db):
        self.db = db
        self.acked = []

    def basic_ack(self, delivery_tag, multiple):
        self.acked.append((delivery_tag, multiple, dead_letters.find(self.db)[1]))


def delivery(number, headers=None, **method):
    facts = {'exchange': 'x', 'routing_key': 'k', 'redelivered': False, 'consumer_tag': 'dead'}
    properties = pika.BasicProperties(message_id=f'm-{number}', headers=headers or {})
    encoded = raw_fields.RawProperties(b''.join(properties.encode()))
    return SimpleNamespace(
        method=SimpleNamespace(**{**facts, 'delivery_tag': number, **method}),
        properties=encoded,
        body=b'Hello',
    )


@pytest.fixture
def watched():
    db = database.open_for_writing(':memory:')
    link = SimpleNamespace(
        run='run',
        epoch=1,
        inbox=deque(),
        channel=Channel(db),
        endpoint=SimpleNamespace(virtual_host='/'),
    )
    args = SimpleNamespace(quiet=False, endpoints=[], management_url=None, history=':memory:')
    return daemon.Monitor(args, db, link)


def test_dead_letters_are_stored_before_they_are_acknowledged_together(watched, capsys):
    watched.link.inbox.extend([delivery(1), delivery(2)])
    watched.receive()
    assert watched.link.channel.acked == [(2, True, 2)]
    assert watched.counts['stored'] == 2 and not watched.link.inbox
    assert capsys.readouterr().out.splitlines() == [
        'unknown  ?  m-1  5 bytes  from ?',
        'unknown  ?  m-2  5 bytes  from ?',
    ]


def test_events_are_neither_dead_letters_nor_acknowledged(watched):
    created = {'name': 'a', 'user': 'guest', 'vhost': '/'}
    event = {'consumer_tag': 'events', 'routing_key': 'connection.created'}
    watched.link.inbox.append(delivery(1, created, **event))
    watched.receive()
    assert watched.link.channel.acked == [] and watched.counts['stored'] == 0
    assert [row['name'] for row in clients.rows(watched.db)] == ['a']


def test_a_closed_channel_acknowledges_nothing_and_the_dead_letter_counts_once(watched):
    watched.link.channel.is_open = False
    watched.link.inbox.append(delivery(1))
    watched.receive()
    watched.link.epoch = 2
    watched.link.channel.is_open = True
    watched.link.inbox.append(delivery(1, redelivered=True))
    watched.receive()
    assert watched.link.channel.acked == [(1, True, 1)] and watched.counts['stored'] == 1
