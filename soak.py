#!/usr/bin/env python3
"""Do to a broker, at random and again and again, what breaks brokers, and prove that nothing gets lost.

Two producers and two consumers each of scenarios 1 and 2 are at work while faults come one after another: without --url
on a RabbitMQ cluster of its own (three nodes on loopback, quorum queues), where nodes are killed, stopped, frozen and
cut off too; with --url on yours, where only clients suffer: their connections are cut, held up or refused, by a proxy
in between (not with amqps://), and they are killed and started again. A fault is over when a message of each producer
that was sent after it came out and was checked. At the end the queues are drained and removed, and audit.py judges the
ledger. The same --seed makes the same faults in the same order.

    $ ./soak.py --minutes 0.4 --seed 7
    seed 7, 24 s of faults on a cluster of its own
         0 s  kill a node               through again after 0.3 s
         6 s  kill a script             through again after 0.2 s
         8 s  cut connections           through again after 0.3 s
        22 s  kill two nodes            through again after 0.1 s
        37 s  black hole                through again after 0.1 s
    fault                    times  median     max
    kill a node                  1   0.3 s   0.3 s
    kill a script                1   0.2 s   0.2 s
    cut connections              1   0.3 s   0.3 s
    kill two nodes               1   0.1 s   0.1 s
    black hole                   1   0.1 s   0.1 s
    all                          5   0.2 s   0.3 s
    3,154 attempted, 3,154 confirmed, 3,154 ok, 61 redelivered, 0 ack lost, 0 republished, 0 recovered, 0 in doubt
    valid: all that was accepted came out, unaltered, every copy explained

Ctrl-C ends the faults early, a second one everything; the queues on your broker are removed all the same. Exit status:
0 valid, 1 invalid, a script that failed or messages that no longer came through, 2 usage, 3 no RabbitMQ, or the audit
could not tell.

Examples:
    ./soak.py --minutes 30
    ./soak.py --url amqp://user:password@host/vhost --queue-type classic
"""

import contextlib
import json
import logging
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import common
from siamese import ROOT, flags, script
from siamese import ledger as books
from siamese import verdict as audit
from siamese.messaging import blocking
from siamese.testbed import proxy
from siamese.testbed import rabbitmq as broker

PATIENCE = 120  # s until messages that do not come through, or a script that does not end, make it a failure
WORKERS = {  # name: (queue, script and flags)
    'alice': ('blocks', ['producer.py', '--difficulty', '2', '--rate', '20']),
    'bob': ('blocks', ['producer.py', '--difficulty', '2', '--rate', '20']),
    'carol': ('blocks', ['validate.py', '--difficulty', '2']),
    'dave': ('blocks', ['validate.py', '--difficulty', '2']),
    'erin': ('texts', ['perf_producer.py', '--persistent', '--rate', '20']),
    'frank': ('texts', ['perf_producer.py', '--persistent', '--rate', '20']),
    'grace': ('texts', ['perf_consumer.py']),
    'heidi': ('texts', ['perf_consumer.py']),
}
PRODUCERS = 'alice', 'bob', 'erin', 'frank'
CONSUMERS = 'carol', 'dave', 'grace', 'heidi'
LINE = '{at:6.0f} s  {fault:24}  through again after {took:.1f} s'
ROW = '{:24} {:>5}  {:>6}  {:>6}'
BOOKS = (
    'attempted',
    'confirmed',
    'ok',
    'redelivered',
    'ack_lost',
    'republished',
    'recovered',
    'in_doubt',
)


# ---- the faults: each is a generator that yields when messages should come through again


def cut_connections(world):
    world.random.choice(world.proxies).cut()
    yield


def reset_connections(world):
    world.random.choice(world.proxies).cut(reset=True)
    yield


def black_hole(world):
    between = world.random.choice(world.proxies)
    between.hold(*world.random.choice([('up',), ('down',), ('up', 'down')]))
    world.wait(world.random.uniform(1, 30))
    between.release()
    yield


def refuse_connections(world):
    between = world.random.choice(world.proxies)
    between.refuse()
    between.cut()
    world.wait(world.random.uniform(0.5, 8))
    between.accept()
    yield


def kill_a_script(world):
    name = world.random.choice([*WORKERS])
    world.running[name].kill()
    world.running[name].wait()
    world.start(name)
    yield


def kill_a_node(world):
    node = world.random.randrange(3)
    world.broker.kill(node)
    yield
    world.broker.start(node)


def stop_a_node(world):
    node = world.random.randrange(3)
    world.broker.stop(node)
    yield
    world.broker.start(node)


