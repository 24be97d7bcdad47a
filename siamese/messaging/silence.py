"""How long a broker may leave a request without an answer while its heartbeats come."""

from __future__ import annotations

from pika.exceptions import AMQPConnectionError

ANSWER_TIMEOUT_S = 30

# What a channel begins with. Other requests have limits of their own: a channel that
# closes waits for a queue, and a connection that is opened for pika's timeout.
LIMITED = ('channel.open', 'queue.declare', 'confirm.select', 'basic.consume')


class Silence(AMQPConnectionError):
    """A broker that sends heartbeats did not answer in time, and we drop the connection."""
