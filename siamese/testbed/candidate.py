"""A broker under comparison: scripts run against it, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

import common
from common import Failure
from siamese import ROOT, script
from siamese.messaging import blocking, errors
from siamese.messaging.credentials import use_token_if_no_user
from siamese.testbed.names import Names

GIVE_UP_AFTER_S = 10  # without the broker; then a script ends
SCRIPT_TIMEOUT_S = 120  # for one script, and for one condition
STOP_TIMEOUT_S = 5  # for all scripts at the end of a check
POLL_INTERVAL_S = 0.05
# Without a message; then all messages that waited in the queue have come.
IDLE_S = 2
# A script says that the plan or the permissions do not allow something: that is
# not a fault of the broker.
NOT_ALLOWED = re.compile(
    r'lacks permission.*?: (.*?);'
    r'|refuses (?:the queue|the name|what it is asked to declare): (.*?);'
    r'|\((.*limit .*)\)'
    r'|(offers no publisher confirms)'
)
# Why a script stopped that met no failure. Its exit status is 3 if too little came.
NO_FAILURE = re.compile('count reached|duration over|queue empty|nothing came for|SIG')
# No management API is asked: at the usual port it may be that of another broker.
NO_API = 'http://127.0.0.1:1'
# Under one of these keys a script counts the messages that it published once more.
REPUBLISHED_KEYS = ('republished', 'retried')

LOG_PREFIX = re.compile(r'^[\d:]{8} \S+ ')  # 12:34:56 producer.py@host:4711

Summary = dict[str, Any]  # what a script writes with --json


class NotPossible(Exception):
    """The plan or the permissions do not allow it; the message says what."""


class Failed(Exception):
    """The broker did something wrong; the message says what."""


class Unavailable(Exception):
    """Nothing can be told about the broker; the message says why.

    It is unavailable, it does not let us in, or a script could not do its part.
    """


class Stopped(Exception):
    """A signal asks to stop."""


def stopped() -> Stopped | None:
    """Return what is to be raised if a signal asks to stop."""
    if script.stop_requested():
        return Stopped()
    return None


def stop_if_asked() -> None:
    """Raise Stopped if a signal asks to stop."""
    if script.stop_requested():
        raise Stopped


class DeadLetter(NamedTuple):
    """A dead-lettered message: from which queue, and why."""

    queue: str
    reason: str
    body: bytes


@dataclass
class Script:
    """A script that runs against a broker, or has run.

    base: the path of its files: BASE.out, BASE.err, BASE.json. address: where it
    meets the broker, as its texts show it.
    """

    name: str
    base: str
    address: str
    process: subprocess.Popen[bytes]

    def has_ended(self) -> bool:
        """Return whether the script has ended."""
        return self.process.poll() is not None


def take_tokens(endpoints: list[pika.URLParameters]) -> None:
    """Replace the logins of endpoints by tokens, where their URLs name no user."""
    for endpoint in endpoints:
        use_token_if_no_user(endpoint)


class Candidate:
    """A broker under comparison: own names on it, and scripts that run there.

    endpoint: pika parameters of its first URL; after connect(), of the first
    that lets us in. server: the broker's properties, after connect(). folder:
    for the files of scripts; set it before the first one starts. published:
    messages so far, as the scripts count them. facts: what limits() and offers.py found.
    offers: what is raised where something is needed, see offers.py.
    Raises ValueError for a bad URL.
    """

    def __init__(self, urls: str, budget: int) -> None:
        name = f'compare.py@{os.getpid()}'
        self.endpoints = common.endpoints(urls, name)
        take_tokens(self.endpoints)
        self.endpoint = self.endpoints[0]
        self.urls = [url for url in re.split(r'[,\s]+', urls) if url]
        self.budget = budget
        self.published = 0
        self.server: dict[str, Any] = {}
        self.facts: dict[str, str] = {}
        self.offers: dict[str, Exception | None] = {}
        self.folder = ''
        self.prefix = f'siamese.compare-{secrets.token_hex(4)}'
        self.names = Names()
        self.scripts: list[Script] = []

    def queue(self, suffix: str) -> str:
        """Return a unique name for a queue; remove() removes it."""
        return self.names.queue(f'{self.prefix}.{suffix}')

    def exchange(self, suffix: str) -> str:
        """Return a unique name for an exchange; remove() removes it."""
        return self.names.exchange(f'{self.prefix}.{suffix}')

    def message_budget(self, most: int, share: float, least: int = 5) -> int:
        """Return how many messages a step may publish.

        It is `most`, but not more than its `share` of the budget.
        """
        return max(least, min(most, int(self.budget * share)))

    @property
    def url(self) -> str:
        """The URL of the endpoint."""
        return self.urls[self.endpoints.index(self.endpoint)]

    @property
    def address(self) -> str:
        """The part of the URL that may be shown."""
        return common.display_address(self.endpoint)

    def channel(
        self,
        endpoint: pika.ConnectionParameters | None = None,
        timeout_s: float | None = None,
    ) -> contextlib.AbstractContextManager[BlockingChannel]:
        """Return a context manager for a channel, at another `endpoint` if given.

        It raises NotPossible or Unavailable; `timeout_s` is for one answer.
        """
        return open_channel(endpoint or self.endpoint, timeout_s)

    def connect(self) -> None:
        """Connect and keep the properties of the server.

        The first time, this chooses the first URL that lets us in. Raises
        Unavailable.
        """
        if not self.server:
            try:
                self.endpoint = blocking.first_reachable(self.endpoints)
            except Failure as failure:
                raise Unavailable(failure) from None
        with self.channel() as channel:
            self.server = blocking.server_properties(channel.connection)

    def start(self, name: str, *flags: object, url: str = '') -> Script:
        """Start a script against this broker, or against another `url`."""
        base = f'{self.folder}/{len(self.scripts)}'
        environment = {
            'AMQP_URL': url or self.url,
            'MANAGEMENT_URL': NO_API,
            'PYTHONUTF8': '1',
            'DEAD_LETTER_PREFIX': self.prefix,
        }
        (endpoint, *_) = common.endpoints(environment['AMQP_URL'], name)
        process = launch(name, flags, base, environment)
        self.exchange('dlx')  # every script declares both
        self.queue('dead')
        started = Script(name, base, common.display_address(endpoint), process)
        self.scripts.append(started)
        return started

    def ready(self, name: str, *flags: object, url: str = '') -> Script:
        """Start a script, and return it when the broker is ready for it."""
        started = self.start(name, *flags, url=url)
        wait_until(
            lambda: started.has_ended() or ' ready: ' in stderr_of(started),
            f'{name} was not ready',
        )
        if started.has_ended():
            self.end(started)
        return started

    def end(
        self,
        running: Script,
        expected: Collection[int] = (0, 3),
        number: signal.Signals | None = None,
    ) -> Summary:
        """Wait for the end of a script; return its summary.

        With `number`, send it this signal first. Raises NotPossible, Failed or
        Unavailable if its exit status is not `expected` or the broker was
        unavailable.
        """
        if number:
            running.process.send_signal(number)
        try:
            wait_until(running.has_ended, f'{running.name} did not end')
        except Failed as failed:
            raise Failed(f'{failed} ({last_line_of(running)})') from None
        summary = summary_of(running)
        # It may have met the broker through a proxy of ours.
        summary['stopped'] = summary['stopped'].replace(running.address, self.address)
        self.published += published_count(summary)
        check_end(running, summary, expected)
        return summary

    def run(
        self,
        name: str,
        *flags: object,
        expected: Collection[int] = (0, 3),
    ) -> Summary:
        """Run a script to its end; return its summary."""
        return self.end(self.start(name, *flags), expected)

    def drain(
        self,
        queue: str,
        consumers: list[Script],
        name: str,
        *flags: object,
    ) -> list[Summary]:
        """Wait until a queue is empty, and stop its consumers.

        Then run the script `name` for the messages that they had not settled.
        Returns all summaries.
        """
        wait_until_empty(self, queue)
        summaries = [self.end(consumer, number=signal.SIGTERM) for consumer in consumers]
        summaries.append(self.run(name, *flags, '--idle', IDLE_S))
        return summaries

    def dead_letters(
        self,
        queues: Collection[str],
        expected: int,
    ) -> list[DeadLetter]:
        """Wait for `expected` dead letters of these queues; return them."""
        found: list[DeadLetter] = []
        with self.channel() as channel:

            def enough() -> bool:
                message = get_dead_letter(channel, f'{self.prefix}.dead')
                if message and message.queue in queues:
                    found.append(message)
                return len(found) >= expected

            problem = f'not {expected} messages were dead-lettered'
            wait_until(enough, problem, channel.connection.sleep)
        return found

    def stop(self, patience_s: float = STOP_TIMEOUT_S) -> None:
        """End all scripts, gracefully if they end in time.

        Then the broker has done what they asked for.
        """
        deadline = time.monotonic() + patience_s
        processes = [started.process for started in self.scripts]
        for process in processes:
            process.terminate()
        for process in processes:
            left = deadline - time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, left))
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Remove all our queues and exchanges; call stop() before. `names` knows what is left."""
        self.names.remove(self.endpoint)


