"""The one rule for copies: is it explained that a message is delivered again?

AMQP delivers at least once. A message may be delivered again when

- its delivery was not acknowledged: the copy is flagged as redelivered;
- the acknowledgement was lost with the connection: the copy comes over another one;
- the publisher confirm was lost, so that the producer published the message again:
  the copy has a later attempt (header x-attempt).

The flag is a SHOULD of AMQP 0-9-1, and some brokers never set it (flag_probe.py); there
a copy of what was not acknowledged comes without it. Others forget it when they
restart.

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


def explain(
    earlier: Sequence[Copy],
    copy: Copy,
    queue_type: str,
    has_flags: bool = True,
) -> str:
    """Return FIRST, or what explains a copy after `earlier` ones; REPLAYED if nothing does.

    `has_flags` tells whether the broker sets the flag redelivered at all.
    """
    if not earlier:
        return FIRST
    same_attempt = [other for other in earlier if other.attempt == copy.attempt]
    for other in same_attempt:
        if other.channel == copy.channel and contradicts(other, copy, has_flags):
            return ACK_LOST if may_lose_acks(copy, queue_type) else REPLAYED
    return REDELIVERED if same_attempt else REPUBLISHED


def contradicts(earlier: Copy, copy: Copy, has_flags: bool) -> bool:
    """Return whether a broker may not deliver `copy` over the channel of `earlier`."""
    return earlier.settled or (has_flags and not copy.redelivered)


def may_lose_acks(copy: Copy, queue_type: str) -> bool:
    """Return whether the queue may have lost an acknowledgement between its nodes."""
    return copy.redelivered and queue_type == 'quorum'


def explain_all(
    copies: Sequence[Copy],
    closed: Set[object],
    has_flags: bool,
    queue_type: str,
    may_forget: bool = False,
    knows_first: bool = False,
) -> str:
    """Return what explains all copies of one attempt, in the order in which they came.

    explain() is what one consumer can tell while it runs: it must believe that an
    acknowledgement over an earlier channel was lost. The audit has the ledgers of all
    consumers, and knows more: which channels were `closed` as agreed, so that the broker
    had their acknowledgements, and whether the broker sets the flag redelivered at all
    (`has_flags`): then only one copy may lack it, over whichever channels they came.
    Unless it `may_forget` the flag, because it may have restarted in between; over one
    and the same channel a later copy still needs it. `knows_first` says that a copy
    without the flag came before all others, over whichever channels they came.
    """
    replayed = False
    settled: set[object] = set()
    for copy in copies:
        replayed = replayed or copy.channel in settled
        if copy.settled:
            settled.add(copy.channel)
    unflagged = sum(not copy.redelivered for copy in copies)
    acknowledged_twice = replayed or len(settled & closed) > 1
    if knows_first and len(copies) > 1:
        acknowledged_twice = acknowledged_twice or was_over_at_first(copies, closed)
    if acknowledged_twice and unflagged <= 1 and queue_type == 'quorum':
        return ACK_LOST
    lacks_flag = unflagged > 1
    if may_forget:
        lacks_flag = has_come_again_unflagged(copies)
    if acknowledged_twice or (lacks_flag and has_flags):
        return REPLAYED
    return REDELIVERED if len(copies) > 1 else FIRST


def has_come_again_unflagged(copies: Sequence[Copy]) -> bool:
    """Return whether a copy lacks the flag though another came before it over its channel."""
    seen: set[object] = set()
    for copy in copies:
        if copy.channel in seen and not copy.redelivered:
            return True
        seen.add(copy.channel)
    return False


def was_over_at_first(copies: Sequence[Copy], closed: Set[object]) -> bool:
    """Return whether the broker had the acknowledgement of the first copy.

    Then no other may come, whatever became of the channel over which it came.
    """
    first = [copy for copy in copies if not copy.redelivered]
    return len(first) == 1 and first[0].settled and first[0].channel in closed
