"""What a history knows of a queue beside its figures: arguments, policy, bindings, consumers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from sqlite3 import Connection
from typing import Any, TypedDict

from siamese.monitoring.database import transaction
from siamese.text import shorten

MOST = 100  # bindings, consumers and arguments of a queue that are kept
LONGEST = 1000  # characters of the value of an argument
FEATURES = ('durable', 'auto_delete')
EXCHANGE = 'dead-letter-exchange'
ROUTING_KEY = 'dead-letter-routing-key'
PRESENT = (
    "SELECT id, name, facts FROM queue LEFT JOIN detail ON detail.queue = id WHERE state <> 'gone'"
)
SELECT = 'SELECT facts FROM detail JOIN queue ON queue.id = detail.queue WHERE name = ?'


class Binding(TypedDict):
    """How messages come into a queue."""

    source: str  # an exchange
    routing_key: str
    arguments: dict[str, str]


class Consumer(TypedDict):
    """Who takes messages out of a queue; a client has a name and a user."""

    client: str
    user: str
    tag: str
    prefetch: int | None  # 0: without a limit
    acknowledges: bool | None


class Details(TypedDict):
    """What is known of a queue; None is for what is unknown. At most MOST of each are kept."""

    features: list[str] | None  # those of FEATURES that it has
    arguments: dict[str, str]
    policy: str
    policy_arguments: dict[str, str]
    bindings: list[Binding] | None
    binding_count: int
    consumers: list[Consumer] | None
    consumer_count: int


def arguments_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments as text: strangers choose their names, values, number and length."""
    texts = {}
    for name, value in islice(found.items(), MOST):
        if not isinstance(value, str):
            value = json.dumps(value)
        texts[shorten(name, LONGEST)] = shorten(value, LONGEST)
    return texts


def details_of(
    arguments: Mapping[str, Any],
    policy: str,
    policy_arguments: Mapping[str, Any],
    bindings: list[Binding] | None,
    consumers: list[Consumer] | None,
    features: list[str] | None = None,
) -> Details:
    """Return the details of a queue, with the first bindings and consumers only."""
    return Details(
        features=features,
        arguments=arguments_of(arguments),
        policy=policy,
        policy_arguments=arguments_of(policy_arguments),
        bindings=bindings and bindings[:MOST],
        binding_count=len(bindings or ()),
        consumers=consumers and consumers[:MOST],
        consumer_count=len(consumers or ()),
    )


def update(db: Connection, found: Iterable[tuple[str, Details]]) -> None:
    """Store the details of queues that queues.update() knows, where they have changed."""
    with transaction(db):
        stored = {row['name']: row for row in db.execute(PRESENT)}
        for name, details in found:
            row = stored.get(name)
            facts = json.dumps(details)
            if row and row['facts'] != facts:
                db.execute('REPLACE INTO detail VALUES (?, ?)', [row['id'], facts])


def of_queue(db: Connection, name: str) -> Details | None:
    """Return what is known of a queue, None if nothing is."""
    row = db.execute(SELECT, [name]).fetchone()
    if not row:
        return None
    details: Details = json.loads(row['facts'])
    details.setdefault('features', None)  # an earlier version stored none
    return details


def dead_letter_target(details: Details) -> tuple[str, str] | None:
    """Return (exchange, routing key) for dead letters of a queue, None if it drops them.

    An argument of the queue counts more than its policy. The routing key is '' where
    dead letters keep their own.
    """
    arguments = details['arguments']
    by_policy = details['policy_arguments']
    exchange = arguments.get(f'x-{EXCHANGE}', by_policy.get(EXCHANGE))
    if exchange is None:
        return None
    key = arguments.get(f'x-{ROUTING_KEY}', by_policy.get(ROUTING_KEY, ''))
    return exchange, key
