"""Histories that a test writes in place of monitor.py."""

import contextlib
import threading
import time

from siamese.monitoring import clients, database, dead_letters, queues


def seen_now(db, **facts):
    now = time.time()
    database.set_facts(
        db,
        state='up',
        since=now - 90,
        place='127.0.0.1:5672/%2F',
        product='RabbitMQ',
        version='3.10.8',
        collected=now,
        monitor={'name': 'monitor.py@test', 'seen': now, 'interval': 1200},
        **facts,
    )


def queue(name, ready=0, unacked=0, consumers=1, **more):
    """Return a queue as queues.update() takes it."""
    return {
        'name': name,
        'type': 'classic',
        'state': 'running',
        'ready': ready,
        'unacked': unacked,
        'consumers': consumers,
        **dict.fromkeys(database.RATES, 0),
        **dict.fromkeys(database.COUNTED, 0),
        **more,
    }


def collect(db, *rows, at=None):
    queues.update(db, at or time.time(), list(rows), 1e6)


def client(name, user, does):
    """Return one client as clients.update() takes it."""
    return {
        (name, user): {
            'does': does,
            'blocked': False,
            'connections': {'1': (0, 0)},
        }
    }


def bury(db, **letter):
    """Store a dead letter."""
    dead_letters.insert(
        db,
        [
            {
                'at': time.time(),
                'queue': 'work',
                'reason': 'expired',
                'exchange': '',
                'routing_key': 'work',
                'sender': 'alice',
                'message_id': '',
                'body': b'hello',
                'encoded': b'\0\0',
                'properties': {},
                'redelivered': False,
                'tag': 1,
                **letter,
            }
        ],
        'test',
        time.time(),
    )


QUEUES = 30
WRITE_EVERY_S = 0.3


class Writing:
    """How often new figures have been written."""

    times = 0


def write_figures(db, number):
    """Write figures that differ from those of every other number."""
    rows = []
    for place in range(QUEUES):
        moved = number * (place + 1)
        rows.append(
            queue(
                f'queue.{place:02}',
                ready=(number * 7 + place * 13) % 100,
                unacked=number % 10,
                published=moved,
                delivered=moved,
            )
        )
    collect(db, *rows)
    present = {}
    for place in range(5):
        connections = {str(place): (number * 3, number * place)}
        present[f'client {place}', 'guest'] = {
            'does': 'publishes',
            'blocked': False,
            'connections': connections,
        }
    clients.update(db, time.time(), present)
    bury(db, message_id=f'letter {number}')
    seen_now(db)


@contextlib.contextmanager
def changing(file):
    """Write new figures again and again while the block runs; yield a Writing."""
    writing = Writing()
    done = threading.Event()

    def write():
        with contextlib.closing(database.open_for_writing(str(file))) as db:
            while not done.wait(WRITE_EVERY_S):
                writing.times += 1
                write_figures(db, writing.times)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield writing
    finally:
        done.set()
        thread.join()
