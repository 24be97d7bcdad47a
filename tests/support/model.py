"""A broker with one queue and its clients, in memory, and the ledgers that they write.

Written from AMQP 0-9-1 and from what RabbitMQ promises, and not from audit.py. The broker
is honest: a message is on its way to it, in the queue, held by a consumer, or gone; what
was held when a connection ends is back at its old place, and flagged; of a queue with
priorities the highest come first. Connections are cut
and clients are killed at any step, with what is on its way. A queue of type quorum may also
lose an acknowledgement between its nodes. Each process runs on one of some hosts, and
tells the time by its clock: they are far apart, and are set while processes run, which the
time since the host was started does not show. Only a test that calls one of the methods that
begin with spoil_ has a broker that is not honest.
"""

import heapq
from dataclasses import dataclass, field, replace

from siamese import numbered

DUE = 1_795_457_556
HOURS_APART_S = 7200


@dataclass
class Message:
    """One attempt of a message, as it lies in the queue."""

    id: str
    attempt: int
    place: int = 0  # in the queue
    digest: str = 'd'
    priority: int = 0
    was_delivered: bool = False


@dataclass
class Client:
    """A producer or consumer: one process, and its connection."""

    name: str
    run: str
    host: int = 0
    began_ahead: float = 0  # of the truth was its clock, when it began
    epoch: int = 1
    number: int = 0  # of the last message that it published
    wire: list[Message] = field(default_factory=list)  # on the way to the broker
    unconfirmed: list[Message] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)  # confirms on their way
    held: list[Message] = field(default_factory=list)  # delivered, not looked at
    kept: list[Message] = field(default_factory=list)  # looked at, and left unacked
    acks: list[Message] = field(default_factory=list)  # on their way to the broker


