"""The checks of compare.py: every scenario, by the real scripts, on one broker.

A check is a function in CHECKS. It gets a Candidate and returns a Result, or it
raises NotPossible, Failed or Unavailable. Throughput and latency are in measured.py.
"""

from __future__ import annotations

import copy
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from common import bracketed
from siamese import ledger, verdict
from siamese.messaging import blocking, errors
from siamese.monitoring import database, dead_letters
from siamese.scenarios import performance
from siamese.testbed import differences, offers, ordering
from siamese.testbed.candidate import (
    IDLE_S,
    Candidate,
    Failed,
    NotPossible,
    Script,
    message_count,
    stderr_of,
    stdout_of,
    wait_until,
)
from siamese.testbed.figures import LESS, Figure
from siamese.testbed.proxy import in_front_of

DEFAULT_BUDGET = 400_000  # messages
# RabbitMQ takes 128 MiB up to 3.13, and 16 MiB from 4.0 on.
LARGE_BYTES = 20 * 2**20
# The reply code with which a broker that is stopped, or its administrator,
# closes connections.
CONNECTION_FORCED = 320
# The delivery limit of a quorum queue of RabbitMQ 4.0 is 20.
REQUEUES = 25


@dataclass
class Result:
    """A check that passed: a text for people, and what it measured, by name."""

    text: str
    figures: dict[str, Figure] = field(default_factory=dict)


def check_ledger(path: str) -> None:
    """Raise Failed unless the ledger of a run is valid."""
    events = ledger.read([path])
    found = verdict.judge(verdict.audit(events))
    if found.exit_status:
        raise Failed(found.text)


def integrity(broker: Candidate) -> Result:
    """Scenario 1: blocks wait in the queue, and are delivered unaltered."""
    offers.need(broker, offers.CONFIRMS)
    count = broker.message_budget(20, 0.02)
    path = f'{broker.folder}/integrity'
    flags = ('--queue', broker.queue('blocks'), '--ledger', path)
    broker.run('producer.py', '--count', count, *flags)
    broker.run('validate.py', '--idle', IDLE_S, *flags)
    check_ledger(path)
    return Result(f'{count} blocks')


def many_to_many(broker: Candidate) -> Result:
    """Scenario 1 with 2 producers and 2 validators at once, on one queue."""
    offers.need(broker, offers.CONFIRMS)
    count = broker.message_budget(20, 0.02)
    path = f'{broker.folder}/many'
    queue = broker.queue('many')
    flags = ('--queue', queue, '--ledger', path)
    validators = [broker.ready('validate.py', '--prefetch', 5, *flags) for _ in range(2)]
    producers = [broker.start('producer.py', '--count', count, *flags) for _ in range(2)]
    for producer in producers:
        broker.end(producer)
    broker.drain(queue, validators, 'validate.py', *flags)
    check_ledger(path)
    return Result(f'2 x 2, {2 * count} blocks')


def order(broker: Candidate) -> Result:
    """Scenario 2: what is published over one channel comes in order over another one."""
    offers.need(broker, offers.CONFIRMS)
    return Result(ordering.tried(broker))


def non_ascii(broker: Candidate) -> Result:
    """Scenario 2: every byte of a text that is not ASCII, in two encodings."""
    offers.need(broker, offers.CONFIRMS)
    count = broker.message_budget(1000, 0.02)
    encodings = performance.ENCODINGS
    for encoding in encodings:
        path = f'{broker.folder}/{encoding}'
        flags = ('--queue', broker.queue(encoding), '--ledger', path)
        broker.run(
            'perf_producer.py',
            *('--encoding', encoding),
            *('--count', count),
            *flags,
        )
        broker.run('perf_consumer.py', '--exit-when-empty', *flags)
        check_ledger(path)
    names = ' and '.join(encodings)
    return Result(f'{len(encodings)} x {count:,} texts, {names}')


def fanout(broker: Candidate) -> Result:
    """Scenario 3: each queue gets every message, and none after its TTL."""
    offers.need(broker, offers.CONFIRMS, offers.TIME_TO_LIVE, offers.DEAD_LETTERS)
    count = broker.message_budget(10, 0.01)
    flags = ('--exchange', broker.exchange('fanout'))
    queues = [broker.queue(suffix) for suffix in ('anna', 'bert')]
    fanout_in_time(broker, queues, count, flags)
    expiring = 5
    broker.run(
        'fanout_producer.py',
        *flags,
        *('--count', expiring),
        *('--rate', 100),
        *('--ttl', 0.5),
    )
    found = Counter(
        (message.queue, message.reason) for message in broker.dead_letters(queues, 2 * expiring)
    )
    if found != {(queue, 'expired'): expiring for queue in queues}:
        raise Failed(
            f'of 2 x {expiring} messages past their time to live {dict(found)} are dead-lettered'
        )
    late = 0
    for queue in queues:
        end = broker.run('fanout_consumer.py', queue, *flags, '--idle', 1)
        late += end['delivered']
    if late:
        raise Failed(f'{late} messages delivered after their time to live')
    return Result(f'2 x {count} delivered, 2 x {expiring} expired unread')


