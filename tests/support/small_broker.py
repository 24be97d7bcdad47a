#!/usr/bin/env python3
"""A small AMQP 0-9-1 broker in memory, over real sockets, that misbehaves as it is told.

It stands for brokers that cannot be had: it carries real messages (queues,
fanout and direct exchanges, confirms, returns, time to live, priorities, dead
letters, limits), and its Manners say what it does otherwise than RabbitMQ.

    with small_broker.running(loses_confirm_every=1000) as broker:
        Running('producer.py', '--url', broker.url)

As a program it prints its URL, and runs until a signal:

    $ tests/support/small_broker.py --never-answers Confirm.Select Exchange.Delete
    amqp://guest:guest@127.0.0.1:40193/%2F
"""

import argparse
import asyncio
import contextlib
import copy
import itertools
import json
import re
import signal
import struct
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from pathlib import Path

import pika
from pika import frame, spec

GREETING = b'AMQP\0\0\x09\x01'
PREFIX = struct.Struct('>BHL')
CONTENT = struct.Struct('>HHQ')
FRAME_MAX = 131072
CHANNEL_MAX = 2047
HEARTBEAT_S = 60  # that it proposes
TICK_S = 0.05  # between looks at what has expired
LOWEST = 0  # the priority of most messages
NO_ROUTE = 312

CAPABILITIES = {
    'publisher_confirms': True,
    'exchange_exchange_bindings': True,
    'basic.nack': True,
    'consumer_cancel_notify': True,
    'connection.blocked': True,
    'authentication_failure_close': True,
}


def rabbitmq_words():
    """Return how RabbitMQ refuses: (code, text) for each class of refusal."""
    return {
        'other queue': (406, "PRECONDITION_FAILED - inequivalent arg for queue '{}' in vhost '/'"),
        'other exchange': (406, "PRECONDITION_FAILED - inequivalent arg for exchange '{}'"),
        'reserved': (403, "ACCESS_REFUSED - queue name '{}' contains reserved prefix 'amq.*'"),
        'no queue': (404, "NOT_FOUND - no queue '{}' in vhost '/'"),
        'no exchange': (404, "NOT_FOUND - no exchange '{}' in vhost '/'"),
        'queue limit': (406, "PRECONDITION_FAILED - queue limit in vhost '/' (1) is reached"),
        'password': (
            403,
            'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN',
        ),
        'vhost': (530, 'NOT_ALLOWED - vhost {} not found'),
    }


def lavinmq_words():
    """Return the same for LavinMQ, as it was recorded."""
    recorded = json.loads((Path(__file__).parent / 'lavinmq-2.9.1' / 'amqp.json').read_text())
    names = {
        'other queue': 'declare it again with x-max-length',
        'other exchange': 'exchange of another type',
        'reserved': 'declare amq.foo',
        'no queue': 'passive declare of what is not there',
        'no exchange': 'publish to an exchange that is not there',
        'queue limit': 'queue limit of the vhost',
    }
    words = {}
    for kind, name in names.items():
        _, code, text = recorded[name]
        words[kind] = (code, re.sub(r"'rec\.\w+'", "'{}'", text))
    for kind, name in (('password', 'wrong password'), ('vhost', 'no such vhost')):
        code, text = re.search(r"\((\d+)\) '(.*)'", recorded[name][1]).groups()
        words[kind] = (int(code), text)
    return words


@dataclass
class Manners:
    """What a broker does. The defaults are RabbitMQ's."""

    never_answers: tuple = ()  # names of methods: 'Confirm.Select', 'Exchange.Delete'
    loses_confirm_every: int = 0  # one confirm of so many does not come; 1: none does
    flags_redeliveries: bool = True
    expires: bool = True  # messages have a time to live
    prioritizes: bool = True
    overtakes: bool = False  # the first message waits while there is another one
    dead_letters: bool = True
    returns_rejected: bool = False  # what is rejected, and not dead-lettered, comes back
    returns_when_full: bool = False  # a full queue: basic.return, and then basic.nack
    nacks_returned: bool = False  # what no queue takes: basic.nack, and then basic.return
    arguments: str = 'taken'  # x-arguments: taken, ignored, or refused
    capabilities: dict = field(default_factory=lambda: dict(CAPABILITIES))
    product: str = 'small broker'
    version: str = '1.0'
    queue_limit: int = 0
    words: dict = field(default_factory=rabbitmq_words)


