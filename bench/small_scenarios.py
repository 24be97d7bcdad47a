#!/usr/bin/env python3
"""Measure what scenarios 3 to 5 promise: RPC beside the form of the RabbitMQ
tutorial 6, start-up, and memory.

    $ python bench/small_scenarios.py --rounds 1 --messages 100000

Starts a throwaway RabbitMQ. In the tutorial's form client and server use a
BlockingConnection, one question at a time, prefetch 1, an acknowledgement for
each question; both servers call sympy's isprime.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid

import memory
import pika
from harness import ROOT, bench_parser, log, machine, report, rotated, table

from siamese.testbed import rabbitmq

QUESTIONS = 3000  # of a round one at a time, and ten times as many with a window
WINDOW = 64
SCRIPTS = (
    'fanout_producer.py',
    'fanout_consumer.py',
    'ack_producer.py',
    'ack_consumer.py',
    'rpc_client.py',
    'rpc_server.py',
)
# As on a machine in use, where the second start finds what the first has compiled.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != 'PYTHONDONTWRITEBYTECODE'
}
BARE = """
import sys, pika
pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
print("ready", flush=True)
"""
CONNECT = 'import pika; connect'  # what BARE does
HIGHEST_MB = 40  # for scripts without sympy
# Ratios: start-up at most; RPC one at a time, and with a window, at least.
START = 1.5
ONE = 1
MANY = 4
HELP_S = 0.3  # until --help is there


# ---- the tutorial's form


def tutorial_server(url):
    """Answer questions until killed."""
    from sympy import isprime

    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.queue_declare('tutorial', durable=True)

    def answer(channel, method, properties, body):
        channel.basic_publish(
            '',
            properties.reply_to,
            str(isprime(int(body))),
            pika.BasicProperties(correlation_id=properties.correlation_id),
        )
        channel.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume('tutorial', answer)
    print('ready', flush=True)
    channel.start_consuming()


def tutorial_client(url, count):
    """Ask for `count` odd numbers, one after the other; print the rate as JSON."""
    answers = {}
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    own = channel.queue_declare('', exclusive=True).method.queue

    def take(channel, method, properties, body):
        answers[properties.correlation_id] = body

    channel.basic_consume(own, take, auto_ack=True)
    began = time.monotonic()
    for number in range(1, 2 * count, 2):
        id = str(uuid.uuid4())
        channel.basic_publish(
            '', 'tutorial', str(number), pika.BasicProperties(reply_to=own, correlation_id=id)
        )
        while id not in answers:
            connection.process_data_events(time_limit=None)
        answers.clear()
    print(json.dumps({'answers_per_s': count / (time.monotonic() - began)}))


# ---- measuring


@contextlib.contextmanager
def running(*command, until='ready'):
    """Run a program; yield it, and how long it took, in s, until it printed a
    line with `until`. SIGTERM ends it.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding='utf-8',
        env=ENVIRONMENT,
    )
    try:
        for line in process.stdout or ():
            if until in line:
                break
        else:
            sys.exit(f'{command[0]} ended with status {process.wait()}')
        yield process, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def rate_of(*command):
    """Run a client; return the answers/s it measured."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return json.loads(done.stdout)['answers_per_s']


def questions(url, rounds):
    """Return the rows of RPC: (name, questions/s, ratio, the ratio promised)."""
    ours = ['rpc_client.py', '--url', url, '--quiet', '--json', '-', '--verify', '--count']
    commands = {
        'the form of tutorial 6': [__file__, 'client', url, QUESTIONS],
        'rpc_client.py, one at a time': [*ours, QUESTIONS],
        f'rpc_client.py --window {WINDOW}': [*ours, 10 * QUESTIONS, '--window', WINDOW],
    }
    rates: dict[str, list] = {name: [] for name in commands}
    with running(__file__, 'server', url), running('rpc_server.py', '--quiet', '--url', url):
        for number in range(rounds):
            for name in rotated(commands, number):
                rates[name].append(rate_of(*commands[name]))
    medians = [statistics.median(rates[name]) for name in commands]
    promises = ('', f'≥ {ONE}', f'≥ {MANY}')
    return [
        (name, f'{rate:,.0f}', f'{rate / medians[0]:.2f}', promise)
        for name, rate, promise in zip(commands, medians, promises)
    ]


def starts(url, rounds):
    """Return the rows of start-up: (name, s until ready, ratio, the ratio promised)."""
    took: dict[str, list] = {name: [] for name in (CONNECT, *SCRIPTS)}
    for _ in range(rounds):
        for name in took:
            command = ['-c', BARE, url]
            if name in SCRIPTS:
                command = [name, '--url', url]
            with running(*command) as (_, seconds):
                took[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    bare = medians[CONNECT]
    rows = []
    for name, seconds in medians.items():
        promise = f'≤ {START}'
        if name in (CONNECT, 'rpc_server.py'):
            promise = ''
        rows.append((name, f'{seconds:.2f}', f'{seconds / bare:.2f}', promise))
    return rows


def slowest_help(rounds):
    """Return a line that tells which script takes longest for its --help."""
    took = {}
    for name in [path.name for path in ROOT.glob('*.py') if os.access(path, os.X_OK)]:
        seconds = []
        for _ in range(rounds):
            began = time.monotonic()
            subprocess.run(
                [sys.executable, name, '--help'],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                check=True,
                env=ENVIRONMENT,
            )
            seconds.append(time.monotonic() - began)
        took[name] = statistics.median(seconds)
    name = max(took, key=took.__getitem__)
    return (
        f'Of {len(took)} scripts {name} takes longest for its --help: {took[name]:.2f} s '
        f'(promised: {HELP_S} s).'
    )


def memories(url, count):
    """Return the rows of memory over `count` messages: those of memory.watch, and the promise."""
    with running('fanout_consumer.py', 'bench', '--url', url):  # makes the queue
        pass
    rows = []
    for pair in pairs(url, count):
        names = ' and '.join(name for name, *_ in pair)
        log(f'memory of {names}: {count:,} messages ...')
        found, _ = memory.watch(*pair)
        for row in found:
            promise = f'≤ {HIGHEST_MB} MB'
            if row[0] == 'rpc_server.py':
                promise = ''
            rows.append((*row, promise))
    return rows


def pairs(url, count):
    """Return the commands of each pair whose memory is watched over `count` messages."""
    common = ['--url', url, '--quiet']
    fast = ['--rate', 10**6, *common]
    ends = ['--count', count]
    return [
        (
            ['fanout_producer.py', '--ttl', 3600, *fast, *ends],
            ['fanout_consumer.py', 'bench', *common, *ends],
        ),
        (
            ['ack_producer.py', *fast, *ends],
            ['ack_consumer.py', '--ack', 99, '--reject', 1, *common],
        ),
        (
            ['rpc_client.py', '--window', WINDOW, *common, *ends],
            ['rpc_server.py', *common],
        ),
    ]


def main(argv=None):
    parser = bench_parser(__doc__, rounds=9)
    parser.add_argument(
        '--messages',
        metavar='N',
        type=int,
        default=1_000_000,
        help='of the memory runs (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    conditions = machine()
    with rabbitmq.throwaway() as throwaway:
        conditions += f', RabbitMQ {throwaway.ctl("version").strip()}, {args.rounds} rounds.'
        log('questions and starts ...')
        asked = questions(throwaway.url, args.rounds)
        started = starts(throwaway.url, args.rounds)
        helped = slowest_help(args.rounds)
        kept = memories(throwaway.url, args.messages)
    shares = [f'{share:.0%}' for share in memory.SHARES]
    lines = [
        conditions,
        '',
        'Questions: both sides of each pair, and the broker, on this machine.',
        '',
        *table(('', 'questions/s', 'ratio', 'promised'), asked),
        '',
        'From start to ready:',
        '',
        *table(('', 's', 'ratio', 'promised'), started),
        '',
        helped,
        '',
        f'Resident memory in MB after so much of the time of {args.messages:,} messages; '
        'the highest after the first tenth, by that at the first tenth:',
        '',
        *table(('', *shares, 'highest', '', 'promised'), kept),
    ]
    report('Scenarios 3 to 5: questions, start, memory', lines, args.write)


if __name__ == '__main__':
    if sys.argv[1:2] == ['server']:
        tutorial_server(sys.argv[2])
    elif sys.argv[1:2] == ['client']:
        tutorial_client(sys.argv[2], int(sys.argv[3]))
    else:
        main()