@contextlib.contextmanager
def open_channel(
    endpoint: pika.ConnectionParameters,
    timeout_s: float | None,
) -> Iterator[BlockingChannel]:
    """Yield a channel; raise NotPossible or Unavailable."""
    try:
        with blocking.connected(endpoint, timeout_s, stopped) as connection:
            try:
                yield connection.channel()
            except ChannelClosedByBroker as error:
                raise explained(error, endpoint) from None
    except Failure as failure:
        raise Unavailable(failure) from None


def explained(
    error: ChannelClosedByBroker,
    endpoint: pika.ConnectionParameters,
) -> Exception:
    """Return the exception that says why the broker closed a channel."""
    expired = errors.token_expired(error, endpoint.credentials)
    if error.reply_code in (403, 406) and not expired:
        return NotPossible(error.reply_text)
    failure = errors.fatal_failure(error, endpoint)
    return Unavailable(failure or error.reply_text)


def launch(
    name: str,
    flags: Sequence[object],
    base: str,
    environment: dict[str, str],
) -> subprocess.Popen[bytes]:
    """Start a script that gives up in time; see Script for its files."""
    command = [
        *(sys.executable, ROOT / name),
        *('--duration', SCRIPT_TIMEOUT_S),
        *flags,
        *('--give-up-after', GIVE_UP_AFTER_S),
        *('--json', f'{base}.json'),
    ]
    with open(f'{base}.out', 'wb') as out, open(f'{base}.err', 'wb') as err:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # Ctrl-C is for us
            env={**os.environ, **environment},
        )


