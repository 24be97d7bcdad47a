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
in ns. In the environment KIND is transient; of the C programs bench/perf_kinds.py
also wants persistent messages, and persistent ones in a quorum queue.
./tools/setup.sh peers prepares what they need.
"""

import csv
import json
import operator
import re
import sys
import time
from collections import defaultdict, namedtuple
from statistics import median

from harness import (
    RunFailed,
    bench_parser,
    log,
    machine,
    own_peak,
    percentile,
    report,
    rotated,
    table,
    weigh,
)

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
        %% The key is a list in RabbitMQ 3.10 and 4.0, and a map in 4.3.
        Of = fun(Key) -> maps:get(Key, All, maps:get(maps:from_list(Key), All, none)) end,
        #{consumers := Consumers,
          messages_received_total := Received, messages_confirmed_total := Confirmed} =
            Of([{protocol, amqp091}]),
        #{messages_delivered_total := Delivered, messages_acknowledged_total := Acked} =
            Of([{protocol, amqp091}, {queue_type, rabbit_TYPE_queue}]),
        Now = [Consumers, Received, Confirmed, Delivered, Acked],
        Line = io_lib:format("~b ~b ~b ~b ~b ~b~n", [os:system_time(nanosecond) | Now]),
        Now == Last orelse file:write(File, Line),
        timer:sleep(TICK),
        Watch(Now)
    end,
    Watch([])
end)."""
Sample = namedtuple('Sample', 'time consumers received confirmed delivered acked')
Work = namedtuple('Work', 'url queue count batch size rate kind', defaults=['transient'])
Run = namedtuple('Run', 'outputs cpu memory began base samples')


# ---- the contenders


def siamese(work):
    """Our own pair."""
    common = ['--url', work.url, '--queue', work.queue, '--count', work.count]
    common += ['--quiet', '--json', '-']
    consumer = ['--prefetch', PREFETCH, '--ack-every', work.batch]
    producer = ['--confirm', WINDOW, '--size', work.size]
    if work.kind != 'transient':
        producer += ['--persistent']
    if work.kind == 'quorum':
        common += ['--queue-type', 'quorum']
    if work.rate:
        consumer += ['--csv', '/dev/stdout']
        producer += ['--rate', work.rate]
    return [
        [sys.executable, 'perf_consumer.py', *common, *consumer],
        [sys.executable, 'perf_producer.py', *common, *producer],
    ]


def siamese_latency(run):
    """Return what peer_latency does, from the consumer's CSV row of each second and its JSON."""
    *lines, summary = run.outputs[0].splitlines()
    rows = [row for row in csv.DictReader(lines) if row['p99_us']]
    seconds = [(int(row['median_us']), int(row['p99_us'])) for row in rows]
    return seconds, json.loads(summary)['latency_us']['p99']


def peer(*program):
    """Return a function that gives the commands of a peer, which takes the
    words above, for a Work.
    """

    def commands(work):
        what = [work.url, work.queue, work.count]
        how = [work.batch, work.size, work.rate]
        kind = ['env', f'KIND={work.kind}']
        return [
            [*kind, *program, 'consume', *what, PREFETCH, *how],
            [*kind, *program, 'produce', *what, WINDOW, *how],
        ]

    return commands


def peer_latency(run):
    """Return [(p50, p99) of each second] and the p99 of all, in us, from the consumer's JSON."""
    every = json.loads(run.outputs[0].splitlines()[-1])['latency_us']
    seconds = [every[i : i + RATE] for i in range(0, len(every), RATE)]
    by_second = [(percentile(second, 50), percentile(second, 99)) for second in seconds]
    return by_second, percentile(every, 99)


def perf_test(*jvm):
    """Return a function that gives the command of PerfTest for a Work: one JVM
    produces and consumes.

    --flag persistent makes the queue durable; the messages are transient all
    the same, by deliveryMode=1.
    """

    def commands(work):
        java, *main = JAVA
        command = [java, *jvm, *main, '--uri', work.url]
        command += ['--producers', 1, '--consumers', 1]
        command += ['--pmessages', work.count, '--cmessages', work.count]
        command += ['--confirm', WINDOW, '--qos', PREFETCH, '--multi-ack-every', work.batch]
        command += ['--size', work.size, '--predeclared', '--exchange', 'amq.default']
        command += ['--queue', work.queue, '--routing-key', work.queue, '--auto-delete', 'false']
        command += ['--flag', 'persistent', '--message-properties', 'deliveryMode=1']
        if work.rate:
            command += ['--rate', work.rate]
        return [command]

    return commands


