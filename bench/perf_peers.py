#!/usr/bin/env python3
"""Measure what scenario 2 promises side by side with its peers: the same work, one
broker, one run.

    $ python bench/perf_peers.py --rounds 1 --peers rabbitmq-c,PerfTest

Starts a throwaway RabbitMQ. A process inside it writes down the broker's own
counters every 5 ms, so that rates and start times are observed from outside of
the programs, in one way for all; and each run's counters must show that the
program did the work: all messages received, confirmed, delivered and
acknowledged, none twice.

Peers are the programs in bench/peers/; each takes the same words, ends by
itself, and prints one line of JSON:

    PROGRAM produce URL QUEUE COUNT WINDOW   BATCH SIZE RATE    {"sent": COUNT}
    PROGRAM consume URL QUEUE COUNT PREFETCH BATCH SIZE RATE    {"received": COUNT,
                                                                 "latency_us": [...]}

RATE is in messages/s, 0 means as fast as possible, and only with a rate the
consumer keeps the latencies. A message carries in message_id when it was sent,
in ns. ./tools/setup.sh peers prepares what they need.
"""

import argparse
import csv
import json
import re
import sys
import time
from collections import defaultdict, namedtuple
from statistics import median

from harness import RunFailed, machine, own_peak, percentile, put, table, weigh

from siamese.testbed import rabbitmq

# Messages: unconfirmed, unacknowledged, in one acknowledgement.
WINDOW = 200
PREFETCH = 500
BATCH = 100
SIZE = 256  # bytes of a body
# The latency runs: messages/s, and seconds before and while measuring.
RATE = 1000
WARM_UP_S = 2
SECONDS = 10
TICK_MS = 5  # between looks at the counters
COUNTER_TIMEOUT_S = 60  # until the work must show in the counters

# Written to the file only when something changed: time in ns, then the fields of Sample.
WATCH = """spawn(fun() ->
    {ok, File} = file:open("PATH", [raw, append]),
    Watch = fun Watch(Last) ->
        All = rabbit_global_counters:overview(),
        #{consumers := Consumers,
          messages_received_total := Received, messages_confirmed_total := Confirmed} =
            maps:get([{protocol, amqp091}], All),
        #{messages_delivered_total := Delivered, messages_acknowledged_total := Acked} =
            maps:get([{protocol, amqp091}, {queue_type, rabbit_classic_queue}], All),
        Now = [Consumers, Received, Confirmed, Delivered, Acked],
        Line = io_lib:format("~b ~b ~b ~b ~b ~b~n", [os:system_time(nanosecond) | Now]),
        Now == Last orelse file:write(File, Line),
        timer:sleep(TICK),
        Watch(Now)
    end,
    Watch([])
end)."""
Sample = namedtuple('Sample', 'time consumers received confirmed delivered acked')
Work = namedtuple('Work', 'url queue count batch size rate')
Run = namedtuple('Run', 'outputs cpu memory began base samples')


# ---- the contenders


def siamese(work):
    """Our own pair."""
    common = [
        '--url',
        work.url,
        '--queue',
        work.queue,
        '--count',
        work.count,
        '--quiet',
        '--json',
        '-',
    ]
    return [
        [
            sys.executable,
            'perf_consumer.py',
            *common,
            '--prefetch',
            PREFETCH,
            '--ack-every',
            work.batch,
            *(['--csv', '/dev/stdout'] if work.rate else []),
        ],
        [
            sys.executable,
            'perf_producer.py',
            *common,
            '--confirm',
            WINDOW,
            '--size',
            work.size,
            *(['--rate', work.rate] if work.rate else []),
        ],
    ]


def siamese_latency(run):
    """Return what peer_latency does, from the consumer's CSV row of each second and its JSON."""
    *rows, summary = run.outputs[0].splitlines()
    seconds = [
        (int(row['median_us']), int(row['p99_us'])) for row in csv.DictReader(rows) if row['p99_us']
    ]
    return seconds, json.loads(summary)['latency_us']['p99']


def peer(*program):
    """Return a function that gives the commands of a peer, which takes the
    words above, for a Work.
    """

    def commands(work):
        common = work.batch, work.size, work.rate
        return [
            [*program, 'consume', work.url, work.queue, work.count, PREFETCH, *common],
            [*program, 'produce', work.url, work.queue, work.count, WINDOW, *common],
        ]

    return commands


