"""Queues and exchanges: the dead letters, arguments, and declaring again.

`declare(channel, link)` of a script runs on each new channel. What it declares
and binds is recorded, so that the link can declare it again from time to time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pika.channel import Channel

# compare.py sets the prefix, so that it leaves the dead letters of others alone.
DEAD_LETTERS = os.environ.get('DEAD_LETTER_PREFIX', 'siamese')
DEAD_LETTER_EXCHANGE = f'{DEAD_LETTERS}.dlx'
DEAD_LETTER_QUEUE = f'{DEAD_LETTERS}.dead'

# From RabbitMQ 4.0 on a quorum queue drops a message after 20 deliveries that failed,
# unless it is told another limit. No limit is -1, which 3.x refuses: it knows numbers only.
NEVER = 1_000_000_000
DEAD_LETTER_ARGUMENTS = {'x-queue-type': 'quorum', 'x-delivery-limit': NEVER}

VERBS = ('exchange_declare', 'queue_declare', 'queue_bind')


def declare_dead_letters(channel: Channel) -> None:
    """Declare the dead-letter exchange siamese.dlx, and the queue siamese.dead behind it.

    Consumers reject invalid messages into it; expired messages are moved there.
    """
    channel.exchange_declare(exchange=DEAD_LETTER_EXCHANGE, exchange_type='fanout', durable=True)
    channel.queue_declare(queue=DEAD_LETTER_QUEUE, durable=True, arguments=DEAD_LETTER_ARGUMENTS)
    channel.queue_bind(queue=DEAD_LETTER_QUEUE, exchange=DEAD_LETTER_EXCHANGE)


def take_dead_letter_queue_as_it_is(channel: Channel) -> None:
    """Only look for siamese.dead on this channel: it exists with other properties."""
    declare = channel.queue_declare

    def queue_declare(queue: str, **options: Any) -> None:
        declare(queue=queue, **{**options, 'passive': queue == DEAD_LETTER_QUEUE})

    channel.queue_declare = queue_declare


def declare_passively(channel: Channel, may_look_at: Callable[[str], bool]) -> None:
    """Turn the declarations of a channel into passive ones: looks whether something is there.

    What may not be looked at is passed over. Exclusive queues are still declared and
    bound: no other user can have done that.
    """
    declare_queue = channel.queue_declare
    declare_exchange = channel.exchange_declare
    bind = channel.queue_bind
    exclusive_queues = set()

    def queue_declare(queue: str, exclusive: bool = False, **options: Any) -> None:
        if exclusive:
            exclusive_queues.add(queue)
            declare_queue(queue=queue, exclusive=True, **options)
        elif may_look_at(queue):
            declare_queue(queue=queue, passive=True, **options)
        elif options.get('callback'):  # which waits for an answer
            channel.basic_qos(callback=options['callback'])

    def exchange_declare(exchange: str, **options: Any) -> None:
        if may_look_at(exchange):
            declare_exchange(exchange=exchange, passive=True, **options)

    def queue_bind(queue: str, **options: Any) -> None:
        if queue in exclusive_queues:
            bind(queue=queue, **options)

    channel.queue_declare = queue_declare
    channel.queue_bind = queue_bind
    channel.exchange_declare = exchange_declare


@contextmanager
def record_topology(channel: Channel) -> Iterator[list[partial[None]]]:
    """Yield the list of what is declared and bound meanwhile, as functions that repeat it."""
    recorded: list[partial[None]] = []
    originals = {name: getattr(channel, name) for name in VERBS}

    def recording(verb: Callable[..., None]) -> Callable[..., None]:
        def call(**options: Any) -> None:
            # The callback told the link once that the channel is ready.
            again = {name: value for name, value in options.items() if name != 'callback'}
            recorded.append(partial(verb, **again))
            verb(**options)

        return call

    for name, verb in originals.items():
        setattr(channel, name, recording(verb))
    yield recorded
    for name, verb in originals.items():
        setattr(channel, name, verb)


def arguments_of(queue: str, topology: list[partial[None]]) -> dict[str, Any] | None:
    """Return the arguments with which a queue was declared; None if it was not."""
    for declared in topology:
        options = declared.keywords
        if declared.func.__name__ == 'queue_declare' and options['queue'] == queue:
            return options.get('arguments') or {}
    return None


def queue_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a queue: its type, its dead-letter exchange, and --queue-arg."""
    arguments = {'x-queue-type': args.queue_type}
    if args.queue_type != 'stream':  # a stream keeps its messages
        arguments['x-dead-letter-exchange'] = DEAD_LETTER_EXCHANGE
    arguments.update(args.queue_arg)
    return arguments


def expiration(seconds: float | None) -> str | None:
    """Return a time to live as the property `expiration`: milliseconds as text."""
    if seconds is None:
        return None
    return str(round(seconds * 1000))
