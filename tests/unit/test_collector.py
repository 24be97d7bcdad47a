"""collector.py: what the management API answers, as a history stores it."""

from types import SimpleNamespace

import pytest

from siamese.messaging import management_api
from siamese.monitoring import clients, collector, database, queues

STATS = {'publish': 7, 'publish_details': {'rate': 1.5}, 'deliver_get': 3}
ANSWERS = {
    'overview': {'product_name': 'RabbitMQ', 'rabbitmq_version': '3.10.8'},
    'nodes': [
        {'name': 'n1', 'os_pid': '17', 'running': True, 'uptime': 5000, 'mem_alarm': True},
    ],
    'exchanges/%2F/amq.rabbitmq.event': {},
    'vhosts/%2F': {'message_stats': {'return_unroutable': 2}},
    'queues/%2F': [
        {'name': 'work', 'messages_ready': 4, 'message_stats': STATS},
        {'name': 'silent'},
        {'name': 'replies', 'exclusive': True},
    ],
    'vhosts/%2F/connections': [
        {'name': 'a', 'user': 'guest', 'user_provided_name': 'alice', 'state': 'blocked'},
        {'name': 'b', 'user': 'guest', 'state': 'running'},
        {'name': 'opening'},
    ],
    'vhosts/%2F/channels': [
        {'connection_details': {'name': 'a'}, 'message_stats': {'publish': 2}},
        {'connection_details': {'name': 'a'}, 'message_stats': {'publish': 3}},
        {'connection_details': []},
    ],
    'consumers/%2F': [
        {'channel_details': {'connection_name': 'b'}, 'queue': {'name': 'work'}},
        {'channel_details': [], 'queue': {'name': 'work'}},
    ],
}


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def api(**changes):
    """Return a management API that gives the ANSWERS, or raises what stands there."""

    def get(path):
        path = path.partition('?')[0]
        answer = changes.get(path.split('/')[0], ANSWERS[path])
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(get=get)


def test_a_snapshot_has_queues_clients_alarms_and_counters():
    found = collector.snapshot(api(), '/')
    assert (found.product, found.version, found.uptime, found.process) == (
        'RabbitMQ',
        '3.10.8',
        5.0,
        '17',
    )
    assert found.alarms == ['memory alarm on n1'] and found.missing == []
    assert found.unroutable == {'returned': 2, 'dropped': None} and found.has_event_exchange
    work, silent = found.queues
    assert (work['ready'], work['published'], work['acked'], work['publish_rate']) == (4, 7, 0, 1.5)
    assert silent['published'] is None and silent['publish_rate'] == 0
    assert found.clients == {
        ('alice', 'guest'): {'does': 'publishes', 'blocked': True, 'connections': {'a': (5, 0)}},
        ('b', 'guest'): {
            'does': 'consumes work',
            'blocked': False,
            'connections': {'b': (0, 0)},
        },
    }


def test_a_collection_is_stored_without_connections_that_are_closed(db):
    collector.collect(db, api(), '/', closed={'a'}, missing=['more'])
    assert [row['name'] for row in queues.rows(db)] == ['silent', 'work']
    assert {row['name']: row['state'] for row in clients.rows(db)} == {
        'alice': 'gone',
        'b': 'idle',
    }
    known = database.broker(db)
    assert known['version'] == '3.10.8' and known['missing'] == ['more']
    assert list(known['alarms']) == ['memory alarm on n1'] and known['collected']


def test_what_is_missing_is_logged_once_until_it_changes(db, caplog):
    logged = []

    def collect(api):
        caplog.clear()
        collected = collector.collect_or_explain(db, api, '/', None, [], logged)
        return collected, [record.getMessage() for record in caplog.records]

    absent = management_api.Refused('answers 404', 404)
    for texts in [collector.NO_EVENT_EXCHANGE], []:
        assert collect(api(exchanges=absent)) == (True, texts)
    broken = management_api.Refused('no management API', 0)
    collected, (text,) = collect(api(overview=broken))
    assert not collected and text.startswith('no metrics of queues and clients: no management API')
    assert collect(api(overview=broken)) == (False, [])
    assert collect(api(nodes=[{'name': 'n1'}])) == (False, [])  # it starts
    assert collect(api()) == (True, []) and database.broker(db)['missing'] == []
