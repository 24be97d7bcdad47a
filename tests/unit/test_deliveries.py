"""deliveries.py: what the ledger is told of a run."""

from types import SimpleNamespace

import pika
import pytest
from pika import spec
from support import wire

from siamese.messaging.deliveries import Inbox, Run
from siamese.messaging.fast_path import Shape
from siamese.messaging.properties import Properties, PropertiesDecoder
from siamese.messaging.receipts import Receipts

IDS = [b'cafecafe-%010d-%016d' % (number, 7) for number in range(1, 4)]


def recorded(redelivered=False, **common):
    """Return the lines of a ledger, once a run of three was acknowledged."""
    lines = []

    def record(event, **facts):
        lines.append({'event': event, **facts})

    inbox = Inbox(Receipts(record))
    args = SimpleNamespace(ledger='run.jsonl')
    link = SimpleNamespace(args=args, auto_ack=True, inbox=inbox, record=record)
    properties = pika.BasicProperties(message_id=IDS[0].decode(), **common)
    encoded = b''.join(properties.encode())
    method = spec.Basic.Deliver('ctag', 1, redelivered, 'exchange', 'kéy')
    whole = b''.join(wire.delivery(1, 1, b'x', properties, redelivered=redelivered))
    shape = Shape(whole, method, Properties(encoded, PropertiesDecoder()), b'x')
    Run(link, None, shape, 1, IDS).ack()
    inbox.send_acks(None)
    return lines


def test_a_plain_run_is_one_line():
    (line,) = recorded()
    assert line['numbers'] == [1, 3] and line['due'] == [7, 3]


@pytest.mark.parametrize(
    'common, told',
    [
        ({'redelivered': True}, {'redelivered': True}),
        ({'headers': {'x-attempt': 2}}, {'attempt': 2}),
        ({'headers': {'x-death': []}}, {'died': True}),
    ],
)
def test_of_a_run_that_is_not_plain_each_message_has_a_line(common, told):
    lines = recorded(**common)
    assert [line['id'] for line in lines] == [each.decode() for each in IDS]
    assert all(told.items() <= line.items() for line in lines)
