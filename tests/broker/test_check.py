"""nagios.py: what --once --check says of a real broker, and its exit status."""

import subprocess
import sys

import pytest
from support.monitor import a_broker, watch
from support.processes import wait_until

from siamese import ROOT
from siamese.monitoring import clients, database

PLUGINS = 'rabbitmq_management', 'rabbitmq_management_agent'


@pytest.fixture
def own_broker():
    """A broker that a test may stop."""
    with a_broker(*PLUGINS) as broker:
        yield broker


def checker(start, broker, history, *flags):
    """Return a function that checks, and returns the exit status and the line."""

    def check():
        done = start(
            'monitor.py',
            '--once',
            '--check',
            '--history',
            history,
            '--management-url',
            broker.management_url,
            *flags,
            AMQP_URL=broker.url,
        ).end()
        assert len(done.out.encode()) < 1024 and done.out.count('\n') == 1
        return done.status, done.out

    return check


def test_an_alarm_is_critical_and_tells_how_many_are_blocked(start, own_broker, tmp_path):
    _, db = watch(start, own_broker, tmp_path / 'm.db', AMQP_URL=own_broker.url)
    check = checker(start, own_broker, tmp_path / 'm.db')
    without_history = checker(start, own_broker, tmp_path / 'none.db')
    own_broker.ctl('set_vm_memory_high_watermark', 0)
    flags = '--name', 'alice', '--rate', 5, '--quiet'
    start('ack_producer.py', *flags, AMQP_URL=own_broker.url)
    wait_until(lambda: clients.blocked(db), 'a blocked publisher')
    status, line = check()
    assert status == 2
    assert line.startswith('SIAMESE CRITICAL - memory alarm on ')
    assert ': 1 client is blocked' in line and 'raise vm_memory_high_watermark' in line
    status, line = without_history()
    assert status == 2 and line.startswith('SIAMESE CRITICAL - memory alarm on ')
    own_broker.ctl('set_vm_memory_high_watermark', 0.4)
    wait_until(lambda: not database.broker(db)['alarms'], 'the end of the alarm')
    status, line = check()
    assert 'alarm' not in line and status in (0, 1)


def test_an_unavailable_broker_is_critical(start, own_broker, tmp_path):
    _, db = watch(start, own_broker, tmp_path / 'm.db', AMQP_URL=own_broker.url)
    check = checker(start, own_broker, tmp_path / 'm.db')
    without_history = checker(start, own_broker, tmp_path / 'none.db')
    assert check()[0] == 0
    own_broker.ctl('stop_app')
    wait_until(lambda: database.broker(db)['state'] == 'unavailable', 'the state')
    status, line = check()
    assert status == 2
    assert line.startswith('SIAMESE CRITICAL - the broker has been unavailable for ')
    status, line = without_history()
    assert status == 2
    assert line.startswith('SIAMESE CRITICAL - broker unreachable at 127.0.0.1:')
    once = start(
        'monitor.py',
        '--once',
        '--history',
        tmp_path / 'm.db',
        '--management-url',
        own_broker.management_url,
        AMQP_URL=own_broker.url,
    ).end()
    assert once.status == 0
    assert 'critical: the broker has been unavailable for ' in once.out
    assert '    Is it running?' in once.out


def test_a_limit_makes_a_warning_critical(run, broker, channel, tmp_path):
    channel.queue_declare('q', durable=True)
    for _ in range(3):
        channel.basic_publish('', 'q', b'x')
    flags = '--history', tmp_path / 'none.db', '--management-url', broker.management_url
    check = ('monitor.py', '--once', '--check', *flags)
    wait_until(lambda: ' ready=3 ' in run(*check).out, 'the messages')
    at_limit = run(*check, '--critical', 'ready=3,unread=3')
    assert at_limit.status == 1 and ' ready=3;;3 unacked=0 unread=3;;3 ' in at_limit.out
    above = run(*check, '--critical', 'ready=2')
    assert above.status == 2
    assert above.out.startswith('SIAMESE CRITICAL - 3 messages are ready, more than 2; q waits ')


def test_a_caller_reads_it_as_nagios_does(broker, channel, url, tmp_path):
    """Through a shell, with its output cut at 1,024 bytes: status, text and figures are there."""
    channel.queue_declare('a | b $(x) `y`' + 'é' * 100, durable=True)
    channel.basic_publish('', 'a | b $(x) `y`' + 'é' * 100, b'x')
    command = f'{sys.executable} {ROOT}/monitor.py --once --check --history {tmp_path}/none.db'

    def called():
        done = subprocess.run(
            ['sh', '-c', command],
            env={'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url, 'LANG': 'C'},
            capture_output=True,
        )
        return done.returncode == 1 and done

    done = wait_until(called, 'the warning')
    text, bar, figures = done.stdout[:1023].decode().rstrip('\n').partition(' | ')
    assert text.startswith('SIAMESE WARNING - a / b ') and bar
    values = dict(part.split('=') for part in figures.split())
    assert values['ready'] == '1' and values['warnings'] == '1'
    assert done.stderr == b''
