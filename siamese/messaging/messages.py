"""A message on its way to the broker."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

import pika


class Message:
    """A message on its way: what to publish, and how often that was done."""

    attempt = 0
    sent_at = 0.0  # time.monotonic() of the last attempt
    unanswered_since = 0.0  # time.monotonic() of the first attempt over a channel that was lost
    returned = ''  # why, in the words of the broker
    suspicions = 0  # how often the broker closed over a message while it was unconfirmed

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties,
        due: float,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.due = due  # time.monotonic() at which it should have been published


def digest_of(body: bytes) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def facts_of(message: Message) -> dict[str, object]:
    """Return what the ledger says of a message when it is published."""
    size = len(message.body)
    return {'digest': digest_of(message.body), 'bytes': size, **facts_but_body(message)}


def facts_but_body(message: Message) -> dict[str, object]:
    """Return the facts that messages share which are published in the same way."""
    facts: dict[str, object] = {'priority': message.properties.priority or 0}
    if message.exchange:
        facts['exchange'] = message.exchange
    if message.properties.expiration:
        facts['expiration'] = message.properties.expiration
    return facts


def longest_wait_s(messages: Iterable[Message]) -> float:
    """Return for how long the broker has left one of these messages without an answer."""
    begins = [message.unanswered_since or message.sent_at for message in messages]
    return time.monotonic() - min(filter(None, begins), default=time.monotonic())


def restart_waits(messages: Iterable[Message]) -> None:
    """Let the wait for an answer begin only with the next attempt."""
    for message in messages:
        message.unanswered_since = 0.0
        message.sent_at = 0.0
