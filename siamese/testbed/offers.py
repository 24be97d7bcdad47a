"""What a broker offers beyond AMQP 0-9-1: each is tried once, with a message or two.

What is refused, or taken and then ignored, is not offered. That is no fault of the
broker, but a check that needs it is not possible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, MethodNotImplemented

from siamese.messaging import blocking, errors
from siamese.messaging.silence import Silence
from siamese.testbed.candidate import Candidate, Failed, NotPossible

# For a message to arrive where it is to go.
ARRIVAL_S = 5
ANSWER_TIMEOUT_S = 10
SHORT_LIFE_MS = '100'
LONG_LIFE_MS = '60000'
OVERDUE_S = 0.6  # the life of the first one, and more than a broker may take to notice
HIGHEST = 9  # priority

DEAD_LETTERS = 'dead letters'
TIME_TO_LIVE = 'time to live'
PRIORITIES = 'priorities'
CONFIRMS = 'publisher confirms'
OFFERED = 'offered'
DEAD_LETTERED = 'dead-lettered'
CRASHES = 'crashes the queue'
FORGED = 5  # where the broker writes a table for each death


class NotOffered(Exception):
    """The broker does not offer it; the message says how that shows."""


def need(broker: Candidate, *names: str) -> None:
    """Raise NotPossible unless the broker offers all that is named; Failed if it only says so."""
    for name in names:
        if name not in broker.offers:
            broker.offers[name] = tried(broker, name)
        problem = broker.offers[name]
        if problem:
            raise problem


def tried(broker: Candidate, name: str) -> Exception | None:
    """Try something that brokers may offer; return what need() raises of it."""
    with broker.channel(timeout_s=ANSWER_TIMEOUT_S) as channel:
        try:
            TRIES[name](broker, channel)
        except NotOffered as error:
            broker.facts[name] = str(error)
            return NotPossible(f'no {name}: {error}')
        except Failed as error:
            return error
    broker.facts[name] = OFFERED
    return None


def confirms(broker: Candidate, channel: BlockingChannel) -> None:
    """Ask for confirms, and wait for one."""
    table = blocking.server_properties(channel.connection).get('capabilities') or {}
    queue = declare(broker, channel, 'probe.confirms', {})
    try:
        channel.confirm_delivery()
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        raise NotOffered(f'refused ({refusal(error)})') from None
    except MethodNotImplemented:
        raise NotOffered('its table of capabilities says so') from None
    except Silence:
        if table:
            words = 'confirms are advertised, but confirm.select is not answered'
            raise Failed(f'{words} within {ANSWER_TIMEOUT_S} s') from None
        raise NotOffered('confirm.select is not answered') from None
    try:
        publish(broker, channel, queue)
    except Silence:
        raise Failed(f'a message is not confirmed within {ANSWER_TIMEOUT_S} s') from None


def dead_letters(broker: Candidate, channel: BlockingChannel) -> None:
    """Reject a message: it is moved to the dead-letter exchange."""
    if not is_dead_lettered(broker, channel):
        raise NotOffered('x-dead-letter-exchange has no effect')


def is_dead_lettered(
    broker: Candidate,
    channel: BlockingChannel,
    **properties: Any,
) -> bool:
    """Reject a message with these properties; return whether it is dead-lettered."""
    exchange = broker.exchange('probe.dlx')
    dead = broker.queue('probe.dead')
    channel.exchange_declare(exchange=exchange, exchange_type='fanout', durable=True)
    channel.queue_declare(queue=dead, durable=True)
    channel.queue_bind(queue=dead, exchange=exchange)
    queue = declare(broker, channel, 'probe', {'x-dead-letter-exchange': exchange})
    publish(broker, channel, queue, **properties)
    method, _ = get(channel, queue, ARRIVAL_S)
    if not method:
        raise Failed(f'a message did not come to its queue within {ARRIVAL_S} s')
    channel.basic_reject(delivery_tag=method.delivery_tag, requeue=False)
    method, _ = get(channel, dead, ARRIVAL_S)
    if method:
        channel.basic_ack(delivery_tag=method.delivery_tag)  # the next one is another
    return method is not None


def forged_death(broker: Candidate) -> str:
    """Reject a message whose publisher wrote x-death; return what becomes of it.

    It makes RabbitMQ 3.10 crash: see dead_lettering.py. One is harmless, the queue is started
    again.
    """
    with broker.channel(timeout_s=ANSWER_TIMEOUT_S) as channel:
        try:
            if is_dead_lettered(broker, channel, headers={'x-death': [FORGED]}):
                return DEAD_LETTERED
        except (Silence, ChannelClosedByBroker, ConnectionClosedByBroker):
            pass  # that is what a crash looks like
    return CRASHES


def time_to_live(broker: Candidate, channel: BlockingChannel) -> None:
    """Let one message expire, and another one not."""
    queue = declare(broker, channel, 'probe.ttl', {})
    publish(broker, channel, queue, expiration=LONG_LIFE_MS)
    method, _ = get(channel, queue, ARRIVAL_S)
    if not method:
        raise NotOffered(f'expiration {LONG_LIFE_MS} is taken for a time, and the message is gone')
    publish(broker, channel, queue, expiration=SHORT_LIFE_MS)
    channel.connection.sleep(OVERDUE_S)
    method, _ = get(channel, queue, 0)
    if method:
        raise NotOffered('expiration has no effect')


def priorities(broker: Candidate, channel: BlockingChannel) -> None:
    """Let a message overtake another one."""
    queue = declare(broker, channel, 'probe.priority', {'x-max-priority': HIGHEST})
    publish(broker, channel, queue, priority=0)
    publish(broker, channel, queue, priority=HIGHEST)
    # Both have arrived before the first one is taken.
    channel.connection.sleep(OVERDUE_S)
    _, properties = get(channel, queue, ARRIVAL_S)
    if not properties or properties.priority != HIGHEST:
        raise NotOffered('x-max-priority has no effect')


TRIES: dict[str, Callable[[Candidate, BlockingChannel], None]] = {
    CONFIRMS: confirms,
    DEAD_LETTERS: dead_letters,
    TIME_TO_LIVE: time_to_live,
    PRIORITIES: priorities,
}


def declare(
    broker: Candidate,
    channel: BlockingChannel,
    suffix: str,
    arguments: dict[str, Any],
) -> str:
    """Declare a durable queue; return its name. Raises NotOffered if the broker refuses that."""
    queue = broker.queue(suffix)
    try:
        channel.queue_declare(queue=queue, durable=True, arguments=arguments)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        if is_ours(error, broker):
            raise
        raise NotOffered(f'refused ({refusal(error)})') from None
    return queue


def is_ours(error: ChannelClosedByBroker | ConnectionClosedByBroker, broker: Candidate) -> bool:
    """Return whether a refusal says nothing of the queue, but of our login or of the broker."""
    code = error.reply_code
    login = broker.endpoint.credentials
    is_about_us = code in (errors.ACCESS_REFUSED, *errors.CODES_THAT_HEAL)
    return is_about_us or errors.token_expired(error, login)


def refusal(error: ChannelClosedByBroker | ConnectionClosedByBroker) -> str:
    """Return what the broker said, in one line."""
    return error.reply_text.partition('\n')[0]


def publish(
    broker: Candidate,
    channel: BlockingChannel,
    queue: str,
    **properties: Any,
) -> None:
    """Publish a message with these properties."""
    broker.published += 1
    channel.basic_publish(
        exchange='',
        routing_key=queue,
        body=b'',
        properties=pika.BasicProperties(delivery_mode=2, **properties),
    )


def get(
    channel: BlockingChannel, queue: str, patience_s: float
) -> tuple[Any, pika.BasicProperties | None]:
    """Return method and properties of the next message; (None, None) if none comes in time."""
    deadline = time.monotonic() + patience_s
    while True:
        method, properties, _ = channel.basic_get(queue=queue)
        if method or time.monotonic() >= deadline:
            return method, properties
        channel.connection.sleep(0.05)
