"""events.py: what the event exchange announces of clients."""

import pytest

from siamese.monitoring import clients, database, events


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def test_a_connection_of_our_virtual_host_is_a_client_until_it_is_closed(db):
    listener = events.Listener()
    facts = {'vhost': '/', 'name': 'a', 'user': 'guest', 'user_provided_name': 'alice'}
    listener.hear(db, 'connection.created', facts, vhost='/', now=1.0)
    assert [(row['name'], row['state']) for row in clients.rows(db)] == [('alice', 'idle')]
    listener.hear(db, 'connection.closed', {'name': 'a'}, vhost='/', now=2.0)
    assert [(row['name'], row['state']) for row in clients.rows(db)] == [('alice', 'gone')]


@pytest.mark.parametrize('name', [b'\xff\xfe', 5, ['a'], 'a\udcff'])
def test_a_name_that_is_no_text_becomes_text(db, name):
    facts = {'vhost': '/', 'name': b'\xff', 'user': b'me\xff', 'user_provided_name': name}
    listener = events.Listener()
    listener.hear(db, 'connection.created', facts, vhost='/', now=1.0)
    (row,) = db.execute('SELECT name, user, state FROM client').fetchall()
    assert isinstance(row['name'], str) and row['user'] == 'me\ufffd' and row['state'] == 'idle'
    listener.hear(db, 'connection.closed', {'name': b'\xff'}, vhost='/', now=2.0)
    assert clients.rows(db)[0]['state'] == 'gone'


def test_a_closed_connection_is_remembered_for_a_minute_whatever_the_clock_says(db, monkeypatch):
    listener = events.Listener()
    assert listener.closed_connections() is None  # it does not listen
    listener.is_open = True
    for name, at, now in (('a', 0.0, 9000.0), ('b', 50.0, 5400.0), ('c', 61.0, 9061.0)):
        monkeypatch.setattr(events.time, 'monotonic', lambda at=at: at)
        listener.hear(db, 'connection.closed', {'name': name}, vhost='/', now=now)
    assert listener.closed_connections() == {'b': 50.0, 'c': 61.0}


@pytest.mark.parametrize(
    'facts',
    [
        {},
        {'vhost': '/'},
        {'vhost': '/', 'name': 'a'},
        {'vhost': '/', 'user': 'guest'},
        {'vhost': 'other', 'name': 'a', 'user': 'guest'},
    ],
)
def test_events_that_lack_facts_or_are_of_another_virtual_host_are_ignored(facts):
    db = database.open_for_writing(':memory:')
    for event in 'connection.created', 'connection.closed', 'connection.stats':
        events.Listener().hear(db, event, facts, vhost='/', now=1.0)
    assert clients.rows(db) == []