def lavinmq(**others):
    """Return the manners of LavinMQ."""
    recorded = json.loads((Path(__file__).parent / 'lavinmq-2.9.1' / 'amqp.json').read_text())
    server = recorded['server properties']
    return {
        'product': server['product'],
        'version': server['version'],
        'capabilities': server['capabilities'],
        'returns_when_full': True,
        'words': lavinmq_words(),
        **others,
    }


def qpid(**others):
    """Return the manners of Apache Qpid: no table of capabilities, no x-arguments."""
    return {
        'product': 'qpid',
        'capabilities': {},
        'arguments': 'refused',
        'dead_letters': False,
        'returns_rejected': True,
        'nacks_returned': True,
        'prioritizes': False,
        **others,
    }


class Refused(Exception):
    """Refused(code, text): the broker closes the channel; with 5xx, the connection."""


@dataclass
class Message:
    """A message in a queue."""

    exchange: str
    routing_key: str
    properties: pika.BasicProperties
    body: bytes
    redelivered: bool = False
    returns: int = 0  # how often it came back
    expires_at: float = float('inf')

    def is_expired(self):
        return time.monotonic() >= self.expires_at


class Queue:
    """Messages by priority, and the consumers that wait for them."""

    def __init__(self, broker, name, declared, arguments, owner):
        self.broker = broker
        self.name = name
        self.declared = declared  # what a declaration must repeat
        self.arguments = arguments
        self.owner = owner  # the connection of an exclusive queue
        self.ready = {}  # priority -> deque
        self.consumers = deque()

    def __len__(self):
        return sum(map(len, self.ready.values()))

    def level(self, message):
        highest = self.arguments.get('x-max-priority', 0)
        if not self.broker.manners.prioritizes:
            return LOWEST
        return min(message.properties.priority or LOWEST, highest)

    def is_full(self):
        most = self.arguments.get('x-max-length')
        return most is not None and len(self) >= most

    def rejects(self):
        return self.is_full() and self.arguments.get('x-overflow') == 'reject-publish'

    def put(self, message):
        message = copy.copy(message)
        self._set_expiry(message)
        self.ready.setdefault(self.level(message), deque()).append(message)
        if len(self) > self.arguments.get('x-max-length', len(self)):
            self.broker.dead_letter(self, self.take(), 'maxlen')
        self.pump()

    def _set_expiry(self, message):
        lives_ms = [self.arguments.get('x-message-ttl'), message.properties.expiration]
        lives_ms = [float(ms) for ms in lives_ms if ms is not None]
        if lives_ms and self.broker.manners.expires:
            message.expires_at = time.monotonic() + min(lives_ms) / 1000

    def put_back(self, message, failed=True):
        message.redelivered = True
        message.returns += failed
        if message.returns > self.arguments.get('x-delivery-limit', message.returns):
            self.broker.dead_letter(self, message, 'delivery_limit')
            return
        self.ready.setdefault(self.level(message), deque()).appendleft(message)

    def take(self):
        """Return the first message, None if there is none."""
        self.expire()
        for level in sorted(self.ready, reverse=True):
            if self.ready[level]:
                return self._next_of(self.ready[level])
        return None

    def _next_of(self, messages):
        if self.broker.manners.overtakes and len(messages) > 1:
            messages.rotate(-1)
        return messages.popleft()

    def expire(self):
        for messages in self.ready.values():
            while messages and messages[0].is_expired():
                self.broker.dead_letter(self, messages.popleft(), 'expired')

    def pump(self):
        """Hand messages to the consumers, in turn."""
        waited = 0
        while waited < len(self.consumers) and len(self):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if not consumer.has_room():
                waited += 1
                continue
            waited = 0
            message = self.take()
            if message:
                consumer.deliver(message)


