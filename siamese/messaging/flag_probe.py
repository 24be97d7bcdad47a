"""Does this broker flag what it delivers again?

The flag redelivered is a SHOULD of AMQP 0-9-1. RabbitMQ, LavinMQ and Qpid set it on what
was rejected, or was unacknowledged when its connection was lost; others never do. One
message in an exclusive queue, which is gone with its connection, tells which: it is
rejected, and comes again. What happens over a restart of the broker only ledgers show.
"""

from __future__ import annotations

from argparse import Namespace

import pika
from pika.channel import Channel

from siamese.messaging import handshake
from siamese.messaging.loop import Loop

TIMEOUT_S = 3  # the script begins after it, whatever the broker says
BODY = b'is a message flagged that was rejected?'


def is_wanted(args: Namespace) -> bool:
    """Return whether the flag matters: to who records deliveries, and who rejects them."""
    flags = vars(args)
    return 'prefetch' in flags and (bool(args.ledger) or 'reject' in flags)


class FlagProbe:
    """Asks a broker once; `answer` is None as long as that is not known."""

    def __init__(self, run: str, is_wanted: bool) -> None:
        self.queue = f'siamese.probe-{run}'
        self.is_wanted = is_wanted
        self.is_running = False
        self.answer: bool | None = None

    def begin(self, endpoint: pika.ConnectionParameters, ioloop: Loop) -> None:
        """Ask over a connection of its own.

        One that publishes is blocked while the broker is low on memory, and its
        acknowledgements wait: consumers must not publish.
        """
        if not self.is_wanted:
            return
        self.is_wanted = False
        self.is_running = True
        self.connection = handshake.Connection(
            endpoint,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
            custom_ioloop=ioloop,
        )
        ioloop.call_later(TIMEOUT_S, self._end)

    def _on_open(self, connection: handshake.Connection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(lambda *_: self._end())
        channel.queue_declare(queue=self.queue, exclusive=True, auto_delete=True)
        channel.basic_publish('', self.queue, BODY)
        channel.basic_consume(queue=self.queue, on_message_callback=self._on_delivery)

    def _on_delivery(
        self,
        channel: Channel,
        method: pika.spec.Basic.Deliver,
        _properties: pika.BasicProperties,
        _body: bytes,
    ) -> None:
        if method.delivery_tag == 1:
            channel.basic_reject(delivery_tag=1, requeue=True)
        elif self.answer is None:
            self.answer = bool(method.redelivered)
            self._end()

    def _on_end(
        self,
        _connection: handshake.Connection,
        _reason: BaseException,
    ) -> None:
        self.is_running = False

    def _end(self) -> None:
        self.is_running = False
        if self.connection.is_open:
            self.connection.close()