def peer_latency(run):
    """Return [(p50, p99) of each second] and the p99 of all, in us, from the consumer's JSON."""
    every = json.loads(run.outputs[0].splitlines()[-1])['latency_us']
    seconds = [every[i : i + RATE] for i in range(0, len(every), RATE)]
    return [(percentile(second, 50), percentile(second, 99)) for second in seconds], percentile(
        every, 99
    )


def perf_test(*jvm):
    """Return a function that gives the command of PerfTest for a Work: one JVM
    produces and consumes.

    --flag persistent makes the queue durable; the messages are transient all
    the same, by deliveryMode=1.
    """

    def commands(work):
        return [
            [
                *JAVA[:1],
                *jvm,
                *JAVA[1:],
                '--uri',
                work.url,
                '--producers',
                1,
                '--consumers',
                1,
                '--pmessages',
                work.count,
                '--cmessages',
                work.count,
                '--confirm',
                WINDOW,
                '--qos',
                PREFETCH,
                '--multi-ack-every',
                work.batch,
                '--size',
                work.size,
                '--predeclared',
                '--exchange',
                'amq.default',
                '--queue',
                work.queue,
                '--routing-key',
                work.queue,
                '--auto-delete',
                'false',
                '--flag',
                'persistent',
                '--message-properties',
                'deliveryMode=1',
                *(['--rate', work.rate] if work.rate else []),
            ]
        ]

    return commands


def perf_test_latency(run):
    """Return what peer_latency does, from PerfTest's line of each second and its last one."""
    seconds, (whole,) = (
        re.findall(pattern, run.outputs[0])
        for pattern in (r'consumer latency: ([\d/]+)', r'consumer latency min\S* ([\d/]+)')
    )
    return [(int(second.split('/')[1]), int(second.split('/')[4])) for second in seconds], int(
        whole.split('/')[4]
    )


JAVA = ['java', '-cp', 'bench/.peers/java/*', 'com.rabbitmq.perf.PerfTest']
NODE = ['env', 'NODE_PATH=bench/.peers/node_modules', 'node']
PYTHON = 'bench/.peers/venv/bin/python'
FAST = 300_000  # messages: about 10 s of work
# `version` is a command that prints it; where that fails the contender is left
# out. Our own pair comes first.
Contender = namedtuple('Contender', 'about version commands latency messages')
CONTENDERS = {
    'siamese': Contender(
        'perf_producer.py and perf_consumer.py',
        [
            sys.executable,
            '-c',
            'import perf_consumer, perf_producer, pika\nprint("pika", pika.__version__)',
        ],
        siamese,
        siamese_latency,
        FAST,
    ),
    'PerfTest': Contender(
        'one JVM with its default options',
        [*JAVA, '--version'],
        perf_test(),
        perf_test_latency,
        FAST,
    ),
    'PerfTest-small': Contender(
        'the same with -Xmx64m -XX:+UseSerialGC',
        [*JAVA, '--version'],
        perf_test('-Xmx64m', '-XX:+UseSerialGC'),
        perf_test_latency,
        FAST,
    ),
    'rabbitmq-c': Contender(
        'bench/peers/rabbitmq_c.c, built with cc -O2',
        ['bench/.peers/rabbitmq_c', 'version'],
        peer('bench/.peers/rabbitmq_c'),
        peer_latency,
        FAST,
    ),
    'amqplib': Contender(
        'bench/peers/amqplib.js, ConfirmChannel',
        [
            *NODE,
            '-p',
            'require("amqplib") && JSON.parse(fs.readFileSync(process.env.NODE_PATH + '
            '"/amqplib/package.json")).version + ", node " + process.version',
        ],
        peer(*NODE, 'bench/peers/amqplib.js'),
        peer_latency,
        FAST,
    ),
    'py-amqp': Contender(
        'bench/peers/py_amqp_window.py',
        [PYTHON, '-c', 'import amqp; print(amqp.__version__)'],
        peer(PYTHON, 'bench/peers/py_amqp_window.py'),
        peer_latency,
        50_000,
    ),
    'aio-pika': Contender(
        'bench/peers/aio_pika_window.py, with uvloop',
        [PYTHON, '-c', 'import aio_pika, uvloop; print(aio_pika.__version__)'],
        peer(PYTHON, 'bench/peers/aio_pika_window.py'),
        peer_latency,
        20_000,
    ),
    'pika-naive': Contender(
        'bench/peers/pika_naive.py, BlockingConnection: each confirm awaited, each message '
        'acknowledged by itself',
        [sys.executable, '-c', 'import pika; print(pika.__version__)'],
        peer(sys.executable, 'bench/peers/pika_naive.py'),
        peer_latency,
        8_000,
    ),
}

