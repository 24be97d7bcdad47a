"""The checks of compare.py: every scenario, by the real scripts, against one broker; and what came of each.

A check is a function in CHECKS. It gets a candidate.Candidate, and returns what a person should read and the figures as
{name: number}; or it raises NotPossible, Failed or Away.
"""

import copy
import re
import signal
from collections import Counter
from urllib.parse import urlsplit

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from siamese import ledger as books
from siamese import verdict as audit
from siamese.messaging import errors as faults
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.scenarios import performance as perf
from siamese.testbed import proxy
from siamese.testbed.candidate import IDLE, Failed, NotPossible, printed, said

BUDGET = 200_000  # messages
RATE = 500  # messages/s at which latencies are measured
LARGE = 20 * 2**20  # bytes: RabbitMQ takes 128 MiB up to 3.13, 16 MiB from 4.0
GOES_AWAY = (
    320  # the code with which a broker that is stopped, or its administrator, closes connections
)
RETURNS = 25  # a quorum queue of RabbitMQ 4.0 gives a message up after 20


def judge(ledger):
    """Raise Failed unless the books of a run are valid."""
    verdict, status, _ = audit.judge(audit.audit(books.read([ledger])))
    if status:
        raise Failed(verdict)


def integrity(broker):
    """Scenario 1: blocks wait in the queue, and come out unaltered."""
    ledger, count = f'{broker.folder}/integrity', broker.share(20, 0.02)
    flags = '--queue', broker.name('blocks'), '--ledger', ledger
    broker.run('producer.py', '--count', count, *flags)
    broker.run('validate.py', '--idle', IDLE, *flags)
    judge(ledger)
    return f'{count} blocks', {}


def many_to_many(broker):
    """Scenario 1 with 2 producers and 2 validators at once, on one queue."""
    ledger, count, queue = f'{broker.folder}/many', broker.share(20, 0.02), broker.name('many')
    flags = '--queue', queue, '--ledger', ledger
    validators = [broker.ready('validate.py', '--prefetch', 5, *flags) for _ in range(2)]
    for producer in [broker.start('producer.py', '--count', count, *flags) for _ in range(2)]:
        broker.end(producer)
    broker.settle(queue, validators, 'validate.py', *flags)
    judge(ledger)
    return f'2 x 2, {2 * count} blocks', {}


def non_ascii(broker):
    """Scenario 2: every byte of a text that is not ASCII, in UTF-8 and in UTF-16."""
    count = broker.share(1000, 0.02)
    for encoding in perf.ENCODINGS:
        ledger = f'{broker.folder}/{encoding}'
        flags = '--queue', broker.name(encoding), '--ledger', ledger
        broker.run('perf_producer.py', '--encoding', encoding, '--count', count, *flags)
        broker.run('perf_consumer.py', '--exit-when-empty', *flags)
        judge(ledger)
    return f'{len(perf.ENCODINGS)} x {count:,} texts, {" and ".join(perf.ENCODINGS)}', {}


def flow(broker, queue, *pace, warm_up=0):
    """Let persistent messages flow from a producer to a consumer; return their summaries."""
    flags = '--queue', queue
    consumer = broker.ready('perf_consumer.py', '--warm-up', warm_up, *flags)
    producer = broker.run('perf_producer.py', '--persistent', *pace, *flags)
    ends = broker.settle(queue, [consumer], 'perf_consumer.py', *flags)
    came = sum(end['received'] for end in ends)
    if came != producer['confirmed']:
        raise Failed(f'{producer["confirmed"]:,} confirmed, but {came:,} came out')
    return producer, max(ends, key=lambda end: end['received'])


def throughput(broker):
    """Scenario 2: as fast as one producer and one consumer can."""
    producer, consumer = flow(
        broker, broker.name('fast'), '--count', broker.share(100_000, 0.4), '--duration', 10
    )
    rate = min(producer['confirmed_per_s'], consumer['received_per_s'])
    return f'{rate:,.0f} msg/s, persistent, confirmed', {'msg/s': rate}


def latency(broker):
    """Scenario 2: from the moment when a message is due to the moment when it is checked, at a fixed rate."""
    count = broker.share(2500, 0.1)
    _, consumer = flow(
        broker, broker.name('paced'), '--count', count, '--rate', RATE, warm_up=count // RATE // 5
    )  # the first fifth is left out, in whole seconds
    median, p99 = (consumer['latency_us'][quantile] / 1000 for quantile in ('median', 'p99'))
    return f'p50 {median:.2f} ms, p99 {p99:.2f} ms at {RATE} msg/s', {
        'p50, ms': median,
        'p99, ms': p99,
    }


