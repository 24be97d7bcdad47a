#!/usr/bin/env python3
"""Measure how soon a message that expired unread is in the history of monitor.py,
on the page, and in a mailbox.

    $ python bench/alert_latency.py --rounds 3

Starts a throwaway RabbitMQ, a mail server, monitor.py and dashboard.py; lets
one message after the other expire, and looks for each until it is everywhere.
--mail-every is 0, for what the mail period adds is known.
"""

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.request

import pika
from aiosmtpd.controller import Controller
from harness import RunFailed, bench_parser, machine, report, running, table

from siamese.monitoring import database, dead_letters
from siamese.testbed import rabbitmq

QUEUE = 'bench.alert_latency'
TTL_S = 0.5
PROMISED_S = 15  # from expiry, without the mail period
ROUND_TIMEOUT_S = 60


class Mailbox:
    """What came to a mail server, as one text."""

    def __init__(self):
        self.text = ''

    async def handle_DATA(self, server, session, envelope):
        self.text += envelope.content.decode(errors='replace')
        return '250 OK'


def publish(channel, id):
    """Publish a message that expires after TTL_S."""
    expiration_ms = str(round(TTL_S * 1000))
    channel.basic_publish(
        exchange='',
        routing_key=QUEUE,
        body=b'Hello world',
        properties=pika.BasicProperties(message_id=id, expiration=expiration_ms, delivery_mode=2),
        mandatory=True,
    )


def follow(channel, id, places):
    """Let a message expire; return after how many s each of the `places`,
    functions that look for it, had it.
    """
    found: dict[str, float] = {}
    began = time.time() + TTL_S
    publish(channel, id)
    while len(found) < len(places):
        for name, has in places.items():
            if name not in found and has(id):
                found[name] = time.time() - began
        if time.time() > began + ROUND_TIMEOUT_S:
            raise RunFailed(f'{id} was not everywhere within {ROUND_TIMEOUT_S} s: {found}')
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def receiving(mailbox):
    """Run a mail server that delivers into a Mailbox; yield its port."""
    server = Controller(mailbox, hostname='127.0.0.1', port=rabbitmq.free_ports(1)[0])
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def monitoring(history, mail_port, env):
    """Run monitor.py for as long as a with-block runs."""
    command = ['monitor.py', '--quiet', '--history', history]
    command += ['--mail-to', 'ops@example.org', '--mail-every', '0']
    command += ['--smtp', f'smtp://127.0.0.1:{mail_port}']
    return running(*command, **env)


def measure(rounds):
    """Return {place: [s of each round]}."""
    mailbox = Mailbox()
    with contextlib.ExitStack() as stack:
        throwaway = stack.enter_context(rabbitmq.throwaway(management=True))
        env = {'AMQP_URL': throwaway.url, 'MANAGEMENT_URL': throwaway.management_url}
        file = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), 'siamese.db')
        mail_port = stack.enter_context(receiving(mailbox))
        db = stack.enter_context(contextlib.closing(database.open_for_writing(file)))
        stack.enter_context(monitoring(file, mail_port, env))
        page = stack.enter_context(running('dashboard.py', '--port', '0', '--history', file, **env))
        base = page.stdout.readline().split()[0]
        connection = stack.enter_context(pika.BlockingConnection(pika.URLParameters(throwaway.url)))
        channel = connection.channel()
        channel.confirm_delivery()
        dead_lettering = {'x-dead-letter-exchange': 'siamese.dlx'}
        channel.queue_declare(queue=QUEUE, durable=True, arguments=dead_lettering)
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
    parser = bench_parser(__doc__, rounds=15)
    args = parser.parse_args(argv)
    conditions = machine()
    took = measure(args.rounds)
    rows = [
        [name, f'{statistics.median(times):.2f}', f'{max(times):.2f}', f'≤ {PROMISED_S} s']
        for name, times in took.items()
    ]
    lines = [
        "From the end of a message's time to live until it is there; "
        f'{args.rounds} rounds, monitor.py with its defaults but --mail-every 0. {conditions}.',
        '',
        *table(['seen in', 'median s', 'longest s', 'promised'], rows),
    ]
    report('From expiry to the mailbox', lines, args.write)
    return int(max(map(max, took.values())) > PROMISED_S)


if __name__ == '__main__':
    sys.exit(main())