def fanout_in_time(
    broker: Candidate,
    queues: list[str],
    count: int,
    flags: tuple[str, str],
) -> None:
    """Raise Failed unless each of the queues gets all messages."""
    limits = ('--count', count, '--duration', 20)
    consumers = [broker.ready('fanout_consumer.py', queue, *flags, *limits) for queue in queues]
    broker.run('fanout_producer.py', *flags, '--count', count, '--rate', 20)
    ends = [broker.end(consumer) for consumer in consumers]
    for end in ends:
        delivered = end['delivered']
        if delivered != count:
            raise Failed(f'{delivered} of {count} delivered to a queue')


def acknowledge(broker: Candidate) -> Result:
    """Scenario 4: rejected and unacked messages are redelivered, acked ones not."""
    offers.need(broker, offers.CONFIRMS)
    count = broker.message_budget(50, 0.05)
    path = f'{broker.folder}/ack'
    flags = ('--queue', broker.queue('ack'), '--ledger', path)
    idle = ('--idle', IDLE_S)
    broker.run('ack_producer.py', '--count', count, '--rate', 1000, *flags)
    first = broker.run('ack_consumer.py', '--seed', 17, *idle, *flags)
    last = broker.run('ack_consumer.py', '--ack', 100, *idle, *flags)
    check_ledger(path)
    acked = first['acked']
    unacked = first['unacked']
    if acked + last['acked'] != count or last['delivered'] != unacked:
        raise Failed(
            f'{count} published, {acked} acked and {unacked} unacked; then {last["acked"]} acked'
        )
    return Result(
        f'{count} = {acked} acked + {unacked} unacked, redelivered; {first["rejected"]} rejections'
    )


def priority(broker: Candidate) -> Result:
    """Scenario 4: a queue delivers the highest priority first."""
    offers.need(broker, offers.CONFIRMS, offers.PRIORITIES)
    count = broker.message_budget(30, 0.03)
    flags = ('--queue', broker.queue('priority'))
    producer = broker.start(
        'ack_producer.py',
        *('--count', count),
        *('--rate', 1000),
        *('--priority', 'random'),
        *flags,
    )
    broker.end(producer)
    consumer = broker.start('ack_consumer.py', '--ack', 100, '--idle', IDLE_S, *flags)
    broker.end(consumer)
    published = priorities(producer)
    delivered = priorities(consumer)
    if delivered != sorted(published, reverse=True):
        raise Failed(f'priorities {"".join(published)} were delivered as {"".join(delivered)}')
    return Result(f'{count} messages, highest first')


def priorities(ended: Script) -> list[str]:
    """Return the priorities that a script printed, in order."""
    return re.findall(r'priority (\d)', stdout_of(ended))


def rpc(broker: Candidate) -> Result:
    """Scenario 5: is X prime?"""
    count = broker.message_budget(200, 0.05)
    flags = ('--queue', broker.queue('rpc'))
    server = broker.ready('rpc_server.py', *flags)
    client = broker.run('rpc_client.py', '--verify', '--count', count, *flags)
    broker.end(server, number=signal.SIGTERM)
    answered = client['answered']
    if answered != count:
        raise Failed(f'{answered} of {count} questions answered')
    median = client['latency_us']['median'] / 1000
    figure = Figure('from a question to its answer', 'ms', LESS, [median])
    text = f'{count} right answers, median {figure.text()}, less is better'
    return Result(text, {'median': figure})


def reconnect(broker: Candidate) -> Result:
    """Scenario 6: connections are reset on our side; no message is missing."""
    offers.need(broker, offers.CONFIRMS)
    count = broker.message_budget(600, 0.1)
    path = f'{broker.folder}/cut'
    queue = broker.queue('cut')
    flags = ('--queue', queue, '--ledger', path)
    url = proxied_url(broker.endpoint, broker.url)
    with in_front_of(url) as proxy:
        consumer = broker.ready('perf_consumer.py', *flags, url=proxy.url)
        producer = broker.ready(
            'perf_producer.py',
            '--persistent',
            *('--rate', min(100, count / 5)),
            *('--count', count),
            *flags,
            url=proxy.url,
        )
        proxy.cut(reset=True)
        wait_until_back(producer)
        wait_until_back(consumer)
        broker.end(producer)
        broker.drain(queue, [consumer], 'perf_consumer.py', *flags)
    check_ledger(path)
    outages = outages_of(producer) + outages_of(consumer)
    if len(outages) < 2:
        raise Failed('a script did not notice that its connection was reset')
    longest = max(outages)
    text = f'back after {longest:.1f} s (less is better), {count} messages, none missing'
    figure = Figure('from a reset to the new connection', 's', LESS, [longest])
    return Result(text, {'outage': figure})


