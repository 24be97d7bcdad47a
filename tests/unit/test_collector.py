"""collector.py: what the management API answers, as a history stores it."""

import time
from types import SimpleNamespace

import pytest

from siamese.messaging import management_api
from siamese.monitoring import clients, collector, database, details, queues, snapshot

STATS = {'publish': 7, 'publish_details': {'rate': 1.5}, 'deliver_get': 3}
ANSWERS = {
    'overview': {'product_name': 'RabbitMQ', 'rabbitmq_version': '3.10.8'},
    'nodes': [
        {'name': 'n1', 'os_pid': '17', 'running': True, 'uptime': 5000, 'mem_alarm': True},
    ],
    'exchanges/%2F/amq.rabbitmq.event': {'name': 'amq.rabbitmq.event'},
    'vhosts/%2F': {'name': '/', 'message_stats': {'return_unroutable': 2}},
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
    'bindings/%2F': [
        {'source': '', 'destination': 'work', 'destination_type': 'queue', 'routing_key': 'work'},
        {'source': 'x', 'destination': 'work', 'destination_type': 'queue', 'routing_key': '#'},
        {'source': 'x', 'destination': 'work', 'destination_type': 'exchange', 'routing_key': ''},
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

    return SimpleNamespace(get=get, base='http://broker:15672')


def test_a_snapshot_has_queues_clients_alarms_and_counters():
    found = snapshot.take(api(), '/')
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
    collector.store(db, snapshot.take(api(), '/'), closed={'a'}, missing=['more'])
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
        outcome = collector.ask(api, '/')
        collected = collector.store_outcome(db, outcome, closed=None, missing=[])
        collector.log_gaps(db, logged)
        return collected, [record.getMessage() for record in caplog.records]

    absent = management_api.Refused('answers 404', 404)
    for texts in [snapshot.NO_EVENT_EXCHANGE], []:
        assert collect(api(exchanges=absent)) == (True, texts)
    broken = management_api.Refused('no management API', 0)
    collected, (text,) = collect(api(overview=broken))
    assert not collected and text.startswith('no metrics of queues and clients: no management API')
    assert collect(api(overview=broken)) == (False, [])
    assert collect(api(nodes=[{'name': 'n1'}])) == (False, [])  # it starts
    assert collect(api()) == (True, []) and database.broker(db)['missing'] == []


def test_what_ends_the_thread_ends_the_run():
    asker = collector.Asker()
    asker.ask(api(), '/')
    asker.thread.join()
    assert asker.is_done() and asker.take().found.version == '3.10.8' and not asker.is_asking()
    asker.ask(api(queues=MemoryError('no room')), '/')
    asker.thread.join()
    with pytest.raises(MemoryError, match='no room'):
        asker.take()


def test_what_a_queue_is_bound_to_and_who_consumes(db):
    collector.store(db, snapshot.take(api(), '/'))
    found = details.of_queue(db, 'work')
    assert found['bindings'] == [{'source': 'x', 'routing_key': '#', 'arguments': {}}]
    assert [(row['client'], row['prefetch']) for row in found['consumers']] == [
        ('b', None),
        ('', None),
    ]
    assert details.of_queue(db, 'silent')['bindings'] == []
    assert details.of_queue(db, 'replies') is None


def test_bindings_that_are_refused_are_unknown_and_the_rest_is_stored(db):
    refused = management_api.Refused('too long', 0)
    collector.store(db, snapshot.take(api(bindings=refused), '/'))
    assert details.of_queue(db, 'work')['bindings'] is None
    assert len(queues.rows(db)) == 2


def test_the_figures_of_nodes_are_unknown_where_the_api_does_not_tell_them(db):
    collector.store(db, snapshot.take(api(nodes=[{'name': 'n', 'uptime': 1, 'mem_used': 5}]), '/'))
    (node,) = database.broker(db)['nodes']
    assert (node['mem_used'], node['mem_limit'], node['disk_free']) == (5, None, None)


def test_an_outage_is_kept_when_the_broker_is_back(db):
    args = SimpleNamespace(name='monitor.py@test')
    link = SimpleNamespace(is_ready=True, args=args, unavailable_since=0)
    collector.note_state(db, link, 5)
    assert database.broker(db)['outages'] is None
    link.is_ready = False
    link.unavailable_since = time.monotonic() - 40
    collector.note_state(db, link, 5)
    began = database.broker(db)['since']
    for _ in range(2):
        link.is_ready = True
        collector.note_state(db, link, 5)
    ((outage_began, ended),) = database.broker(db)['outages']
    assert outage_began == began and ended - began >= 40
