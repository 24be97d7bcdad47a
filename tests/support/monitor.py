"""A monitor.py at work in tests, and what it has written."""

import contextlib
import sqlite3
import time

import pika
from support.processes import wait_until

from common import Failure
from siamese.monitoring import database, dead_letters
from siamese.testbed import rabbitmq as broker_module

METRICS = ('published', 'delivered', 'acked', 'redelivered', 'expired', 'rejected', 'other')


def reader(path):
    """Return the history that a monitor writes, once it is there."""
    wait_until(path.exists, path)

    def opened():
        with contextlib.suppress(Failure):  # monitor.py has not written its tables yet
            return database.open_for_reading(str(path))

    return wait_until(opened, 'a history')


def totals(db, period='year'):
    """Return {queue: figures} of a history, which must all be of one period."""
    return {
        row['queue']: tuple(row[name] for name in METRICS) for row in database.by_period(db, period)
    }


def watch(start, broker, path, *flags, **env):
    """Start a monitor, and wait until it has collected once."""
    monitor = start(
        'monitor.py',
        '--history',
        path,
        '--interval',
        0.5,
        '--management-url',
        broker.management_url or 'http://127.0.0.1:1',
        *flags,
        **env,
    )
    monitor.wait_for('ready')
    db, now = reader(path), time.time()
    if broker.management_url:
        wait_until(lambda: (database.get_fact(db, 'collected') or 0) > now, 'a collection')
    return monitor, db


def dead_ids(db):
    return sorted(row['message_id'] for row in dead_letters.find(db, limit=-1)[0])


@contextlib.contextmanager
def a_broker(*plugins):
    with broker_module.throwaway(
        management='rabbitmq_management' in plugins, started=False
    ) as broker:
        broker.processes.guard.write('enabled_plugins', f'[{",".join(plugins)}].')
        broker.start()
        yield broker


def published(channel, queue, count, **properties):
    for number in range(count):
        channel.basic_publish(
            '',
            queue,
            b'Hello',
            pika.BasicProperties(message_id=f'{queue}-{number}', delivery_mode=2, **properties),
            mandatory=True,
        )


@contextlib.contextmanager
def locked(path):
    """Lock a history: monitor.py has dead letters in hand, and cannot store them."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        yield
        other.execute('ROLLBACK')


def is_back(monitor, times):
    """Return whether a monitor has come back so many times."""
    return ''.join(monitor.err).count('back after') == times
