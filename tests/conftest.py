"""What tests share: a RabbitMQ per worker, a virtual host for each, and scripts as processes."""

import contextlib
import os
import signal
import time
from urllib.parse import quote

import pika
import pytest
from hypothesis import settings
from support.documents import clone_into
from support.processes import Running
from support.queues import manage

import common
from siamese.messaging import management_api
from siamese.testbed import rabbitmq as broker_module

settings.register_profile('patient', deadline=None)  # a stalled machine must not fail a test
settings.load_profile('patient')


def pytest_configure():
    """Let SIGINT reach what the tests start: a shell ignores it in the background, for all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep tests that share a fixture of their module (a cluster, a browser) on one worker."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        own = [each[-1] for each in fixtures if each[-1].baseid == item.parent.nodeid]
        if any(fixture.scope != 'function' for fixture in own):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope='session')
def broker():
    """The RabbitMQ of this worker, with the management plugin.

    One for all workers would be cheaper by 5 s of CPU each, but a test that raises an alarm or
    closes all connections would then disturb the others.
    """
    for variable in ('AMQP_URL', 'MANAGEMENT_URL'):
        os.environ.pop(variable, None)
    with broker_module.throwaway(management=True) as throwaway:
        yield throwaway


@pytest.fixture
def api(broker):
    """The management API, called as the administrator."""
    return management_api.api(common.endpoints(broker.url, 'test')[0], broker.management_url)


@pytest.fixture
def url(broker, request):
    """The URL of a virtual host of this test's own: no other test sees its queues."""
    vhost = quote(f'{request.node.name[:60]}-{time.monotonic_ns()}', safe='')
    manage(broker, 'PUT', f'vhosts/{vhost}')
    yield broker.url.replace('%2F', vhost)
    manage(broker, 'DELETE', f'vhosts/{vhost}')


@pytest.fixture
def start(url):
    """A function that starts a script against this test's virtual host.

    What still runs at the end of the test is killed.
    """
    started = []

    def start(*argv, **env):
        started.append(Running(*argv, env={'AMQP_URL': url, **env}))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.end()


@pytest.fixture
def run(start):
    """A function that runs a script to its end against this test's virtual host."""
    return lambda *argv, **env: start(*argv, **env).end()


@pytest.fixture
def channel(url):
    """A channel of the test's own: its independent look at the queues."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):  # a test may have had it closed
        connection.close()


@pytest.fixture
def copy(tmp_path):
    """A copy of what git knows, as a clean clone has it."""
    return clone_into(tmp_path)
