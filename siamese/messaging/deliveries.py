"""Deliveries: what a consumer receives, and how it settles that."""

from __future__ import annotations

import hashlib
import logging
from argparse import Namespace
from collections import Counter, deque
from typing import Protocol

import pika
from pika.channel import Channel
from pika.spec import Basic


class Invalid(Exception):
    """What makes a message invalid: Invalid(reason, details).

    The reason is one of few, so that it can be counted.
    """


class Receiver(Protocol):
    """What a delivery needs of the link over which it came."""

    args: Namespace
    inbox: Inbox
    rejections: Counter[str]
    auto_ack: bool
    is_stream: bool

    def record(self, event: str, **facts: object) -> None:
        """Write into the ledger."""


class Delivery:
    """One message that the broker delivered: channel, method, properties and body."""

    __slots__ = ('body', 'channel', 'link', 'method', 'properties')

    def __init__(
        self,
        link: Receiver,
        channel: Channel,
        method: Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self.link = link
        self.channel = channel
        self.method = method
        self.properties = properties
        self.body = body

    @property
    def redelivered(self) -> bool:
        """Whether the broker says that it delivered this before."""
        return self.method.redelivered

    @property
    def attempt(self) -> int:
        """How often the producer had published the message when it published this copy."""
        return publish_attempt(self.properties)

    def record(self, event: str, **facts: object) -> None:
        """Write into the ledger what becomes of this delivery; call it before the AMQP verb."""
        if self.link.args.ledger:
            self.link.record(
                event,
                id=self.properties.message_id,
                attempt=self.attempt,
                redelivered=self.method.redelivered,
                digest=hashlib.sha256(self.body).hexdigest(),
                **facts,
            )

    def ack(self) -> None:
        """Acknowledge this and all earlier deliveries that are not settled yet.

        The link sends basic.ack for several deliveries together.
        """
        link = self.link
        if link.args.ledger:  # saves a call for each message
            self.record('acked')
        if not link.auto_ack:
            link.inbox.ack_tag = self.method.delivery_tag
            link.inbox.to_ack += 1

    def reject(self, invalid: Invalid) -> None:
        """Reject this delivery into the dead letters, for the reason that `invalid` tells."""
        link = self.link
        reason, details = invalid.args
        link.rejections[reason] += 1
        message_id = self.properties.message_id
        logging.warning('invalid: %s: %.100r (message_id %.100r)', reason, details, message_id)
        self.record('invalid', reason=reason)
        if link.is_stream:  # it keeps its messages, and RabbitMQ 3.10 would close the channel
            link.inbox.ack_tag = self.method.delivery_tag
            link.inbox.to_ack += 1
        elif not link.auto_ack:
            self.channel.basic_reject(delivery_tag=self.method.delivery_tag, requeue=False)


class Inbox(deque):
    """Deliveries that no script has looked at yet, and acknowledgements not yet sent."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Drop everything: the channel is gone, and the broker delivers again."""
        self.clear()
        self.ack_tag = 0  # the latest delivery to acknowledge, with all before it
        self.to_ack = 0  # how many deliveries that are

    def send_acks(self, channel: Channel | None) -> None:
        """Acknowledge on the channel what the script has acknowledged since the last time."""
        if self.ack_tag and channel and channel.is_open:
            channel.basic_ack(delivery_tag=self.ack_tag, multiple=True)
            self.ack_tag = 0
            self.to_ack = 0


def ack_batch(ack_every: int, prefetch: int) -> int:
    """Return how many deliveries to acknowledge at once: `ack_every`, or what the prefetch allows.

    That is half of it: a broker that waits for all acknowledgements delivers nothing.
    """
    return min(ack_every, max(1, prefetch // 2))


def publish_attempt(properties: pika.BasicProperties) -> int:
    """Return the header x-attempt of a message; 1 if there is none, or not a number."""
    attempt = (properties.headers or {}).get('x-attempt', 1)
    if isinstance(attempt, int) and attempt > 0:
        return int(attempt)
    return 1