def wait_until_back(running: Script) -> None:
    """Wait until a script has reconnected, or ended."""
    wait_until(
        lambda: running.has_ended() or 'back after' in stderr_of(running),
        f'{running.name} did not come back',
    )


def outages_of(ended: Script) -> list[float]:
    """Return how many s each outage lasted that a script logged."""
    found = re.findall(r'back after ([\d.]+) s', stderr_of(ended))
    return list(map(float, found))


def proxied_url(endpoint: pika.ConnectionParameters, url: str) -> str:
    """Return a URL as in_front_of() needs it.

    It has a port, and for amqps the name that the certificate must have.
    """
    parts = urlsplit(url)
    host = endpoint.host
    query = parts.query
    if parts.scheme == 'amqps':
        query += f'&server_name_indication={host}'
    login = parts.netloc[: parts.netloc.rfind('@') + 1]
    netloc = f'{login}{bracketed(host)}:{endpoint.port}'
    changed = parts._replace(netloc=netloc, query=query.lstrip('&'))
    return changed.geturl()


def unread(broker: Candidate) -> Result:
    """Scenario 7: monitor.py names exactly the messages that expired unread."""
    offers.need(broker, offers.CONFIRMS, offers.TIME_TO_LIVE, offers.DEAD_LETTERS)
    count = 5
    path = f'{broker.folder}/unread'
    history = f'{broker.folder}/history'
    queue = broker.queue('unread')
    broker.run(
        'perf_producer.py',
        *('--count', count),
        *('--ttl', 0.2),
        *('--queue', queue),
        *('--ledger', path),
    )
    monitor = broker.ready('monitor.py', '--history', history)
    db = database.open_for_reading(history)
    wait_until(
        lambda: monitor.has_ended() or len(expired_ids(db, queue)) >= count,
        f'monitor.py did not name {count} messages',
    )
    broker.end(monitor, number=signal.SIGTERM)
    events = [event for line in ledger.read([path]) for event in ledger.singly(line)]
    confirmed = [event['id'] for event in events if event['event'] == 'confirmed']
    if expired_ids(db, queue) != sorted(confirmed):
        raise Failed(f'monitor.py names others than the {count} that expired')
    return Result(f'{count} expired, each named')


def expired_ids(db: sqlite3.Connection, queue: str) -> list[str]:
    """Return the message ids that a history has as expired in a queue."""
    letters, _ = dead_letters.find(db, queue=queue, reason='expired', limit=-1)
    return sorted(letter['message_id'] for letter in letters)


def invalid_messages(broker: Candidate) -> Result:
    """Bad input: rejected messages are kept, unaltered, with the reason."""
    offers.need(broker, offers.CONFIRMS, offers.DEAD_LETTERS)
    count = 5
    queue = broker.queue('strange')
    flags = ('--queue', queue)
    broker.run('perf_producer.py', '--count', count, *flags)
    broker.run('validate.py', '--idle', IDLE_S, *flags, expected=(1,))
    body, _ = performance.body_of('utf-8', performance.LEAST_SIZE)
    found = set(broker.dead_letters([queue], count))
    if found != {(queue, 'rejected', body)}:
        raise Failed(
            'rejected messages were dead-lettered altered, or without their queue and reason'
        )
    forged = offers.forged_death(broker)
    text = f'{count} rejected, kept with reason'
    if forged != offers.DEAD_LETTERED:
        text += f'; one with a forged x-death {forged}'
    return Result(text)


def limits(broker: Candidate) -> Result:
    """What the broker allows at most; the run keeps to --budget."""
    facts = broker.facts
    facts.update(negotiated(broker))
    facts['durable classic queue'] = attempt(broker, 'classic')
    facts['quorum queue'] = quorum_queue(broker)
    facts['stream'] = attempt(broker, 'stream', queue_type='stream')
    facts['shared queue that is not durable'] = attempt(broker, 'transient', durable=False)
    if facts['quorum queue'] == 'allowed':
        fact = f'message returned {REQUEUES} times to a quorum queue'
        facts[fact] = requeue_repeatedly(broker, broker.queue('quorum'))
    may_declare = facts['durable classic queue'] == 'allowed'
    facts.update(differences.found(broker, may_declare))
    fact = f'message of {LARGE_BYTES >> 20} MiB'
    facts[fact] = 'not tried (--budget)'
    if broker.budget >= DEFAULT_BUDGET:
        body = b'x' * LARGE_BYTES
        facts[fact] = attempt(broker, 'classic', body=body)
    check_durable_queue(facts['durable classic queue'])
    if broker.published > broker.budget:
        raise Failed(
            f'{broker.published:,} messages were used, more than --budget {broker.budget:,}'
        )
    return Result(
        f'{broker.published:,} of {broker.budget:,} messages used; channels: {facts["channels"]}'
    )


