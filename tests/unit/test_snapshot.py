"""snapshot.py: the answers of real brokers, and what is left of them when they are mangled."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamese import ROOT
from siamese.messaging import management_api
from siamese.monitoring import alerts, clients, collector, database, prometheus, queues, snapshot

RECORDED = ROOT / 'tests' / 'support'
RABBITMQ = json.loads((RECORDED / 'rabbitmq-3.10.8-api.json').read_text())
LAVINMQ = {
    path.replace('/rec', '/%2F'): answer['body']
    for path, answer in json.loads((RECORDED / 'lavinmq-2.9.1' / 'api.json').read_text()).items()
    if '?' not in path and answer['status'] == 200
}
SHAPES = [
    None,
    [],
    {},
    '',
    'text',
    '\ud800',
    -1,
    0,
    1.5,
    10**400,
    math.nan,
    math.inf,
    True,
    [None],
    [[]],
    {'error': 'not_found', 'reason': 'gone'},
    {'name': None},
]


def api(answers):
    def get(path):
        found = answers.get(path.partition('?')[0])
        if isinstance(found, Exception):
            raise found
        return found

    return SimpleNamespace(get=get, base='http://broker:15672')


def places(answers):
    """Yield the way to each value of the answers: keys and indexes."""
    for key in answers if isinstance(answers, dict) else range(len(answers)):
        yield (key,)
        if isinstance(answers[key], (dict, list)):
            yield from ((key, *rest) for rest in places(answers[key]))


def mangled(answers, way, shape):
    """Return the answers with another shape at the end of a way; ... leaves it out."""
    changed = copy.deepcopy(answers)
    within = changed
    for key in way[:-1]:
        within = within[key]
    if shape is ...:
        del within[way[-1]]
    else:
        within[way[-1]] = shape
    return changed


def is_figure(value):
    return value is None or (value >= 0 and math.isfinite(value))


@pytest.mark.parametrize('answers', [RABBITMQ, LAVINMQ], ids=['RabbitMQ', 'LavinMQ'])
@settings(max_examples=400)
@given(data=st.data())
def test_what_is_mangled_ends_nothing_and_invents_nothing(answers, data):
    way = data.draw(st.sampled_from(list(places(answers))))
    shape = data.draw(st.sampled_from([..., *SHAPES]))
    db = database.open_for_writing(':memory:')
    collector.store_outcome(db, collector.ask(api(answers), '/'), None, [])
    outcome = collector.ask(api(mangled(answers, way, shape)), '/')
    collected = collector.store_outcome(db, outcome, {'a'}, [])
    assert collected == (outcome.refused is None)
    for row in queues.rows(db):
        names = ('ready', 'unacked', 'consumers', *database.RATES, *database.COUNTED)
        assert all(is_figure(row[name]) for name in names), row
    before = sum(row['published'] for row in clients.rows(db))
    assert is_figure(before)
    alerts.warnings(db, 0, 0)
    assert prometheus.Collector('').describe() == []
    collector.store_outcome(db, collector.ask(api(answers), '/'), None, [])
    assert {row['name'] for row in queues.rows(db)} >= {
        row['name'] for row in answers['queues/%2F']
    }


@pytest.mark.parametrize('shape', [None, [], 'text', {'error': 'x'}, [None], 5])
@pytest.mark.parametrize('path', ['overview', 'queues/%2F', 'consumers/%2F', 'nodes'])
def test_another_shape_is_refused_with_the_path_and_a_sample(path, shape):
    if shape == [] and path != 'overview':
        return  # an empty list is what it should be
    with pytest.raises(management_api.Refused) as refused:
        snapshot.take(api({**RABBITMQ, path: shape}), '/')
    text = str(refused.value)
    assert f' at {path}, but ' in text and text.count('\n') == 0 and len(text) < 300


def test_what_kind_of_queue_it_is():
    row = copy.deepcopy(RABBITMQ['queues/%2F'][0])
    row.update(durable=True, auto_delete=True)
    found = snapshot.take(api({**RABBITMQ, 'queues/%2F': [row]}), '/')
    ((_, details),) = found.details
    assert details['features'] == ['durable', 'auto_delete']


def test_a_broker_without_nodes_is_refused():
    """Else a restart would not be noticed, and what was counted since would be left out."""
    with pytest.raises(management_api.Refused, match='lists no node; is that the API of'):
        snapshot.take(api({**RABBITMQ, 'nodes': []}), '/')


def test_lavinmq_is_understood():
    found = snapshot.take(api(LAVINMQ), '/')
    assert (found.product, found.version, found.process) == ('LavinMQ', '2.9.1', '27419')
    assert found.missing == [snapshot.NO_EVENTS] and found.unknown == []
    assert found.clients == {
        ('erin', 'guest'): {
            'does': 'publishes',
            'blocked': False,
            'connections': {'127.0.0.1:59612 -> 127.0.0.1:5774': (1299, 0)},
        },
        ('grace', 'guest'): {
            'does': 'consumes siamese.perf',
            'blocked': False,
            'connections': {'127.0.0.1:59628 -> 127.0.0.1:5774': (0, 1299)},
        },
    }
    perf = next(queue for queue in found.queues if queue['name'] == 'siamese.perf')
    assert (perf['published'], perf['acked'], perf['publish_rate']) == (1298, 1296, 100)
    assert (perf['unacked'], perf['consumers'], perf['type']) == (2, 1, 'classic')


def test_a_stream_of_lavinmq_is_one():
    row = {'name': 's', 'arguments': {'x-queue-type': 'stream'}}
    assert snapshot.queue_of(row)['type'] == 'stream'


def test_without_statistics_figures_are_unknown():
    off = {'product_name': 'RabbitMQ', 'rabbitmq_version': '3.10.8', 'disable_stats': True}
    refused = management_api.Refused('answers 400', 400)
    poor = {
        **RABBITMQ,
        'overview': off,
        'nodes': [{'name': 'n', 'running': True}],
        'queues/%2F': [{'name': 'q', 'state': 'live', 'type': 'classic'}],
        'vhosts/%2F/channels': refused,
        'consumers/%2F': refused,
    }
    db = database.open_for_writing(':memory:')
    collector.store(db, snapshot.take(api(poor), '/'))
    (row,) = queues.rows(db)
    assert (row['ready'], row['consumers'], row['publish_rate'], row['oldest_since']) == (None,) * 4
    assert row['state'] == 'running' and [c['state'] for c in clients.rows(db)] == ['connected']
    assert database.broker(db)['missing'] == [snapshot.NO_STATISTICS]
    collector.store(db, snapshot.take(api({**poor, 'vhosts/%2F/connections': []}), '/'))
    assert [client['state'] for client in clients.rows(db)] == ['connected']  # as far as we know


def test_without_rates_what_waits_is_known_and_since_when_is_not():
    rows = copy.deepcopy(RABBITMQ['queues/%2F'])
    for row in rows:
        del row['message_stats']
    poor = {
        **RABBITMQ,
        'overview': {**RABBITMQ['overview'], 'rates_mode': 'none'},
        'queues/%2F': rows,
        'vhosts/%2F/channels': [{'connection_details': []}],
    }
    db = database.open_for_writing(':memory:')
    collector.store(db, snapshot.take(api(poor), '/'))
    (row,) = queues.rows(db)
    assert (row['unacked'], row['consumers']) == (10, 1)
    assert (row['publish_rate'], row['oldest_since'], row['published']) == (None, None, 0)
    assert [client['state'] for client in clients.rows(db)] == ['connected']
    assert queues.samples(db) == {} and database.broker(db)['missing'] == [snapshot.NO_RATES]


@pytest.mark.parametrize(
    'step, passed, every',
    [
        (0, 5, None),
        (5, 5, 5),
        (5, 0.5, 5),
        (60, 5, 60),
        (60.01, 0.5, 60),
        (120, 5, 120),
        (3600, 3590, None),  # nobody looked for an hour
        (45, 45, None),
        (3600, 3541, None),
    ],
)
def test_how_often_a_broker_counts(step, passed, every):
    assert collector.counted_every(step, passed) == every


def test_old_statistics_are_told_and_clients_are_not_idle_between_them():
    db = database.open_for_writing(':memory:')
    now, states = 1000.0, []
    for look in range(40):  # one every 5 s, and the broker counts every 60
        counted = look // 12
        uptime = 1000.0 + 60 * counted
        found = snapshot.take(api(RABBITMQ), '/')._replace(uptime=uptime, uptime_asked=now)
        gaps = collector._gaps_of_statistics(db, found)
        queue = {**found.queues[0], 'published': 10 + 600 * counted}
        queues.update(db, now, [queue], uptime, 'p')
        present = {'does': '', 'blocked': False, 'connections': {'a': (10 + 600 * counted, 0)}}
        clients.update(db, now, {('erin', 'guest'): present})
        states.append((bool(gaps), clients.rows(db)[0]['state']))
        rate = queues.rows(db)[0]['publish_rate']
        if look > 26:
            assert 7 < rate < 20, look  # it is 10
        now += 5
    assert (True, 'idle') not in states and states[-1] == (True, 'publishing')
    assert gaps == [collector.OLD_STATISTICS.format(60)] and queues.counted_every_s(db) == 60
