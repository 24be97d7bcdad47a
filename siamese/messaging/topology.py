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

VERBS = ('exchange_declare', 'queue_declare', 'queue_bind')


def declare_dead_letters(channel: Channel) -> None:
    """Declare the dead-letter exchange siamese.dlx, and the queue siamese.dead behind it.

    Consumers reject invalid messages into it; expired messages are moved there.
    """
    channel.exchange_declare(exchange=DEAD_LETTER_EXCHANGE, exchange_type='fanout', durable=True)
    channel.queue_declare(
        queue=DEAD_LETTER_QUEUE, durable=True, arguments={'x-queue-type': 'quorum'}
    )
    channel.queue_bind(queue=DEAD_LETTER_QUEUE, exchange=DEAD_LETTER_EXCHANGE)


def declare_passively(channel: Channel) -> None:
    """Turn the declarations of a channel into passive ones, which need no permission.

    Exclusive queues are still declared and bound: no other user can have done that.
    """
    declare = channel.queue_declare
    bind = channel.queue_bind
    exclusive_queues = set()

    def queue_declare(queue: str, exclusive: bool = False, **options: Any) -> None:
        if exclusive:
            exclusive_queues.add(queue)
        declare(queue=queue, passive=not exclusive, exclusive=exclusive, **options)

    def queue_bind(queue: str, **options: Any) -> None:
        if queue in exclusive_queues:
            bind(queue=queue, **options)

    channel.queue_declare = queue_declare
    channel.queue_bind = queue_bind
    channel.exchange_declare = partial(channel.exchange_declare, passive=True)


@contextmanager
def record_topology(channel: Channel) -> Iterator[list[Callable[[], None]]]:
    """Yield the list of what is declared and bound meanwhile, as functions that repeat it."""
    recorded: list[Callable[[], None]] = []
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
