"""receipts.py: lines of many messages tell of each what a line of its own would."""

import hashlib
import json
from collections import defaultdict
from types import SimpleNamespace

import pika
from hypothesis import example, given
from hypothesis import strategies as st
from pika import spec

from siamese import ledger, numbered
from siamese.messaging.books import Books
from siamese.messaging.deliveries import Delivery, Inbox
from siamese.messaging.fast_path import BatchMessage, Template
from siamese.messaging.messages import Message
from siamese.messaging.receipts import Receipts

IDS = st.one_of(
    st.builds('{}-{}'.format, st.sampled_from(['alice-cafe0001', 'bob-1', '']), st.integers(0, 12)),
    st.sampled_from(['alice-cafe0001-007', 'alice-cafe0001-٣', 'alice-cafe0001-', 'alice', '-']),
    st.sampled_from(['a-+1', 'a-1_0', 'a- 1', 'a-1000000000', 'a-' + '9' * 5000, 'deadbeef-2']),
    st.sampled_from(['deadbeef-0000000001-4000000000000000', 'deadbeef-0000000001-4']),
    st.text(max_size=4),
)
BODIES = st.sampled_from([b'Hello world', b'', b'x' * 300])
MESSAGES = st.lists(
    st.tuples(IDS, BODIES, st.sampled_from([None, 0, 9]), st.sampled_from([None, '60000'])),
    max_size=20,
)


class Writer:
    """What of a ledger a link has; `lines` are its lines, as they are read again."""

    def __init__(self):
        self.lines = []
        self.receipts = Receipts(self.note)
        self.inbox = Inbox(self.receipts)
        self.args = SimpleNamespace(ledger='run.jsonl')
        self.auto_ack = False

    def record(self, event, **facts):
        self.receipts.write()
        self.note(event, **facts)

    def note(self, event, **facts):
        line = {'at': 1.0, 'by': 'alice', 'run': 'cafe0001', 'epoch': 1, 'event': event, **facts}
        event = ledger.parse(json.dumps(line))
        assert event, line
        self.lines.append(event)

    def told(self):
        """What is read, a line for each message."""
        return [one for line in self.lines for one in ledger.as_told(line)]


def message_of(told, attempt=1):
    message_id, body, priority, expiration = told
    properties = pika.BasicProperties(
        message_id=message_id, priority=priority, expiration=expiration
    )
    message = Message('', 'q', body, properties, 0.0)
    message.attempt = attempt
    return message


def delivery_of(writer, message, redelivered=False, headers=None):
    method = spec.Basic.Deliver('ctag', 1, redelivered, '', 'q')
    message.properties.headers = headers
    return Delivery(writer, None, method, message.properties, message.body)


def facts_of_each(lines):
    """Return what is told of each message, in its order, by what sets its place in it."""
    found = defaultdict(list)
    for line in lines:
        for one in ledger.singly(line):
            kind = one['event'], one['id'][: one['id'].rfind('-') + 1], one.get('priority')
            body = one.get('digest'), one.get('bytes')
            found[(*kind, one.get('expiration'))].append((one['id'], *body))
    return found


@given(MESSAGES)
@example([('a-1', b'', 0, None), ('b-1', b'', 0, None), ('a-2', b'x', 0, None)])
@example([('-5', b'', 0, None), ('a5', b'', 0, None)])
def test_nothing_is_lost_or_told_otherwise_where_messages_share_a_line(messages):
    together = Writer()
    singly = Writer()
    for told in messages:
        Books(together.record, together.receipts).attempted(message_of(told))
        singly.record(
            'attempted',
            id=told[0],
            attempt=1,
            digest=hashlib.sha256(told[1]).hexdigest(),
            bytes=len(told[1]),
            priority=told[2] or 0,
            **({'expiration': told[3]} if told[3] else {}),
        )
    together.receipts.write_singles()
    for told in messages:
        one = message_of(told)
        Books(together.record, together.receipts).confirmed([one])
        singly.record('confirmed', id=told[0], attempt=1)
        delivery_of(together, one).ack()
        digest = hashlib.sha256(told[1]).hexdigest()
        singly.record('acked', id=told[0], attempt=1, redelivered=False, digest=digest)
    together.receipts.write_singles()
    assert facts_of_each(together.lines) == facts_of_each(singly.lines)
    for line in together.told():
        assert 'digests' not in line and 'sizes' not in line


