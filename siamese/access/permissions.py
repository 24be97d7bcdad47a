"""What a user of a broker may do, found out by trying each operation.

Operations are tried for real, by AMQP and by the management API, on a queue
and an exchange of the given name, which begins with TEMPORARY. clean_up()
removes what was made here. Whatever it cannot remove expires.
"""

from __future__ import annotations

import copy
import logging
import secrets
from contextlib import suppress
from typing import Callable

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from common import Failure
from siamese import script
from siamese.messaging import answers, management_api
from siamese.messaging.blocking import connected
from siamese.messaging.errors import Refusal
from siamese.messaging.management_api import ManagementApi

TEMPORARY = 'siamese.check-'
# If this process is killed, the queue expires, and the exchange goes with it.
PROBE_QUEUE_ARGUMENTS = {
    'x-queue-type': 'classic',
    'x-expires': 600_000,  # ms
}

AmqpVerb = Callable[[BlockingChannel, str], object]
ApiVerb = Callable[[ManagementApi, str, str], object]
ApiOf = Callable[[pika.ConnectionParameters], ManagementApi]


def create_probe_objects(channel: BlockingChannel, name: str) -> None:
    """Create a queue, an exchange and a message to try the operations with."""
    channel.queue_declare(
        queue=name,
        durable=True,
        arguments=PROBE_QUEUE_ARGUMENTS,
    )
    channel.exchange_declare(
        exchange=name,
        durable=True,
        auto_delete=True,
    )
    channel.queue_bind(queue=name, exchange=name)
    publish(channel, name)


def delete_probe_objects(channel: BlockingChannel, name: str) -> None:
    channel.queue_delete(queue=name)
    channel.queue_delete(queue=f'{name}-declared')
    channel.exchange_delete(exchange=name)


def declare(channel: BlockingChannel, name: str) -> None:
    channel.queue_declare(
        queue=f'{name}-declared',
        durable=True,
        arguments=PROBE_QUEUE_ARGUMENTS,
    )
    channel.queue_delete(queue=f'{name}-declared')


def bind(channel: BlockingChannel, name: str) -> None:
    channel.queue_bind(queue=name, exchange=name, routing_key='tried')


def publish(channel: BlockingChannel, name: str) -> None:
    channel.confirm_delivery()
    # The queue may be missing. The permission to publish is there all the same.
    with suppress(UnroutableError):
        channel.basic_publish(
            exchange='',
            routing_key=name,
            body=b'tried by roles.py',
            mandatory=True,
        )


def consume(channel: BlockingChannel, name: str) -> None:
    channel.basic_consume(
        queue=name,
        on_message_callback=lambda *_: None,
    )


def get(channel: BlockingChannel, name: str) -> None:
    channel.basic_get(queue=name)


def purge(channel: BlockingChannel, name: str) -> None:
    channel.queue_purge(queue=name)


def delete(channel: BlockingChannel, name: str) -> None:
    channel.queue_delete(queue=name)


def read_api(api: ManagementApi, _vhost: str, _name: str) -> None:
    api.get('overview')


def see_all_nodes(api: ManagementApi, _vhost: str, _name: str) -> None:
    api.get('nodes')


def set_policy(api: ManagementApi, vhost: str, name: str) -> None:
    policy = {
        'pattern': f'^{name}$',
        'definition': {'max-length': 9},
    }
    api.put(f'policies/{vhost}/{name}', policy)
    api.delete(f'policies/{vhost}/{name}')


def create_user(api: ManagementApi, _vhost: str, name: str) -> None:
    user = {'password': secrets.token_urlsafe(), 'tags': ''}
    api.put(f'users/{name}-new', user)
    api.delete(f'users/{name}-new')


BY_AMQP: dict[str, AmqpVerb] = {
    'declare': declare,
    'bind': bind,
    'publish': publish,
    'consume': consume,
    'get': get,
    'purge': purge,
    'delete': delete,
}
BY_API: dict[str, ApiVerb] = {
    'read the API': read_api,
    'see all nodes': see_all_nodes,
    'set a policy': set_policy,
    'create a user': create_user,
}
OPERATIONS = ['connect', *BY_AMQP, *BY_API]


