"""A message on its way to the broker."""

from __future__ import annotations

import hashlib

import pika


class Message:
    """A message on its way: what to publish, and how often that was done."""

    attempt = 0
    sent_at = 0.0  # time.monotonic() of the last attempt
    returned = False
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


def facts_of(message: Message) -> dict[str, str]:
    """Return what the ledger says of a message when it is published."""
    facts = {'digest': hashlib.sha256(message.body).hexdigest()}
    if message.exchange:
        facts['exchange'] = message.exchange
    if message.properties.expiration:
        facts['expiration'] = message.properties.expiration
    return facts
