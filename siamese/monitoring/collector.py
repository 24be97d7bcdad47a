"""What the management API knows of a virtual host, collected into a history."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Container, Iterable
from sqlite3 import Connection
from typing import Any, NamedTuple

from siamese.messaging import management_api
from siamese.messaging.link import Link
from siamese.messaging.management_api import ManagementApi
from siamese.monitoring import clients, database, queues

EVENT_EXCHANGE = 'amq.rabbitmq.event'
# Grace period: the API may not list yet a connection the event exchange has announced.
GRACE_S = 10
NO_METRICS = 'no metrics of queues and clients'
NO_NODES_REMEDY = 'it needs the tag monitoring'
# How often a broker counts, unless its collect_statistics_interval says otherwise.
STATISTICS_INTERVAL_S = 5
NO_EVENT_EXCHANGE = (
    f'no exchange {EVENT_EXCHANGE} in this virtual host: clients are seen at each'
    ' collection only; rabbitmq-plugins enable rabbitmq_event_exchange'
)

COUNTERS = {
    'published': 'publish',
    'delivered': 'deliver_get',
    'acked': 'ack',
    'redelivered': 'redeliver',
}
RATES = {
    'publish_rate': 'publish',
    'deliver_rate': 'deliver_get',
    'ack_rate': 'ack',
}
UNROUTABLE = {
    'returned': 'return_unroutable',
    'dropped': 'drop_unroutable',
}
ALARMS = {
    'memory': 'mem_alarm',
    'disk': 'disk_free_alarm',
}
NODE_COLUMNS = 'name,os_pid,running,uptime,mem_alarm,disk_free_alarm'
QUEUE_COLUMNS = ','.join(
    [
        'name,type,state,exclusive,messages_ready,messages_unacknowledged,consumers',
        *(f'message_stats.{key}' for key in COUNTERS.values()),
        *(f'message_stats.{key}_details.rate' for key in COUNTERS.values()),
    ]
)
CONNECTION_COLUMNS = 'name,user,user_provided_name,state'
CHANNEL_COLUMNS = 'connection_details.name,message_stats.publish,message_stats.deliver_get'
CONSUMER_COLUMNS = 'channel_details.connection_name,queue.name'

Answer = dict[str, Any]  # an object of the management API
Clients = dict[clients.Key, clients.Present]


class Snapshot(NamedTuple):
    """What the management API knows of a virtual host at one time."""

    product: str
    version: str | None
    nodes: list[database.Node]
    alarms: list[str]
    missing: list[str]  # what the broker lacks, and what that costs
    uptime: float | None  # of the only node in seconds
    process: str | None  # of the only node
    queues: list[queues.Queue]
    unroutable: dict[str, Any]
    clients: Clients
    has_event_exchange: bool


def snapshot(api: ManagementApi, vhost: str) -> Snapshot:
    """Return what the management API knows of a virtual host; raise Refused."""
    vhost = management_api.part(vhost)
    missing: list[str] = []
    overview = api.get('overview?columns=product_name,product_version,rabbitmq_version')
    nodes = _ask_for_nodes(api, missing)
    has_event_exchange = _ask_for_event_exchange(api, vhost, missing)
    uptime = process = None
    if len(nodes) == 1:
        uptime = _uptime_of(nodes[0])
        process = nodes[0].get('os_pid')
    stats = api.get(f'vhosts/{vhost}').get('message_stats') or {}
    known_nodes = [_node_of(row) for row in nodes]
    return Snapshot(
        product=overview.get('product_name', 'RabbitMQ'),
        version=overview.get('product_version') or overview.get('rabbitmq_version'),
        nodes=known_nodes,
        alarms=_alarms_of(known_nodes),
        missing=missing,
        uptime=uptime,
        process=process,
        queues=_ask_for_queues(api, vhost),
        unroutable={name: stats.get(key) for name, key in UNROUTABLE.items()},
        clients=_ask_for_clients(api, vhost),
        has_event_exchange=has_event_exchange,
    )


def _ask_for_nodes(api: ManagementApi, missing: list[str]) -> list[Answer]:
    try:
        return api.get(f'nodes?columns={NODE_COLUMNS}')
    except management_api.Refused as refused:
        text = f'no alarms, and only clients of its own user: {refused}'
        missing.append(f'{text}; {NO_NODES_REMEDY}')
        return []


def _uptime_of(node: Answer) -> float:
    if 'uptime' not in node:
        text = 'the broker has only just started, and has no metrics yet'
        raise management_api.Refused(text, 503)
    return node['uptime'] / 1000


def _ask_for_event_exchange(api: ManagementApi, vhost: str, missing: list[str]) -> bool:
    try:
        api.get(f'exchanges/{vhost}/{EVENT_EXCHANGE}')
    except management_api.Refused as refused:
        if refused.status != 404:
            raise
        missing.append(NO_EVENT_EXCHANGE)
        return False
    return True


def _ask_for_queues(api: ManagementApi, vhost: str) -> list[queues.Queue]:
    """Return the queues, but for exclusive ones.

    An exclusive queue, for example for the replies to one client, ends with its
    connection. Its name never comes again.
    """
    rows = api.get(f'queues/{vhost}?columns={QUEUE_COLUMNS}')
    return [queue_of(row) for row in rows if not row.get('exclusive')]


def _ask_for_clients(api: ManagementApi, vhost: str) -> Clients:
    connections = api.get(f'vhosts/{vhost}/connections?columns={CONNECTION_COLUMNS}')
    channels = api.get(f'vhosts/{vhost}/channels?columns={CHANNEL_COLUMNS}')
    consumers = api.get(f'consumers/{vhost}?columns={CONSUMER_COLUMNS}')
    return clients_of(connections, channels, consumers)


def _node_of(row: Answer) -> database.Node:
    return database.Node(
        name=row['name'],
        running=row.get('running'),
        alarms=[alarm for alarm, key in ALARMS.items() if row.get(key)],
        uptime=row.get('uptime', 0) / 1000,
    )


def _alarms_of(nodes: list[database.Node]) -> list[str]:
    found = []
    for node in nodes:
        found += [f'{alarm} alarm on {node["name"]}' for alarm in node['alarms']]
    for node in nodes:
        if node['running'] is False:
            found.append(f'{node["name"]} does not run')
    return found


def queue_of(row: Answer) -> queues.Queue:
    """Return a queue of the management API, which leaves out much that is 0."""
    counted: dict[str, int | None] = dict.fromkeys(COUNTERS)
    if row.get('message_stats'):
        counted.update((name, _count_of(row, key)) for name, key in COUNTERS.items())
    rates = {name: _rate_of(row, key) for name, key in RATES.items()}
    return queues.Queue(
        name=row['name'],
        type=row.get('type', 'classic'),
        state=row.get('state', 'running'),
        ready=row.get('messages_ready', 0),
        unacked=row.get('messages_unacknowledged', 0),
        consumers=row.get('consumers', 0),
        published=counted['published'],
        delivered=counted['delivered'],
        acked=counted['acked'],
        redelivered=counted['redelivered'],
        publish_rate=rates['publish_rate'],
        deliver_rate=rates['deliver_rate'],
        ack_rate=rates['ack_rate'],
    )


def _count_of(row: Answer, key: str) -> int:
    stats = row.get('message_stats') or {}
    return stats.get(key, 0)


def _rate_of(row: Answer, key: str) -> float:
    stats = row.get('message_stats') or {}
    details = stats.get(f'{key}_details') or {}
    return details.get('rate', 0)


def clients_of(
    connections: Iterable[Answer],
    channels: Iterable[Answer],
    consumers: Iterable[Answer],
) -> Clients:
    """Return the clients from three lists of the management API."""
    published: dict[str | None, int] = defaultdict(int)
    delivered: dict[str | None, int] = defaultdict(int)
    for row in channels:
        connection = (row.get('connection_details') or {}).get('name')
        published[connection] += _count_of(row, 'publish')
        delivered[connection] += _count_of(row, 'deliver_get')
    activities: dict[tuple[str, str], set[str]] = defaultdict(set)
    queues_of = _queues_by_connection(consumers)
    found: Clients = {}
    for row in connections:
        if 'user' not in row:  # it is being opened or closed
            continue
        connection = row['name']
        key = (row.get('user_provided_name') or connection, row['user'])
        absent = clients.Present(does='', blocked=False, connections={})
        client = found.setdefault(key, absent)
        client['connections'][connection] = (published[connection], delivered[connection])
        client['blocked'] |= row.get('state') == 'blocked'
        activities[key].update(f'consumes {queue}' for queue in queues_of[connection])
        if published[connection]:
            activities[key].add('publishes')
    for key, client in found.items():
        client['does'] = ', '.join(sorted(activities[key], reverse=True))
    return found


def _queues_by_connection(consumers: Iterable[Answer]) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = defaultdict(set)
    for row in consumers:
        # Without details the API gives an empty list in place of an object.
        connection = dict(row['channel_details']).get('connection_name')
        found[connection].add(row['queue']['name'])
    return found


def collect(
    db: Connection,
    api: ManagementApi,
    vhost: str,
    closed: Container[str] | None = None,
    missing: Iterable[str] = (),
) -> None:
    """Ask the management API once, and store the answers; raise Refused.

    `closed` are connections that are closed according to the event exchange, for the
    API may still list them; None if we do not hear of events. `missing` is what else
    the broker lacks, as in database.broker().
    """
    found = snapshot(api, vhost)
    grace_s = 0
    if closed is not None:
        grace_s = GRACE_S
        for client in found.clients.values():
            _drop_connections(client, closed)
    with database.transaction(db):
        # Taken in here, so that whoever reads what was until now has seen all of it.
        now = time.time()
        _store_broker(db, found, missing, now)
        queues.update(db, now, found.queues, found.uptime, found.process, found.unroutable)
        clients.update(db, now, found.clients, grace_s)


def _drop_connections(client: clients.Present, closed: Container[str]) -> None:
    for connection in list(client['connections']):
        if connection in closed:
            del client['connections'][connection]


def _store_broker(db: Connection, found: Snapshot, missing: Iterable[str], now: float) -> None:
    before = database.get_fact(db, 'alarms', {})
    database.set_facts(
        db,
        product=found.product,
        version=found.version,
        nodes=found.nodes,
        alarms={text: before.get(text, now) for text in found.alarms},
        missing=[*found.missing, *missing],
        events=found.has_event_exchange,
    )


def explain(refused: management_api.Refused) -> str:
    """Return why there are no metrics, and the remedy."""
    if refused.status in (401, 403):
        return f'{refused}; {NO_NODES_REMEDY}'
    return str(refused)


def collect_or_explain(
    db: Connection,
    api: ManagementApi,
    vhost: str,
    closed: Container[str] | None,
    missing: Iterable[str],
    logged_gaps: list[str],
) -> bool:
    """Collect as collect() does; return False where there are no metrics.

    What is missing is stored, and logged when it changes: `logged_gaps` is what was
    logged last.
    """
    collected = True
    try:
        collect(db, api, vhost, closed, missing)
    except management_api.Refused as refused:
        if refused.status == 503:  # the broker is starting
            return False
        collected = False
        text = f'{NO_METRICS}: {explain(refused)}'
        queues.reset_rates(db)
        database.set_facts(db, events=False, missing=[text])
    gaps = database.get_fact(db, 'missing', [])
    if gaps != logged_gaps:
        for text in gaps:
            logging.warning('%s', text)
        logged_gaps[:] = gaps
    return collected


def note_state(db: Connection, link: Link, interval: float) -> None:
    """Store whether the broker is available, and that this monitor.py runs."""
    state = database.UNAVAILABLE
    if link.is_ready:
        state = database.UP
    with database.transaction(db):
        now = time.time()
        if database.get_fact(db, 'state') != state:
            since = now
            if not link.is_ready:
                since -= time.monotonic() - link.unavailable_since
            queues.reset_rates(db)
            database.set_facts(db, state=state, since=since)
        monitor = database.MonitorFact(name=link.args.name, seen=now, interval=interval)
        database.set_facts(db, monitor=monitor)
