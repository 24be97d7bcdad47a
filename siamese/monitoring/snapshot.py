"""What the management API says of a virtual host at one time: queues, clients, alarms.

RabbitMQ and LavinMQ are understood. Only whole fields are asked for, because LavinMQ
knows no columns within them. What the API does not tell is None: unknown.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Optional

from siamese.messaging import answers, management_api
from siamese.messaging.answers import Answer, count, flag, inner, number, text
from siamese.messaging.management_api import ManagementApi
from siamese.messaging.topology import DEAD_LETTER_QUEUE, NEVER
from siamese.monitoring import clients, database, details, queues

EVENT_EXCHANGE = 'amq.rabbitmq.event'
LAVINMQ = 'LavinMQ'
NO_NODES_REMEDY = 'it needs the tag monitoring'
EACH_COLLECTION = 'clients are seen at each collection only'
NO_EVENT_EXCHANGE = (
    f'no exchange {EVENT_EXCHANGE} in this virtual host: {EACH_COLLECTION};'
    ' rabbitmq-plugins enable rabbitmq_event_exchange'
)
NO_EVENTS = f'{LAVINMQ} has no event exchange: {EACH_COLLECTION}'
WITHOUT_EVENTS = (NO_EVENT_EXCHANGE, NO_EVENTS)
NO_STATISTICS = (
    'the broker gives no statistics: the figures of queues, the alarms and what clients do are'
    ' unknown; let management.disable_stats and management_agent.disable_metrics_collector'
    ' be false in rabbitmq.conf'
)
NO_RATES = (
    'the broker does not count messages: what is published, delivered and acked, how fast, and'
    ' since when the oldest waits are unknown; let management.rates_mode be basic in rabbitmq.conf'
)

# An older version declared the queue. No script can change that without a loss, a policy can.
DROPS_DEAD_LETTERS = (
    f'{DEAD_LETTER_QUEUE} drops a dead letter that could not be stored {{limit}} times: '
    f"rabbitmqctl set_policy siamese-dead '^{re.escape(DEAD_LETTER_QUEUE)}$' "
    f'\'{{{{"delivery-limit": {NEVER}}}}}\' --apply-to queues --priority 10'
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
OVERVIEW_COLUMNS = (
    'product_name,product_version,rabbitmq_version,lavinmq_version,rates_mode,disable_stats'
)
NO_NODE = 'the management API lists no node; is that the API of a broker? see --management-url'
NODE_FIGURES = ('mem_used', 'mem_limit', 'disk_free', 'disk_free_limit', 'fd_used', 'fd_total')
NODE_COLUMNS = ','.join(
    ('name,os_pid,running,uptime,mem_alarm,disk_free_alarm', *NODE_FIGURES),
)
QUEUE_COLUMNS = (
    'name,type,arguments,state,durable,auto_delete,exclusive,delivery_limit,'
    'policy,effective_policy_definition,'
    'messages_ready,messages_unacknowledged,consumers,message_stats'
)
CONNECTION_COLUMNS = 'name,user,user_provided_name,client_properties,state'
CHANNEL_COLUMNS = 'connection_details,message_stats'
CONSUMER_COLUMNS = 'channel_details,queue,consumer_tag,prefetch_count,ack_required'
BINDING_COLUMNS = 'source,destination,destination_type,routing_key,arguments'

Clients = dict[clients.Key, clients.Present]
Bindings = dict[str, list[details.Binding]]  # by queue
Consumers = dict[str, list[details.Consumer]]  # by queue
Counts = tuple[Optional[int], Optional[int]]  # published, delivered


class Overview(NamedTuple):
    """What the API says of the broker as a whole."""

    product: str
    version: str | None
    has_statistics: bool
    has_counts: bool  # of messages

    def gaps(self) -> list[str]:
        """Return what is unknown because of the broker's configuration."""
        if not self.has_statistics:
            return [NO_STATISTICS]
        if not self.has_counts:
            return [NO_RATES]
        return []