@dataclass(eq=False)
class Consumer:
    """A basic.consume."""

    channel: object
    queue: Queue
    tag: str
    no_ack: bool
    prefetch: int
    unacked: int = 0

    def has_room(self):
        return self.no_ack or not self.prefetch or self.unacked < self.prefetch

    def deliver(self, message):
        tag = self.channel.next_delivery(self.queue, message, self)
        flagged = message.redelivered and self.queue.broker.manners.flags_redeliveries
        method = spec.Basic.Deliver(self.tag, tag, flagged, message.exchange, message.routing_key)
        self.channel.send_content(method, message)


class Channel:
    """A channel of a connection: a verb of AMQP is a method of the same name."""

    def __init__(self, connection, number):
        self.connection = connection
        self.broker = connection.broker
        self.number = number
        self.prefetch = 0
        self.confirming = False
        self.published = 0
        self.last_tag = 0
        self.unacked = {}  # delivery tag -> (queue, message, consumer)
        self.consumers = {}  # tag -> Consumer
        self.publishing = None  # basic.publish, whose content is still to come
        self.pieces = []
        self.last_queue = ''

    # ---- what it sends

    def send(self, method):
        self.connection.send(self.number, method)

    def send_content(self, method, message):
        header = frame.Header(self.number, len(message.body), message.properties)
        most = self.connection.frame_max - 8
        pieces = [frame.Method(self.number, method).marshal(), header.marshal()]
        bodies = [message.body[at : at + most] for at in range(0, len(message.body), most)]
        pieces += [frame.Body(self.number, body).marshal() for body in bodies]
        self.connection.writer.write(b''.join(pieces))

    def next_delivery(self, queue, message, consumer):
        self.last_tag += 1
        if not (consumer and consumer.no_ack):
            self.unacked[self.last_tag] = (queue, message, consumer)
            if consumer:
                consumer.unacked += 1
        return self.last_tag

    # ---- publishing

    def basic_publish(self, method):
        self.publishing = method
        self.pieces = []

    def take_header(self, payload):
        self.body_size = CONTENT.unpack_from(payload)[2]
        self.properties = pika.BasicProperties()
        self.properties.decode(payload[CONTENT.size :])
        self._published_if_whole()

    def take_body(self, payload):
        self.pieces.append(payload)
        self._published_if_whole()

    def _published_if_whole(self):
        body = b''.join(self.pieces)
        if len(body) < self.body_size:
            return
        method = self.publishing
        message = Message(method.exchange, method.routing_key, self.properties, body)
        self.published += 1
        self.broker.counts['published'] += 1
        queues = self.broker.route(method.exchange, method.routing_key)
        is_refused = any(queue.rejects() for queue in queues)
        returns = self.broker.manners.returns_when_full and is_refused
        is_nacked = method.mandatory and not queues and self.broker.manners.nacks_returned
        if is_nacked:
            self._confirm(is_refused=True)
        if method.mandatory and (returns or not queues):
            answer = spec.Basic.Return(NO_ROUTE, 'NO_ROUTE', method.exchange, method.routing_key)
            self.send_content(answer, message)
        for queue in queues:
            if not queue.rejects():
                queue.put(message)
        if not is_nacked:
            self._confirm(is_refused)

    def _confirm(self, is_refused):
        if not self.confirming:
            return
        if is_refused:
            self.broker.counts['nacked'] += 1
            self.send(spec.Basic.Nack(self.published))
        elif self.broker.loses_this_confirm():
            self.broker.counts['confirms lost'] += 1
        else:
            self.send(spec.Basic.Ack(self.published))

    def confirm_select(self, method):
        self.confirming = True
        return spec.Confirm.SelectOk()

    # ---- consuming

    def basic_qos(self, method):
        self.prefetch = method.prefetch_count
        return spec.Basic.QosOk()

    def basic_consume(self, method):
        queue = self.broker.queue(method.queue or self.last_queue)
        tag = method.consumer_tag or f'c{next(self.broker.numbers)}'
        consumer = Consumer(self, queue, tag, method.no_ack, self.prefetch)
        self.send(spec.Basic.ConsumeOk(tag))
        self.consumers[tag] = consumer
        queue.consumers.append(consumer)
        queue.pump()

    def basic_cancel(self, method):
        consumer = self.consumers.pop(method.consumer_tag, None)
        if consumer:
            consumer.queue.consumers.remove(consumer)
        return spec.Basic.CancelOk(method.consumer_tag)

    def basic_get(self, method):
        queue = self.broker.queue(method.queue or self.last_queue)
        message = queue.take()
        if not message:
            return spec.Basic.GetEmpty()
        tag = self.next_delivery(queue, message, None)
        if method.no_ack:
            del self.unacked[tag]
        flagged = message.redelivered and self.broker.manners.flags_redeliveries
        answer = spec.Basic.GetOk(tag, flagged, message.exchange, message.routing_key, len(queue))
        self.send_content(answer, message)
        return None

    def _settle(self, method, become):
        tags = [method.delivery_tag]
        if getattr(method, 'multiple', False):
            tags = [tag for tag in self.unacked if tag <= method.delivery_tag or not tags[0]]
        queues = set()
        for tag in reversed(tags):  # what goes back keeps its order
            if tag not in self.unacked:
                raise Refused(406, f'PRECONDITION_FAILED - unknown delivery tag {tag}')
            queue, message, consumer = self.unacked.pop(tag)
            if consumer:
                consumer.unacked -= 1
            become(queue, message)
            queues.add(queue)
        for queue in queues:
            queue.pump()

    def basic_ack(self, method):
        self._settle(method, lambda queue, message: None)

    def basic_nack(self, method):
        become = self.broker.rejected
        if method.requeue:
            become = Queue.put_back
        self._settle(method, become)

    basic_reject = basic_nack

    # ---- declaring

    def queue_declare(self, method):
        if not method.queue:
            method.queue = f'amq.gen-{next(self.broker.numbers)}'
        elif method.queue.startswith('amq.') and not method.passive:
            self.broker.refuse('reserved', method.queue)
        queue = self.broker.declare_queue(method, self.connection)
        self.last_queue = queue.name
        return spec.Queue.DeclareOk(queue.name, len(queue), len(queue.consumers))

    def queue_bind(self, method):
        bindings = self.broker.exchange(method.exchange)[1]
        bindings.add((self.broker.queue(method.queue).name, method.routing_key))
        return spec.Queue.BindOk()

    def queue_unbind(self, method):
        bindings = self.broker.exchange(method.exchange)[1]
        bindings.discard((method.queue, method.routing_key))
        return spec.Queue.UnbindOk()

    def queue_purge(self, method):
        queue = self.broker.queue(method.queue)
        count = len(queue)
        queue.ready.clear()
        return spec.Queue.PurgeOk(count)

    def queue_delete(self, method):
        queue = self.broker.queues.get(method.queue)
        if queue is None:
            return spec.Queue.DeleteOk(0)
        return spec.Queue.DeleteOk(self.broker.delete_queue(queue))

    def exchange_declare(self, method):
        known = self.broker.exchanges.get(method.exchange)
        if method.passive or known:
            kind, _ = self.broker.exchange(method.exchange)
            if not method.passive and kind != method.type:
                self.broker.refuse('other exchange', method.exchange)
        else:
            self.broker.exchanges[method.exchange] = (method.type, set())
        return spec.Exchange.DeclareOk()

    def exchange_delete(self, method):
        self.broker.exchanges.pop(method.exchange, None)
        return spec.Exchange.DeleteOk()

    # ---- its end

    def channel_open(self, method):
        return spec.Channel.OpenOk()

    def channel_close(self, method):
        self.end()
        return spec.Channel.CloseOk()

    def channel_close_ok(self, method):
        """It was closed by the broker."""

    def end(self):
        """Give back what is not acknowledged."""
        self.connection.channels.pop(self.number, None)
        for consumer in self.consumers.values():
            with contextlib.suppress(ValueError):  # its queue was deleted
                consumer.queue.consumers.remove(consumer)
        queues = set()
        for queue, message, _ in reversed(list(self.unacked.values())):
            queue.put_back(message)
            queues.add(queue)
        self.unacked.clear()
        for queue in queues:
            queue.pump()


