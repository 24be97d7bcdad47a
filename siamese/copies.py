"""The one rule for copies: is it explained that a message is delivered again?

AMQP delivers at least once. A message may be delivered again when

- its delivery was not acknowledged: the copy is flagged as redelivered;
- the acknowledgement was lost with the connection: the copy comes over another one;
- the publisher confirm was lost, so that the producer published the message again:
  the copy has a later attempt (header x-attempt).

A quorum queue may also lose acknowledgements between its nodes, and then delivers
a message again over the very connection that acknowledged it, flagged as
redelivered (RabbitMQ 3.10.8 and 4.0.5, tests/broker/test_cluster.py).
Every other copy is a replay, and a fault of the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

FIRST = 'first'
REDELIVERED = 'redelivered'
REPUBLISHED = 'republished'
ACK_LOST = 'ack_lost'
REPLAYED = 'replayed'


class Copy(NamedTuple):
    """One delivery of a message."""

    attempt: int  # how often the producer had published the message (header x-attempt)
    connection: object  # identifies the channel over which it came
    redelivered: bool  # the flag that the broker set
    settled: bool  # whether the consumer acknowledges or rejects it for good


def explain(earlier: Iterable[Copy], copy: Copy, queue_type: str) -> str:
    """Return FIRST, or what explains a copy after `earlier` ones; REPLAYED if nothing does."""
    same_attempt = [other for other in earlier if other.attempt == copy.attempt]
    for other in same_attempt:
        if other.connection == copy.connection and contradicts(other, copy):
            return ACK_LOST if may_lose_acks(copy, queue_type) else REPLAYED
    if same_attempt:
        return REDELIVERED
    return REPUBLISHED if earlier else FIRST


def contradicts(earlier: Copy, copy: Copy) -> bool:
    """Return whether a broker may not deliver `copy` over the connection of `earlier`."""
    return earlier.settled or not copy.redelivered


def may_lose_acks(copy: Copy, queue_type: str) -> bool:
    """Return whether the queue may have lost an acknowledgement between its nodes."""
    return copy.redelivered and queue_type == 'quorum'


def explain_all(
    copies: Sequence[Copy],
    closed: Set[object],
    has_flags: bool,
    queue_type: str,
) -> str:
    """Return what explains all copies of one attempt, in the order in which they came.

    The audit knows more than one consumer: which connections were `closed` as agreed, so
    that the broker had their acknowledgements, and whether the broker sets the flag
    redelivered at all (`has_flags`): then only one copy may lack it.
    """
    settled: set[object] = set()
    replayed = False
    for copy in copies:
        replayed = replayed or copy.connection in settled
        if copy.settled:
            settled.add(copy.connection)
    unflagged = sum(not copy.redelivered for copy in copies)
    acknowledged_twice = replayed or len(settled & closed) > 1
    if acknowledged_twice and unflagged <= 1 and queue_type == 'quorum':
        return ACK_LOST
    if acknowledged_twice or (unflagged > 1 and has_flags):
        return REPLAYED
    return REDELIVERED if len(copies) > 1 else FIRST