class Snapshot(NamedTuple):
    """What the management API knows of a virtual host at one time."""

    product: str
    version: str | None
    nodes: list[database.Node]
    alarms: list[str]
    missing: list[str]  # what the broker lacks, and what that costs
    unknown: list[str]  # those of them that leave figures unknown
    uptime: float | None  # of the only node in seconds
    uptime_asked: float  # when that was asked for, s since 1970
    process: str | None  # of the only node
    queues: list[queues.Queue]
    unroutable: dict[str, int | None]
    clients: Clients | None
    details: list[tuple[str, details.Details]]  # of queues, by name
    has_event_exchange: bool


class Connected(NamedTuple):
    """Who is connected, and consumes; None if it is unknown."""

    clients: Clients | None
    consumers: Consumers | None


def take(api: ManagementApi, vhost: str) -> Snapshot:
    """Return what the management API knows of a virtual host; raise Refused."""
    at = management_api.part(vhost)
    stats = inner(answers.get_vhost(api, vhost), 'message_stats')
    overview = _ask_for_overview(api)
    unknown = overview.gaps()
    missing = list(unknown)
    asked = time.time()
    nodes = _ask_for_nodes(api, missing)
    has_event_exchange = _ask_for_event_exchange(api, at, overview, missing)
    uptime = process = None
    if len(nodes) == 1:
        uptime = _uptime_of(nodes[0], overview)
        process = text(nodes[0], 'os_pid') or None
    known_nodes = [_node_of(row) for row in nodes]
    rows = _ask_for_queues(api, at, missing)
    connected = _ask_for_clients(api, at, overview)
    bindings = _ask_for_bindings(api, at)
    return Snapshot(
        product=overview.product,
        version=overview.version,
        nodes=known_nodes,
        alarms=_alarms_of(known_nodes),
        missing=missing,
        unknown=unknown,
        uptime=uptime,
        uptime_asked=asked,
        process=process,
        queues=[queue_of(row, overview.has_counts) for row in rows],
        unroutable={name: count(stats, key) for name, key in UNROUTABLE.items()},
        clients=connected.clients,
        details=[_details_of(row, bindings, connected.consumers) for row in rows],
        has_event_exchange=has_event_exchange,
    )


def _ask_for_overview(api: ManagementApi) -> Overview:
    return overview_of(answers.get_object(api, f'overview?columns={OVERVIEW_COLUMNS}'))


def overview_of(row: Answer) -> Overview:
    version = text(row, 'product_version') or text(row, 'rabbitmq_version')
    is_off = flag(row, 'disable_stats') or False
    return Overview(
        product=text(row, 'product_name', 'RabbitMQ'),
        version=version or text(row, 'lavinmq_version') or None,
        has_statistics=not is_off,
        has_counts=not is_off and text(row, 'rates_mode') != 'none',
    )


def _ask_for_nodes(api: ManagementApi, missing: list[str]) -> list[Answer]:
    try:
        nodes = answers.get_list(api, f'nodes?columns={NODE_COLUMNS}', needs='name')
    except management_api.Refused as refused:
        if refused.status not in management_api.NOT_ALLOWED:
            raise
        why = f'no alarms, and only clients of its own user: {refused}'
        missing.append(f'{why}; {NO_NODES_REMEDY}')
        return []
    if not nodes:  # else a node that has restarted would not be noticed
        raise management_api.Refused(NO_NODE, 0)
    return nodes


def _uptime_of(node: Answer, overview: Overview) -> float | None:
    if 'uptime' not in node and overview.has_statistics:
        why = 'the broker has only just started, and has no metrics yet'
        raise management_api.Refused(why, management_api.STARTING)
    uptime_ms = number(node, 'uptime')
    return None if uptime_ms is None else uptime_ms / 1000


def _ask_for_event_exchange(
    api: ManagementApi,
    vhost: str,
    overview: Overview,
    missing: list[str],
) -> bool:
    if overview.product == LAVINMQ:
        missing.append(NO_EVENTS)
        return False
    try:
        answers.get_object(api, f'exchanges/{vhost}/{EVENT_EXCHANGE}')
    except management_api.Refused as refused:
        if refused.status != management_api.NOT_FOUND:
            raise
        missing.append(NO_EVENT_EXCHANGE)
        return False
    return True