def freeze_a_node(world):
    node = world.random.randrange(3)
    world.broker.pause(node)
    world.wait(world.random.uniform(1, 20))
    world.broker.resume(node)
    yield


def kill_two_nodes(world):
    for node in world.random.sample(range(3), 2):
        world.broker.kill(node)
    world.wait(world.random.uniform(0, 5))
    world.broker.start()
    yield


def isolate_a_node(world):
    node = world.random.randrange(3)
    world.broker.isolate(node)
    yield
    world.wait(world.random.uniform(0, 10))
    world.broker.rejoin(node)


def raise_an_alarm(world):
    world.broker.ctl('set_vm_memory_high_watermark', 0)
    world.wait(world.random.uniform(0, 5))
    world.broker.ctl('set_vm_memory_high_watermark', 0.4)
    yield


def close_all_connections(world):
    world.broker.ctl('close_all_connections', 'soak')
    yield


OF_SCRIPTS = [kill_a_script]
OF_CONNECTIONS = [cut_connections, reset_connections, black_hole, refuse_connections]
OF_NODES = [
    kill_a_node,
    stop_a_node,
    freeze_a_node,
    kill_two_nodes,
    isolate_a_node,
    raise_an_alarm,
    close_all_connections,
]


# ---- the run


@contextlib.contextmanager
def at_work(args, folder):
    """Start the broker, proxies and all WORKERS; yield what faults need. At the end nothing of it runs any more."""
    with contextlib.ExitStack() as stack:
        own = None if args.yours else stack.enter_context(broker.throwaway(nodes=3))
        urls = own.urls if own else args.yours.replace(',', ' ').split()
        plain = all(url.startswith('amqp:') for url in urls)
        proxies = [stack.enter_context(proxy.before(url)) for url in urls] if plain else []
        ways = [between.url for between in proxies] or urls
        tag, running = secrets.token_hex(4), {}

        def start(name, *flags):
            queue, command = WORKERS[name]
            first = [*WORKERS].index(name) % len(ways)  # so that every node has clients
            with open(f'{folder}/{name}.log', 'a') as log:
                running[name] = subprocess.Popen(
                    [
                        sys.executable,
                        f'{ROOT}/{command[0]}',
                        *command[1:],
                        *flags,
                        '--name',
                        name,
                        '--quiet',
                        '--queue',
                        f'siamese.soak-{tag}.{queue}',
                        '--queue-type',
                        args.queue_type,
                        '--ledger',
                        f'{folder}/run.jsonl',
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, 'AMQP_URL': ','.join(ways[first:] + ways[:first])},
                )

        def wait(seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not script.stop_requested():
                time.sleep(0.1)

        world = SimpleNamespace(
            broker=own,
            proxies=proxies,
            running=running,
            start=start,
            wait=wait,
            random=random.Random(args.seed),
        )
        try:
            for name in WORKERS:
                start(name)
            yield world
        finally:
            for process in running.values():
                process.kill()
                process.wait()
            if args.yours:
                remove(
                    args.endpoints,
                    [f'siamese.soak-{tag}.{queue}' for queue in {q for q, _ in WORKERS.values()}],
                )


def remove(endpoints, queues):
    """Delete queues, or tell that they are left."""
    try:
        with blocking.connected(blocking.first_reachable(endpoints)) as connection:
            for queue in queues:
                connection.channel().queue_delete(queue)
    except common.Failure as failure:
        logging.error('%s are left, delete them: %s', ' and '.join(queues), failure)


def news(ledger):
    """Yield the events that a ledger, an open file, has got since the last time."""
    while True:
        at = ledger.tell()
        line = ledger.readline()
        if not line.endswith('\n'):  # not written to its end yet
            ledger.seek(at)
            return
        yield json.loads(line)


def through(world, ledger, since):
    """Wait until a message of each producer that was sent after time.time() `since` came out; return the seconds.

    A signal ends that early.
    """
    waiting, sent, came = set(PRODUCERS), {}, since
    while waiting and not script.stop_requested():
        for event in news(ledger):
            if event['event'] == 'attempted' and event['at'] > since:
                sent[event['id']] = event['by']
            elif event['event'] == 'acked' and sent.get(event['id']) in waiting:
                waiting.remove(sent[event['id']])
                came = event['at']
        for name, process in world.running.items():
            if process.poll() is not None:
                raise common.Failure(f'{name} ended with status {process.returncode}', 1)
        if time.time() - since > PATIENCE:
            raise common.Failure(
                f'nothing of {", ".join(sorted(waiting))} came through for {PATIENCE} s', 1
            )
        time.sleep(0.02)
    return came - since


def stop(world, names):
    """Let scripts finish; raise Failure if one does not, or finds something wrong."""
    for name in names:
        world.running[name].send_signal(signal.SIGINT)
    finish(world, names)


def finish(world, names, fine=(0,)):
    for name in names:
        try:
            status = world.running[name].wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise common.Failure(f'{name} did not end within {PATIENCE} s', 1) from None
        if status not in fine:
            raise common.Failure(f'{name} ended with status {status}', 1)


def soak(args, folder):
    """Let faults come for --minutes, then drain the queues; return [(fault, seconds)]."""
    times = []
    with at_work(args, folder) as world:
        faults = OF_SCRIPTS + OF_CONNECTIONS * bool(world.proxies) + OF_NODES * bool(world.broker)
        with open(f'{folder}/run.jsonl') as ledger:
            through(world, ledger, time.time())
            started = time.monotonic()
            while time.monotonic() - started < args.minutes * 60 and not script.stop_requested():
                fault = world.random.choice(faults)
                steps = fault(world)
                next(steps)
                took = through(world, ledger, time.time())
                if not script.stop_requested():
                    times.append((fault.__name__.replace('_', ' '), took))
                    if not args.quiet:
                        print(
                            LINE.format(
                                at=time.monotonic() - started, fault=times[-1][0], took=took
                            )
                        )
                next(steps, None)
                world.wait(world.random.uniform(0, 2))
        if script.stop_requested():
            logging.info(
                '%s: taking out what is left; once more stops at once', script.stop_requested()
            )
        stop(world, PRODUCERS)
        stop(world, CONSUMERS)
        for name in CONSUMERS:
            world.start(name, '--idle', '5')
        finish(world, CONSUMERS, fine=(0, 3))  # 3: nothing was left
    return times


def table(times):
    """Return rows that tell of each fault how often it came, and how long the messages took to come again."""
    yield ROW.format('fault', 'times', 'median', 'max')
    for fault in [*dict.fromkeys(fault for fault, _ in times), 'all']:
        took = [seconds for name, seconds in times if fault in (name, 'all')]
        if took:
            yield ROW.format(
                fault, len(took), f'{statistics.median(took):.1f} s', f'{max(took):.1f} s'
            )


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--url',
        dest='yours',
        metavar='URL[,URL]',
        help='your broker (default: a cluster of its own, whatever AMQP_URL says)',
    )
    parser.add_argument(
        '--minutes',
        type=flags.number(float, 0),
        default=10,
        metavar='M',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--seed',
        type=flags.number(int, 0),
        default=secrets.randbelow(10**6),
        metavar='N',
        help='of the faults (default: a new one)',
    )
    parser.add_argument(
        '--queue-type', choices=('classic', 'quorum'), default='quorum', help='default: %(default)s'
    )
    parser.add_argument(
        '--folder',
        metavar='DIR',
        help='where ledger and logs are kept (default: a temporary one, removed if all is valid)',
    )
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    try:
        args.endpoints = args.yours is not None and common.endpoints(args.yours, 'soak.py')
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv=None):
    args = parse_args(argv)
    folder = args.folder or tempfile.mkdtemp(prefix='siamese-soak-')
    os.makedirs(folder, exist_ok=True)
    open(f'{folder}/run.jsonl', 'x').close()
    where = 'your broker' if args.yours else 'a cluster of its own'
    if args.json != '-':
        print(f'seed {args.seed}, {args.minutes * 60:g} s of faults on {where}')
    try:
        times = soak(args, folder)
    except (broker.NotInstalled, broker.DidNotStart) as error:
        if not args.folder and not os.path.getsize(f'{folder}/run.jsonl'):
            shutil.rmtree(folder)
        raise common.Failure(str(error), 3) from None
    except common.Failure as failure:
        raise common.Failure(f'{failure}; see {folder}', failure.status) from None
    except KeyboardInterrupt:
        logging.error('interrupted; see %s', folder)
        raise
    if args.json != '-':
        print(*table(times), sep='\n')
    found = audit.audit(books.read([f'{folder}/run.jsonl']))
    verdict, status, _ = audit.judge(found)
    script.report(
        args,
        '{books}\n{verdict}',
        {
            'seed': args.seed,
            'faults': times,
            'verdict': verdict,
            'exit_status': status,
            'books': ', '.join(f'{len(found[name]):,} {name}' for name in BOOKS),
        },
    )
    if not status and not args.folder:
        shutil.rmtree(folder)
    return status


if __name__ == '__main__':
    script.run(main)