def fanout(broker):
    """Scenario 3: each queue gets every message, and none after its time to live."""
    count, mortal, exchange = broker.share(10, 0.01), 5, broker.name('fanout')
    queues = [broker.name(queue) for queue in ('anna', 'bert')]
    consumers = [
        broker.ready(
            'fanout_consumer.py', queue, '--exchange', exchange, '--count', count, '--duration', 20
        )
        for queue in queues
    ]
    broker.run('fanout_producer.py', '--exchange', exchange, '--count', count, '--rate', 20)
    for came in [broker.end(consumer)['received'] for consumer in consumers]:
        if came != count:
            raise Failed(f'{came} of {count} came to a queue')
    broker.run(
        'fanout_producer.py', '--exchange', exchange, '--count', mortal, '--rate', 100, '--ttl', 0.5
    )
    dead = Counter((queue, reason) for queue, reason, _ in broker.dead_letters(queues, 2 * mortal))
    if dead != {(queue, 'expired'): mortal for queue in queues}:
        raise Failed(
            f'of 2 x {mortal} messages past their time to live {dict(dead)} are dead-lettered'
        )
    late = sum(
        broker.run('fanout_consumer.py', queue, '--exchange', exchange, '--idle', 1)['received']
        for queue in queues
    )
    if late:
        raise Failed(f'{late} messages came after their time to live')
    return f'2 x {count} came, 2 x {mortal} expired unread', {}


def acknowledge(broker):
    """Scenario 4: what is rejected or lost comes again, what is acknowledged does not."""
    ledger, count, queue = f'{broker.folder}/ack', broker.share(50, 0.05), broker.name('ack')
    flags = '--queue', queue, '--ledger', ledger
    broker.run('ack_producer.py', '--count', count, '--rate', 1000, *flags)
    first = broker.run('ack_consumer.py', '--seed', 17, '--idle', IDLE, *flags)
    last = broker.run('ack_consumer.py', '--ack', 100, '--idle', IDLE, *flags)
    judge(ledger)
    if first['acked'] + last['acked'] != count or last['received'] != first['lost']:
        raise Failed(
            f'{count} sent, {first["acked"]} acked and {first["lost"]} lost; then {last["acked"]} acked'
        )
    return (
        f'{count} = {first["acked"]} acked + {first["lost"]} lost, come again; {first["rejected"]} rejections',
        {},
    )


def priority(broker):
    """Scenario 4: what waits in the queue comes out highest priority first."""
    count, queue = broker.share(30, 0.03), broker.name('priority')
    producer = broker.start(
        'ack_producer.py',
        '--count',
        count,
        '--rate',
        1000,
        '--priority',
        'random',
        '--queue',
        queue,
    )
    broker.end(producer)
    consumer = broker.start('ack_consumer.py', '--ack', 100, '--idle', IDLE, '--queue', queue)
    broker.end(consumer)
    sent, came = (
        re.findall(r'priority (\d)', printed(process)) for process in (producer, consumer)
    )
    if came != sorted(sent, reverse=True):
        raise Failed(f'priorities {"".join(sent)} came out as {"".join(came)}')
    return f'{count} messages, highest first', {}


def rpc(broker):
    """Scenario 5: is X prime?"""
    count, queue = broker.share(200, 0.05), broker.name('rpc')
    server = broker.ready('rpc_server.py', '--queue', queue)
    client = broker.run('rpc_client.py', '--verify', '--count', count, '--queue', queue)
    broker.end(server, number=signal.SIGTERM)
    if client['answered'] != count:
        raise Failed(f'{client["answered"]} of {count} questions answered')
    median = client['latency_us']['median'] / 1000
    return f'{count} right answers, median {median:.2f} ms', {'median, ms': median}


def reconnect(broker):
    """Scenario 6: the connections are cut on our side; both scripts come back, and nothing is missing."""
    ledger, count, queue = f'{broker.folder}/cut', broker.share(600, 0.1), broker.name('cut')
    flags = '--queue', queue, '--ledger', ledger
    with proxy.before(through(broker.endpoint, broker.url)) as between:
        consumer = broker.ready('perf_consumer.py', *flags, url=between.url)
        producer = broker.ready(
            'perf_producer.py',
            '--persistent',
            '--rate',
            100,
            '--count',
            count,
            *flags,
            url=between.url,
        )
        between.cut(reset=True)
        for process in (producer, consumer):
            broker.wait(
                lambda process=process: process.poll() is not None or 'back after' in said(process),
                f'{process.script} did not come back',
            )
        broker.end(producer)
        broker.settle(queue, [consumer], 'perf_consumer.py', *flags)
    judge(ledger)
    away = [
        float(seconds)
        for process in (producer, consumer)
        for seconds in re.findall(r'back after ([\d.]+) s', said(process))
    ]
    if len(away) < 2:
        raise Failed('a script did not notice that its connection was cut')
    return f'back after {max(away):.1f} s, {count} messages, none missing', {
        'back after, s': max(away)
    }


def through(endpoint, url):
    """Return a URL as proxy.py needs it: with a port, and for amqps with the name to be verified."""
    parts, host = urlsplit(url), endpoint.host
    login = ''.join(parts.netloc.rpartition('@')[:2])  # with the @, if there is one
    name = [f'server_name_indication={host}'] if parts.scheme == 'amqps' else []
    return parts._replace(
        netloc=f'{login}{f"[{host}]" if ":" in host else host}:{endpoint.port}',
        query='&'.join([*filter(None, [parts.query]), *name]),
    ).geturl()


