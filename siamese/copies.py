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

Questions and answers of scenario 2 do not pass here. A question may be delivered
and answered twice, which at-least-once delivery allows, and the servers of one
queue do not know of each other. rpc_client.py knows what it asked, and how often:
it counts late and duplicate answers itself.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

FIRST = 'first'
REDELIVERED = 'redelivered'
REPUBLISHED = 'republished'
ACK_LOST = 'ack_lost'
REPLAYED = 'replayed'


class Copy(NamedTuple):
    """One delivery of a message."""

    attempt: int  # how often the producer had published the message (header x-attempt)
    channel: object  # identifies the one over which it came
    redelivered: bool  # the flag that the broker set
    settled: bool  # whether the consumer acknowledges or rejects it for good


def explain(earlier: Sequence[Copy], copy: Copy, queue_type: str) -> str:
    """Return FIRST, or what explains a copy after `earlier` ones; REPLAYED if nothing does."""
    if not earlier:
        return FIRST
    same_attempt = [other for other in earlier if other.attempt == copy.attempt]
    for other in same_attempt:
        if other.channel == copy.channel and contradicts(other, copy):
            return ACK_LOST if may_lose_acks(copy, queue_type) else REPLAYED
    return REDELIVERED if same_attempt else REPUBLISHED


def contradicts(earlier: Copy, copy: Copy) -> bool:
    """Return whether a broker may not deliver `copy` over the channel of `earlier`."""
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

    explain() is what one consumer can tell while it runs: it must believe that an
    acknowledgement over an earlier channel was lost. The audit has the ledgers of all
    consumers, and knows more: which channels were `closed` as agreed, so that the broker
    had their acknowledgements, and whether the broker sets the flag redelivered at all
    (`has_flags`): then only one copy may lack it, over whichever channels they came.
    """
    settled: set[object] = set()
    replayed = False
    for copy in copies:
        replayed = replayed or copy.channel in settled
        if copy.settled:
            settled.add(copy.channel)
    unflagged = sum(not copy.redelivered for copy in copies)
    acknowledged_twice = replayed or len(settled & closed) > 1
    if acknowledged_twice and unflagged <= 1 and queue_type == 'quorum':
        return ACK_LOST
    if acknowledged_twice or (unflagged > 1 and has_flags):
        return REPLAYED
    return REDELIVERED if len(copies) > 1 else FIRST
