"""clients.py: who is connected, and who was interrupted."""

import pytest
from support.builders import seen

from siamese.monitoring import clients, database, queues


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def test_a_client_that_comes_back_was_interrupted(db):
    seen(db, 1, 'a')
    seen(db, 2, 'a')
    assert clients.rows(db)[0]['interruptions'] == 0
    seen(db, 3, 'b')  # it was back before anybody looked
    seen(db, 3.2, 'b', 'c')  # the API still names the one that is gone
    seen(db, 3.4, 'c')
    seen(db, 4)
    assert clients.rows(db)[0]['state'] == 'gone' and clients.rows(db)[0]['since'] == 4
    seen(db, 7, 'd')
    (row,) = clients.rows(db)
    assert (row['interruptions'], row['last_interruption'], row['back']) == (3, 4, 7)
    assert (row['does'], row['state']) == ('publishes', 'publishing and consuming')
    assert row['published'] == 40 and row['delivered'] == 4
    seen(db, 8 + queues.RATE_WINDOW_S, 'd')
    assert clients.rows(db)[0]['state'] == 'idle'


def test_what_a_client_does_began_when_it_came_back(db):
    seen(db, 1, 'a')
    seen(db, 2, 'a')
    assert clients.rows(db)[0]['since'] == 1
    seen(db, 3, 'b')  # it was back before anybody looked, and does the same
    (row,) = clients.rows(db)
    assert (row['last_interruption'], row['back'], row['since']) == (2, 3, 3)
    assert row['state'] == 'publishing and consuming'


def test_blocked_clients_are_counted(db):
    present = {'does': '', 'blocked': True, 'connections': {'a': (0, 0)}}
    clients.update(db, 1, {('alice', 'guest'): present, ('bob', 'guest'): present})
    assert clients.blocked(db) == 2
    clients.update(db, 2, {('alice', 'guest'): {**present, 'blocked': False}})
    assert clients.blocked(db) == 0


def test_a_client_is_still_publishing_while_the_broker_does_not_update_its_counters(db):
    states = []
    for at, published in enumerate((10, 20, 20, 30, 30, 30, 30, 30)):  # a look every 5 s
        clients.update(
            db,
            5 * at,
            {
                ('alice', 'guest'): {
                    'does': 'publishes',
                    'blocked': at == 3,
                    'connections': {'a': (published, 0)},
                }
            },
        )
        states.append((clients.rows(db)[0]['state'], clients.rows(db)[0]['since']))
    assert states == [
        *[('publishing', 0)] * 3,
        ('blocked', 15),
        *[('publishing', 20)] * 2,
        *[('idle', 30)] * 2,
    ]


def test_events_of_the_event_exchange_change_the_state_of_clients(db):
    clients.client_connected(db, 1, 'alice', 'guest', 'a')
    clients.client_disconnected(db, 2, 'a')
    clients.client_disconnected(db, 2, 'unknown')
    assert clients.rows(db)[0]['state'] == 'gone'
    clients.client_connected(db, 3, 'alice', 'guest', 'b')
    (row,) = clients.rows(db)
    assert (row['interruptions'], row['last_interruption'], row['back']) == (1, 2, 3)
    clients.update(db, 4, {}, grace_s=10)  # the API does not know of it yet
    assert clients.rows(db)[0]['state'] == 'idle'
    clients.update(db, 14, {}, grace_s=10)
    assert clients.rows(db)[0]['state'] == 'gone'
