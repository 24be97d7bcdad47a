"""The fast path reads and writes the same as the ordinary one, and as pika."""

import hashlib
import random
from collections import Counter
from types import SimpleNamespace

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec
from support import wire

from siamese import ledger, numbered
from siamese.messaging import framing
from siamese.messaging.books import Books
from siamese.messaging.fast_path import BatchMessage, Template
from siamese.messaging.outbox import Outbox
from siamese.messaging.receipts import Receipts
from siamese.scenarios import performance
from siamese.scenarios.timing import Latencies

SEEDS = st.integers(0, 2**32)
STREAMS = 40  # of each seed: hypothesis takes longer to choose than these to be read
many = settings(max_examples=250, deadline=None)  # 10,000 streams


# ---- deliveries


def shape_of(rng):
    """Return what a run of deliveries has in common."""
    size = rng.choice([0, 1, 12, 256, wire.BODY_MAX, wire.BODY_MAX + 1, 3 * wire.BODY_MAX])
    properties = pika.BasicProperties(
        content_type=rng.choice([None, 'text/plain']),
        headers=rng.choice([None, {'n': 1}]),
        priority=rng.choice([None, 3]),
        reply_to=rng.choice([None, 'réply']),
        timestamp=rng.choice([None, 1]),
    )
    return SimpleNamespace(
        channel=rng.choice(wire.CHANNELS),
        consumer=rng.choice(wire.CONSUMERS),
        redelivered=rng.random() < 0.2,
        body=rng.randbytes(size),
        properties=properties,
        id_length=rng.choice([None, 0, 1, 36]),
    )


def stream_of(rng):
    """Return the bytes of runs of deliveries, of a few shapes, with heartbeats in between."""
    shapes = [shape_of(rng) for _ in range(rng.randint(1, 3))]
    next_tag = Counter({channel: rng.randrange(1, 300) for channel in wire.CHANNELS})
    frames = []
    for _ in range(rng.randint(1, 6)):
        shape = rng.choice(shapes)
        for _ in range(rng.choice([1, 2, 5, 12])):
            properties = shape.properties
            properties.message_id = id_of(rng, shape.id_length)
            tag = next_tag[shape.channel]
            next_tag[shape.channel] += rng.choice([1, 1, 1, 1, 2])
            frames += wire.delivery(
                shape.channel, tag, shape.body, properties, shape.consumer, shape.redelivered
            )
        if rng.random() < 0.3:
            frames.append(frame.Heartbeat().marshal())
    return b''.join(frames)


def id_of(rng, length):
    if length is None:
        return None
    return ''.join(rng.choices('0123456789abcdef-é', k=length))


def flipped(stream, rng):
    """Return the stream with one bit altered."""
    at = rng.randrange(len(stream))
    altered = bytes([stream[at] ^ (1 << rng.randrange(8))])
    return stream[:at] + altered + stream[at + 1 :]


@many
@given(SEEDS)
def test_any_stream_gives_the_same_deliveries_by_run_one_by_one_and_by_pika(seed):
    rng = random.Random(seed)
    for _ in range(STREAMS):
        stream = stream_of(rng)
        is_whole = rng.random() < 0.5
        if not is_whole:
            stream = flipped(stream, rng)
        pieces = wire.cut(stream, rng)
        by_run = wire.Reader(by_run=True)
        one_by_one = wire.Reader()
        by_pika = wire.Reader(pika.SelectConnection)
        error = by_run.read(pieces)
        assert repr(error) == repr(one_by_one.read(pieces))
        assert by_run.delivered == one_by_one.delivered
        pikas_error = by_pika.read(pieces)
        assert not (is_whole and (error or pikas_error))
        # Text that is not UTF-8 ends pika's connection; arguments that are too long end ours.
        seen = min(len(by_pika.delivered), len(by_run.delivered))
        assert by_run.delivered[:seen] == by_pika.delivered[:seen]
        if not (error or pikas_error):
            assert by_run.delivered == by_pika.delivered


def run_of(count, body=b'body', **properties):
    """Return the frames of a run of deliveries, one bytes for each."""
    return [
        b''.join(
            wire.delivery(1, tag, body, pika.BasicProperties(message_id=f'{tag:04}', **properties))
        )
        for tag in range(1, count + 1)
    ]


def test_all_but_the_first_two_of_a_run_come_by_the_run():
    reader = wire.Reader(by_run=True)
    assert reader.read([b''.join(run_of(100))]) is None
    assert len(reader.delivered) == 100
    assert reader.runs == 98