def test_messages_of_one_run_are_one_line():
    writer = Writer()
    for number in (1, 2, 3):
        delivery_of(writer, message_of((f'alice-cafe0001-{number}', b'x', None, None))).ack()
    assert not writer.lines
    writer.receipts.write_singles()
    (line,) = writer.lines
    assert (line['of'], line['numbers'], line['due']) == ('alice-cafe0001-', [1, 3], [0, 3])
    assert line['digest'] == hashlib.sha256(b'x').hexdigest()


def test_bodies_that_differ_have_their_digests_and_sizes():
    writer = Writer()
    books = Books(writer.record, writer.receipts)
    for number in (1, 2):
        books.attempted(message_of((f'a-{number}', b'x' * number, 0, None)))
    writer.receipts.write_singles()
    (line,) = writer.lines
    assert line['sizes'] == [1, 2] and 'bytes' not in line and 'digest' not in line
    assert line['digests'] == [hashlib.sha256(b'x' * size).hexdigest() for size in (1, 2)]


def test_what_is_not_plain_has_a_line_of_its_own_behind_those_before_it():
    writer = Writer()
    for number, more in enumerate(
        [
            {},
            {'redelivered': True},
            {'headers': {'x-attempt': 2}},
            {'headers': {'x-death': []}},
            {'headers': {'x-sent-ms': 1}},
        ]
    ):
        message = message_of((f'a-{number}', b'x', None, None))
        delivery_of(writer, message, **more).record('acked')
    message = message_of((None, b'x', None, None))
    delivery_of(writer, message).record('acked')
    assert [line['id'] for line in writer.lines] == ['a-0', 'a-1', 'a-2', 'a-3', 'a-4', None]
    assert [line['attempt'] for line in writer.lines] == [1, 1, 2, 1, 1, 1]
    assert [line.get('died') for line in writer.lines] == [None, None, None, True, None, None]


def test_a_second_attempt_has_a_line_of_its_own():
    writer = Writer()
    books = Books(writer.record, writer.receipts)
    books.attempted(message_of(('a-1', b'x', 0, None)))
    again = message_of(('a-2', b'x', 0, None), attempt=2)
    books.attempted(again)
    books.confirmed([again])
    assert [(line['event'], line['attempt']) for line in writer.lines] == [
        ('attempted', 1),
        ('attempted', 2),
        ('confirmed', 2),
    ]


def test_runs_and_single_messages_keep_their_order():
    writer = Writer()
    run = {'of': 'deadbeef', 'numbers': [1, 2], 'due': [7, 2]}
    single = message_of(('a-1', b'x', None, None))
    for _ in range(2):
        delivery_of(writer, single).ack()
        writer.receipts.add('acked', [dict(run)], digest='d')
    writer.receipts.write()
    assert [line.get('of', line.get('id')) for line in writer.lines] == ['a-1', 'deadbeef'] * 2


def test_lines_tell_in_which_order_messages_were_published():
    """Also where they are published in different ways: limits of queues count by that."""
    writer = Writer()
    books = Books(writer.record, writer.receipts)
    for number, priority in enumerate([0, 0, 9, None, 9, 9]):
        books.attempted(message_of((f'a-{number}', b'x', priority, None)))
    writer.receipts.write_singles()
    told = [one['id'] for line in writer.lines for one in ledger.singly(line)]
    assert told == [f'a-{number}' for number in range(6)]
    assert [line['priority'] for line in writer.lines] == [0, 9, 0, 9]


def test_what_waits_is_told_before_a_batch_that_is_published_after_it():
    writer = Writer()
    books = Books(writer.record, writer.receipts)
    books.attempted(message_of(('a-1', b'x', 0, None)))
    template = Template('', 'q', b'body', pika.BasicProperties(), numbered.MESSAGE_ID_BYTES)
    ids = numbered.message_ids('deadbeef', range(2, 4), 4e9)
    batch = [BatchMessage(template, one, 0.0) for one in ids]
    for message in batch:
        message.attempt = 1
    books.batch_attempted(batch)
    assert [line.get('id', line.get('numbers')) for line in writer.lines] == ['a-1', [2, 3]]
