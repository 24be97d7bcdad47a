"""perf_producer.py on a real broker.

What arrives, how many, how evenly, and what a fault does to its figures.
"""

import csv
import json
import re
import signal
import sys
import time

import pytest
from support.books import ids_in
from support.processes import Running, let_fault_last, wait_until
from support.queues import drain, kill_broker

from siamese.scenarios import performance as perf
from siamese.scenarios.timing import QUANTILES
from siamese.testbed import rabbitmq as broker_module

QUEUE = 'siamese.perf'


def summary_of(done):
    assert done.status == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize('flags, mode', [((), 1), (('--persistent',), 2)])
def test_an_independent_reader_finds_every_message(run, channel, flags, mode):
    summary = summary_of(
        run('perf_producer.py', '--count', 1023, '--name', 'älice', '--json', '-', *flags)
    )
    messages = drain(channel, QUEUE)
    assert summary['published'] == summary['confirmed'] == len(messages) == 1023
    assert summary['stopped'] == 'count reached' and summary['spoiled'] == []
    body, _ = perf.body_of('utf-8', 256)
    assert {body for _, body in messages} == {body} and '🐇' in json.loads(body)[
        'testdict'
    ].values()
    numbers = [properties.message_id.split('-') for properties, _ in messages]
    assert [(run, int(number)) for run, number, _ in numbers] == [
        (summary['run'], n) for n in range(1, 1024)
    ]
    assert {
        (properties.delivery_mode, properties.content_type, properties.app_id)
        for properties, _ in messages
    } == {(mode, 'application/json; charset=utf-8', 'älice')}


def test_encoding_size_priority_and_time_to_live(run, channel):
    summary_of(
        run(
            'perf_producer.py',
            '--count',
            5,
            '--encoding',
            'utf-16',
            '--size',
            1000,
            '--priority',
            3,
            '--ttl',
            600,
            '--queue-arg',
            'x-max-priority=5',
            '--json',
            '-',
        )
    )
    messages = [channel.basic_get(QUEUE, auto_ack=True) for _ in range(5)]
    assert {(properties.priority, properties.expiration) for _, properties, _ in messages} == {
        (3, '600000')
    }
    assert {len(body) for *_, body in messages} == {1000}
    assert json.loads(messages[0][2].decode('utf-16'))['testdict']['键'] == '值'


def test_bodies_of_several_frames(run, channel):
    summary_of(run('perf_producer.py', '--count', 3, '--size', 1_000_001, '--json', '-'))
    assert {body for _, body in drain(channel, QUEUE)} == {perf.body_of('utf-8', 1_000_001)[0]}


@pytest.mark.parametrize('kind', ['quorum', 'stream'])
def test_queue_types(run, channel, kind):
    summary = summary_of(
        run('perf_producer.py', '--count', 100, '--queue-type', kind, '--json', '-')
    )
    assert summary['confirmed'] == 100
    if kind == 'quorum':
        assert len(drain(channel, QUEUE)) == 100


def test_without_confirms_it_says_that_nothing_is_proved(run, channel):
    done = run('perf_producer.py', '--count', 5000, '--confirm', 0)
    assert done.status == 0 and '5,000 published, no confirms, so nothing is proved' in done.out
    assert (
        len(drain(channel, QUEUE)) == 5000
    )  # it went well all the same, for it closed in good order


def test_a_rate_is_kept_evenly(run, channel):
    summary = summary_of(run('perf_producer.py', '--rate', 200, '--duration', 10, '--json', '-'))
    assert summary['published_per_s'] == pytest.approx(200, rel=0.05)
    messages = drain(channel, QUEUE)
    assert summary['published'] == summary['confirmed'] == len(messages)
    due = [
        due for properties, _ in messages for due in perf.dues_of([properties.message_id.encode()])
    ]
    gaps = [after - before for before, after in zip(due, due[1:])]
    assert all(4_998 <= gap <= 5_002 for gap in gaps)  # µs: due one by one, not in bursts