# What our pair promises: against whom, in which measure (of MEASURES), the
# ratio ours/theirs is at least or at most.
TARGETS = [
    ('PerfTest', 'rate', '≥', 1),
    ('PerfTest', 'cpu', '≤', 1),
    ('PerfTest', 'memory', '≤', 1 / 4),
    ('PerfTest', 'start', '≤', 1 / 3),
    ('PerfTest', 'p99', '≤', 1.2),
    ('rabbitmq-c', 'rate', '≥', 0.6),
    ('pika-naive', 'rate', '≥', 2),
    ('aio-pika', 'rate', '≥', 2),
    ('py-amqp', 'rate', '≥', 2),
]
SPEED = {
    'rate': 'msg/s',
    'half': 'second half msg/s',
    'cpu': 'CPU µs/msg',
    'memory': 'peak MB',
    'start': 'first message ms',
}
LATENCY = {'p50': 'p50 µs', 'p99': 'p99 µs', 'all99': 'p99 µs with warm-up', 'reached': 'at msg/s'}
MEASURES = {**SPEED, **LATENCY}


# ---- measuring


class Observer:
    """Reads what WATCH writes, in a rabbitmq.RabbitMQ."""

    def __init__(self, broker):
        self.file, self.rest, self.samples = open(f'{broker.folder}/counters', 'w+'), '', []
        broker.ctl('eval', WATCH.replace('PATH', self.file.name).replace('TICK', str(TICK_MS)))
        self.wait_for(lambda: self.samples)

    def look(self):
        """Take in what was written since the last look."""
        *lines, self.rest = (self.rest + self.file.read()).split('\n')
        self.samples += [Sample(*map(int, line.split())) for line in lines]

    def wait_for(self, condition):
        """Wait until condition() is true of self.samples; raise RunFailed if
        that takes too long.
        """
        deadline = time.monotonic() + COUNTER_TIMEOUT_S
        self.look()
        while not condition():
            if time.monotonic() > deadline:
                raise RunFailed(
                    f'the broker did not see the work within {COUNTER_TIMEOUT_S} s: '
                    f'{self.samples[-1:]}'
                )
            time.sleep(TICK_MS / 1000)
            self.look()

    def consumer_came(self):
        self.look()
        return any(
            after.consumers > before.consumers
            for before, after in zip(self.samples, self.samples[1:])
        )

    def run(self, contender, work, together=False):
        """Let a contender do a Work; the producer begins when the consumer is
        there, or together with it.
        """
        del self.samples[:-1]
        base = self.samples[0]
        outputs, cpu, memory, began = weigh(
            *contender.commands(work), ready=None if together else self.consumer_came
        )
        self.wait_for(lambda: self.samples[-1].acked >= base.acked + work.count)
        counted = [last - first for first, last in zip(base[2:], self.samples[-1][2:])]
        if counted != [work.count] * 4:
            raise RunFailed(
                f'{work.count} messages of work, but the broker counted {counted} '
                f'{Sample._fields[2:]}'
            )
        return Run(outputs, cpu, memory, began, base, list(self.samples))


def first(run, field, number):
    """Return when (ns) the broker's counter `field` had grown by `number` in a run."""
    return next(
        sample.time
        for sample in run.samples
        if getattr(sample, field) - getattr(run.base, field) >= number
    )


