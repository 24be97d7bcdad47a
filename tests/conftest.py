"""What tests share: a RabbitMQ per worker, a virtual host for each, and scripts as processes."""

import contextlib
import os
import signal

import pika
import pytest
from hypothesis import settings
from support.documents import clone_into
from support.processes import Running
from support.queues import own_virtual_host

import common
from siamese.messaging import management_api
from siamese.testbed import qpid, rabbitmq

settings.register_profile('patient', deadline=None)  # a stalled machine must not fail a test
settings.load_profile('patient')

# What `make test ARGS=...` tells its own make; those that tests start have their own flags.
OF_MAKE = ('ARGS', 'BROKER', 'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES')

VIRTUAL_HOSTS = 12  # of a Qpid, which makes no new ones for us: at least one for each test


def pytest_configure():
    """Let what the tests start begin as from a terminal.

    A shell ignores SIGINT in the background, for all.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for variable in OF_MAKE:
        os.environ.pop(variable, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep tests on one worker that share a fixture of their module or folder (a browser)."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        homes = (item.parent.nodeid, item.parent.parent.nodeid)
        own = [each[-1] for each in fixtures if each[-1].baseid in homes]
        if any(fixture.scope != 'function' for fixture in own):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope='session')
def product():
    """The product that the tests marked any_broker meet; the others meet RabbitMQ."""
    return os.environ.get('BROKER_PRODUCT') or 'rabbitmq'


@pytest.fixture(scope='session')
def throwaway(product):
    """A function that starts a broker of the product for one test."""
    return {'rabbitmq': rabbitmq, 'qpid': qpid}[product].throwaway


@pytest.fixture(scope='session')
def broker(product, throwaway):
    """The broker of this worker; a RabbitMQ with the management plugin.

    One for all workers would be cheaper by 5 s of CPU each, but a test that raises an alarm or
    closes all connections would then disturb the others.
    """
    for variable in ('AMQP_URL', 'MANAGEMENT_URL'):
        os.environ.pop(variable, None)
    if product == 'qpid':
        with throwaway(virtual_hosts=VIRTUAL_HOSTS) as running:
            running.unused_hosts = [f'v{number}' for number in range(1, VIRTUAL_HOSTS + 1)]
            yield running
        return
    with throwaway(management=True) as running:
        yield running


@pytest.fixture
def api(broker):
    """The management API, called as the administrator."""
    return management_api.api(common.endpoints(broker.url, 'test')[0], broker.management_url)


@pytest.fixture
def url(broker, request):
    """The URL of a virtual host of this test's own: no other test sees its queues."""
    with own_virtual_host(broker, request.node.name[:60]) as url:
        yield url


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