class Connection:
    """One client."""

    def __init__(self, broker, reader, writer):
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.channels = {}
        self.frame_max = FRAME_MAX
        self.is_closing = False

    def send(self, number, method):
        self.writer.write(frame.Method(number, method).marshal())

    async def serve(self):
        if await self.reader.readexactly(len(GREETING)) != GREETING:
            self.writer.write(GREETING)
            return
        self.send(0, self.broker.start())
        while True:
            kind, number, size = PREFIX.unpack(await self.reader.readexactly(PREFIX.size))
            payload = await self.reader.readexactly(size + 1)
            if payload[-1] != spec.FRAME_END:
                return
            if not self.take(kind, number, payload[:-1]):
                return
            await self.writer.drain()

    def take(self, kind, number, payload):
        """Process a frame; return whether the connection goes on."""
        if kind == spec.FRAME_METHOD:
            piece = PREFIX.pack(kind, number, len(payload)) + payload + bytes([spec.FRAME_END])
            method = frame.decode_frame(piece)[1].method
            self.broker.counts[method.NAME] += 1
            return self.take_method(number, method)
        channel = self.channels.get(number)
        if channel and channel.publishing:
            takes = {spec.FRAME_HEADER: channel.take_header, spec.FRAME_BODY: channel.take_body}
            self.guarded(number, takes[kind], payload)
        return True

    def take_method(self, number, method):
        """Answer a method, unless it is one that is never answered."""
        if isinstance(method, (spec.Connection.Close, spec.Connection.CloseOk)):
            self.send(0, spec.Connection.CloseOk())
            return False
        if method.NAME in self.broker.manners.never_answers or self.is_closing:
            return True
        if number == 0:
            self.guarded(0, self.take_of_connection, method)
            return True
        channel = self.channels.get(number)
        if isinstance(method, spec.Channel.Open):
            channel = self.channels[number] = Channel(self, number)
        if channel:  # else it was closed, and the client does not know yet
            verb = re.sub('(?<=[a-z])([A-Z])', r'_\1', method.NAME.replace('.', '_')).lower()
            answer = self.guarded(number, getattr(channel, verb), method)
            if answer and not getattr(method, 'nowait', False):
                self.send(number, answer)
        return True

    def guarded(self, number, take, what):
        """Call `take(what)`; close channel or connection if the broker refuses that."""
        try:
            return take(what)
        except Refused as refused:
            code, text = refused.args
            if code >= 500 or not number:
                self.is_closing = True
                self.send(0, spec.Connection.Close(code, text, 0, 0))
            else:
                self.channels[number].end()
                self.send(number, spec.Channel.Close(code, text, 0, 0))
            return None

    def take_of_connection(self, method):
        if isinstance(method, spec.Connection.StartOk):
            if not method.response.endswith(b'\0' + self.broker.password.encode()):
                self.broker.refuse('password')
            self.send(0, spec.Connection.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_S))
        elif isinstance(method, spec.Connection.TuneOk):
            self.frame_max = method.frame_max or FRAME_MAX
        elif isinstance(method, spec.Connection.Open):
            if method.virtual_host != '/':
                self.broker.refuse('vhost', method.virtual_host)
            self.send(0, spec.Connection.OpenOk())

    def end(self):
        for channel in list(self.channels.values()):
            channel.end()
        for queue in list(self.broker.queues.values()):
            if queue.owner is self:
                self.broker.delete_queue(queue)


