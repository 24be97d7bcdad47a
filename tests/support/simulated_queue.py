"""A small queue that does what it was told, or not, and the ledgers of its clients.

It knows x-max-length, x-message-ttl, x-expires and x-delivery-limit, connections that are
lost with their acknowledgements, and consumers that come and go. Each step takes 1 s.
"""

import json
from collections import Counter, deque


class SimulatedQueue:
    """Producer alice, a queue, and consumer carol; `ledger` has the lines of both."""

    def __init__(self, arguments, queue_type='classic'):
        self.arguments = {'x-queue-type': queue_type, **arguments}
        self.queue_type = queue_type
        self.ready = deque()  # (id, published at)
        self.unacked = []
        self.returns = Counter()
        self.ledger = []
        self.clock = 0
        self.published = 0
        self.epoch = 0  # of carol
        self.is_there = False  # carol
        self.unused_since = 0
        self.connect('alice', 1, consumes=False)

    def write(self, by, event, epoch=1, **facts):
        line = {'at': self.clock, 'by': by, 'run': 'cafe', 'epoch': epoch, 'event': event}
        self.ledger.append({**line, **facts})

    def connect(self, by, epoch, consumes):
        facts = {'queue': 'q', 'queue_type': self.queue_type, 'arguments': self.arguments}
        self.write(by, 'connected', epoch, broker='b', consumes=consumes, vhost='/', **facts)

    def step(self, what):
        """Let 1 s pass, and do one of publish, deliver, take, ack, cut, join, leave."""
        self.clock += 1
        self.expire()
        getattr(self, what)()
        self.expire()
        self.shorten()

    def expire(self):
        ttl = self.arguments.get('x-message-ttl')
        while ttl is not None and self.ready and self.clock >= self.ready[0][1] + ttl / 1000:
            self.ready.popleft()
        expires = self.arguments.get('x-expires')
        if expires and not self.is_there and self.clock >= self.unused_since + expires / 1000:
            self.ready.clear()
            self.unused_since = self.clock  # the producer declares it again

    def shorten(self):
        longest = self.arguments.get('x-max-length', self.published)
        while len(self.ready) > longest:
            self.ready.popleft()

    def publish(self):
        self.published += 1
        facts = {'id': f'm{self.published}', 'attempt': 1}
        self.write('alice', 'attempted', digest='d', bytes=1, **facts)
        self.write('alice', 'confirmed', **facts)
        self.ready.append((facts['id'], self.clock))

    def take(self):
        """Deliver a message that carol does not settle yet."""
        if self.is_there and self.ready:
            self.unacked.append(self.ready.popleft())

    def ack(self):
        """Let carol settle the first one that it holds; the ledger has it first."""
        if self.unacked:
            self.record(self.unacked.pop(0)[0])

    def deliver(self):
        self.take()
        self.ack()

    def record(self, id):
        redelivered = self.returns[id] > 0
        facts = {'id': id, 'attempt': 1, 'redelivered': redelivered, 'digest': 'd'}
        self.write('carol', 'acked', self.epoch, **facts)

    def cut(self):
        """Lose the connection of carol, and the acknowledgement that it is sending."""
        if not self.is_there:
            return
        if self.unacked:
            self.record(self.unacked[0][0])
        self.end('disconnected')
        self.join()

    def join(self):
        if not self.is_there:
            self.is_there = True
            self.epoch += 1
            self.connect('carol', self.epoch, consumes=True)

    def leave(self):
        if self.is_there:
            self.end('closed')

    def end(self, how):
        self.write('carol', how, self.epoch)
        self.is_there = False
        self.unused_since = self.clock
        limit = self.arguments.get('x-delivery-limit', 20)
        for id, at in reversed(self.unacked):
            self.returns[id] += 1
            if self.queue_type != 'quorum' or self.returns[id] <= limit:
                self.ready.appendleft((id, at))
        self.unacked.clear()

    def drain(self):
        """Let carol take everything, and go."""
        self.step('join')
        for _ in range(len(self.ready) + len(self.unacked)):
            self.step('deliver')
        self.step('leave')
        self.write('alice', 'closed')

    def lose(self, number):
        """Lose a message that waits, for no reason; return its id."""
        self.ready.rotate(-number)
        id, _ = self.ready.popleft()
        self.ready.rotate(number)
        return id

    def lines(self):
        return ''.join(json.dumps(line) + '\n' for line in self.ledger)