def unread(broker):
    """Scenario 7: monitor.py names exactly the messages that expired while nobody was there."""
    ledger, file, count, queue = (
        f'{broker.folder}/unread',
        f'{broker.folder}/history',
        5,
        broker.name('unread'),
    )
    broker.run(
        'perf_producer.py', '--count', count, '--ttl', 0.2, '--queue', queue, '--ledger', ledger
    )
    monitor = broker.ready('monitor.py', '--history', file)
    db = history.open_for_reading(file)

    def named():
        letters, _ = dead.letters(db, queue=queue, reason='expired', limit=-1)
        return sorted(letter['message_id'] for letter in letters)

    broker.wait(lambda: len(named()) >= count, f'not {count} messages named by monitor.py')
    broker.end(monitor, number=signal.SIGTERM)
    if named() != sorted(
        event['id'] for event in books.read([ledger]) if event['event'] == 'confirmed'
    ):
        raise Failed(f'monitor.py names others than the {count} that expired')
    return f'{count} expired, each named', {}


def dead_letters(broker):
    """Bad input: what a consumer rejects is kept, unaltered, with the reason."""
    count, queue = 5, broker.name('strange')
    broker.run('perf_producer.py', '--count', count, '--queue', queue)
    broker.run('validate.py', '--idle', IDLE, '--queue', queue, right=(1,))
    body, _ = perf.body_of('utf-8', perf.LEAST_SIZE)
    if set(broker.dead_letters([queue], count)) != {(queue, 'rejected', body)}:
        raise Failed('what was rejected came out altered, or without its queue and reason')
    return f'{count} rejected, kept with reason', {}


def limits(broker):
    """What the broker allows at most; the run keeps to --budget."""
    facts = broker.facts = {}
    endpoint = copy.copy(broker.endpoint)
    endpoint.heartbeat = None  # what does the broker propose?
    with broker.channel(endpoint) as channel:
        tuned = channel.connection._impl.params
    facts['frame'] = f'{tuned.frame_max:,} bytes'
    facts['channels'] = f'{tuned.channel_max:,} a connection'
    facts['heartbeat it proposes'] = f'{tuned.heartbeat} s'
    facts['durable classic queue'] = attempt(broker, 'classic')
    facts['quorum queue'] = attempt(broker, 'quorum', kind='quorum')
    facts['stream'] = attempt(broker, 'stream', kind='stream')
    facts['shared queue that is not durable'] = attempt(broker, 'transient', durable=False)
    if facts['quorum queue'] == 'allowed':
        facts[f'message returned {RETURNS} times to a quorum queue'] = give_back(broker, 'quorum')
        broker.published += 1
    size = f'message of {LARGE >> 20} MiB'
    facts[size] = 'not tried (--budget)'
    if broker.budget >= BUDGET:
        facts[size] = attempt(broker, 'classic', body=b'x' * LARGE)
        broker.published += 1
    if facts['durable classic queue'] != 'allowed':
        why = f'a durable queue is {facts["durable classic queue"]}'
        raise (NotPossible if re.search('ACCESS_REFUSED|limit', why) else Failed)(why)
    if broker.published > broker.budget:
        raise Failed(
            f'{broker.published:,} messages were used, that is more than --budget {broker.budget:,}'
        )
    return (
        f'{broker.published:,} of {broker.budget:,} messages used; channels: {facts["channels"]}',
        {},
    )


def attempt(broker, last, durable=True, kind='classic', body=None):
    """Declare a queue, and publish `body` to it; return 'allowed', or 'refused' with the reason."""
    queue = broker.name(last)
    with broker.channel() as channel:
        try:
            channel.queue_declare(queue, durable=durable, arguments={'x-queue-type': kind})
            if body:
                channel.confirm_delivery()
                channel.basic_publish('', queue, body)
        except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
            if error.reply_code == GOES_AWAY or faults.token_expired(
                error, broker.endpoint.credentials
            ):
                raise
            return 'refused ({})'.format(error.reply_text.partition('\n')[0])
    return 'allowed'


def give_back(broker, last):
    """Reject a message with requeue again and again; return what becomes of it."""
    queue = broker.name(last)
    with broker.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish('', queue, b'', pika.BasicProperties(delivery_mode=2))
        for times, (method, _, _) in enumerate(channel.consume(queue, inactivity_timeout=IDLE)):
            if not method:
                return f'given up after {times}'
            if times == RETURNS:
                return 'still there'
            channel.basic_reject(method.delivery_tag, requeue=True)


CHECKS = {  # in the order of the table
    'integrity': integrity,
    'm x n': many_to_many,
    'non-ASCII': non_ascii,
    'throughput': throughput,
    'latency': latency,
    'fanout, TTL': fanout,
    'ack/reject/lose': acknowledge,
    'priority': priority,
    'RPC': rpc,
    'reconnect': reconnect,
    'nobody there': unread,
    'dead letters': dead_letters,
    'limits met': limits,
}