def try_all(
    owner: pika.ConnectionParameters,
    endpoint: pika.ConnectionParameters,
    api_of: ApiOf,
    name: str,
) -> dict[str, str]:
    """Try all OPERATIONS as a user, until a signal comes.

    Returns for each operation why it was refused, '' if it was allowed. api_of()
    gives the management API with the login of an endpoint. `endpoint` holds the
    login of the user, `owner` that of a user who may create the probe objects. If
    `owner` may not either, the operations are tried on objects that do not exist.
    Raises Failure or management_api.Refused when the broker becomes unavailable.
    """
    with connected(owner) as connection:
        refusal_by_amqp(connection, create_probe_objects, name)
    refusals = try_by_amqp(endpoint, name)
    vhost = management_api.part(endpoint.virtual_host)
    api = api_of(endpoint)
    for operation, verb in BY_API.items():
        if not script.stop_requested():
            refusals[operation] = refusal_by_api(api, verb, vhost, name)
    return refusals


def try_by_amqp(endpoint: pika.ConnectionParameters, name: str) -> dict[str, str]:
    """Try to connect, and then the operations of BY_AMQP."""
    refusals: dict[str, str] = {}
    try:
        with connected(endpoint) as connection:
            refusals['connect'] = ''
            for operation, verb in BY_AMQP.items():
                if not script.stop_requested():
                    refusals[operation] = refusal_by_amqp(connection, verb, name)
    except Failure as failure:
        if refusals or not isinstance(failure, Refusal):
            raise
        return dict.fromkeys(['connect', *BY_AMQP], str(failure))
    return refusals


def refusal_by_amqp(
    connection: pika.BlockingConnection,
    verb: AmqpVerb,
    name: str,
) -> str:
    """Try a verb on a new channel; return why it was refused, '' if allowed."""
    channel = connection.channel()
    try:
        verb(channel, name)
        channel.close()
    except ChannelClosedByBroker as error:
        if error.reply_code == 403:
            return str(error.reply_text)
        # Brokers check permissions first, so a 404 shows that they are there.
        if error.reply_code != 404:
            raise
    return ''


def refusal_by_api(
    api: ManagementApi,
    verb: Callable[..., object],
    *args: object,
) -> str:
    """Try a verb of the API; return why it was refused, '' if allowed."""
    try:
        with script.signals_blocked():
            verb(api, *args)
    except management_api.Refused as refused:
        if refused.status not in management_api.NOT_ALLOWED:
            raise
        return str(refused)
    return ''


def as_user(
    endpoint: pika.ConnectionParameters,
    user: str,
    password: str,
) -> pika.ConnectionParameters:
    """Return pika parameters like `endpoint`, for this user."""
    parameters = copy.copy(endpoint)
    parameters.credentials = pika.PlainCredentials(user, password)
    return parameters


def clean_up(
    endpoint: pika.ConnectionParameters,
    api_of: ApiOf,
    name: str,
) -> None:
    """Remove what the check `name` made; log what cannot be removed."""
    with script.signals_blocked():
        try:
            with connected(endpoint) as connection:
                refusal_by_amqp(connection, delete_probe_objects, name)
        except Failure as failure:
            logging.warning(
                '%s; the queue %s expires after 10 minutes',
                failure,
                name,
            )
        try:
            api = api_of(endpoint)
            delete_leftovers(api, endpoint.virtual_host, name)
        except management_api.Refused as refused:
            logging.error(
                '%s; users %s-... may be left, ./roles.py --remove removes them',
                refused,
                name,
            )


def delete_leftovers(api: ManagementApi, vhost: str, prefix: str) -> int:
    """Delete the users and policies with this prefix, as far as permitted.

    Returns how many these were.
    """
    deleted: list[str] = []
    for path in 'users', f'policies/{management_api.part(vhost)}':
        refusal_by_api(api, delete_by_prefix, path, prefix, deleted)
    return len(deleted)


def delete_by_prefix(
    api: ManagementApi,
    path: str,
    prefix: str,
    deleted: list[str],
) -> None:
    """Delete what is at a path and has this prefix; add its names to `deleted`."""
    for found in answers.get_list(api, path, needs='name'):
        name = answers.text(found, 'name')
        if name.startswith(prefix):
            api.delete(f'{path}/{management_api.part(name)}')
            deleted.append(name)
