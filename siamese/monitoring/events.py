"""What the event exchange announces of clients: connections that open and close."""

from __future__ import annotations

import time
from collections.abc import Mapping
from sqlite3 import Connection
from typing import Any

from pika.channel import Channel
from pika.exceptions import NoFreeChannels

from siamese.messaging.errors import permission_denied
from siamese.messaging.link import Link
from siamese.monitoring import clients
from siamese.monitoring.snapshot import EVENT_EXCHANGE
from siamese.text import readable

CONSUMER_TAG = 'events'  # tells an event from a dead letter
NO_PERMISSION = (
    f'no permission to have a queue siamese.events-* and to read {EVENT_EXCHANGE}:'
    ' clients are seen at each collection only; rabbitmqctl set_permissions'
)
ONE_CHANNEL = (
    f'no second channel on a connection, so nothing is read from {EVENT_EXCHANGE}:'
    ' clients are seen at each collection only; see ?channel_max= and channel_max of the broker'
)
# The API lists a connection for a while after it was closed, but not for so long.
KEEP_CLOSED_S = 60


class Listener:
    """A consumer of the event exchange, and what it has heard.

    missing: why it cannot listen, as texts; closed: the connections that were closed
    in the last `keep_closed_s`, and when (time.monotonic()).
    """

    def __init__(self) -> None:
        self.connection: Any = None  # over which it listens
        self.is_open = False
        self.missing: list[str] = []
        self.closed: dict[str, float] = {}
        self.keep_closed_s: float = KEEP_CLOSED_S

    def listen(self, link: Link) -> None:
        """Consume the events of connections over another channel of the link's connection.

        If that channel is closed, nothing else is harmed.
        """
        self.connection = link.connection
        self.is_open = True
        queue = f'siamese.events-{link.run}-{link.epoch}'

        def on_open(channel: Channel) -> None:
            channel.queue_declare(queue=queue, exclusive=True, auto_delete=True)
            channel.queue_bind(
                queue=queue,
                exchange=EVENT_EXCHANGE,
                routing_key='connection.*',
            )
            channel.basic_consume(
                queue=queue,
                on_message_callback=link.on_delivery,
                auto_ack=True,
                consumer_tag=CONSUMER_TAG,
                callback=lambda _frame: self.missing.clear(),
            )

        def on_close(_channel: Channel, reason: Exception) -> None:
            self.is_open = False
            self.missing = []
            if permission_denied(reason, link.endpoint.credentials):
                self.missing = [NO_PERMISSION]

        try:
            channel = link.connection.channel(on_open_callback=on_open)
        except NoFreeChannels:
            self.is_open = False
            self.missing = [ONE_CHANNEL]
        else:
            channel.add_on_close_callback(on_close)

    def hear(
        self,
        db: Connection,
        event: str,
        facts: Mapping[str, Any],
        vhost: str,
        now: float,
    ) -> None:
        """Store an event, 'connection.created' for example, with the headers `facts`."""
        connection = readable(facts.get('name') or '')
        user = readable(facts.get('user') or '')
        is_ours = facts.get('vhost') == vhost
        if event == 'connection.closed' and connection:
            self.closed[connection] = time.monotonic()
            clients.client_disconnected(db, now, connection)
        elif event == 'connection.created' and is_ours and connection and user:
            name = readable(facts.get('user_provided_name') or connection)
            clients.client_connected(db, now, name, user, connection)
        self._forget(time.monotonic() - self.keep_closed_s)

    def closed_connections(self) -> dict[str, float] | None:
        """Return the connections that were closed lately, None if we do not hear of them."""
        if not self.is_open:
            return None
        return self.closed

    def _forget(self, before: float) -> None:
        for connection, at in list(self.closed.items()):
            if at < before:
                del self.closed[connection]
