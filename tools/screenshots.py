#!/usr/bin/env python3
"""Take the pictures of README.md and docs/explanation/dashboard.md, in Chromium.

dashboard.py shows the history of an example. See make screenshots; make demo-svg
records the demo.
"""

import contextlib
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from siamese.monitoring import (  # noqa: E402
    clients,
    database,
    dead_letters,
    queues,
)

IMAGES = ROOT / 'docs' / 'images'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
HOUR_S = 3600
DAY_S = 86_400
RECENT_S = 900
INTERVAL_S = 5  # of monitor.py
SETTLE_MS = 1500  # dialogs and charts move in
COLOURS = 256  # of a picture, so that it is small


class Picture(NamedTuple):
    name: str
    path: str
    size: tuple  # width and height
    scheme: str
    click: str = ''  # text of the row to open


PICTURES = [
    Picture('queues', '/', (1280, 1160), 'light'),
    Picture('queues-dark', '/', (1280, 1160), 'dark'),
    Picture('queue', '/queue?name=orders.north', (1280, 900), 'light'),
    Picture('dead-letter', '/dead', (1280, 900), 'light', 'id-2'),
    Picture('clients', '/clients', (1280, 560), 'light'),
    Picture('history', '/history', (1280, 900), 'light'),
    Picture('phone', '/', (390, 844), 'dark'),
]


# ---- the example: queues

RATES = {  # messages/s
    'siamese.blocks': 8,
    'siamese.perf': 40,
    'siamese.ack': 3,
    'siamese.rpc': 12,
    'anna': 1,
    'bert': 1,
    'orders.north': 6,
    'orders.south': 4,
    'invoices': 0.3,
    'siamese.dead': 0,
}
UNREAD = 'bert'  # this queue has no consumer
SEED = 7


def queue_row(name, at, published):
    """Return a queue as queues.update() takes it.

    `published` is how many messages it has got until the time `at`.
    """
    wave = math.sin(at / 240 + len(name))
    rate = RATES[name] * (1.3 + wave) / 1.3
    row = {
        'name': name,
        'type': 'classic',
        'state': 'running',
        'ready': 10,
        'unacked': 0,
        'consumers': 0,
        'publish_rate': rate,
        'deliver_rate': 0,
        'ack_rate': 0,
        'published': int(published),
        'delivered': 0,
        'acked': 0,
        'redelivered': 0,
    }
    if name != UNREAD:
        row.update(
            ready=int(rate % 5),
            unacked=int(rate % 7),
            consumers=2,
            deliver_rate=rate,
            ack_rate=rate,
            delivered=int(published),
            acked=int(published),
            redelivered=int(published / 900),
        )
    return row


def times_until(now):
    """Return when the example was collected: more and more often."""
    days = [now - day * DAY_S for day in range(400, 2, -1)]
    hours = [now - hour * HOUR_S for hour in range(48, 0, -1)]
    seconds = range(RECENT_S, -1, -INTERVAL_S)
    return [*days, *hours, *(now - second for second in seconds)]


def write_queues(db, now):
    random.seed(SEED)
    published = dict.fromkeys(RATES, 0.0)
    before = None
    for at in times_until(now):
        elapsed = at - (before or at - DAY_S)
        activity = 1.0
        if time.gmtime(at).tm_wday >= 5:  # the weekend
            activity = 0.4
        for name, rate in RATES.items():
            chance = random.uniform(0.7, 1.2)
            published[name] += rate * activity * chance * elapsed
        rows = [queue_row(name, at, total) for name, total in published.items()]
        queues.update(db, at, rows, 1e9 + at)
        before = at


# ---- the example: dead letters

DEATHS = [  # queue, reason, sender, body
    ('bert', 'expired', 'frank', b'Hello world'),
    (
        'orders.north',
        'rejected',
        'shop',
        '{"testdict": {"مفتاح": "قيمة", "键": "值", "キー": "値"}}'.encode(),
    ),
    (
        'invoices',
        'delivery_limit',
        'billing',
        b'\xff\xfe{"amount": 12}\x00<script>alert(1)</script>',
    ),
]
LETTERS = 40
BETWEEN_LETTERS_S = 2900


def dead_letter(number, now):
    """Return a dead letter as dead_letters.insert() takes it."""
    queue, reason, sender, body = DEATHS[number % len(DEATHS)]
    headers = {
        'x-attempt': 1,
        'x-first-death-reason': 'rejected',
    }
    return {
        'at': now - number * BETWEEN_LETTERS_S,
        'queue': queue,
        'reason': reason,
        'exchange': 'siamese.fanout',
        'routing_key': '',
        'sender': sender,
        'message_id': f'id-{number}',
        'body': body,
        'encoded': b'\0\0',
        'redelivered': False,
        'tag': 1,
        'properties': {
            'content_type': 'application/json',
            'headers': headers,
        },
    }


