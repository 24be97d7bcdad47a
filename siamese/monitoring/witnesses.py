"""What audit.py asks besides ledgers, as lines of a ledger: dead letters, and queues.

Dead letters are in a history of monitor.py, or still in siamese.dead. The management API
knows what a policy tells a queue, and how many messages are still in it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pika

import common
from common import Failure
from siamese.ledger import Event
from siamese.messaging import blocking, management_api
from siamese.messaging.errors import cause
from siamese.messaging.topology import DEAD_LETTER_QUEUE
from siamese.monitoring import database

# A look at a letter counts as a failed delivery, and from RabbitMQ 4.0 on quorum queues
# may be told to drop what had 20 of them.
MOST_DELIVERIES = 15
NOT_FOUND = 404
REMEDY = 'let monitor.py store them, and take its history: --dead FILE'
# What pika raises when it cannot decode properties that a stranger wrote.
UNDECODABLE = (ValueError, TypeError, IndexError, KeyError, struct.error)


def dead_letters(source: str) -> Iterator[Event]:
    """Yield the dead letters of a history, or of the broker at an AMQP URL; raise Failure."""
    if '://' not in source:
        yield from of_history(source)
        return
    try:
        endpoints = common.endpoints(source, 'audit.py')
    except ValueError as error:
        raise Failure(f'--dead: {error}', 2) from None
    yield from of_broker(endpoints)


def of_history(path: str) -> Iterator[Event]:
    """Yield the dead letters that monitor.py has stored, without those it requeued."""
    db = database.open_for_reading(path)
    columns = 'queue, reason, message_id, body'
    for row in db.execute(f'SELECT {columns} FROM dead WHERE requeued IS NULL'):
        yield dead_lettered(row['message_id'], row['queue'], row['reason'], row['body'])
    db.close()


def of_broker(endpoints: list[pika.URLParameters]) -> Iterator[Event]:
    """Yield what lies in siamese.dead; all of it stays there."""
    endpoint = blocking.first_reachable(endpoints)
    with blocking.connected(endpoint) as connection:
        channel = connection.channel()
        try:
            yield from waiting_in(channel)
        except pika.exceptions.ChannelClosedByBroker as error:
            where = common.display_address(endpoint)
            raise Failure(
                f'cannot look into {DEAD_LETTER_QUEUE} at {where}: {cause(error)}', 3
            ) from None
        except UNDECODABLE:
            raise Failure(
                f'a letter in {DEAD_LETTER_QUEUE} cannot be decoded; {REMEDY}', 3
            ) from None


def waiting_in(channel: pika.adapters.blocking_connection.BlockingChannel) -> Iterator[Event]:
    """Yield what waits in siamese.dead, unacknowledged: it is back when the channel closes."""
    method = True
    while method:
        method, properties, body = channel.basic_get(DEAD_LETTER_QUEUE)
        if method:
            headers = properties.headers or {}
            check_deliveries(headers)
            death = latest_death(headers)
            queue = str(death.get('queue', ''))
            reason = str(death.get('reason', 'unknown'))
            yield dead_lettered(properties.message_id, queue, reason, body)


def check_deliveries(headers: dict[str, Any]) -> None:
    """Raise Failure before a look at a letter may make the broker drop it."""
    count = headers.get('x-delivery-count', 0)
    if isinstance(count, int) and count >= MOST_DELIVERIES:
        raise Failure(
            f'a letter in {DEAD_LETTER_QUEUE} was delivered {count} times, and a delivery limit '
            f'may drop it; {REMEDY}',
            3,
        )


def latest_death(headers: dict[str, Any]) -> dict[str, Any]:
    """Return the latest entry of the header x-death, {} if there is none."""
    deaths = headers.get('x-death')
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return {}


def dead_lettered(
    message_id: object,
    queue: str,
    reason: str,
    body: bytes,
) -> Event:
    """Return the line of a dead letter. Its times are those of the broker, and left out."""
    if not isinstance(message_id, str):
        message_id = None
    return Event(
        at=0.0,
        by='siamese.dead',
        run='',
        epoch=0,
        event='dead_lettered',
        id=message_id or None,
        digest=hashlib.sha256(body).hexdigest(),
        queue=queue,
        reason=reason,
    )


def queues(url: str, vhosts: Mapping[str, str]) -> Iterator[Event]:
    """Yield what the management API knows of queues, by their virtual hosts; raise Failure."""
    endpoint = common.endpoints(common.DEFAULT_URL, 'audit.py')[0]
    try:
        api = management_api.api(endpoint, url)
    except ValueError as error:
        raise Failure(f'--management-url: {error}', 2) from None
    for queue, vhost in vhosts.items():
        path = f'queues/{management_api.part(vhost)}/{management_api.part(queue)}'
        try:
            answer = api.get(path)
        except management_api.Refused as refused:
            if refused.status != NOT_FOUND:  # it is gone, and its policy is no longer known
                raise Failure(str(refused), 3) from None
        else:
            yield state_of(queue, answer)


def state_of(name: str, queue: object) -> Event:
    """Return the line of a queue, from the answer of the management API."""
    if not isinstance(queue, dict):
        queue = {}
    policy = queue.get('effective_policy_definition')
    if not isinstance(policy, dict):  # RabbitMQ 3.10 has [] where there is none
        policy = {}
    event = Event(at=0.0, by='', run='', epoch=0, event='queue', queue=name, policy=policy)
    messages = queue.get('messages')
    if isinstance(messages, int):  # a queue has no figures at first
        event['messages'] = messages
    return event
