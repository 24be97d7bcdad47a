"""A fanout exchange, queues, and their clients on hosts whose clocks disagree, in memory.

Messages live for TTL_S. A consumer takes what waits at once, and what comes after a
moment. Each step takes 1 s. `ledgers` has the lines of each process, by its own clock.
"""

from dataclasses import dataclass, field

TTL_S = 3
LATENCY_S = 0.01  # until a message has come
PRODUCER = 'alice'


@dataclass
class Host:
    """Its clock is ahead of the truth, and so is what it takes for s since it was started."""

    name: str
    ahead: float
    uptime: float


@dataclass
class Queue:
    name: str
    host: Host
    waiting: list[tuple[str, float]] = field(default_factory=list)  # id, until when
    consumer: str = ''
    number: int = 0  # of its consumers so far


class Broadcast:
    """A broker, producer alice, and a queue on each of some hosts."""

    def __init__(self, hosts, producer_host):
        self.hosts = {PRODUCER: producer_host}
        self.now = 0.0
        self.ledgers = {}
        self.queues = []
        self.hosts_of_queues = hosts
        self.published = 0
        self.lose = None  # (queue, id): what the broker is to lose
        self.had_time = set()  # of what a consumer was there for all of its life
        self.since = {}  # queue: since when its consumer is there
        self.connect(PRODUCER, exchange='news')

    def write(self, by, event, after=0.0, **facts):
        at = self.now + after + self.hosts[by].ahead
        line = {'at': at, 'by': by, 'run': 'cafe', 'epoch': 1, 'event': event, **facts}
        self.ledgers.setdefault(by, []).append(line)

    def connect(self, by, **facts):
        host = self.hosts[by]
        facts.update(clock=host.name, uptime=self.now + host.uptime)
        self.write(by, 'connected', broker='b', **facts)

    def step(self, what, which):
        """Let 1 s pass, and do one of publish, join, leave, kill, wait."""
        self.now += 1
        if what == 'publish':
            self.publish()
        elif what != 'wait':
            getattr(self, what)(which % len(self.hosts_of_queues))

    def publish(self):
        self.published += 1
        facts = {'id': f'm{self.published}', 'attempt': 1}
        more = {'exchange': 'news', 'expiration': str(TTL_S * 1000), 'priority': 0}
        self.write(PRODUCER, 'attempted', digest='d', bytes=1, **facts, **more)
        self.write(PRODUCER, 'confirmed', after=2 * LATENCY_S, **facts)
        for queue in self.queues:
            if (queue.name, facts['id']) != self.lose:
                queue.waiting.append((facts['id'], self.now + TTL_S))
                self.deliver(queue)

    def deliver(self, queue):
        queue.waiting = [one for one in queue.waiting if one[1] > self.now]
        if not queue.consumer:
            return
        for id, _ in queue.waiting:
            facts = {'id': id, 'attempt': 1, 'redelivered': False, 'digest': 'd'}
            self.write(queue.consumer, 'acked', after=LATENCY_S, **facts)
        queue.waiting = []

    def join(self, which):
        """Let a consumer come, if none is there; its queue outlives it."""
        name = 'abc'[which]
        queue = next((one for one in self.queues if one.name == name), None)
        if queue is None:
            queue = Queue(name, self.hosts_of_queues[which])
            self.queues.append(queue)
        if queue.consumer:
            return
        queue.number += 1
        queue.consumer = f'{name}-{queue.number}'
        self.hosts[queue.consumer] = queue.host
        self.connect(queue.consumer, exchange='news', queue=name, consumes=True)
        self.deliver(queue)

    def leave(self, which, event='closed'):
        for queue in self.queues:
            if queue.name == 'abc'[which] and queue.consumer:
                if event:
                    self.write(queue.consumer, event)
                queue.consumer = ''

    def kill(self, which):
        self.leave(which, event='')

    def end(self):
        self.now += TTL_S + 1
        self.write(PRODUCER, 'closed')
        for which in range(len(self.hosts_of_queues)):
            self.leave(which)
