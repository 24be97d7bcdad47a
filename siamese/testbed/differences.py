"""What brokers, and the versions of one broker, do differently: each is tried, none is a fault.

Nothing is taken from a name or a version. What cannot be seen from here is 'not known',
and why.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from siamese.messaging import errors
from siamese.testbed import offers
from siamese.testbed.candidate import Candidate, NotPossible, Unavailable

CLOSED = (ChannelClosedByBroker, ConnectionClosedByBroker)
TIMEOUT_MS = 1000
# For a broker that looks a moment later; RabbitMQ up to 4.2 looks once a minute.
PATIENCE_S = 3
SHARED = 2  # messages of a prefetch that two consumers may share

LOOK = 'look at a queue without any permission for it'
TIMEOUT = 'consumer timeout, {} queue'
PREFETCH = 'prefetch of a channel (global)'


def found(broker: Candidate, may_declare: bool) -> dict[str, str]:
    """Return the facts of all that is tried here; it takes up to 10 s."""
    tries: dict[str, Callable[[Candidate], str]] = {LOOK: look_without_permission}
    if may_declare:
        for queue_type in ('classic', 'quorum'):
            tries[TIMEOUT.format(queue_type)] = partial(consumer_timeout, queue_type=queue_type)
        tries[PREFETCH] = shared_prefetch
    return {name: tried(broker, fact_of) for name, fact_of in tries.items()}


def tried(broker: Candidate, fact_of: Callable[[Candidate], str]) -> str:
    """Return a fact, or why it is not known."""
    try:
        return fact_of(broker)
    except (NotPossible, Unavailable) as error:
        return f'not known: {error}'


# ---- looks (passive declarations)


def look_without_permission(broker: Candidate) -> str:
    """Look for a queue that this login may neither configure nor write nor read."""
    name = f'{secrets.token_hex(8)}.look'
    uses: dict[str, Callable[[BlockingChannel], Any]] = {
        'configure': lambda channel: channel.queue_delete(name),
        'write': lambda channel: publish_to(channel, name),
        'read': lambda channel: channel.basic_get(name),
    }
    for permission, use in uses.items():
        if reply_code(broker, use) != errors.ACCESS_REFUSED:
            return f'not known: this login has the permission {permission} for any name'
    code = reply_code(broker, lambda channel: channel.queue_declare(name, passive=True))
    return 'refused' if code == errors.ACCESS_REFUSED else 'allowed'


def publish_to(channel: BlockingChannel, exchange: str) -> None:
    """Publish to an exchange that does not exist, and wait for what the broker says."""
    channel.basic_publish(exchange=exchange, routing_key='', body=b'')
    channel.queue_declare('', exclusive=True)  # answered after that


def reply_code(broker: Candidate, use: Callable[[BlockingChannel], Any]) -> int:
    """Return the code with which the broker refuses something; 0 if it does not."""
    with broker.channel(timeout_s=offers.ANSWER_TIMEOUT_S) as channel:
        try:
            use(channel)
        except CLOSED as error:
            if not isinstance(error, ChannelClosedByBroker):
                raise
            return int(error.reply_code)
    return 0


# ---- consumer timeouts


def consumer_timeout(broker: Candidate, queue_type: str) -> str:
    """Ask for a short timeout, leave a message unacked, and see what becomes of the consumer."""
    arguments = {} if queue_type == 'classic' else {'x-queue-type': queue_type}
    with broker.channel(timeout_s=offers.ANSWER_TIMEOUT_S) as channel:
        try:
            queue = offers.declare(broker, channel, f'timeout.{queue_type}', arguments)
            offers.publish(broker, channel, queue)
            return end_of_consumer(channel, queue)
        except offers.NotOffered as error:
            return f'no such queue: {error}'
        except CLOSED as error:
            if offers.is_ours(error, broker):
                raise
            return 'none: x-consumer-timeout is refused'


def end_of_consumer(channel: BlockingChannel, queue: str) -> str:
    """Consume without acknowledging; return how the consumer ends."""
    cancels: list[Any] = []
    channel.add_on_cancel_callback(cancels.append)
    channel.basic_consume(
        queue=queue,
        on_message_callback=lambda *_: None,
        arguments={'x-consumer-timeout': TIMEOUT_MS},
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not cancels and channel.is_open:
        channel.connection.process_data_events(0.1)
    if cancels:
        return 'the consumer is cancelled'
    if not channel.is_open:
        return 'the channel is closed'
    return (
        f'not known: x-consumer-timeout {TIMEOUT_MS} has no effect within {PATIENCE_S} s '
        '(some look once a minute)'
    )


# ---- prefetch


def shared_prefetch(broker: Candidate) -> str:
    """Ask for a prefetch that two consumers of a channel share; return what becomes of it."""
    with broker.channel(timeout_s=offers.ANSWER_TIMEOUT_S) as channel:
        queue = offers.declare(broker, channel, 'prefetch', {})
        for _ in range(2 * SHARED + 1):
            offers.publish(broker, channel, queue)
        try:
            channel.basic_qos(prefetch_count=SHARED, global_qos=True)
            delivered = delivered_to_two(channel, queue)
        except CLOSED as error:
            if offers.is_ours(error, broker):
                raise
            return f'refused ({offers.refusal(error)})'
    meanings = {SHARED: 'for all its consumers together', 2 * SHARED: 'for each of its consumers'}
    return meanings.get(delivered, f'not kept: {delivered} delivered at once')


def delivered_to_two(channel: BlockingChannel, queue: str) -> int:
    """Return how many messages two consumers get that acknowledge none."""
    deliveries: list[Any] = []

    def keep(*delivery: Any) -> None:
        deliveries.append(delivery)

    for _ in range(2):
        channel.basic_consume(queue=queue, on_message_callback=keep)
    channel.connection.sleep(offers.OVERDUE_S)
    return len(deliveries)