def negotiated(broker: Candidate) -> dict[str, str]:
    """Return the facts that the broker proposes to every connection."""
    endpoint = copy.copy(broker.endpoint)
    endpoint.heartbeat = None  # take the one that the broker proposes
    with broker.channel(endpoint) as channel:
        tuned = blocking.negotiated(channel.connection)
    return {
        'frame': f'{tuned.frame_max:,} bytes',
        'channels': f'{tuned.channel_max:,} a connection',
        'heartbeat it proposes': f'{tuned.heartbeat} s',
    }


def check_durable_queue(fact: str) -> None:
    """Raise Failed or NotPossible if durable queues are refused."""
    if fact == 'allowed':
        return
    problem = f'a durable queue is {fact}'
    if re.search('ACCESS_REFUSED|limit', problem):
        raise NotPossible(problem)
    raise Failed(problem)


def attempt(
    broker: Candidate,
    suffix: str,
    durable: bool = True,
    queue_type: str = 'classic',
    body: bytes = b'',
) -> str:
    """Declare a queue, and publish `body` to it if there is one.

    Returns 'allowed', or 'refused' with the reason.
    """
    queue = broker.queue(suffix)
    arguments: dict[str, Any] = {}
    if queue_type != 'classic':  # which needs no argument
        arguments['x-queue-type'] = queue_type
    if body:
        broker.published += 1
    with broker.channel() as channel:
        try:
            channel.queue_declare(queue=queue, durable=durable, arguments=arguments)
            if body:
                channel.basic_publish(exchange='', routing_key=queue, body=body)
                message_count(channel, queue)  # answered after that, also without confirms
        except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
            login = broker.endpoint.credentials
            forced = error.reply_code == CONNECTION_FORCED
            if forced or errors.token_expired(error, login):
                raise
            return f'refused ({offers.refusal(error)})'
    return 'allowed'


def quorum_queue(broker: Candidate) -> str:
    """Return whether there are quorum queues: they are durable, and refuse to be anything else."""
    fact = attempt(broker, 'quorum', queue_type='quorum')
    other = attempt(broker, 'quorum.transient', durable=False, queue_type='quorum')
    if fact == other == 'allowed':
        return 'an ordinary queue under that name'
    return fact


def requeue_repeatedly(broker: Candidate, queue: str) -> str:
    """Requeue a message again and again; return what becomes of it."""
    broker.published += 1
    persistent = pika.BasicProperties(delivery_mode=2)
    with broker.channel() as channel:
        channel.basic_publish(exchange='', routing_key=queue, body=b'', properties=persistent)
        deliveries = channel.consume(queue=queue, inactivity_timeout=IDLE_S)
        for requeued, (method, _, _) in enumerate(deliveries):
            if not method:
                return f'delivery limit reached after {requeued}'
            if requeued == REQUEUES:
                break
            channel.basic_reject(delivery_tag=method.delivery_tag, requeue=True)
    return 'still there'


Check = Callable[[Candidate], Result]
CHECKS: dict[str, Check] = {
    'integrity': integrity,
    'm x n': many_to_many,
    'order': order,
    'non-ASCII': non_ascii,
    'fanout, TTL': fanout,
    'ack/reject/lose': acknowledge,
    'priority': priority,
    'RPC': rpc,
    'reconnect': reconnect,
    'unread': unread,
    'dead letters': invalid_messages,
    'limits met': limits,
}
MEANINGS = {  # of these checks and those of measured.py, in the order of the table
    'integrity': 'blocks that waited in a queue are delivered once, unaltered and in order',
    'm x n': '2 producers and 2 validators at once on one queue: nothing is lost or repeated',
    'order': 'messages of one channel come in order to one consumer, and to each of several',
    'non-ASCII': 'texts in UTF-8 and UTF-16 are delivered as they are, byte for byte',
    'throughput': 'how many persistent messages a second are confirmed and delivered',
    'latency': 'how long it takes from when a message is due until it is delivered',
    'fanout, TTL': 'each queue gets every message; none is delivered after its time to live',
    'ack/reject/lose': 'what was rejected or lost is redelivered, what was acked is not',
    'priority': 'the highest priority is delivered first',
    'RPC': 'questions get the right answers, over a queue of the client alone',
    'reconnect': 'scripts come back after their connections are reset; no message is missing',
    'unread': 'each message that expired unread is found, and named',
    'dead letters': 'rejected messages are kept unaltered, with the reason',
    'limits met': 'what the broker allows at most; a durable queue is allowed',
}
