"""outbox.py: what the broker's answers mean, in the order in which they come."""

from collections import Counter

import pika
import pytest
from pika.spec import Basic

from siamese.messaging.books import Books
from siamese.messaging.messages import Message
from siamese.messaging.outbox import Outbox
from siamese.messaging.receipts import Receipts

RETURN = Basic.Return(312, 'NO_ROUTE', '', 'q')
PROPERTIES = pika.BasicProperties(message_id='m')


class Sent:
    """A channel and connection that take everything."""

    emitted_size = 0

    def basic_publish(self, *_, **__):
        """Take a message."""


@pytest.fixture(params=[True, False], ids=['retries', 'counts'])
def outbox(request):
    """An outbox with one message that is not confirmed."""
    outbox = Outbox(10, request.param, Counter(), Books(None, Receipts(print)))
    outbox.backlog.append(Message('', 'q', b'x', PROPERTIES, 0.0))
    outbox.send(Sent(), Sent())
    return outbox


def test_what_is_returned_and_then_nacked_was_nacked(outbox):
    """LavinMQ, where a queue is full."""
    outbox.on_return(None, RETURN, PROPERTIES, b'')
    outcome = outbox.on_confirm(Basic.Nack(1))
    assert outcome.retried == 'nacked'
    assert outbox.counts == {'nacked': 1}
    assert len(outbox.backlog) == 1


def test_what_is_nacked_and_then_returned_is_unroutable(outbox):
    """Apache Qpid, where no queue is bound."""
    outbox.on_confirm(Basic.Nack(1))
    outbox.on_return(None, RETURN, PROPERTIES, b'')
    assert len(outbox.backlog) == outbox.retry_returned
    assert outbox.counts['returned'] == (not outbox.retry_returned)


def test_what_is_returned_and_then_acked_is_unroutable(outbox):
    """RabbitMQ."""
    outbox.on_return(None, RETURN, PROPERTIES, b'')
    outcome = outbox.on_confirm(Basic.Ack(1))
    assert not outcome.confirmed
    assert outbox.counts == {'returned': 1}
    assert len(outbox.backlog) == outbox.retry_returned