class Model:
    """The broker, and the producer and consumers of now. `ledger` has the lines of all."""

    def __init__(self, queue_type='classic', many=True, priorities=1, hosts=1):
        self.queue_type = queue_type
        self.many = many  # whether ledgers have lines of many messages
        self.priorities = priorities  # how many the queue knows
        self.hosts = hosts
        self.clocks = [HOURS_APART_S * host for host in range(hosts)]  # ahead of the truth
        self.ledgers = {}  # by process
        self.now = 0
        self.queue = []
        self.places = 0
        self.clients = 0
        self.producer = self.begin('producer')
        self.consumers = [self.begin('consumer'), self.begin('consumer')]

    # ---- ledgers

    def write(self, client, event, **facts):
        self.now += 1
        line = {'at': self.now + client.began_ahead, 'by': client.name, 'run': client.run}
        line.update(epoch=client.epoch, event=event, **facts)
        self.ledgers.setdefault(client.name, []).append(line)

    @property
    def ledger(self):
        """The lines of all, read side by side by their times."""
        return [*heapq.merge(*self.ledgers.values(), key=lambda line: line['at'])]

    def set_clock(self, count):
        """Set the clock of a host; who runs there goes on by the time it began with."""
        self.clocks[count % self.hosts] -= HOURS_APART_S

    def write_each(self, client, event, messages, **facts):
        """Write a line for messages, or one for each."""
        if self.many and len(messages) > 1 and all(one.attempt == 1 for one in messages):
            for names in numbered.batches([one.id.encode() for one in messages]):
                self.write(client, event, **names, **facts)
            return
        for one in messages:
            self.write(client, event, id=one.id, attempt=one.attempt, **facts)

    def write_delivery(self, client, event, messages):
        for one in messages:
            more = {'redelivered': one.was_delivered, 'digest': one.digest}
            self.write(client, event, id=one.id, attempt=one.attempt, **more)

    def begin(self, role):
        self.clients += 1
        host = self.clients % self.hosts
        client = Client(f'{role}-{self.clients}', f'{self.clients:08x}', host)
        client.began_ahead = self.clocks[host]
        self.connect(client)
        return client

    def connect(self, client):
        facts = {'broker': 'b', 'queue': 'q', 'queue_type': self.queue_type, 'arguments': {}}
        facts.update(clock=f'host-{client.host}', uptime=self.now + 1 + 1000 * client.host)
        self.write(client, 'connected', **facts)

    # ---- producers

    def publish(self, count):
        client = self.producer
        first = client.number + 1
        client.number += count
        ids = numbered.message_ids(client.run, range(first, client.number + 1), DUE)
        priority = count % self.priorities
        messages = [Message(one.decode(), 1, priority=priority) for one in ids]
        facts = {'digest': 'd', 'bytes': 1, 'priority': priority}
        self.write_each(client, 'attempted', messages, **facts)
        client.wire += messages
        client.unconfirmed += messages

    def republish(self, client, messages):
        again = [replace(one, attempt=one.attempt + 1) for one in messages]
        for one in again:
            facts = {'digest': 'd', 'bytes': 1, 'priority': one.priority}
            self.write_each(client, 'attempted', [one], **facts)
        client.wire += again
        client.unconfirmed += again

    def arrive(self, count):
        """Let messages reach the queue, and confirms begin their way."""
        client = self.producer
        for message in client.wire[:count]:
            self.places += 1
            self.queue.append(replace(message, place=self.places))
            client.answers.append(message)
        self.put_back([])
        del client.wire[:count]

    def confirm(self, count):
        client = self.producer
        answered = client.answers[:count]
        del client.answers[:count]
        self.write_each(client, 'confirmed', answered)
        for message in answered:
            client.unconfirmed.remove(message)

    def nack(self, _count):
        client = self.producer
        if client.wire:
            message = client.wire.pop(0)
            client.unconfirmed.remove(message)
            self.write(client, 'nacked', id=message.id, attempt=message.attempt)
            self.republish(client, [message])

    def cut_producer(self, count):
        """Cut its connection while messages and confirms are on their way."""
        client = self.producer
        self.arrive(count)
        in_doubt = client.unconfirmed
        client.wire, client.answers, client.unconfirmed = [], [], []
        for one in in_doubt:
            self.write(client, 'in_doubt', id=one.id, attempt=one.attempt)
        self.write(client, 'disconnected')
        client.epoch += 1
        self.connect(client)
        self.republish(client, in_doubt)

    def kill_producer(self, count):
        self.arrive(count)
        self.producer = self.begin('producer')

    def close_producer(self):
        """Let everything arrive and be confirmed, and close in good order."""
        self.arrive(len(self.producer.wire))
        self.confirm(len(self.producer.answers))
        self.write(self.producer, 'closed')
        self.producer = self.begin('producer')

    # ---- consumers

    def deliver(self, count, who=0):
        client = self.consumers[who]
        client.held += self.queue[:count]
        del self.queue[:count]

    def deliver_other(self, count):
        self.deliver(count, who=1)

    def ack(self, count, who=0):
        """Let a consumer look at deliveries: the ledger has it before the acknowledgement."""
        client = self.consumers[who]
        looked_at = client.held[:count]
        del client.held[:count]
        fresh = [one for one in looked_at if not one.was_delivered and one.attempt == 1]
        alike = len({one.digest for one in fresh}) == 1
        if self.many and len(fresh) > 1 and fresh == looked_at and alike:
            self.write_each(client, 'acked', fresh, digest=fresh[0].digest)
        else:
            self.write_delivery(client, 'acked', looked_at)
        client.acks += looked_at

    def ack_other(self, count):
        self.ack(count, who=1)

    def reject(self, _count, who=0):
        client = self.consumers[who]
        if client.held:
            message = client.held.pop(0)
            self.write_delivery(client, 'rejected', [message])
            self.put_back([message])

    def leave_unacked(self, _count, who=0):
        client = self.consumers[who]
        if client.held:
            client.kept.append(client.held.pop(0))
            self.write_delivery(client, 'unacked', client.kept[-1:])

    def take_acks(self, count, who=0):
        """Let acknowledgements reach the broker."""
        del self.consumers[who].acks[:count]

    def lose_ack(self, _count, who=0):
        """Lose an acknowledgement between nodes, as quorum queues may."""
        client = self.consumers[who]
        if self.queue_type == 'quorum' and client.acks:
            self.put_back([client.acks.pop(0)])

    def put_back(self, messages):
        self.queue += [replace(one, was_delivered=True) for one in messages]
        self.queue.sort(key=lambda one: (-one.priority, one.place))

    def end_of(self, client, arrived):
        """The broker has `arrived` of the acknowledgements; all else is back."""
        self.put_back([*client.acks[arrived:], *client.held, *client.kept])
        client.acks, client.held, client.kept = [], [], []

    def cut_consumer(self, count, who=0):
        client = self.consumers[who]
        self.end_of(client, count)
        self.write(client, 'disconnected')
        client.epoch += 1
        self.connect(client)

    def kill_consumer(self, count, who=0):
        self.end_of(self.consumers[who], count)
        self.consumers[who] = self.begin('consumer')

    def close_consumer(self, _count=0, who=0):
        client = self.consumers[who]
        self.end_of(client, len(client.acks))
        self.write(client, 'closed')
        self.consumers[who] = self.begin('consumer')

    # ---- the end

    def settle(self):
        """Let everything come through, and all clients close in good order."""
        self.close_producer()
        self.close_consumer(who=1)
        self.close_consumer()
        while self.queue:
            self.deliver(7)
            self.ack(7)
        self.close_consumer()

    def fresh(self, count):
        """Publish messages to which nothing has happened; they wait in the queue."""
        self.settle()
        self.publish(count)
        self.close_producer()
        return [one.id for one in self.queue]

    # ---- a broker that is not honest: each returns (kind, what the audit should name)

    def spoil_lost(self):
        ids = self.fresh(5)
        del self.queue[2]
        return 'lost', ids[2]

    def spoil_dead_letter(self):
        """Dead-letter a message that no consumer has rejected."""
        ids = self.fresh(5)
        letter = self.queue.pop(2)
        line = {'at': 0, 'by': '', 'run': '', 'epoch': 0, 'event': 'dead_lettered', 'queue': 'q'}
        line.update(id=letter.id, digest=letter.digest, reason='rejected')
        self.ledgers['dead letters'] = [line]
        return 'lost', ids[2]

    def spoil_corrupt(self):
        ids = self.fresh(5)
        self.queue[2].digest = 'x'
        return 'corrupt', ids[2]

    def spoil_unexpected(self):
        self.fresh(5)
        stranger = numbered.name_of('ffffffff', 1, DUE)
        self.queue.append(replace(self.queue[2], id=stranger))
        return 'unexpected', stranger

    def spoil_twice(self):
        ids = self.fresh(5)
        self.queue.append(replace(self.queue[2]))
        return 'duplicated', ids[2]

    def spoil_twice_after_a_good_end(self):
        ids = self.fresh(5)
        again = replace(self.queue[2], was_delivered=True)
        self.deliver(5)
        self.ack(5)
        self.close_consumer()
        self.queue.append(again)
        self.deliver(1)
        self.ack(1)
        self.kill_consumer(1)
        return 'duplicated', ids[2]

    def spoil_flag(self):
        ids = self.fresh(5)
        self.deliver(1)
        self.reject(1)
        self.queue[0].was_delivered = False
        return 'duplicated', ids[0]

    def spoil_order(self):
        ids = self.fresh(5)
        first, second = self.queue[1:3]
        first.place, second.place = second.place, first.place
        self.put_back([])
        return 'out_of_order', f'{ids[1]} (after {ids[2]})'


STEPS = (
    'publish',
    'publish',
    'arrive',
    'arrive',
    'confirm',
    'deliver',
    'deliver',
    'deliver_other',
    'ack',
    'ack',
    'ack_other',
    'take_acks',
    'reject',
    'leave_unacked',
    'nack',
    'lose_ack',
    'cut_producer',
    'kill_producer',
    'cut_consumer',
    'kill_consumer',
    'close_consumer',
    'set_clock',
)
SPOILED = (
    'lost',
    'dead_letter',
    'corrupt',
    'unexpected',
    'twice',
    'twice_after_a_good_end',
    'flag',
    'order',
)
# An honest quorum queue may do these as well: there they are remarks.
NOT_OF_QUORUM = ('twice_after_a_good_end', 'order')
