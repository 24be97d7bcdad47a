"""Do messages come in order? What compare.py tries, for each type of queue.

AMQP 0-9-1 (section 4.7) promises it for what is published over one channel to
one queue, and delivered over one channel. Here nothing is requeued, and no
connection lost. So there is no excuse, but for a delivery that is flagged as
redelivered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from siamese import ledger, numbered
from siamese.ledger import Event
from siamese.testbed import offers
from siamese.testbed.candidate import IDLE_S, Candidate, Failed

SHARING = 3  # consumers of one queue
PREFETCH = 7  # so that they take turns
TRIED = {  # type of the queue: how many consumers
    'classic': (1, SHARING),
    'quorum': (1, SHARING),
    'stream': (1,),  # each one gets all
}


def tried(broker: Candidate) -> str:
    """Try all that the broker has; return what that is. Raises Failed."""
    count = broker.message_budget(500, 0.01)
    types = [each for each in TRIED if is_offered(broker, each)]
    for queue_type in types:
        for consumers in TRIED[queue_type]:
            trial = Trial(broker, queue_type, consumers, count)
            events = trial.deliver()
            check(str(trial), events, count)
    return f'{count} each; {", ".join(types)}'


def is_offered(broker: Candidate, queue_type: str) -> bool:
    """Return whether a broker has queues of this type."""
    if queue_type == 'classic':
        return True
    name = f'probe.{queue_type}'
    arguments = {'x-queue-type': queue_type}
    timeout_s = offers.ANSWER_TIMEOUT_S
    with broker.channel(timeout_s=timeout_s) as channel:
        try:
            offers.declare(broker, channel, name, arguments)
        except offers.NotOffered:
            return False
    return True


class Trial:
    """Messages of one producer that come to one or more consumers."""

    def __init__(
        self,
        broker: Candidate,
        queue_type: str,
        consumers: int,
        count: int,
    ) -> None:
        self.broker = broker
        self.queue_type = queue_type
        self.consumers = consumers
        self.name = f'order.{queue_type}.{consumers}'
        self.queue = broker.queue(self.name)
        self.path = f'{broker.folder}/{self.name}'
        self.count = count
        self.flags = (
            *('--queue', self.queue),
            *('--queue-type', queue_type),
            *('--ledger', self.path),
        )

    def __str__(self) -> str:
        return f'{self.queue_type} queue, consumers: {self.consumers}'

    def deliver(self) -> Iterable[Event]:
        """Let all messages come; return the ledger."""
        if self.consumers == 1:
            self.publish()
            self.take()
        else:
            self.share()
        return ledger.read([self.path])

    def publish(self) -> None:
        self.broker.run(
            'perf_producer.py',
            '--persistent',
            *('--count', self.count),
            *self.flags,
        )

    def take(self) -> None:
        self.broker.run(
            'perf_consumer.py',
            *('--count', self.count),
            *('--idle', IDLE_S),
            *self.flags,
        )

    def share(self) -> None:
        name = 'perf_consumer.py'
        flags = ('--prefetch', PREFETCH, *self.flags)
        numbers = range(self.consumers)
        sharing = [self.broker.ready(name, *flags) for _ in numbers]
        self.publish()
        self.broker.drain(self.queue, sharing, name, *self.flags)


def check(what: str, events: Iterable[Event], count: int) -> None:
    """Raise Failed unless `count` messages came, those of each channel in order."""
    came: set[int] = set()
    latest: dict[object, int] = defaultdict(int)
    for event in deliveries(events):
        name = numbered.parts(event['id'] or '')
        if not name:
            raise Failed(f'{what}: a message came without its id')
        number = name.number
        channel = (event['by'], event['run'], event['epoch'])
        last = latest[channel]
        if not event['redelivered']:
            if number < last:
                raise Failed(f'{what}: message {number} came after {last}')
            latest[channel] = number
        came.add(number)
    if len(came) != count:
        raise Failed(f'{what}: {len(came)} of {count} messages came')


def deliveries(events: Iterable[Event]) -> Iterator[Event]:
    """Yield a line for each delivery, in their order."""
    for event in events:
        if event['event'] == 'acked':
            yield from ledger.singly(event)