def test_a_single_altered_byte_leaves_the_run_and_nothing_else_does():
    deliveries = run_of(100)
    deliveries[50] = deliveries[50].replace(b'body', b'bodx')
    reader = wire.Reader(by_run=True)
    assert reader.read([b''.join(deliveries)]) is None
    bodies = [fields[-1] for _, fields in reader.delivered]
    assert bodies == [b'body'] * 50 + [b'bodx'] + [b'body'] * 49
    assert reader.runs == 97


def test_a_run_ends_where_the_delivery_tags_do_not_follow():
    deliveries = run_of(20)
    del deliveries[10]
    reader = wire.Reader(by_run=True)
    assert reader.read([b''.join(deliveries)]) is None
    assert [fields[0] for _, fields in reader.delivered] == [*range(1, 11), *range(12, 21)]


def test_mixed_messages_are_looked_at_less_and_less():
    reader = wire.Reader(by_run=True)
    learner = reader.connection.learner
    learned = []
    learner.learn, learn = lambda shape: (learned.append(shape), learn(shape)), learner.learn
    bodies = [bytes([number % 256, number // 256]) for number in range(1000)]
    for tag, body in enumerate(bodies, 1):
        frames = wire.delivery(1, tag, body, pika.BasicProperties(message_id='m'))
        reader.read([b''.join(frames)])
    assert [fields[-1] for _, fields in reader.delivered] == bodies
    assert 2 < len(learned) < 30


def test_a_cancelled_consumer_gets_no_more_runs():
    reader = wire.Reader(by_run=True)
    deliveries = run_of(20)
    reader.read(deliveries[:10])
    assert len(reader.delivered) == 10
    channel = reader.connection._channels[1]
    channel._cancelled = set(wire.CONSUMERS)
    channel.basic_reject = lambda tag: None
    reader.read(deliveries[10:])
    assert len(reader.delivered) == 10


# ---- confirms


class OneByOne(framing.Connection):
    """Takes confirms the way all other frames take."""

    def _take_acks(self, buffer, at):
        return 0


def answers_of(rng, count):
    """Return basic.ack and basic.nack frames for up to `count` messages, and some for none."""
    frames = []
    tag = 0
    while tag < count:
        tag += rng.choice([0, 1, 1, 1, 2, 5])
        multiple = rng.random() < 0.3
        kind = spec.Basic.Ack
        if rng.random() < 0.1:
            kind = spec.Basic.Nack
        channel = 1
        if rng.random() < 0.05:
            channel = 2
        frames.append(frame.Method(channel, kind(tag, multiple)).marshal())
        if rng.random() < 0.1:
            frames.append(frame.Heartbeat().marshal())
    return b''.join(frames)


NO_BOOKS = Books(None, Receipts(print))


def books_after(kind, count, returned, pieces):
    """Return what an outbox holds once it has read the answers, and the error that ended that."""
    outbox = Outbox(count, True, Counter(), NO_BOOKS)
    messages = messages_of(count)
    outbox.unconfirmed.add(messages)
    for number in returned:
        messages[number].returned = 'NO_ROUTE'
    confirmed = []

    def on_confirm(value):
        if value.channel_number == 1:
            confirmed.extend(outbox.on_confirm(value.method).confirmed)

    reader = wire.Reader(kind)
    for channel in reader.connection._channels.values():
        channel.on_ack = on_confirm
    reader._process = on_confirm
    reader.connection._process_frame = lambda value: is_answer(value) and on_confirm(value)
    error = reader.read(pieces)
    return (
        repr(error),
        [message.message_id for message in confirmed],
        [message.message_id for message in outbox.backlog],
        {tag: message.message_id for tag, message in outbox.unconfirmed.items()},
        outbox.counts,
    )


def is_answer(value):
    return isinstance(getattr(value, 'method', None), (spec.Basic.Ack, spec.Basic.Nack))


def messages_of(count):
    template = Template('', 'queue', b'body', pika.BasicProperties(), 4)
    return [BatchMessage(template, b'%04d' % number, 0.0) for number in range(count)]


@many
@given(SEEDS)
def test_any_stream_of_confirms_gives_the_same_books_by_run_and_one_by_one(seed):
    rng = random.Random(seed)
    for _ in range(STREAMS):
        count = rng.randint(1, 30)
        stream = answers_of(rng, count)
        if rng.random() < 0.3:
            stream = flipped(stream, rng)
        returned = {number for number in range(count) if rng.random() < 0.1}
        pieces = wire.cut(stream, rng)
        by_run = books_after(framing.Connection, count, returned, pieces)
        assert by_run == books_after(OneByOne, count, returned, pieces)


def test_confirms_that_arrive_together_are_one_call():
    reader = wire.Reader()
    calls = []
    reader.connection._channels[1].on_ack = calls.append
    acks = [frame.Method(1, spec.Basic.Ack(tag, tag == 3)).marshal() for tag in (1, 2, 3)]
    reader.read([b''.join(acks)])
    assert [value.method.acks for value in calls] == [[(1, False), (2, False), (3, True)]]
    assert (calls[0].method.delivery_tag, calls[0].method.multiple) == (3, True)


# ---- publishing

SHORT = st.none() | st.text(max_size=8)
PROPERTIES = st.builds(
    pika.BasicProperties,
    content_type=SHORT,
    priority=st.none() | st.integers(0, 9),
    app_id=SHORT,
    expiration=SHORT,
    delivery_mode=st.none() | st.integers(1, 2),
)
IDS = st.lists(st.text('0123-ab', min_size=5, max_size=5), min_size=1, max_size=9)


@given(PROPERTIES, IDS, st.integers(0, 3 * wire.BODY_MAX))
def test_a_batch_is_what_pika_writes_for_each_message(properties, ids, size):
    body = bytes(size)
    template = Template('exchange', 'kéy', body, properties, 5)
    expected = b''
    for message_id in ids:
        properties.message_id = message_id
        publish = spec.Basic.Publish(exchange='exchange', routing_key='kéy', mandatory=True)
        expected += frame.Method(7, publish).marshal()
        expected += frame.Header(7, size, properties).marshal()
        expected += b''.join(
            frame.Body(7, body[at : at + wire.BODY_MAX]).marshal()
            for at in range(0, size, wire.BODY_MAX)
        )
    properties.message_id = None
    assert template.batch([one.encode() for one in ids], 7, wire.BODY_MAX) == expected


@given(PROPERTIES, IDS)
def test_a_template_encodes_properties_as_pika_does(common, ids):
    template = Template('', 'queue', b'body', common, 5)
    for message_id in ids:
        properties = template.properties(message_id.encode())
        assert (properties.message_id, properties.app_id) == (message_id, common.app_id)
        assert properties.headers is None
        expected = pika.BasicProperties(**{**vars(common), 'message_id': message_id})
        assert b''.join(properties.encode()) == b''.join(expected.encode())
        properties.headers = {'x-attempt': 2}
        decoded = pika.BasicProperties().decode(b''.join(properties.encode()))
        assert (decoded.headers, decoded.message_id, decoded.app_id) == (
            {'x-attempt': 2},
            message_id,
            common.app_id,
        )


def test_a_message_of_a_batch_becomes_an_ordinary_one_when_it_is_looked_at():
    (message,) = messages_of(1)
    assert (message.exchange, message.routing_key, message.body) == ('', 'queue', b'body')
    assert message.properties.message_id == '0000'
    message.properties.headers = {'x-attempt': 2}
    assert message.properties.headers == {'x-attempt': 2}
    assert not hasattr(message, 'another')


class Written:
    """Stands where channel and connection do, and keeps what an outbox publishes."""

    emitted_size = 0

    def __init__(self):
        self.batches = []
        self.singles = []

    def publish_batch(self, template, ids):
        self.batches.append(ids)

    def basic_publish(self, exchange, routing_key, body, properties, mandatory):
        self.singles.append((properties.message_id, properties.headers))


def test_a_batch_goes_out_in_one_piece_as_far_as_the_window_allows():
    outbox = Outbox(8, True, Counter(), NO_BOOKS)
    written = Written()
    messages = messages_of(10)
    assert outbox.send_batch(messages, written, written) == 8
    assert written.batches == [[b'%04d' % number for number in range(8)]]
    assert outbox.send_batch(messages[8:], written, written) == 0
    assert list(outbox.unconfirmed) == list(range(1, 9))


def test_what_was_lost_is_republished_one_by_one_with_its_attempt():
    outbox = Outbox(8, True, Counter(), NO_BOOKS)
    written = Written()
    outbox.send_batch(messages_of(2), written, written)
    outbox.lost(pika.exceptions.StreamLostError('cut'))
    assert outbox.send_batch(messages_of(1), written, written) == 0  # what was lost goes first
    outbox.send(written, written)
    assert written.singles == [('0000', {'x-attempt': 2}), ('0001', {'x-attempt': 2})]
    assert outbox.counts['republished'] == 2


# ---- the ledger of a batch

IDS = numbered.message_ids('deadbeef', range(1, 9), 4e9)


class Ledger:
    """Keeps the lines of an outbox, and how many batches were published by then."""

    def __init__(self, written):
        self.lines = []
        self.written = written
        self.receipts = Receipts(self.note)

    def record(self, event, **facts):
        self.receipts.write()
        self.note(event, **facts)

    def note(self, event, **facts):
        facts['published'] = len(self.written.batches)
        self.lines.append({'event': event, **facts})


def numbered_messages(ids=IDS):
    template = Template('', 'queue', b'body', pika.BasicProperties(), len(ids[0]))
    return [BatchMessage(template, one, 0.0) for one in ids]


def outbox_with_ledger(messages):
    """Return an outbox that has sent a batch, and its ledger."""
    written = Written()
    books = Ledger(written)
    outbox = Outbox(8, True, Counter(), Books(books.record, books.receipts))
    assert outbox.send_batch(messages, written, written) == len(messages)
    assert len(written.batches) == 1
    return outbox, books


DIGEST = hashlib.sha256(b'body').hexdigest()
NAMES = {'of': 'deadbeef', 'numbers': [1, 8], 'due': [4_000_000_000_000_000, 8]}


def test_a_batch_is_one_line_that_is_written_before_it_is_published():
    outbox, books = outbox_with_ledger(numbered_messages())
    facts = {'digest': DIGEST, 'bytes': 4, 'priority': 0, 'published': 0}
    assert books.lines == [{'event': 'attempted', **NAMES, **facts}]
    outbox.on_confirm(spec.Basic.Ack(3, multiple=True))
    outbox.on_confirm(spec.Basic.Ack(8, multiple=True))
    books.receipts.write()
    assert books.lines[1:] == [{'event': 'confirmed', **NAMES, 'published': 1}]


def test_what_is_confirmed_is_told_before_what_becomes_of_others():
    outbox, books = outbox_with_ledger(numbered_messages())
    outbox.on_confirm(spec.Basic.Ack(7, multiple=True))
    outbox.lost(pika.exceptions.StreamLostError('cut'))
    assert [line['event'] for line in books.lines] == ['attempted', 'confirmed', 'in_doubt']


def test_ids_that_are_not_ours_have_a_line_each():
    _, books = outbox_with_ledger(messages_of(2))
    assert [line['id'] for line in books.lines] == ['0000', '0001']


def test_one_message_has_the_line_of_one():
    outbox, books = outbox_with_ledger(numbered_messages(IDS[:1]))
    outbox.on_confirm(spec.Basic.Ack(1))
    assert [line['id'] for line in books.lines] == [IDS[0].decode()] * 2


def test_what_is_nacked_in_a_batch_has_a_line_of_its_own():
    outbox, books = outbox_with_ledger(numbered_messages())
    outbox.on_confirm(spec.Basic.Nack(1))
    outbox.on_confirm(spec.Basic.Ack(8, multiple=True))
    books.receipts.write()
    told = [(line['event'], line.get('id', line.get('numbers'))) for line in books.lines]
    assert told[1:] == [('nacked', IDS[0].decode()), ('confirmed', [2, 8])]


STRETCHES = st.lists(  # run, first number, how many follow on it, due
    st.tuples(
        st.sampled_from(['deadbeef', 'cafe0001']),
        st.integers(1, 40),
        st.integers(1, 20),
        st.sampled_from([4e9, 5e9]),
    ),
    min_size=1,
    max_size=5,
)


@given(STRETCHES)
def test_any_run_of_deliveries_is_told_in_the_order_in_which_it_came(stretches):
    names = [
        (run, number, due)
        for run, first, count, due in stretches
        for number in range(first, first + count)
    ]
    ids = [numbered.message_id(*name) for name in names]
    lines = [{'event': 'acked', **line} for line in numbered.batches(ids)]
    told = [one['id'] for line in lines for one in ledger.singly(line)]
    runs = dict.fromkeys(run.encode() for run, *_ in names)
    by_run = [one for run in runs for one in ids if one.startswith(run)]
    assert told == [one.decode() for one in by_run]


@pytest.mark.parametrize(
    ('numbers', 'facts'),
    [
        ([1, 2, 3, 4], {'numbers': [1, 4]}),
        ([1, 3, 2, 4], {'each': [1, 3, 2, 4]}),
        ([1, 2, 2, 4], {'each': [1, 2, 2, 4]}),
        ([1, 3, 5, 7], {'each': [1, 3, 5, 7]}),
        ([*range(1, 21)], {'numbers': [1, 20]}),
        ([*range(1, 18), 19, 18, 20], {'each': [*range(1, 18), 19, 18, 20]}),
        ([*range(1, 19), 18, 20], {'each': [*range(1, 19), 18, 20]}),
        ([*range(1, 40, 2)], {'each': [*range(1, 40, 2)]}),
    ],
)
@pytest.mark.parametrize('run', ['deadbeef', '00000002'])
def test_numbers_that_follow_on_each_other_are_told_by_the_first_and_the_last(run, numbers, facts):
    ids = [numbered.message_id(run, number, 4e9) for number in numbers]
    told = {'of': run, 'due': [4_000_000_000_000_000, len(numbers)], **facts}
    assert [*numbered.batches(ids)] == [told]


def test_only_those_of_one_due_are_named_together():
    dues = [4e9] * 9 + [5e9, 4e9]
    ids = [numbered.message_id('cafe0001', number, due) for number, due in enumerate(dues)]
    assert not numbered.names_of_one_due(b''.join(ids))


def test_ids_that_look_like_ours_only_when_they_are_joined_are_in_no_line():
    ids = numbered.message_ids('cafe0001', range(20), 4e9)
    run, number, due = ids[5].split(b'-')
    ids[5] = b'-'.join([run, b'0' + number, due[:-1]])
    ids[6] = due[-1:] + ids[6].replace(b'-0', b'-', 1)
    assert {*map(len, ids)} == {numbered.MESSAGE_ID_BYTES}
    assert not numbered.batches(ids)


@given(STRETCHES, st.data())
def test_ids_that_somebody_else_made_are_in_no_line(stretches, data):
    ids = [
        numbered.message_id(run, number, due)
        for run, first, count, due in stretches
        for number in range(first, first + count)
    ]
    which = data.draw(st.integers(0, len(ids) - 1))
    altered = bytearray(ids[which])
    altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.sampled_from(b'x-:/ \xb2'))
    told = [
        one['id']
        for line in numbered.batches([*ids[:which], bytes(altered), *ids[which + 1 :]])
        for one in ledger.singly({'event': 'acked', **line})
    ]
    assert bytes(altered) in ids or not told


@pytest.mark.parametrize('count', [4, 20])
@pytest.mark.parametrize('other', [0, 1, 2, 3, 18, 19])
def test_the_due_of_each_message_is_told(count, other):
    dues = [4e9 + (number == other) for number in range(count)]
    ids = [numbered.message_id('cafe0001', number, due) for number, due in enumerate(dues)]
    (line,) = numbered.batches(ids)
    told = [one['id'].encode() for one in ledger.singly({'event': 'acked', **line})]
    assert told == ids


@given(st.lists(st.lists(st.tuples(st.sampled_from(['deadbeef', 'cafe0001']), st.integers(1, 9)))))
def test_what_is_acknowledged_together_is_told_in_the_order_in_which_it_came(runs):
    ids = [[numbered.message_id(of, one, 4e9 + one // 3) for of, one in run] for run in runs if run]
    lines = []
    receipts = Receipts(lambda event, **facts: lines.append({'event': event, **facts}))
    for number, run in enumerate(ids):
        receipts.add('acked', numbered.batches(run), digest=f'digest {number // 3}')
    receipts.write()
    receipts.write()
    told = [(one['digest'], one['id']) for line in lines for one in ledger.singly(line)]
    by_run = [
        (f'digest {number // 3}', one.decode())
        for number, run in enumerate(ids)
        for of in dict.fromkeys(one[:8] for one in run)
        for one in run
        if one.startswith(of)
    ]
    assert told == by_run
    assert all(ledger.is_sound(line) if 'of' in line else line['attempt'] == 1 for line in lines)


def test_what_follows_on_each_other_is_one_line():
    lines = []
    receipts = Receipts(lambda event, **facts: lines.append(facts))
    for each in (IDS[:3], IDS[3:4], IDS[4:]):
        receipts.add('acked', numbered.batches(each), digest=DIGEST)
    receipts.write()
    assert lines == [{**NAMES, 'digest': DIGEST}]


# ---- latencies


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200))
def test_percentiles_are_the_same_whether_counted_by_run_or_one_by_one(latencies):
    one_by_one = Latencies()
    for latency in latencies:
        one_by_one.add(latency)
    by_run = Latencies()
    now = 1_700_000_000_000_000
    dues = [now - latency for latency in latencies]
    ids = [performance.message_id('deadbeef', 1, due / 1e6) for due in dues]
    for due, times in performance.dues_of(ids).items():
        by_run.add(now - due, times)
    # To the microsecond as far as a float of seconds goes.
    assert by_run.percentiles().keys() == one_by_one.percentiles().keys()
    for name, value in one_by_one.percentiles().items():
        assert abs(by_run.percentiles()[name] - value) <= 1 + value / 100
