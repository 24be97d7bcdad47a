"""Scripts x causes: the same cause gives the same exit status, in the same words, everywhere.

The broker is a stand-in that says what the cause needs (support/stand_in.py).
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import trustme
from pika import spec
from support import stand_in
from support.forking import ends_of
from support.scripts import SCENARIO_SCRIPTS
from support.stand_in import close_channel, close_connection

UNKNOWN = 3
PRODUCERS = ['producer.py', 'perf_producer.py', 'fanout_producer.py', 'ack_producer.py']
LINKS = [*SCENARIO_SCRIPTS, 'monitor.py']
ALL = [*LINKS, 'roles.py', 'compare.py']
# What each script needs to run, apart from the URL.
FLAGS = {
    'monitor.py': ['--history', ':memory:'],
    'roles.py': ['--check'],
    'compare.py': ['--only', 'integrity'],
}
OTHER_ARGUMENTS = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q'"
NO_PERMISSION = "ACCESS_REFUSED - access to queue 'q' in vhost 'v' refused for user 'alice'"
NO_VHOST_PERMISSION = "NOT_ALLOWED - access to vhost 'v' refused for user 'alice'"
RESERVED = "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'"
QUEUE_LIMIT = "ACCESS_REFUSED - queue limit in vhost 'v' (1) is reached"


@contextmanager
def closed_port():
    """Yield a stand-in that has gone away."""
    with stand_in.serving() as server:
        pass
    yield server


def tls_port():
    certificate = trustme.CA().issue_cert('localhost')
    return stand_in.serving(tls=stand_in.server_context(certificate))


def says(greeting):
    """Return a function that serves this greeting."""
    return lambda: stand_in.serving(greeting=greeting)


def answers(method, answer):
    """Return a function that serves AMQP, with one answer of its own."""
    return lambda: stand_in.serving(answers={method: answer})


def refuses_to_declare(answer):
    """Return a function that serves AMQP, but no declaration of a queue or an exchange."""
    refused = {spec.Queue.Declare: answer, spec.Exchange.Declare: answer}
    return lambda: stand_in.serving(answers=refused)


def permits_nothing(answer):
    """Return a function that serves AMQP, but lets nobody declare, look, publish or consume."""
    methods = (spec.Queue.Declare, spec.Exchange.Declare, spec.Basic.Publish, spec.Basic.Consume)
    return lambda: stand_in.serving(answers=dict.fromkeys(methods, answer))


def has_no_confirms():
    refused = {spec.Confirm.Select: close_connection(540, 'NOT_IMPLEMENTED')}
    return stand_in.serving(properties={}, answers=refused)


@dataclass
class Cause:
    """What is wrong, the words that say so, and the scripts that can meet it.

    lines: on stderr; flags: more of them for each script; give_up: what else
    would wait for the broker ends; silent: it never says anything.
    """

    serve: object
    words: str
    scripts: list = field(default_factory=lambda: ALL)
    lines: int = 1
    flags: list = field(default_factory=list)
    give_up: bool = False
    silent: bool = False


CAUSES = {
    'wrong password': Cause(
        answers(spec.Connection.StartOk, close_connection(403, 'ACCESS_REFUSED - no')),
        r"the broker refuses user 'alice': wrong name or password; see AMQP_URL",
    ),
    'no virtual host': Cause(
        answers(spec.Connection.Open, close_connection(530, 'NOT_ALLOWED - vhost v not found')),
        r"no virtual host 'v'; see AMQP_URL, rabbitmqctl add_vhost",
    ),
    'no permission for the virtual host': Cause(
        answers(spec.Connection.Open, close_connection(530, NO_VHOST_PERMISSION)),
        r"no permission for user 'alice' to use the virtual host 'v'; see rabbitmqctl",
    ),
    'no permission': Cause(
        permits_nothing(close_channel(403, NO_PERMISSION)),
        rf"user 'alice' lacks permission: {NO_PERMISSION}; see rabbitmqctl set_permissions",
        LINKS,
        lines=4,
    ),
    'reserved name': Cause(
        refuses_to_declare(close_channel(403, RESERVED)),
        r'the broker refuses the name: .*reserved.*; choose another',
        LINKS,
    ),
    'queue limit': Cause(
        refuses_to_declare(close_channel(403, QUEUE_LIMIT)),
        r'the broker refuses the queue: .*limit.*; delete others',
        LINKS,
    ),
    'other arguments': Cause(
        refuses_to_declare(close_channel(406, OTHER_ARGUMENTS)),
        rf"queue 'q' exists with other properties: {OTHER_ARGUMENTS}; delete it .*, or choose",
        LINKS,
    ),
    'unknown argument': Cause(
        refuses_to_declare(close_connection(542, 'Unsupported argument')),
        r'the broker refuses what it is asked to declare: Unsupported argument; see --queue-type',
        LINKS,
        lines=2,
    ),
    'HTTP': Cause(says(stand_in.http), r'localhost:\d+ speaks HTTP, not AMQP 0-9-1', silent=True),
    'SSH': Cause(says(stand_in.ssh), r'localhost:\d+ speaks SSH, not AMQP 0-9-1'),
    'TLS': Cause(tls_port, r'localhost:\d+ speaks TLS, not AMQP 0-9-1; .*amqps://'),
    'AMQP 1.0': Cause(
        says(b'AMQP\x03\x01\0\0'), r'localhost:\d+ speaks AMQP 1.0 with SASL, not AMQP 0-9-1'
    ),
    'no PLAIN': Cause(
        lambda: stand_in.serving(mechanisms='EXTERNAL AMQPLAIN'),
        r'localhost:\d+ does not offer the login mechanism PLAIN, but EXTERNAL AMQPLAIN',
    ),
    'no confirms': Cause(
        has_no_confirms,
        r'the broker at localhost:\d+/v offers no publisher confirms',
        PRODUCERS,
    ),
    'silent': Cause(
        says(stand_in.silence),
        r'broker unreachable at localhost:\d+/v.*\(no answer\).*; is it running',
        lines=2,
        give_up=True,
        silent=True,
    ),
    'nobody there': Cause(
        closed_port,
        r'broker unreachable at localhost:\d+/v.*\(Connection refused\).*; is it running',
        lines=2,
        give_up=True,
    ),
    'disk full': Cause(
        stand_in.serving,
        r'cannot write the ledger /dev/full: No space left on device',
        LINKS,
        lines=2,
        flags=['--ledger', '/dev/full'],
    ),
}


def command(script, url, cause):
    """Return the command line of a script against a URL."""
    flags = [*FLAGS.get(script, []), *cause.flags]
    if cause.give_up and script in LINKS:
        flags += ['--give-up-after', '3']
    if script != 'compare.py':
        flags.append('--url')
    return [script, *flags, url]


@pytest.mark.parametrize('cause', CAUSES.values(), ids=CAUSES)
def test_a_cause_gives_the_same_status_and_words_in_every_script(cause):
    with cause.serve() as server:
        # The threads of the server may be held up: only silence need end soon.
        url = server.url(stack_timeout=1 if cause.silent else 15)
        ended = ends_of([command(script, url, cause) for script in cause.scripts])
    told = {}
    for script, done in zip(cause.scripts, ended):
        told[script] = done.status, bool(re.search(cause.words, done.err)), done.err
        assert 'S3cr3t' not in done.err + done.out
        assert 'Traceback' not in done.err
    wrong = {script: found for script, found in told.items() if found[:2] != (UNKNOWN, True)}
    assert not wrong
    lines = {script: len(err.splitlines()) for script, (_, _, err) in told.items()}
    assert max(lines.values()) <= cause.lines