class SmallBroker:
    """The broker: its exchanges, its queues, and what it counted.

    counts: of each method that came ('Basic.Reject'), of what was published, of the
    confirms that were lost ('confirms lost').
    """

    password = 'guest'

    def __init__(self, manners):
        self.manners = manners
        self.queues = {}
        self.exchanges = {}  # name -> (type, {(queue, routing key)})
        self.connections = set()
        self.counts = Counter()
        self.confirms = 0
        self.numbers = itertools.count(1)
        self.port = 0

    @property
    def url(self):
        return f'amqp://guest:{self.password}@127.0.0.1:{self.port}/%2F'

    def start(self):
        manners = self.manners
        properties = {'product': manners.product, 'version': manners.version}
        if manners.capabilities:
            properties['capabilities'] = manners.capabilities
        return spec.Connection.Start(version_minor=9, server_properties=properties)

    def refuse(self, kind, name=''):
        code, text = self.manners.words[kind]
        raise Refused(code, text.format(name))

    def loses_this_confirm(self):
        self.confirms += 1
        every = self.manners.loses_confirm_every
        return bool(every) and self.confirms % every == 0

    # ---- queues and exchanges

    def queue(self, name):
        if name not in self.queues:
            self.refuse('no queue', name)
        return self.queues[name]

    def exchange(self, name):
        if name.startswith('amq.'):
            self.exchanges.setdefault(name, (name[len('amq.') :], set()))
        if name not in self.exchanges:
            self.refuse('no exchange', name)
        return self.exchanges[name]

    def declare_queue(self, method, connection):
        if method.passive:
            return self.queue(method.queue)
        arguments = self.accepted(method.arguments or {})
        declared = (method.durable, method.exclusive, method.auto_delete, arguments)
        if self.manners.arguments == 'taken':
            declared = (*declared[:3], {'x-queue-type': 'classic', **arguments})
        known = self.queues.get(method.queue)
        if known is not None:
            if known.declared != declared:
                self.refuse('other queue', method.queue)
            return known
        if self.manners.queue_limit and len(self.queues) >= self.manners.queue_limit:
            self.refuse('queue limit', method.queue)
        owner = connection if method.exclusive else None
        queue = Queue(self, method.queue, declared, arguments, owner)
        self.queues[method.queue] = queue
        return queue

    def accepted(self, arguments):
        """Return the x-arguments that count."""
        if self.manners.arguments == 'taken':
            return arguments
        if self.manners.arguments == 'refused' and arguments:
            names = ', '.join(arguments)
            raise Refused(542, f'Unsupported queue declare argument(s) : {names}')
        return {}

    def delete_queue(self, queue):
        """Delete a queue; return how many messages it had."""
        del self.queues[queue.name]
        for _, bindings in self.exchanges.values():
            for binding in [each for each in bindings if each[0] == queue.name]:
                bindings.discard(binding)
        for consumer in queue.consumers:
            consumer.channel.consumers.pop(consumer.tag, None)
            if self.manners.capabilities.get('consumer_cancel_notify'):
                consumer.channel.send(spec.Basic.Cancel(consumer.tag, nowait=True))
        queue.consumers.clear()
        return len(queue)

    # ---- messages

    def route(self, exchange, routing_key):
        """Return the queues that take a message."""
        if not exchange:
            return [self.queues[routing_key]] if routing_key in self.queues else []
        kind, bindings = self.exchange(exchange)
        names = {queue for queue, key in bindings if kind == 'fanout' or key == routing_key}
        return [self.queues[name] for name in sorted(names)]

    def rejected(self, queue, message):
        """A consumer rejected a message for good."""
        if self.dead_letter(queue, message, 'rejected') or not self.manners.returns_rejected:
            return
        queue.put_back(message)

    def dead_letter(self, queue, message, reason):
        """Publish a message to the dead-letter exchange of its queue; return whether it has one."""
        exchange = queue.arguments.get('x-dead-letter-exchange')
        if not self.manners.dead_letters or exchange not in self.exchanges:
            return False
        letter = copy.copy(message)
        letter.properties = with_death(queue, message, reason)
        letter.redelivered = False
        letter.expires_at = float('inf')
        letter.exchange = exchange
        for target in self.route(exchange, message.routing_key):
            target.put(letter)
        return True

    # ---- serving

    async def serve(self, port, on_ready):
        server = await asyncio.start_server(self.on_connection, '127.0.0.1', port)
        self.port = server.sockets[0].getsockname()[1]
        self.stopping = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        ticking = asyncio.ensure_future(self.tick())
        on_ready()
        await self.stopping.wait()
        ticking.cancel()
        server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        await asyncio.sleep(0)

    async def tick(self):
        """Let messages expire, and send heartbeats."""
        for number in itertools.count():
            await asyncio.sleep(TICK_S)
            for queue in list(self.queues.values()):
                queue.expire()
            if number % round(1 / TICK_S) == 0:
                for connection in self.connections:
                    connection.writer.write(frame.Heartbeat().marshal())

    async def on_connection(self, reader, writer):
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await connection.serve()
        finally:
            self.connections.discard(connection)
            connection.end()
            writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopping.set)