def wait_until(
    condition: Callable[[], bool],
    problem: str,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wait until `condition()` is true.

    Raises Failed, with the words of `problem`, if that takes too long, and
    Stopped on a signal.
    """
    deadline = time.monotonic() + SCRIPT_TIMEOUT_S
    while not condition():
        stop_if_asked()
        if time.monotonic() > deadline:
            raise Failed(f'{problem} within {SCRIPT_TIMEOUT_S} s')
        sleep(POLL_INTERVAL_S)


def wait_until_empty(broker: Candidate, queue: str) -> None:
    """Wait until no message is ready in a queue."""
    with broker.channel() as channel:
        wait_until(
            lambda: message_count(channel, queue) == 0,
            f'messages stayed in {queue}',
            channel.connection.sleep,
        )


def message_count(channel: BlockingChannel, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    declared = channel.queue_declare(queue=queue, passive=True)
    return declared.method.message_count


def get_dead_letter(
    channel: BlockingChannel,
    queue: str,
) -> DeadLetter | None:
    """Take a message from a dead-letter queue; return None if it is empty."""
    method, properties, body = channel.basic_get(queue=queue, auto_ack=True)
    if not method:
        return None
    try:
        death = properties.headers['x-death'][0]
        return DeadLetter(death['queue'], death['reason'], body)
    except (KeyError, TypeError, IndexError):
        raise Failed('a message is dead-lettered without x-death, so nothing says why') from None


def stderr_of(running: Script) -> str:
    """Return the log of a script so far."""
    with open(f'{running.base}.err', encoding='utf-8') as file:
        return file.read()


def last_line_of(running: Script) -> str:
    """Return the last line of its log, without time and name."""
    lines = stderr_of(running).strip().splitlines()
    last = ''.join(lines[-1:])
    return LOG_PREFIX.sub('', last) or 'its log says nothing'


def stdout_of(running: Script) -> str:
    """Return the output of a script so far."""
    with open(f'{running.base}.out', encoding='utf-8') as file:
        return file.read()


def summary_of(ended: Script) -> Summary:
    """Return the summary of a script; raise Unavailable if it wrote none."""
    try:
        with open(f'{ended.base}.json', encoding='utf-8') as file:
            return json.load(file)
    except ValueError:
        status = ended.process.returncode
        raise Unavailable(f'{ended.name}: {last_line_of(ended)}, exit status {status}') from None


def published_count(summary: Summary) -> int:
    """Return how often a script published a message; 0 for one that only consumes."""
    if 'published' not in summary:
        return 0
    again = sum(summary.get(key, 0) for key in REPUBLISHED_KEYS)
    return summary['published'] + again


def rejections(summary: Summary) -> dict[str, int]:
    """Return how many messages a script rejected, by reason."""
    return summary.get('rejections') or {}


def check_end(
    ended: Script,
    summary: Summary,
    expected: Collection[int],
) -> None:
    """Raise NotPossible, Failed or Unavailable if a script ended badly."""
    status = ended.process.returncode
    stop_reason = summary['stopped']
    if status:
        words = f'{stop_reason};\n{stderr_of(ended)}'
        not_allowed = NOT_ALLOWED.search(words)
        if not_allowed:
            raise NotPossible(next(filter(None, not_allowed.groups())))
    if status == 3 and not NO_FAILURE.match(stop_reason):
        raise Unavailable(stop_reason)
    if status not in expected:
        counts = [f'{count} {reason}' for reason, count in rejections(summary).items()]
        problem = ', '.join(counts) or stop_reason
        raise Failed(f'{ended.name}: {problem}')