def _ask_for_queues(
    api: ManagementApi,
    vhost: str,
    missing: list[str],
) -> list[Answer]:
    """Return the queues, but for exclusive ones.

    An exclusive queue, for example for the replies to one client, ends with its
    connection. Its name never comes again.
    """
    path = f'queues/{vhost}?columns={QUEUE_COLUMNS}'
    rows = answers.get_list(api, path, needs='name')
    for row in rows:
        limit = count(row, 'delivery_limit')  # a number only where there is a limit
        if row['name'] == DEAD_LETTER_QUEUE and limit is not None and limit < NEVER:
            missing.append(DROPS_DEAD_LETTERS.format(limit=limit))
    return [row for row in rows if not flag(row, 'exclusive')]


def _ask_for_bindings(api: ManagementApi, vhost: str) -> Bindings | None:
    """Return the bindings of queues, None if they are unknown: there may be very many.

    The default exchange is left out: each queue is bound to it.
    """
    path = f'bindings/{vhost}?columns={BINDING_COLUMNS}'
    try:
        rows = answers.get_list(api, path, needs='source')
    except management_api.Refused:
        return None
    found: Bindings = defaultdict(list)
    for row in rows:
        if row['source'] and text(row, 'destination_type') == 'queue':
            found[text(row, 'destination')].append(_binding_of(row))
    return found


def _ask_for_clients(
    api: ManagementApi,
    vhost: str,
    overview: Overview,
) -> Connected:
    """Return who is connected, as far as it is known.

    Without its collector of metrics the broker lists no connection at all, and with
    its statistics switched off neither channels nor consumers.
    """
    path = f'vhosts/{vhost}/connections?columns={CONNECTION_COLUMNS}'
    connections = answers.get_list(api, path, needs='name')
    if not overview.has_statistics:
        return Connected(clients_of(connections, None, []) or None, None)
    path = f'vhosts/{vhost}/channels?columns={CHANNEL_COLUMNS}'
    channels: list[Answer] | None = answers.get_list(api, path)
    consumers = answers.get_list(api, f'consumers/{vhost}?columns={CONSUMER_COLUMNS}')
    if not overview.has_counts:
        channels = None
    return Connected(
        clients=clients_of(connections, channels, consumers),
        consumers=_consumers_by_queue(connections, consumers),
    )


# ---- what one object says


def _node_of(row: Answer) -> database.Node:
    return database.Node(
        name=text(row, 'name'),
        running=flag(row, 'running'),
        alarms=[alarm for alarm, key in ALARMS.items() if flag(row, key)],
        uptime=(number(row, 'uptime') or 0) / 1000,
        mem_used=count(row, 'mem_used'),
        mem_limit=count(row, 'mem_limit'),
        disk_free=count(row, 'disk_free'),
        disk_free_limit=count(row, 'disk_free_limit'),
        fd_used=count(row, 'fd_used'),
        fd_total=count(row, 'fd_total'),
    )


def _details_of(
    row: Answer,
    bindings: Bindings | None,
    consumers: Consumers | None,
) -> tuple[str, details.Details]:
    name = text(row, 'name')
    found = details.details_of(
        inner(row, 'arguments'),
        text(row, 'policy'),
        inner(row, 'effective_policy_definition'),
        None if bindings is None else bindings.get(name, []),
        None if consumers is None else consumers.get(name, []),
        [feature for feature in details.FEATURES if flag(row, feature)],
    )
    return name, found


def _binding_of(row: Answer) -> details.Binding:
    return details.Binding(
        source=text(row, 'source'),
        routing_key=text(row, 'routing_key'),
        arguments=details.arguments_of(inner(row, 'arguments')),
    )


def _alarms_of(nodes: list[database.Node]) -> list[str]:
    found = []
    for node in nodes:
        found += [f'{alarm} alarm on {node["name"]}' for alarm in node['alarms']]
    for node in nodes:
        if node['running'] is False:
            found.append(f'{node["name"]} does not run')
    return found


def queue_of(row: Answer, has_counts: bool = True) -> queues.Queue:
    """Return a queue; without `has_counts` the broker counts no messages."""
    stats = inner(row, 'message_stats')
    counted = {name: _count_of(stats, key) for name, key in COUNTERS.items()}
    rates: dict[str, float | None] = dict.fromkeys(RATES)
    if has_counts:
        rates.update((name, _rate_of(stats, key)) for name, key in RATES.items())
    return queues.Queue(
        name=text(row, 'name'),
        type=_type_of(row),
        state=_state_of(row),
        ready=count(row, 'messages_ready'),
        unacked=count(row, 'messages_unacknowledged'),
        consumers=count(row, 'consumers'),
        published=counted['published'],
        delivered=counted['delivered'],
        acked=counted['acked'],
        redelivered=counted['redelivered'],
        publish_rate=rates['publish_rate'],
        deliver_rate=rates['deliver_rate'],
        ack_rate=rates['ack_rate'],
    )


