"""A broker under comparison: the scripts of one check run against it, and nothing of them is left behind."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time

from pika.exceptions import ChannelClosedByBroker

import common
from common import Failure
from siamese import ROOT, script
from siamese.messaging import blocking
from siamese.messaging import errors as faults

AWAY = 10  # s without the broker after which a script gives up
PATIENCE = 120  # s for one script, and for one condition
IDLE = 1  # s without a message after which what still waited has come
# What a script says when the plan or the rights do not allow something; the broker is not to blame for it.
LIMITS = re.compile(r'lacks a right.*?: (.*?);|refuses the (?:queue|name): (.*?);|\((.*limit .*)\)')
# And when the broker is away, or does not let us in (any more).
AWAY_FOR = re.compile(
    r'no broker at|(?:no right for|refuses) (?:user|this token)|the token has expired'
)


class NotPossible(Exception):
    """The plan of the broker or the rights of the user do not allow it; the message says what."""


class Failed(Exception):
    """The broker did not do what it should; the message says what."""


class Away(Exception):
    """The broker is away, or does not let us in, so that nothing can be told; the message says why."""


class Stopped(Exception):
    """A signal asks to stop."""


class Candidate:
    """A broker under comparison: names of our own on it, and the scripts that run against it.

    endpoint: pika parameters of its first URL, after meet() of the first that lets us in; server: the broker's
    properties, after meet(); folder: where scripts write to, to be set before the first one starts; published: messages
    so far, as the scripts count them.
    """

    def __init__(self, urls, budget):
        self.endpoints = common.endpoints(urls, f'compare.py@{os.getpid()}')
        self.urls = [url for url in re.split(r'[,\s]+', urls) if url]
        self.endpoint, self.budget, self.server, self.published = self.endpoints[0], budget, {}, 0
        self.prefix = f'siamese.compare-{secrets.token_hex(4)}'
        self.names, self.processes, self.facts, self.folder = set(), [], {}, None

    def name(self, last):
        """Return a name for a queue or an exchange that nobody else has on this broker."""
        self.names.add(f'{self.prefix}.{last}')
        return f'{self.prefix}.{last}'

    def share(self, most, part):
        """Return how many messages a step may publish: `most`, but no more than its `part` of the budget."""
        return max(5, min(most, int(self.budget * part)))

    @property
    def url(self):
        """The URL of the endpoint."""
        return self.urls[self.endpoints.index(self.endpoint)]

    @property
    def place(self):
        """What may be shown of this URL."""
        return common.display_address(self.endpoint)

    @contextlib.contextmanager
    def channel(self, endpoint=None):
        """Yield a channel of our own, at another `endpoint` if given; raise NotPossible or Away for what goes wrong."""
        try:
            with blocking.connected(endpoint or self.endpoint) as connection:
                try:
                    yield connection.channel()
                except ChannelClosedByBroker as error:
                    if error.reply_code in (403, 406) and not faults.token_expired(
                        error, self.endpoint.credentials
                    ):
                        raise NotPossible(error.reply_text) from None
                    raise Away(
                        faults.fatal_failure(error, self.endpoint) or error.reply_text
                    ) from None
        except Failure as failure:
            raise Away(failure) from None

    def meet(self):
        """Connect, the first time at the first URL that lets us in, and note what the broker says of itself."""
        if not self.server:
            try:
                self.endpoint = blocking.first_reachable(self.endpoints)
            except Failure as failure:
                raise Away(failure) from None
        with self.channel() as channel:
            # BlockingConnection shows them to nobody.
            self.server = channel.connection._impl.server_properties

    def start(self, *argv, url=None):
        """Start a script against this broker; return the process."""
        base = f'{self.folder}/{len(self.processes)}'
        command = [
            sys.executable,
            f'{ROOT}/{argv[0]}',
            '--duration',
            PATIENCE,
            *argv[1:],
            '--give-up-after',
            AWAY,
            '--json',
            f'{base}.json',
        ]
        with open(f'{base}.out', 'wb') as out, open(f'{base}.err', 'wb') as err:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C is for us
                env={
                    **os.environ,
                    'AMQP_URL': url or self.url,
                    'MANAGEMENT_URL': '',
                    'PYTHONUTF8': '1',
                    'DEAD_LETTER_PREFIX': self.prefix,
                },
            )
        self.names |= {f'{self.prefix}.dlx', f'{self.prefix}.dead'}  # every script declares them
        process.script, process.base = argv[0], base
        self.processes.append(process)
        return process

    def ready(self, *argv, url=None):
        """Start a script, and return the process when the broker is ready for it."""
        process = self.start(*argv, url=url)
        self.wait(
            lambda: process.poll() is not None or ' ready: ' in said(process),
            f'{argv[0]} was not ready',
        )
        if process.poll() is not None:
            self.end(process)
        return process

    def end(self, process, right=(0, 3), number=None):
        """Wait for the end of a script, or end it with the signal `number`; return its summary as a dict.

        Exit statuses other than `right` raise NotPossible, Failed or Away, and so does a broker that is away.
        """
        if number:
            process.send_signal(number)
        self.wait(lambda: process.poll() is not None, f'{process.script} did not end')
        try:
            with open(f'{process.base}.json', encoding='utf-8') as file:
                summary = json.load(file)
        except ValueError:
            raise Failed(f'{process.script}: {said(process).strip().splitlines()[-1:]}') from None
        self.published += sum(
            summary.get(count, 0)
            for count in ('published', 'mined', 'republished', 'answered', 'retried')
        )
        why, status = summary['stopped'], process.returncode
        limit = status and LIMITS.search(f'{why};\n{said(process)}')
        if limit:
            raise NotPossible(next(filter(None, limit.groups())))
        if AWAY_FOR.search(why):
            raise Away(why)
        if status not in right:
            wrong = ', '.join(
                f'{number} {what}' for what, number in summary.get('rejections', {}).items()
            )
            raise Failed(f'{process.script}: {wrong or why}')
        return summary

    def run(self, *argv, right=(0, 3)):
        """Run a script to its end; return its summary."""
        return self.end(self.start(*argv), right)

    def settle(self, queue, consumers, *drain):
        """Wait until a queue is empty, stop its consumers, take out what they had in hand; return all summaries."""
        with self.channel() as channel:
            self.wait(
                lambda: not channel.queue_declare(queue, passive=True).method.message_count,
                f'messages stayed in {queue}',
                channel.connection.sleep,
            )
        ends = [self.end(consumer, number=signal.SIGTERM) for consumer in consumers]
        return [*ends, self.run(*drain, '--idle', IDLE)]

    def wait(self, condition, otherwise, sleep=time.sleep):
        """Wait until `condition()` is true; raise Failed if that takes too long, Stopped on a signal."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if script.stop_requested():
                raise Stopped
            if time.monotonic() > deadline:
                raise Failed(f'{otherwise} within {PATIENCE} s')
            sleep(0.05)

    def dead_letters(self, queues, expected):
        """Wait until so many messages of these queues are dead-lettered; return them as [(queue, reason, body)]."""
        dead = []
        with self.channel() as channel:

            def enough():
                method, properties, body = channel.basic_get(f'{self.prefix}.dead', auto_ack=True)
                if method:
                    death = properties.headers['x-death'][0]
                    dead.extend(
                        [(death['queue'], death['reason'], body)]
                        if death['queue'] in queues
                        else []
                    )
                return len(dead) >= expected

            self.wait(enough, f'not {expected} dead letters', channel.connection.sleep)
        return dead

    def stop(self):
        """End all scripts: gracefully, so that the broker has done what they asked for; within 5 s."""
        deadline = time.monotonic() + 5
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, deadline - time.monotonic()))
            process.kill()
            process.wait()

    def remove(self):
        """Remove from the broker what we made; return the names that could not be removed. stop() comes before."""
        left, deadline = set(self.names), time.monotonic() + AWAY
        while left and time.monotonic() < deadline:
            with contextlib.suppress(Failure), blocking.connected(self.endpoint) as connection:
                for name in sorted(left):
                    for verb in ('queue_delete', 'exchange_delete'):
                        with contextlib.suppress(
                            ChannelClosedByBroker
                        ):  # no right: then there is nothing of ours
                            getattr(connection.channel(), verb)(name)
                    left.discard(name)
                break
            time.sleep(0.2)
        return left


def said(process):
    """Return the log of a script so far."""
    with open(f'{process.base}.err', encoding='utf-8') as file:
        return file.read()


def printed(process):
    """Return what a script wrote on stdout."""
    with open(f'{process.base}.out', encoding='utf-8') as file:
        return file.read()
