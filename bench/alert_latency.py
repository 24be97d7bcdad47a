#!/usr/bin/env python3
"""Measure how soon a message that expired unread is in the history of monitor.py,
on the page, and in a mailbox.

    $ python bench/alert_latency.py --rounds 3

Starts a throwaway RabbitMQ, a mail server, monitor.py and dashboard.py; lets
one message after the other expire, and looks for each until it is everywhere.
--mail-every is 0, for what the mail period adds is known.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import pika
from aiosmtpd.controller import Controller
from harness import ROOT, RunFailed, machine, put, table

from siamese.monitoring import database, dead_letters
from siamese.testbed import rabbitmq

TTL = 0.5  # s
PROMISED_S = 15  # from expiry, without the mail period
ROUND_TIMEOUT_S = 60


class Mailbox:
    """What came to a mail server, as one text."""

    def __init__(self):
        self.text = ''

    async def handle_DATA(self, server, session, envelope):
        self.text += envelope.content.decode(errors='replace')
        return '250 OK'


@contextlib.contextmanager
def running(*command, **env):
    """Run a script for as long as the with-block runs; yield it."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **env},
        encoding='utf-8',
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def follow(channel, id, places):
    """Let a message expire; return after how many s each of the `places`,
    functions that look for it, had it.
    """
    began, found = time.time() + TTL, {}
    channel.basic_publish(
        '',
        'bench.unread',
        b'Hello world',
        pika.BasicProperties(message_id=id, expiration=str(round(TTL * 1000)), delivery_mode=2),
        mandatory=True,
    )
    while len(found) < len(places):
        for name, has in places.items():
            if name not in found and has(id):
                found[name] = time.time() - began
        if time.time() > began + ROUND_TIMEOUT_S:
            raise RunFailed(f'{id} was not everywhere within {ROUND_TIMEOUT_S} s: {found}')
        time.sleep(0.01)
    return found


def measure(rounds):
    """Return {place: [s of each round]}."""
    mailbox = Mailbox()
    with contextlib.ExitStack() as stack:
        throwaway = stack.enter_context(rabbitmq.throwaway(management=True))
        env = {'AMQP_URL': throwaway.url, 'MANAGEMENT_URL': throwaway.management_url}
        file = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), 'siamese.db')
        mails = Controller(mailbox, hostname='127.0.0.1', port=rabbitmq.free_ports(1)[0])
        mails.start()
        stack.callback(mails.stop)
        db = stack.enter_context(contextlib.closing(database.open_for_writing(file)))
        stack.enter_context(
            running(
                'monitor.py',
                '--quiet',
                '--history',
                file,
                '--mail-to',
                'ops@example.org',
                '--mail-every',
                '0',
                '--smtp',
                f'smtp://127.0.0.1:{mails.port}',
                **env,
            )
        )
        page = stack.enter_context(running('dashboard.py', '--port', '0', '--history', file, **env))
        base = page.stdout.readline().split()[0]
        connection = stack.enter_context(pika.BlockingConnection(pika.URLParameters(throwaway.url)))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(
            'bench.unread', durable=True, arguments={'x-dead-letter-exchange': 'siamese.dlx'}
        )
        while not database.get_fact(db, 'collected'):
            connection.process_data_events(0.1)
        places = {
            'the history': lambda id: dead_letters.find(db, search=id)[1],
            'a page asked for then': lambda id: (
                id in urllib.request.urlopen(f'{base}/dead').read().decode()
            ),
            'the mailbox': lambda id: id in mailbox.text,
        }
        took = []
        for number in range(rounds):
            connection.process_data_events(random.uniform(0, 5))  # at any time between two looks
            took.append(follow(channel, f'unread-{number}-', places))
    return {name: [one[name] for one in took] for name in places}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=15, help='default: %(default)s')
    parser.add_argument(
        '--write', action='store_true', help='write the section of bench/RESULTS.md'
    )
    args = parser.parse_args(argv)
    conditions, took = machine(), measure(args.rounds)
    lines = [
        "From the end of a message's time to live until it is there; "
        f'{args.rounds} rounds, monitor.py with its '
        f'defaults but --mail-every 0. {conditions}.',
        '',
        *table(
            ['seen in', 'median s', 'longest s', 'promised'],
            [
                [name, f'{statistics.median(times):.2f}', f'{max(times):.2f}', f'≤ {PROMISED_S} s']
                for name, times in took.items()
            ],
        ),
    ]
    if args.write:
        put('From expiry to the mailbox', lines)
    else:
        print(*lines, sep='\n')
    return int(max(map(max, took.values())) > PROMISED_S)


if __name__ == '__main__':
    sys.exit(main())
