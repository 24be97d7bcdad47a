"""The figures of a virtual host: what the management API tells of its queues and clients, put into a history."""

import time

from siamese.messaging import management_api as management
from siamese.monitoring import clients, queues
from siamese.monitoring import database as history

EVENTS = 'amq.rabbitmq.event'
PATIENCE = 10  # s until the API is believed that a connection is gone of which the event exchange told that it came
COUNTERS = {
    'publish': ('published', 'publish_rate'),
    'deliver_get': ('delivered', 'deliver_rate'),
    'ack': ('acked', 'ack_rate'),
    'redeliver': ('redelivered', None),
}
QUEUE_COLUMNS = (
    'name,type,state,exclusive,messages_ready,messages_unacknowledged,consumers,'
    + ','.join(f'message_stats.{key},message_stats.{key}_details.rate' for key in COUNTERS)
)
UNROUTABLE = {'returned': 'return_unroutable', 'dropped': 'drop_unroutable'}
CHANNEL_COLUMNS = 'connection_details.name,message_stats.publish,message_stats.deliver_get'


def snapshot(call, vhost):
    """Return what the management API tells of a virtual host, as a dict; raise management.Refused.

    It has broker (facts for history.note), queues, uptime, process and unroutable (as queues.collect takes them),
    clients (as clients.see does), and events, whether the event exchange is there.
    """
    vhost, missing = management.part(vhost), []
    overview = call('overview?columns=product_name,product_version,rabbitmq_version')
    try:
        nodes = call('nodes?columns=name,os_pid,running,uptime,mem_alarm,disk_free_alarm')
    except management.Refused as refused:
        nodes = []
        missing.append(
            f'no alarms, and only clients of its own user: {refused}; it needs the tag monitoring'
        )
    try:
        call(f'exchanges/{vhost}/{EVENTS}')
        events = True
    except management.Refused as refused:
        if refused.status != 404:
            raise
        events = False
        missing.append(
            f'no exchange {EVENTS} in this virtual host: clients are seen at each collection only; '
            'rabbitmq-plugins enable rabbitmq_event_exchange'
        )
    if len(nodes) == 1 and 'uptime' not in nodes[0]:
        raise management.Refused('the broker has only just started, and has no figures yet', 503)
    stats = call(f'vhosts/{vhost}').get('message_stats') or {}
    alarms = {
        node['name']: [
            what
            for what, key in (('memory', 'mem_alarm'), ('disk', 'disk_free_alarm'))
            if node.get(key)
        ]
        for node in nodes
    }
    return {
        'broker': {
            'product': overview.get('product_name', 'RabbitMQ'),
            'version': overview.get('product_version') or overview.get('rabbitmq_version'),
            'missing': missing,
            'nodes': [
                {
                    'name': node['name'],
                    'running': node.get('running'),
                    'alarms': alarms[node['name']],
                    'uptime': node.get('uptime', 0) / 1000,
                }
                for node in nodes
            ],
            'alarms': [
                f'{what} alarm on {name}' for name, found in alarms.items() for what in found
            ]
            + [f'{node["name"]} does not run' for node in nodes if not node.get('running', True)],
        },
        'uptime': nodes[0]['uptime'] / 1000 if len(nodes) == 1 else None,
        'process': nodes[0].get('os_pid') if len(nodes) == 1 else None,
        # An exclusive queue, for the answers to one client say, ends with its connection. Its name never comes again.
        'queues': [
            queue_of(row)
            for row in call(f'queues/{vhost}?columns={QUEUE_COLUMNS}')
            if not row.get('exclusive')
        ],
        'unroutable': {name: stats.get(key) for name, key in UNROUTABLE.items()},
        'clients': clients_of(
            *(
                call(f'{path}?columns={columns}')
                for path, columns in (
                    (f'vhosts/{vhost}/connections', 'name,user,user_provided_name,state'),
                    (f'vhosts/{vhost}/channels', CHANNEL_COLUMNS),
                    (f'consumers/{vhost}', 'channel_details.connection_name,queue.name'),
                )
            )
        ),
        'events': events,
    }


def queue_of(row):
    """Return a queue of the management API as queues.collect() takes it; the API leaves out much that is 0."""
    queue = {
        'name': row['name'],
        'type': row.get('type', 'classic'),
        'state': row.get('state', 'running'),
        'ready': row.get('messages_ready', 0),
        'unacked': row.get('messages_unacknowledged', 0),
        'consumers': row.get('consumers', 0),
    }
    for key, (count, rate) in COUNTERS.items():
        counted, per_second = stats_of(row)(key)
        queue[count] = counted if row.get('message_stats') else None
        if rate:
            queue[rate] = per_second
    return queue


def clients_of(connections, channels, consumers):
    """Return the clients as clients.update() takes them, from three lists of the management API."""
    flows, read, found = {}, {}, {}
    for row in channels:
        flow, stats = (
            flows.setdefault((row.get('connection_details') or {}).get('name'), [0, 0]),
            stats_of(row),
        )
        for n, key in enumerate(('publish', 'deliver_get')):
            flow[n] += stats(key)[0]
    for row in consumers:
        read.setdefault(dict(row['channel_details']).get('connection_name'), set()).add(
            row['queue']['name']
        )
    for row in connections:
        if 'user' not in row:  # it is being opened or closed
            continue
        client = found.setdefault(
            (row.get('user_provided_name') or row['name'], row['user']),
            {'does': set(), 'blocked': False, 'connections': {}},
        )
        client['connections'][row['name']] = flows.get(row['name'], (0, 0))
        client['does'] |= {f'receives {queue}' for queue in read.get(row['name'], ())}
        client['does'] |= {'sends'} if client['connections'][row['name']][0] else set()
        client['blocked'] |= row.get('state') == 'blocked'
    return {
        key: {**client, 'does': ', '.join(sorted(client['does'], reverse=True))}
        for key, client in found.items()
    }


def stats_of(row):
    """Return a function that returns the count of something in message_stats, and its rate; both 0 if not there."""
    stats = row.get('message_stats') or {}
    return lambda key: (stats.get(key, 0), (stats.get(f'{key}_details') or {}).get('rate', 0))


def collect(db, call, vhost, closed=None, missing=()):
    """Ask the management API once, and store what it tells; raise management.Refused.

    `closed` are connections of which the event exchange told that they are gone, for the API may still name them; None
    if it tells us nothing. `missing` is what else the broker lacks, as in history.broker().
    """
    found = snapshot(call, vhost)
    for client in found['clients'].values():
        for id in set(client['connections']) & set(closed or ()):
            del client['connections'][id]
    with history.transaction(db):
        now = time.time()  # in here: who tells what was until now has seen all of it
        before = history.get_fact(db, 'alarms', {})
        alarms = {text: before.get(text, now) for text in found['broker']['alarms']}
        history.set_facts(
            db,
            **{
                **found['broker'],
                'alarms': alarms,
                'missing': [*found['broker']['missing'], *missing],
            },
            events=found['events'],
        )
        queues.collect(
            db, now, found['queues'], found['uptime'], found['process'], found['unroutable']
        )
        clients.update(db, now, found['clients'], 0 if closed is None else PATIENCE)
