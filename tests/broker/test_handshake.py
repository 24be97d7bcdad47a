"""What the other side says while we connect: on a stand-in, which can say anything."""

import datetime
import resource
import ssl
import sys

import pytest
import trustme
from pika import spec
from support import stand_in
from support.processes import Running

import common
import monitor
from siamese.messaging import handshake
from siamese.messaging.link import connected
from siamese.monitoring import events
from siamese.testbed import candidate

ONE_MESSAGE = ['--difficulty', 0, '--count', 1]


def end_of(script, *flags):
    """Run a script to its end; it tells no password, and has no traceback."""
    done = Running(script, *flags).end(patience=60)
    assert 'S3cr3t' not in done.out + done.err
    assert 'Traceback' not in done.err
    return done


@pytest.fixture(scope='module')
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path):
    """The query parameter for a server of this authority."""
    path = tmp_path / 'ca.pem'
    authority.cert_pem.write_to_path(str(path))
    return {'cacertfile': path}


def certified(certificate, path):
    """The query parameters for a client certificate of trustme."""
    stand_in.write_pem(certificate, path)
    return {'certfile': path, 'keyfile': path}


# ---- TLS


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_missing_or_wrong_client_certificate_is_named(authority, trusted, tmp_path, version):
    """With TLS 1.3 the alert comes after our handshake, and may be lost with what we send."""
    tls = stand_in.server_context(authority.issue_cert('localhost'), authority)
    tls.minimum_version = tls.maximum_version = version
    stranger = certified(trustme.CA().issue_cert('alice'), tmp_path / 'stranger.pem')
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    old = authority.issue_cert('alice', not_after=past)
    expired = certified(old, tmp_path / 'expired.pem')
    with stand_in.serving(tls=tls) as server:
        for script, query, words in (
            (['validate.py'], {}, 'wants a client certificate'),
            (['roles.py', '--check'], {}, 'wants a client certificate'),
            (['validate.py'], stranger, 'refuses this client certificate'),
            (['roles.py', '--check'], expired, 'refuses this client certificate'),
        ):
            done = end_of(*script, '--url', server.url('amqps', **trusted, **query))
            assert done.status == 3
            assert words in done.err, done.err
            assert 'certfile' in done.err
            assert len(done.err.splitlines()) == 1


def test_a_client_certificate_is_the_login(authority, trusted, tmp_path):
    tls = stand_in.server_context(authority.issue_cert('localhost'), authority)
    query = certified(authority.issue_cert('alice'), tmp_path / 'alice.pem')
    refused = {spec.Connection.StartOk: stand_in.close_connection(403, 'ACCESS_REFUSED')}
    with stand_in.serving(tls=tls, mechanisms='EXTERNAL', answers=refused) as server:
        url = server.url('amqps', auth_mechanism='external', **trusted, **query)
        for script in ['validate.py'], ['roles.py', '--check']:
            done = end_of(*script, '--url', url)
            assert done.status == 3
            assert 'the broker refuses this client certificate: it has no user' in done.err
        assert {(heard.mechanism, heard.response) for heard in server.heard} == {('EXTERNAL', b'')}


def test_an_end_right_after_the_handshake_is_a_certificate_that_is_missing(authority, trusted):
    tls = stand_in.server_context(authority.issue_cert('localhost'))
    with stand_in.serving(greeting=b'', tls=tls) as server:
        done = end_of('validate.py', '--url', server.url('amqps', **trusted))
    assert done.status == 3
    assert 'closed right after the TLS handshake; does it want a certfile and keyfile?' in done.err
    assert done.err.count('\n') == 1 and 'retrying' not in done.err


def test_the_certificate_of_a_server_that_has_expired(authority, trusted):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    tls = stand_in.server_context(authority.issue_cert('localhost', not_after=past))
    with stand_in.serving(tls=tls) as server:
        done = end_of('validate.py', '--url', server.url('amqps', **trusted))
    assert done.status == 3
    assert 'it has expired, its server needs a new one' in done.err
    assert 'cacertfile' not in done.err


def test_a_server_that_speaks_no_tls():
    with stand_in.serving(greeting=stand_in.http) as server:
        done = end_of('validate.py', '--url', server.url('amqps'))
    assert done.status == 3
    assert 'speaks no TLS; is the port right, or is it amqp://?' in done.err


@pytest.mark.pair
def test_a_broker_refuses_other_words_than_amqp_and_stays_usable(url):
    """RabbitMQ 4 refuses them by the header of AMQP 1.0, which it likes best."""
    (endpoint,) = common.endpoints(url, 'test')
    assert handshake.first_words(endpoint).startswith(b'AMQP')
    assert handshake.ask_again(endpoint) is None


# ---- several URLs


@pytest.mark.parametrize(
    'wrong',
    [
        {'greeting': stand_in.http},
        {'mechanisms': 'EXTERNAL'},
        {'properties': {'capabilities': {'basic.nack': True}}},
        {'answers': {spec.Queue.Declare: stand_in.close_channel(406, "inequivalent arg 'x'")}},
    ],
    ids=['HTTP', 'no PLAIN', 'no confirms', 'other arguments'],
)
def test_what_is_fatal_for_one_url_moves_on_to_the_next(wrong):
    confirming = {spec.Basic.Publish: lambda _: spec.Basic.Ack(1)}
    with stand_in.serving(**wrong) as first, stand_in.serving(answers=confirming) as second:
        urls = f'{first.url(stack_timeout=1)},{second.url()}'
        done = end_of('producer.py', *ONE_MESSAGE, '--url', urls)
    assert done.status == 0, done.err
    assert 'trying the next URL' in done.err
    assert f'ready: stand-in 1.0 at localhost:{second.port}/v' in done.err


# ---- brokers that lack something


def test_a_broker_without_a_name():
    with stand_in.serving(properties={}) as server:
        done = end_of('validate.py', '--idle', 0.1, '--url', server.url())
    assert done.status == 3
    assert f'ready: a broker without a name at localhost:{server.port}/v' in done.err


def test_compare_cleans_up_over_one_channel():
    with stand_in.serving(channel_max=1) as server:
        broker = candidate.Candidate(server.url(), 500)
        names = {broker.queue('one'), broker.queue('two')}
        broker.remove()
        assert broker.names.left() == []
    deleted = {heard.queue for heard in server.heard if isinstance(heard, spec.Queue.Delete)}
    assert deleted == names


def test_monitor_says_that_one_channel_is_too_few_for_events():
    with stand_in.serving(channel_max=1) as server:
        args = monitor.parse_args(['--url', server.url(), '--duration', '30'])
        listener = events.Listener()
        with connected(args, monitor.declare) as link:
            link.wait_until(lambda: link.is_ready)
            listener.listen(link)
            assert link.is_ready
    assert listener.missing == [events.ONE_CHANNEL]
    assert listener.closed_connections() is None


def test_a_process_with_very_many_descriptors():
    """select() takes no descriptor above 1,023."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        'import os, socket, sys, producer;'
        'held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)];'
        'sys.exit(producer.main(sys.argv[1:]))'
    )
    assert limits[1] > 2000
    confirming = {spec.Basic.Publish: lambda _: spec.Basic.Ack(1)}
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    try:
        with stand_in.serving(answers=confirming) as server:
            done = end_of(sys.executable, '-c', code, *ONE_MESSAGE, '--url', server.url())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert done.status == 0, done.err