def full_speed(observer, contender, queue, args):
    """As fast as possible: from the first message that the broker received to
    its last acknowledgement.
    """
    work = Work(args.url, queue, min(contender.messages, args.count), BATCH, args.size, 0)
    run = observer.run(contender, work)
    begin, middle, end = (
        first(run, *event)
        for event in (('received', 1), ('acked', work.count // 2), ('acked', work.count))
    )
    return {
        'rate': work.count / seconds(begin, end),
        'half': (work.count - work.count // 2) / seconds(middle, end),
        'cpu': run.cpu / work.count * 1e6,
        'memory': run.memory,
    }


def first_message(observer, contender, queue, args):
    """From the start of the processes, both at once, to the acknowledgement of a single message."""
    run = observer.run(contender, Work(args.url, queue, 1, 1, args.size, 0), together=True)
    return {'start': (first(run, 'acked', 1) - run.began) / 1e6}


def fixed_rate(observer, contender, queue, args):
    """End to end, at a fixed rate: the median over the seconds of their
    percentiles, after a warm-up.
    """
    work = Work(args.url, queue, RATE * (WARM_UP_S + args.seconds), BATCH, args.size, RATE)
    run = observer.run(contender, work)
    by_second, all99 = contender.latency(run)
    p50, p99 = map(median, zip(*by_second[WARM_UP_S:][: args.seconds]))
    reached = work.count / seconds(first(run, 'received', 1), first(run, 'received', work.count))
    return {'p50': p50, 'p99': p99, 'all99': all99, 'reached': reached}


def seconds(begin, end):
    """Return what lies between two looks at the counters, in s, at least one TICK_MS."""
    return max((end - begin) / 1e9, TICK_MS / 1000)


# ---- telling


def say(message):
    print(time.strftime('%H:%M:%S'), message, file=sys.stderr, flush=True)


def show(value):
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def verdicts(medians):
    """Return the rows of the table of targets, from {contender: {measure: median}}."""
    rows = []
    for against, measure, relation, limit in TARGETS:
        ours, theirs = (medians.get(name, {}).get(measure) for name in ('siamese', against))
        if ours is None or theirs is None:
            ratio, verdict = '', 'not measured'
        else:
            ratio = f'{ours / theirs:.2f}'
            verdict = (
                'met'
                if (ours / theirs >= limit if relation == '≥' else ours / theirs <= limit)
                else 'not met'
            )
        rows.append((against, MEASURES[measure], ratio, f'{relation} {limit:.2f}', verdict))
    return rows


def section(results, left_out, versions, conditions, args):
    """Return the lines of RESULTS.md, from {contender: {measure: [value of each round]}}."""
    medians = {
        name: {measure: median(values) for measure, values in measured.items()}
        for name, measured in results.items()
    }
    floor = 2 * own_peak()
    speed, latency = [], []
    for name, measured in medians.items():
        cells = {measure: show(value) for measure, value in measured.items()}
        if measured['memory'] < floor * 1.02:
            cells['memory'] = f'≤ {floor:.0f}'
        rates = results[name]['rate']
        speed.append(
            (
                name,
                f'{min(CONTENDERS[name].messages, args.count):,}',
                *(cells[measure] for measure in SPEED),
                f'{show(min(rates))} – {show(max(rates))}',
            )
        )
        if args.seconds:
            latency.append((name, *(cells[measure] for measure in LATENCY)))
    return [
        f'{conditions}; {args.rounds} rounds in changing order.',
        '',
        'All do the same work: one producer and one consumer at once, on a broker on the '
        'same machine; '
        f'at most {WINDOW} unconfirmed messages, prefetch {PREFETCH}, manual '
        f'acknowledgements {BATCH} at a time, body '
        f'{args.size} bytes, transient messages, a durable classic queue, the default '
        'exchange. The counters of the '
        'broker have shown for each run that every message was received, confirmed, '
        'delivered and acknowledged once. '
        'Beyond that siamese compares every byte and, like PerfTest, keeps statistics; '
        'the others only count.',
        '',
        *(f'- **{name}** {versions[name]}: {CONTENDERS[name].about}' for name in results),
        '',
        *(f'- left out: **{name}**, {why}' for name, why in left_out.items()),
        *([''] if left_out else []),
        *table(('', 'messages', *SPEED.values(), 'msg/s lowest – highest'), speed),
        '',
        '- msg/s: from the first message that the broker received to its last '
        'acknowledgement, observed in the broker '
        f'every {TICK_MS} ms; start-up of the processes is not in it, their warm-up is. '
        'Second half: of the messages.',
        '- CPU: user and system time of the client processes from start to end, by the '
        'number of messages. Programs '
        'that compile while they run (Java, node) need less of it the longer they run.',
        '- Peak memory: the sum of the highest resident sizes of the client processes. '
        'It cannot be seen below '
        f'{floor:.0f} MB.',
        '- First message: from the start of both processes at once until the broker has '
        'the acknowledgement of a '
        'single message, in runs of their own.',
        '',
        *(
            latency
            and [
                f'End to end at {RATE:,} messages/s:',
                '',
                *table(('', *LATENCY.values()), latency),
                '',
                f'- p50, p99: for {args.seconds} s after {WARM_UP_S} s of warm-up: of each '
                'second the nearest-rank '
                'percentile, of the seconds the median. With warm-up: of the whole run '
                'at once (PerfTest: of a sample of '
                'about 1,000). At msg/s: the rate that was really reached.',
                '- Counted from when a message was sent, for siamese from when it was '
                'due, which is never later.',
                '',
            ]
        ),
        *table(('siamese against', 'in', 'ratio', 'target', ''), verdicts(medians)),
    ]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--peers', metavar='A,B', default=','.join(CONTENDERS), help='default: %(default)s'
    )
    parser.add_argument('--rounds', metavar='N', type=int, default=5, help='default: %(default)s')
    parser.add_argument(
        '--count',
        metavar='N',
        type=int,
        default=FAST,
        help=f'messages at most, a multiple of {BATCH} '
        '(default: %(default)s; slow peers send fewer)',
    )
    parser.add_argument(
        '--size', metavar='BYTES', type=int, default=SIZE, help='of a body (default: %(default)s)'
    )
    parser.add_argument(
        '--seconds',
        metavar='S',
        type=int,
        default=SECONDS,
        help='of a latency run, 0: none (default: %(default)s)',
    )
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    names = args.peers.split(',')
    if unknown := set(names) - set(CONTENDERS):
        parser.error(f'no such peer: {", ".join(unknown)}')
    if args.count % BATCH:
        parser.error(f'--count {args.count} is not a multiple of {BATCH}')

    results, left_out, versions, conditions = {}, {}, {}, machine()

    def leave_out(name, why):
        left_out[name] = why
        results.pop(name, None)
        say(f'{name} is left out: {why}')

    for name in names:
        versions[name], why = version(name)
        if why:
            leave_out(name, why)
        else:
            results[name] = defaultdict(list)
    with rabbitmq.throwaway() as throwaway:
        args.url = throwaway.url
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        observer = Observer(throwaway)
        for phase in (full_speed, first_message, fixed_rate)[: 3 if args.seconds else 2]:
            for number in range(args.rounds):
                order = list(results)
                start = number % max(1, len(order))
                for name in order[start:] + order[:start]:
                    queue = f'siamese.bench.{name}.{phase.__name__}.{number}'
                    try:
                        measured = phase(observer, CONTENDERS[name], queue, args)
                    except RunFailed as failure:
                        leave_out(name, str(failure))
                        continue
                    for measure, value in measured.items():
                        results[name][measure].append(value)
                    say(
                        f'{phase.__name__} {number + 1}/{args.rounds} {name}: '
                        + ', '.join(
                            f'{show(value)} {MEASURES[measure]}'
                            for measure, value in measured.items()
                        )
                    )
    if not results:
        return 1
    lines = section(results, left_out, versions, conditions, args)
    if args.write:
        put('Scenario 2: performance beside its peers', lines)
    else:
        print(*lines, sep='\n')
    return 0


def version(name):
    """Return (version of a contender as its program tells it, '') or ('', why
    it cannot run here).
    """
    try:
        (out,), *_ = weigh(CONTENDERS[name].version)
    except RunFailed as failure:
        return '', f'{failure} (./tools/setup.sh peers prepares the peers, where it can)'
    lines = re.sub(r'\x1b\S*?m|\(.*?\)|,? vendor.*', '', out).splitlines()
    return ', '.join(line.strip() for line in lines[:3]), ''


if __name__ == '__main__':
    sys.exit(main())