def with_death(queue, message, reason):
    """Return the properties of a message that becomes a dead letter."""
    properties = copy.copy(message.properties)
    headers = dict(properties.headers or {})
    death = {
        'count': 1,
        'reason': reason,
        'queue': queue.name,
        'time': int(time.time()),
        'exchange': message.exchange,
        'routing-keys': [message.routing_key],
    }
    if properties.expiration:
        death['original-expiration'] = properties.expiration
        properties.expiration = None
    headers['x-death'] = [death, *headers.get('x-death', [])]
    headers.setdefault('x-first-death-reason', reason)
    headers.setdefault('x-first-death-queue', queue.name)
    headers.setdefault('x-first-death-exchange', message.exchange)
    properties.headers = headers
    return properties


@contextlib.contextmanager
def running(port=0, **manners):
    """Yield a SmallBroker, which serves in a thread for as long as the with-block runs."""
    broker = SmallBroker(Manners(**manners))
    ready = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(broker.serve(port, ready.set)), daemon=True
    )
    thread.start()
    ready.wait(10)
    yield broker
    broker.stop()
    thread.join(10)


def parse_args():
    """Return the flags: one for each of the manners; --as gives those of a product."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--port', type=int, default=0)
    parser.add_argument('--as', dest='product_like', choices=['lavinmq', 'qpid'])
    parser.add_argument('--never-answers', nargs='+', default=argparse.SUPPRESS, metavar='METHOD')
    for manner in fields(Manners):
        flag = f'--{manner.name.replace("_", "-")}'
        if manner.type in (int, 'int'):
            parser.add_argument(flag, type=int, default=argparse.SUPPRESS)
        elif manner.type in (str, 'str'):
            parser.add_argument(flag, default=argparse.SUPPRESS)
        elif manner.type in (bool, 'bool'):
            name = flag.replace('--', '--no-')
            parser.add_argument(
                flag, dest=manner.name, action='store_true', default=argparse.SUPPRESS
            )
            parser.add_argument(
                name, dest=manner.name, action='store_false', default=argparse.SUPPRESS
            )
    return parser.parse_args()


def main():
    manners = vars(parse_args())
    port = manners.pop('port')
    like = {'lavinmq': lavinmq, 'qpid': qpid}.get(manners.pop('product_like'), dict)
    broker = SmallBroker(Manners(**like(**manners)))

    def on_ready():
        for number in (signal.SIGINT, signal.SIGTERM):
            broker.loop.add_signal_handler(number, broker.stopping.set)
        print(broker.url, flush=True)

    asyncio.run(broker.serve(port, on_ready))


if __name__ == '__main__':
    main()