def perf_test_latency(run):
    """Return what peer_latency does, from PerfTest's line of each second and its last one."""
    output = run.outputs[0]
    seconds = re.findall(r'consumer latency: ([\d/]+)', output)
    (whole,) = re.findall(r'consumer latency min\S* ([\d/]+)', output)
    _, all99 = median_and_p99(whole)
    return [median_and_p99(second) for second in seconds], all99


def median_and_p99(printed):
    """Return two of the five figures that PerfTest prints: min/median/75th/95th/99th."""
    figures = printed.split('/')
    return int(figures[1]), int(figures[4])


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
    'rabbitmq-c-tuned': Contender(
        'bench/peers/rabbitmq_c_tuned.c: the library connects; then batches over its socket, '
        'the limit',
        ['bench/.peers/rabbitmq_c_tuned', 'version'],
        peer('bench/.peers/rabbitmq_c_tuned'),
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
        'acknowledged singly',
        [sys.executable, '-c', 'import pika; print(pika.__version__)'],
        peer(sys.executable, 'bench/peers/pika_naive.py'),
        peer_latency,
        8_000,
    ),
}

RELATIONS = {'≥': operator.ge, '≤': operator.le}
# What our pair promises: against whom, in which measure (of MEASURES), the
# ratio ours/theirs is at least or at most.
TARGETS = [
    ('rabbitmq-c', 'rate', '≥', 1),
    ('rabbitmq-c', 'half', '≥', 1),
    ('rabbitmq-c', 'cpu', '≤', 1.3),
    ('rabbitmq-c', 'p50', '≤', 1.2),
    ('rabbitmq-c', 'p99', '≤', 1.5),
    ('PerfTest', 'rate', '≥', 1.7),
    ('PerfTest', 'half', '≥', 1.4),
    ('PerfTest', 'cpu', '≤', 0.45),
    ('PerfTest', 'p50', '≤', 1.2),
    ('PerfTest', 'p99', '≤', 1),
    ('PerfTest', 'memory', '≤', 1 / 4),
    ('PerfTest', 'start', '≤', 1 / 3),
    ('amqplib', 'rate', '≥', 1.3),
    ('amqplib', 'p50', '≤', 1.2),
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
    """Reads what WATCH writes, in a rabbitmq.RabbitMQ, of classic or of quorum queues."""

    def __init__(self, broker, queue_type='classic'):
        self.file = open(f'{broker.folder}/counters-{queue_type}', 'w+')
        self.rest = ''  # of a line that is not written to its end
        self.samples: list[Sample] = []
        watch = WATCH.replace('PATH', self.file.name).replace('TICK', str(TICK_MS))
        watch = watch.replace('TYPE', queue_type)
        broker.ctl('eval', watch)
        self.wait_for(lambda: self.samples)

    def read_new_lines(self):
        """Add what was written since the last call to self.samples."""
        *lines, self.rest = (self.rest + self.file.read()).split('\n')
        self.samples += [Sample(*map(int, line.split())) for line in lines]

    def wait_for(self, condition):
        """Wait until condition() is true of self.samples; raise RunFailed if
        that takes too long.
        """
        deadline = time.monotonic() + COUNTER_TIMEOUT_S
        self.read_new_lines()
        while not condition():
            if time.monotonic() > deadline:
                raise RunFailed(
                    f'the broker did not see the work within {COUNTER_TIMEOUT_S} s: '
                    f'{self.samples[-1:]}'
                )
            time.sleep(TICK_MS / 1000)
            self.read_new_lines()

    def consumer_came(self):
        self.read_new_lines()
        pairs = zip(self.samples, self.samples[1:])
        return any(after.consumers > before.consumers for before, after in pairs)

    def counted_since(self, base):
        """Return by how much each counter of messages has grown."""
        return [last - first for first, last in zip(base[2:], self.samples[-1][2:])]

    def run(self, contender, work, together=False):
        """Let a contender do a Work; the producer begins when the consumer is
        there, or together with it.
        """
        self.read_new_lines()  # the other observer may have been at work meanwhile
        del self.samples[:-1]
        base = self.samples[0]
        ready = None if together else self.consumer_came
        outputs, cpu, memory, began = weigh(*contender.commands(work), ready=ready)
        # A persistent message may be acknowledged before it is confirmed.
        self.wait_for(lambda: min(self.counted_since(base)) >= work.count)
        counted = self.counted_since(base)
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


def full_speed(observer, contender, queue, args, kind='transient'):
    """As fast as possible: from the first message that the broker received to
    its last acknowledgement.
    """
    count = min(contender.messages, args.count)
    work = Work(args.url, queue, count, BATCH, args.size, 0, kind)
    run = observer.run(contender, work)
    half = work.count // 2
    begin = first(run, 'received', 1)
    middle = first(run, 'acked', half)
    end = first(run, 'acked', work.count)
    return {
        'rate': work.count / seconds(begin, end),
        'half': (work.count - half) / seconds(middle, end),
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
    begin = first(run, 'received', 1)
    end = first(run, 'received', work.count)
    reached = work.count / seconds(begin, end)
    return {'p50': p50, 'p99': p99, 'all99': all99, 'reached': reached}


def seconds(begin, end):
    """Return what lies between two looks at the counters, in s, at least one TICK_MS."""
    return max((end - begin) / 1e9, TICK_MS / 1000)


# ---- telling


def show(value):
    if value >= 100:
        return f'{value:,.0f}'
    return f'{value:.3g}'


def verdicts(medians):
    """Return the rows of the table of targets, from {contender: {measure: median}}."""
    rows = []
    for against, measure, relation, limit in TARGETS:
        ours = medians.get('siamese', {}).get(measure)
        theirs = medians.get(against, {}).get(measure)
        target = f'{relation} {limit:.2f}'
        if ours is None or theirs is None:
            rows.append((against, MEASURES[measure], '', target, 'not measured'))
        else:
            ratio = ours / theirs
            verdict = verdict_of(ratio, relation, limit)
            rows.append((against, MEASURES[measure], f'{ratio:.2f}', target, verdict))
    return rows


def verdict_of(ratio, relation, limit):
    is_met = RELATIONS[relation](ratio, limit)
    return 'met' if is_met else 'not met'


def speed_rows(results, medians, least_mb, args):
    """Return the rows of the table of speeds; memory cannot be seen below `least_mb`."""
    rows = []
    for name, measured in medians.items():
        cells = {measure: show(value) for measure, value in measured.items()}
        if measured['memory'] < least_mb * 1.02:
            cells['memory'] = f'≤ {least_mb:.0f}'
        rates = results[name]['rate']
        rows.append(
            (
                name,
                f'{min(CONTENDERS[name].messages, args.count):,}',
                *(cells[measure] for measure in SPEED),
                f'{show(min(rates))} – {show(max(rates))}',
            )
        )
    return rows


def speed_lines(results, medians, args):
    """Return the lines about the runs at full speed, and what their columns mean."""
    least_mb = 2 * own_peak()
    rows = speed_rows(results, medians, least_mb, args)
    return [
        *table(('', 'messages', *SPEED.values(), 'msg/s lowest – highest'), rows),
        '',
        '- msg/s: from the first message that the broker received to its last acknowledgement, '
        f'observed in the broker every {TICK_MS} ms; start-up of the processes is not in it, their '
        'warm-up is. Second half: of the messages.',
        '- CPU: user and system time of the client processes from start to end, by the number of '
        'messages. Programs that compile while they run (Java, node) need less of it the longer '
        'they run.',
        '- Peak memory: the sum of the highest resident sizes of the client processes. It cannot '
        f'be seen below {least_mb:.0f} MB.',
        '- First message: from the start of both processes at once until the broker has the '
        'acknowledgement of a single message, in separate runs.',
        '',
    ]


def latency_lines(medians, args):
    """Return the lines about the runs at a fixed rate; none if there were none."""
    if not args.seconds:
        return []
    rows = []
    for name, measured in medians.items():
        rows.append((name, *(show(measured[measure]) for measure in LATENCY)))
    return [
        f'End to end at {RATE:,} messages/s:',
        '',
        *table(('', *LATENCY.values()), rows),
        '',
        f'- p50, p99: for {args.seconds} s after {WARM_UP_S} s of warm-up: of each second the '
        'nearest-rank percentile, of the seconds the median. With warm-up: of the whole run at '
        'once (PerfTest: of a sample of about 1,000). At msg/s: the rate that was really reached.',
        '- Counted from when a message was sent, for siamese from when it was due, which is never '
        'later.',
        '',
    ]


def section(results, left_out, versions, conditions, args):
    """Return the lines of RESULTS.md, from {contender: {measure: [value of each round]}}."""
    medians = {
        name: {measure: median(values) for measure, values in measured.items()}
        for name, measured in results.items()
    }
    absent = [f'- left out: **{name}**, {why}' for name, why in left_out.items()]
    if absent:
        absent.append('')
    return [
        f'{conditions}; {args.rounds} rounds in changing order.',
        '',
        'All do the same work: one producer and one consumer at once, on a broker on the same '
        f'machine; at most {WINDOW} unconfirmed messages, prefetch {PREFETCH}, manual '
        f'acknowledgements {BATCH} at a time, body {args.size} bytes, transient messages, a '
        'durable classic queue, the default exchange. The counters of the broker have shown for '
        'each run that every message was received, confirmed, delivered and acknowledged once. '
        'Beyond that siamese compares every byte and, like PerfTest, keeps statistics; the others '
        'only count.',
        '',
        *(f'- **{name}** {versions[name]}: {CONTENDERS[name].about}' for name in results),
        '',
        *absent,
        *speed_lines(results, medians, args),
        *latency_lines(medians, args),
        *table(('siamese against', 'in', 'ratio', 'target', ''), verdicts(medians)),
    ]


class Comparison:
    """The contenders that can run here, and what was measured of each."""

    def __init__(self, names):
        # {contender: {measure: [value of each round]}}
        self.results: dict[str, dict[str, list[float]]] = {}
        self.left_out: dict[str, str] = {}  # why
        self.versions: dict[str, str] = {}
        for name in names:
            self.versions[name], why = version(name)
            if why:
                self.leave_out(name, why)
            else:
                self.results[name] = defaultdict(list)

    def leave_out(self, name, why):
        self.left_out[name] = why
        self.results.pop(name, None)
        log(f'{name} is left out: {why}')

    def measure(self, observer, phase, number, args):
        """Run one round of a phase: each contender once."""
        for name in rotated(self.results, number):
            queue = f'siamese.bench.{name}.{phase.__name__}.{number}'
            try:
                measured = phase(observer, CONTENDERS[name], queue, args)
            except RunFailed as failure:
                self.leave_out(name, str(failure))
                continue
            for measure, value in measured.items():
                self.results[name][measure].append(value)
            shown = [f'{show(value)} {MEASURES[measure]}' for measure, value in measured.items()]
            log(f'{phase.__name__} {number + 1}/{args.rounds} {name}: {", ".join(shown)}')


def parse_args(argv):
    """Return the flags, and the names of the peers."""
    parser = bench_parser(__doc__, rounds=5)
    parser.add_argument(
        '--peers', metavar='A,B', default=','.join(CONTENDERS), help='default: %(default)s'
    )
    parser.add_argument(
        '--count',
        metavar='N',
        type=int,
        default=FAST,
        help=f'messages at most, a multiple of {BATCH} '
        '(default: %(default)s; slow peers publish fewer)',
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
    args = parser.parse_args(argv)
    names = args.peers.split(',')
    unknown = set(names) - set(CONTENDERS)
    if unknown:
        parser.error(f'no such peer: {", ".join(unknown)}')
    if args.count % BATCH:
        parser.error(f'--count {args.count} is not a multiple of {BATCH}')
    return args, names


def main(argv=None):
    args, names = parse_args(argv)
    conditions = machine()
    compared = Comparison(names)
    phases = [full_speed, first_message]
    if args.seconds:
        phases.append(fixed_rate)
    with rabbitmq.throwaway() as throwaway:
        args.url = throwaway.url
        conditions += ', RabbitMQ ' + throwaway.ctl('version').strip()
        observer = Observer(throwaway)
        for phase in phases:
            for number in range(args.rounds):
                compared.measure(observer, phase, number, args)
    if not compared.results:
        return 1
    lines = section(
        compared.results,
        compared.left_out,
        compared.versions,
        conditions,
        args,
    )
    report('Scenario 2: performance beside its peers', lines, args.write)
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