def _state_of(row: Answer) -> str:
    """Return the state of a queue; 'live' is that of a running one without statistics."""
    state = text(row, 'state', 'running')
    return 'running' if state == 'live' else state


def _type_of(row: Answer) -> str:
    """Return the type of a queue; LavinMQ tells that of a stream only as an argument."""
    kind = text(row, 'type')
    if kind:
        return kind
    if text(inner(row, 'arguments'), 'x-queue-type') == 'stream':
        return 'stream'
    return 'classic'


def _count_of(stats: Answer, key: str) -> int | None:
    """Return a counter; where others are counted, one that is missing is 0."""
    if stats and key not in stats:
        return 0
    return count(stats, key)


def _rate_of(stats: Answer, key: str) -> float:
    return number(inner(stats, f'{key}_details'), 'rate') or 0


def clients_of(
    connections: Iterable[Answer],
    channels: Iterable[Answer] | None,
    consumers: Iterable[Answer],
) -> Clients:
    """Return the clients; without `channels` nobody counted their messages."""
    counts = _counts_by_connection(channels or [])
    absent: Counts = (0, 0)
    if channels is None:
        absent = (None, None)
    activities: dict[clients.Key, set[str]] = defaultdict(set)
    queues_of = _queues_by_connection(consumers)
    found: Clients = {}
    for row in connections:
        user = text(row, 'user')
        if not user:  # it is being opened or closed
            continue
        connection = text(row, 'name')
        key = (_name_of(row) or connection, user)
        nobody = clients.Present(does='', blocked=False, connections={})
        client = found.setdefault(key, nobody)
        published, delivered = counts.get(connection, absent)
        client['connections'][connection] = (published, delivered)
        client['blocked'] |= text(row, 'state') == 'blocked'
        activities[key].update(f'consumes {queue}' for queue in queues_of[connection])
        if published:
            activities[key].add('publishes')
    for key, client in found.items():
        client['does'] = ', '.join(sorted(activities[key], reverse=True))
    return found


def _name_of(connection: Answer) -> str:
    """Return the name that a client gives itself, '' for none."""
    given = text(connection, 'user_provided_name')
    return given or text(inner(connection, 'client_properties'), 'connection_name')


def _counts_by_connection(channels: Iterable[Answer]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for row in channels:
        connection = text(inner(row, 'connection_details'), 'name')
        stats = inner(row, 'message_stats')
        published, delivered = found.get(connection, (0, 0))
        found[connection] = (
            _sum(published, _more(stats, 'publish')),
            _sum(delivered, _more(stats, 'deliver_get')),
        )
    return found


def _more(stats: Answer, key: str) -> int | None:
    return _count_of(stats, key) if stats else 0


def _sum(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return None
    return first + second


def _queues_by_connection(consumers: Iterable[Answer]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in consumers:
        connection = text(inner(row, 'channel_details'), 'connection_name')
        queue = text(inner(row, 'queue'), 'name')
        if queue:
            found[connection].add(queue)
    return found


def _consumers_by_queue(
    connections: Iterable[Answer],
    consumers: Iterable[Answer],
) -> Consumers:
    """Return who consumes from each queue, as clients that clients_of() names."""
    names = {text(row, 'name'): _name_of(row) for row in connections}
    found: Consumers = defaultdict(list)
    for row in consumers:
        channel = inner(row, 'channel_details')
        connection = text(channel, 'connection_name')
        consumer = details.Consumer(
            client=names.get(connection) or connection,
            user=text(channel, 'user'),
            tag=text(row, 'consumer_tag'),
            prefetch=count(row, 'prefetch_count'),
            acknowledges=flag(row, 'ack_required'),
        )
        found[text(inner(row, 'queue'), 'name')].append(consumer)
    return found
