#!/usr/bin/env python3
"""Take the pictures of README.md and docs/dashboard.md, in Chromium. See make screenshots.

make demo is run for its picture; dashboard.py shows the history of an example.
"""

import contextlib
import html
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from siamese.monitoring import clients, queues  # noqa: E402
from siamese.monitoring import database as history  # noqa: E402
from siamese.monitoring import dead_letters as dead  # noqa: E402

IMAGES = os.path.join(ROOT, 'docs', 'images')
HOUR, DAY = 3600, 86_400
RATES = {
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
}  # messages/s
PICTURES = [  # file, page, width and height, colours, what to click
    ('queues', '/', (1280, 900), 'light', None),
    ('queues-dark', '/', (1280, 900), 'dark', None),
    ('queue', '/queue?name=orders.north', (1280, 900), 'light', None),
    ('dead-letter', '/dead', (1280, 900), 'light', 'id-2'),
    ('clients', '/clients', (1280, 560), 'light', None),
    ('phone', '/', (390, 844), 'dark', None),
]
LINES = 34  # of the terminal
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; width: max-content; background: #16181d; color: #d6d9df; padding: 14px 18px }
pre { font: 13px/1.45 'DejaVu Sans Mono', monospace; margin: 0 }
b { color: #7ee2a8; font-weight: normal }
</style><pre>"""


def figures(name, rate, at, total):
    """Return a queue as queues.collect() takes it, at a time at which `total` messages were sent to it."""
    now = rate * (1.3 + math.sin(at / 240 + len(name))) / 1.3
    read = name != 'bert'
    return {
        'name': name,
        'type': 'classic',
        'state': 'running',
        'ready': int(now % 5) if read else 10,
        'unacked': int(now % 7) if read else 0,
        'consumers': 2 if read else 0,
        'publish_rate': now,
        'deliver_rate': now * read,
        'ack_rate': now * read,
        'published': int(total),
        'delivered': int(total * read),
        'acked': int(total * read),
        'redelivered': int(total / 900 * read),
    }


def write_example(path):
    """Write the history of a year, and of the last quarter of an hour, into a file."""
    random.seed(7)
    now = time.time()
    times = [now - days * DAY for days in range(400, 2, -1)] + [
        now - hours * HOUR for hours in range(48, 0, -1)
    ]
    times += [now - seconds for seconds in range(900, -1, -5)]
    totals = dict.fromkeys(RATES, 0.0)
    with contextlib.closing(history.open_for_writing(path)) as db:
        db.execute('PRAGMA synchronous = OFF')
        for before, at in zip([times[0] - DAY, *times], times):
            week = 1 if time.gmtime(at).tm_wday < 5 else 0.4
            for name, rate in RATES.items():
                totals[name] += rate * week * random.uniform(0.7, 1.2) * (at - before)
            queues.collect(
                db,
                at,
                [figures(name, rate, at, totals[name]) for name, rate in RATES.items()],
                1e9 + at,
            )
        bodies = [
            b'Hello world',
            '{"testdict": {"مفتاح": "قيمة", "键": "值", "キー": "値"}}'.encode(),
            b'\xff\xfe{"amount": 12}\x00' + b'<script>alert(1)</script>',
        ]
        dead.insert(
            db,
            [
                {
                    'at': now - number * 2900,
                    'queue': ('bert', 'orders.north', 'invoices')[number % 3],
                    'reason': ('expired', 'rejected', 'delivery_limit')[number % 3],
                    'exchange': 'siamese.fanout',
                    'routing_key': '',
                    'sender': ('frank', 'shop', 'billing')[number % 3],
                    'message_id': f'id-{number}',
                    'body': bodies[number % 3],
                    'encoded': b'\0\0',
                    'redelivered': False,
                    'properties': {
                        'content_type': 'application/json',
                        'headers': {'x-attempt': 1, 'x-first-death-reason': 'rejected'},
                    },
                }
                for number in range(40, 0, -1)
            ],
            'example',
            now,
        )
        people = {
            'alice@north:4711': ('sends', 4000, 0),
            'bob@north:4802': ('sends', 3000, 0),
            'carol@south:911': ('receives siamese.blocks', 0, 6900),
            'frank@south:1204': ('sends', 900, 0),
            'shop@web1:20117': ('sends', 50_000, 0),
            'till@web2:311': ('receives orders.north', 0, 48_000),
        }
        for at, gone in (
            (now - 9000, ()),
            (now - 4000, ('carol@south:911', 'till@web2:311')),
            (now - 3800, ()),
            (now - 60, ('frank@south:1204',)),
            (now, ('frank@south:1204',)),
        ):
            clients.update(
                db,
                at,
                {
                    (name, 'guest'): {
                        'does': does,
                        'blocked': False,
                        'connections': {
                            f'{name} {at // 5000}': (
                                int(sent * (at - now + 1e4) / 1e4),
                                int(received * (at - now + 1e4) / 1e4),
                            )
                        },
                    }
                    for name, (does, sent, received) in people.items()
                    if name not in gone
                },
            )
        history.set_facts(
            db,
            state='up',
            since=now - 3 * DAY,
            place='broker.example.org:5672/%2F',
            product='RabbitMQ',
            version='3.10.8',
            collected=now,
            monitor={'name': 'monitor.py', 'seen': now + HOUR, 'interval': 5},
        )


def take(tab, base, name, path, click):
    """Take a picture, of few colours so that it is small."""
    tab.goto(base + path)
    tab.get_by_role('row').nth(1).wait_for()
    if click:
        tab.get_by_role('row').filter(has_text=click).first.get_by_role('button').click()
        tab.locator('pre.body').wait_for()
    tab.wait_for_timeout(1500)  # dialogs and charts move in
    save(tab, name)


def take_demo(browser):
    """Take a picture of what a terminal shows after make demo: its last lines."""
    done = subprocess.run(
        [sys.executable, 'broker.py', 'demos/blocks.sh'],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding='utf-8',
        check=True,
    )
    *lines, verdict = done.stdout.splitlines()
    tab = browser.new_page(viewport={'width': 200, 'height': 100}, device_scale_factor=2)
    tab.set_content(
        TERMINAL
        + html.escape('\n'.join(lines[1 - LINES :]))
        + f'\n<b>{html.escape(verdict)}</b></pre>'
    )
    save(tab, 'demo', full_page=True)


def save(tab, name, **how):
    file = os.path.join(IMAGES, f'{name}.png')
    tab.screenshot(path=file, **how)
    Image.open(file).convert('RGB').quantize(256).save(file, optimize=True)
    print(f'{file}  {os.path.getsize(file) / 1000:.0f} kB')


def main():
    os.makedirs(IMAGES, exist_ok=True)
    program = next(
        filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')))
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_example(f'{folder}/siamese.db')
        server = subprocess.Popen(
            [sys.executable, f'{ROOT}/dashboard.py', '--port', '0', '--history', 'siamese.db'],
            cwd=folder,
            stdout=subprocess.PIPE,
            encoding='utf-8',
        )
        try:
            base = server.stdout.readline().split()[0]
            browser = playwright.chromium.launch(executable_path=program)
            for name, path, (width, height), colours, click in PICTURES:
                tab = browser.new_page(
                    viewport={'width': width, 'height': height}, color_scheme=colours
                )
                take(tab, base, name, path, click)
            take_demo(browser)
            browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == '__main__':
    main()