def write_dead_letters(db, now):
    numbers = range(LETTERS, 0, -1)
    found = [dead_letter(number, now) for number in numbers]
    dead_letters.insert(db, found, 'example', now)


# ---- the example: clients


class Client(NamedTuple):
    does: str
    published: int
    delivered: int


CLIENTS = {
    'alice@north:4711': Client('publishes', 4000, 0),
    'bob@north:4802': Client('publishes', 3000, 0),
    'carol@south:911': Client('consumes siamese.blocks', 0, 6900),
    'frank@south:1204': Client('publishes', 900, 0),
    'shop@web1:20117': Client('publishes', 50_000, 0),
    'till@web2:311': Client('consumes orders.north', 0, 48_000),
}
ABSENT = {  # seconds before now: who was not connected
    9000: (),
    4000: ('carol@south:911', 'till@web2:311'),
    3800: (),
    60: ('frank@south:1204',),
    0: ('frank@south:1204',),
}
WORK_S = 10_000  # in which they have published so many


def write_clients(db, now):
    for seconds, absent in ABSENT.items():
        at = now - seconds
        done = 1 - seconds / WORK_S
        present = {}
        for name, client in CLIENTS.items():
            if name not in absent:
                connected = client_of(name, client, at, done)
                present[name, 'guest'] = connected
        clients.update(db, at, present)


def client_of(name, client, at, done):
    """Return a client as clients.update() takes it."""
    connection = f'{name} {at // 5000}'
    counts = (
        int(client.published * done),
        int(client.delivered * done),
    )
    return {
        'does': client.does,
        'blocked': False,
        'connections': {connection: counts},
    }


# ---- the example: the broker

LOOKS_EVERY_S = 60  # monitor.py would be silent after three times as much
PLACE = 'broker.example.org:5672/%2F'
NODE = {
    'name': 'rabbit@broker',
    'running': True,
    'alarms': [],
    'uptime': 3 * DAY_S,
    'mem_used': 212_000_000,
    'mem_limit': 3_200_000_000,
    'disk_free': 41_000_000_000,
    'disk_free_limit': 50_000_000,
    'fd_used': 63,
    'fd_total': 65_536,
}


def write_example(path):
    """Write the history of a year, and of the last 15 minutes."""
    now = time.time()
    opened = database.open_for_writing(path)
    with contextlib.closing(opened) as db:
        db.execute('PRAGMA synchronous = OFF')
        write_queues(db, now)
        write_dead_letters(db, now)
        write_clients(db, now)
        database.set_facts(
            db,
            state='up',
            since=now - 3 * DAY_S,
            place=PLACE,
            product='RabbitMQ',
            version='3.10.8',
            collected=now,
            monitor={
                'name': 'monitor.py',
                'seen': now,
                'interval': LOOKS_EVERY_S,
            },
            nodes=[NODE],
        )


# ---- taking pictures


def take(browser, base, picture):
    width, height = picture.size
    tab = browser.new_page(
        viewport={'width': width, 'height': height},
        color_scheme=picture.scheme,
    )
    tab.goto(base + picture.path)
    tab.get_by_role('row').nth(1).wait_for()
    if picture.click:
        row = tab.get_by_role('row').filter(has_text=picture.click)
        row.first.get_by_role('button').click()
        tab.locator('pre.body').wait_for()
    tab.wait_for_timeout(SETTLE_MS)
    save(tab, picture.name)


def save(tab, name, **how):
    file = IMAGES / f'{name}.png'
    tab.screenshot(path=file, **how)
    picture = Image.open(file).convert('RGB')
    picture.quantize(COLOURS).save(file, optimize=True)
    print(f'{file}  {os.path.getsize(file) / 1000:.0f} kB')


@contextlib.contextmanager
def dashboard(folder):
    """Run dashboard.py in a folder; yield its URL."""
    server = subprocess.Popen(
        [sys.executable, ROOT / 'dashboard.py', '--port', '0'],
        cwd=folder,
        stdout=subprocess.PIPE,
        encoding='utf-8',
    )
    try:
        assert server.stdout
        yield server.stdout.readline().split()[0]
    finally:
        server.terminate()
        server.wait()


def main():
    IMAGES.mkdir(exist_ok=True)
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder:
        write_example(f'{folder}/{database.DEFAULT_FILE}')
        with dashboard(folder) as base, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program)
            for picture in PICTURES:
                take(browser, base, picture)
            browser.close()


if __name__ == '__main__':
    main()