def test_messages_arrive_one_by_one_and_not_in_bursts(start, channel):
    producer, at = start('perf_producer.py', '--rate', 100, '--count', 500, '--quiet'), []
    producer.wait_for('ready')
    for _ in channel.consume(QUEUE, auto_ack=True):
        at.append(time.monotonic())
        if len(at) == 500:
            break
    gaps = [after - before for before, after in zip(at, at[1:])]
    assert (
        sorted(gaps)[len(gaps) // 2] > 0.005
    )  # s: half of what they should be; in bursts most are 0
    assert producer.end().status == 0


@pytest.mark.parametrize('rate, count', [(1, 2), (20, 30)])
def test_a_rate_is_right_for_few_messages_too(run, rate, count):
    summary = summary_of(run('perf_producer.py', '--rate', rate, '--count', count, '--json', '-'))
    assert (
        rate * 0.2 < summary['published_per_s'] <= rate
        and rate * 0.2 < summary['confirmed_per_s'] <= rate
    )
    assert summary['measured_s'] >= count / rate


def test_the_first_window_takes_its_time_as_well(run):
    summary = summary_of(run('perf_producer.py', '--count', 50, '--size', 1_000_000, '--json', '-'))
    assert (
        summary['measured_s'] * 1e6 > summary['latency_us']['max'] * 0.98
    )  # the last confirm waited that long


def test_large_messages_wait_where_they_take_no_memory(url):
    code = (
        'import perf_producer; '
        f'perf_producer.main(["--url", "{url}", "--count", "200", '
        '"--size", "1000000", "--quiet"]); '
        'print(open("/proc/self/status").read())'
    )  # ru_maxrss may be that of the process that started this one
    done = Running(sys.executable, '-c', code).end()
    assert int(re.search(r'VmHWM:\s+(\d+) kB', done.out)[1]) < 80_000, (
        done.err
    )  # the window holds 200,000 kB


def test_the_warm_up_is_left_out(run):
    summary = summary_of(
        run('perf_producer.py', '--rate', 100, '--count', 400, '--warm-up', 2, '--json', '-')
    )
    assert summary['published'] == 400 and summary['measured_s'] < 2.5
    assert summary['published_per_s'] == pytest.approx(100, rel=0.1)


def test_a_warm_up_that_is_not_over(run):
    done = run('perf_producer.py', '--rate', 100, '--count', 250, '--warm-up', 9, '--quiet')
    assert done.status == 0
    assert done.out.endswith('\nno result: the run ended before the warm-up of 9 s was over\n')
    done = run('perf_consumer.py', '--exit-when-empty', '--warm-up', 9, '--json', '-')
    summary = json.loads(done.out)
    assert done.status == 0 and summary['delivered'] == 250
    assert (summary['delivered_per_s'], summary['latency_us'], summary['measured_s']) == (0, {}, 0)


def is_nearly_whole(count):
    return abs(count - round(count)) < 0.2


def test_a_line_and_a_row_each_second(run, tmp_path):
    done = run(
        'perf_producer.py',
        '--rate',
        50,
        '--count',
        175,
        '--csv',
        tmp_path / 'run.csv',
        '--name',
        'alice',
        '--ttl',
        60,
        '--queue-arg',
        'x-max-length=900',
    )
    lines = done.out.splitlines()
    assert lines.pop(0) == (
        'queue siamese.perf (classic), 256 bytes of utf-8, transient, confirm window 200, '
        '50 msg/s, ttl 60 s, x-max-length=900'
    )
    head = lines.pop(0)
    assert head.split() == ['time', 'published', 'confirmed', *QUANTILES]
    ends = head.index('published') + len('published'), len(head)
    rows = list(csv.DictReader(open(tmp_path / 'run.csv')))
    assert 1 <= len(rows) <= 3
    for line, row in zip(lines, rows):
        assert line.split()[:2] == [f'{float(row["time_s"]):.0f}', 's']
        assert line[ends[0] - 2 : ends[0]] == '/s' and line[ends[1] :] == ' ms'
    published = int(lines[-2].split()[0])
    assert published == 175 and lines[-2].endswith('stopped: count reached')
    assert 'confirm latency min/median/p75/p95/p99/max ' in lines[-1]
    counts = []
    for before, row in zip([{'time_s': 0}, *rows], rows):
        seconds = float(row['time_s']) - float(before['time_s'])
        counts.append(float(row['published_per_s']) * seconds)
    assert all(map(is_nearly_whole, counts)), counts
    assert 0 < sum(counts) < published + 1
    assert all(
        float(row['min_us']) <= float(row['median_us']) <= float(row['max_us']) for row in rows
    )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(start, channel, number):
    producer = start('perf_producer.py', '--json', '-')
    producer.wait_for('ready')
    wait_until(
        lambda: channel.queue_declare(QUEUE, passive=True).method.message_count > 1000,
        'a thousand messages',
    )
    summary = summary_of(producer.stop(number))
    assert summary['stopped'] == number.name
    assert summary['published'] == summary['confirmed'] == len(drain(channel, QUEUE))


def test_a_broker_that_stalls_is_not_hidden(start):
    with broker_module.throwaway() as broker:
        producer = start(
            'perf_producer.py', '--rate', 100, '--count', 600, '--json', '-', AMQP_URL=broker.url
        )
        consumer = start('perf_consumer.py', '--count', 600, '--json', '-', AMQP_URL=broker.url)
        producer.wait_for('ready')
        consumer.wait_for('ready')
        broker.pause()
        let_fault_last(2)
        broker.resume()
        sent, received = summary_of(producer.end()), summary_of(consumer.end())
    # 200 of 600 messages fell due in a stall of 2 s: the longest waited nearly 2 s,
    # and one in six more than 1 s.
    for figures in sent, received:
        assert figures['latency_us']['max'] > 1_500_000 and figures['latency_us']['p95'] > 1_000_000


def test_every_confirmed_message_survives_a_killed_broker(start, tmp_path):
    with broker_module.throwaway() as broker:
        producer = start(
            'perf_producer.py', '--persistent', '--rate', 2000, '--json', '-', AMQP_URL=broker.url
        )
        producer.wait_for('ready')
        kill_broker(broker)
        producer.wait_for('connection lost')
        broker.start()
        producer.wait_for('back after')
        summary = summary_of(producer.stop())
        assert (
            summary['confirmed'] == summary['published'] > 0
            and summary['spoiled'][0] == '1 lost connection'
        )
        consumer = start(
            'perf_consumer.py',
            '--exit-when-empty',
            '--ledger',
            tmp_path / 'c.jsonl',
            '--json',
            '-',
            AMQP_URL=broker.url,
        )
        assert summary_of(consumer.end())['invalid'] == 0
    numbers = {id.split('-')[1] for id in ids_in(tmp_path / 'c.jsonl', 'acked')}
    assert len(numbers) == summary['confirmed']


def test_a_blocked_connection_is_shown_and_spoils_the_run(start, broker, channel):
    producer = start('perf_producer.py', '--rate', 50)
    producer.wait_for('ready')
    broker.ctl('set_vm_memory_high_watermark', 0)
    try:
        producer.wait_for('broker blocks publishers: low on memory, ', producer.out)
    finally:
        broker.ctl('set_vm_memory_high_watermark', 0.4)
    producer.wait_for('no longer blocks publishers')
    done = producer.stop()
    assert done.status == 0 and 's blocked by the broker' in done.out.splitlines()[-1]


def test_a_connection_that_is_blocked_from_the_start(start, broker, channel, tmp_path):
    broker.ctl('set_vm_memory_high_watermark', 0)
    try:
        producer = start('perf_producer.py', '--count', 1000, '--json', tmp_path / 'summary')
        producer.wait_for('  broker blocks publishers: low on memory, ', producer.out)
    finally:
        broker.ctl('set_vm_memory_high_watermark', 0.4)
    assert producer.end().status == 0
    summary = json.loads((tmp_path / 'summary').read_text())
    blocked_s = float(summary['spoiled'][0].split()[0])
    assert blocked_s > 0.5 and summary['measured_s'] > blocked_s - 0.05  # that is rounded to 0.1
    assert summary['confirmed_per_s'] == pytest.approx(1000 / summary['measured_s'], rel=0.01)


def test_a_broker_that_never_comes_back_spoils_the_run(start, tmp_path):
    with broker_module.throwaway() as broker:
        consumer = start('perf_consumer.py', '--json', '-', AMQP_URL=broker.url)
        producer = start(
            'perf_producer.py', '--rate', 100, '--json', tmp_path / 'summary', AMQP_URL=broker.url
        )
        consumer.wait_for('ready')
        producer.wait_for('/s  ', producer.out)
        broker.kill()
        for running in consumer, producer:
            running.wait_for('connection lost')
        assert json.loads(consumer.stop().out)['spoiled'] == ['1 lost connection']
        producer.send(signal.SIGTERM)
        producer.wait_for('finishing the work in hand')
        assert producer.stop().status == 130
    assert json.loads((tmp_path / 'summary').read_text())['spoiled'] == ['1 lost connection']


def test_a_duration_ends_it_though_no_broker_came(run):
    done = run('perf_producer.py', '--duration', 0.5, '--url', 'amqp://127.0.0.1:1')
    assert (
        done.status == 3
        and '0 published, 0 confirmed' in done.out
        and 'stopped: --duration before it began: broker unavailable' in done.out
    )


FULL = ('--queue-arg', 'x-max-length=20', '--queue-arg', 'x-overflow=reject-publish')


def test_who_stops_while_a_queue_is_full_is_told_that_the_broker_nacks(start):
    producer = start('perf_producer.py', *FULL, '--stop-timeout', 0.5)
    producer.wait_for('broker nacks messages')
    done = producer.stop(signal.SIGTERM)
    assert done.status == 3
    assert 'not confirmed 0.5 s after SIGTERM: the broker nacks them; see --stop' in done.err


def test_nacks_spoil_the_run(start, channel):
    producer = start('perf_producer.py', '--count', 60, *FULL, '--json', '-')
    producer.wait_for('broker nacks messages')
    received = []
    while len(received) < 60:
        received += drain(channel, QUEUE)
    summary = summary_of(producer.end())
    assert (
        summary['confirmed'] == 60
        and summary['spoiled'] == [f'{summary["nacked"]} nacked']
        and summary['nacked'] > 0
    )


@pytest.mark.parametrize(
    'flags, complaint',
    [
        (['--size', '10'], 'must be from 256 to'),
        (['--size', '257', '--encoding', 'utf-16'], 'do not hold the text'),
        (['--confirm', '-1'], 'must be at least 0'),
        (['--queue-arg', 'x'], 'is not KEY=VALUE'),
        (['--rate', '0'], 'must be at least 0.001, not 0'),
        (['--rate', 'inf'], 'must be at least 0.001, not inf'),
        (['--csv', '-'], 'name of a file'),
        (['--csv', '/none/x'], 'cannot write'),
        (['--encoding', 'latin-1'], 'invalid'),
    ],
)
def test_bad_flags(run, flags, complaint):
    done = run('perf_producer.py', *flags)
    assert (
        done.status == 2 and complaint in done.err and done.err.count('\n') == 1 and done.out == ''
    )


def test_a_queue_argument_the_broker_does_not_take(run):
    done = run('perf_producer.py', '--count', 1, '--queue-arg', 'x-max-length=-5')
    assert done.status == 3 and 'Traceback' not in done.err and 'x-max-length' in done.err
