"""proxy.py: does to a connection what it says, and nothing else. The server
says what reached it.
"""

import contextlib
import socket
import threading

import pytest
from support.processes import TEST_TIMEOUT_S, wait_until

from common import Failure
from siamese.testbed import proxy as proxy_module
from siamese.testbed.proxy import in_front_of


@contextlib.contextmanager
def echo():
    """Yield the URL of a server that returns what it gets, and the list of all it got."""
    got = []

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                got.append(data)
                connection.sendall(data)

    def accept(server):
        with contextlib.suppress(OSError):  # it was closed
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(('127.0.0.1', 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f'amqp://user:secret@127.0.0.1:{server.getsockname()[1]}/%2F?heartbeat=3', got


@pytest.fixture
def server():
    with echo() as (url, got):
        yield url, got


def client(proxy):
    return socket.create_connection(('127.0.0.1', proxy.port), TEST_TIMEOUT_S)


def receive(connection, count):
    """Return `count` bytes, or what came before the end of the connection."""
    data = b''
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def has_ended(connection):
    """Wait for the end of a connection: FIN, or RST where bytes had not been read."""
    try:
        return connection.recv(1) == b''
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    'url, target',
    [
        ('amqp://user:secret@127.0.0.1/v', ('127.0.0.1', 5672)),
        ('amqp://[::1]/v', ('::1', 5672)),
        ('amqps://127.0.0.1', ('127.0.0.1', 5671)),
        ('amqp://127.0.0.1:1', ('127.0.0.1', 1)),
    ],
)
def test_a_url_without_a_port_means_that_of_its_scheme(url, target):
    with in_front_of(url) as proxy:
        assert proxy.target == target


def test_it_passes_all_bytes_both_ways_and_keeps_the_rest_of_the_url(server):
    url, got = server
    body = bytes(range(256)) * 8192  # 2 MB
    with in_front_of(url) as proxy, client(proxy) as connection:
        assert proxy.url == f'amqp://user:secret@127.0.0.1:{proxy.port}/%2F?heartbeat=3'
        threading.Thread(target=connection.sendall, args=(body,), daemon=True).start()
        assert receive(connection, len(body)) == b''.join(got) == body
        assert proxy.accepted == 1


@pytest.mark.parametrize('reset', [False, True])
def test_cut_ends_connections_and_accepts_new_ones(server, reset):
    with in_front_of(server[0]) as proxy, client(proxy) as connection:
        connection.sendall(b'x')
        assert receive(connection, 1) == b'x'
        proxy.cut(reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b''
        with client(proxy) as another:  # new ones are welcome
            another.sendall(b'y')
            assert receive(another, 1) == b'y'


def test_hold_keeps_data_until_release(server):
    url, got = server
    with in_front_of(url) as proxy, client(proxy) as connection:
        proxy.hold('down')
        connection.sendall(b'one')
        wait_until(lambda: b''.join(got) == b'one', 'it at the server')
        proxy.hold('up')
        connection.sendall(b'two')
        connection.settimeout(0.2)
        with pytest.raises(socket.timeout):
            connection.recv(1)
        assert b''.join(got) == b'one'
        connection.settimeout(TEST_TIMEOUT_S)
        proxy.release()
        assert receive(connection, 6) == b'onetwo' == b''.join(got)


def test_a_cut_drops_held_data(server):
    url, got = server
    with in_front_of(url) as proxy:
        with client(proxy) as connection:
            proxy.hold()
            connection.sendall(b'lost')
            proxy.cut()
            assert has_ended(connection)
        proxy.release()
        with client(proxy) as another:
            another.sendall(b'new')
            assert receive(another, 3) == b'new' == b''.join(got)


def test_refuse_affects_only_new_connections_until_accept(server):
    with in_front_of(server[0]) as proxy:
        with client(proxy) as connection:
            connection.sendall(b'x')
            assert receive(connection, 1) == b'x'
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                client(proxy)
            connection.sendall(b'x')  # those that are there stay
            assert receive(connection, 1) == b'x'
        proxy.accept()
        with client(proxy) as another:
            another.sendall(b'y')
            assert receive(another, 1) == b'y'


@pytest.mark.parametrize('limit', [0, 1, 70_000])
def test_a_limit_cuts_off_after_so_many_bytes(server, limit):
    with in_front_of(server[0]) as proxy:
        proxy.limit = limit
        with client(proxy) as connection:
            with contextlib.suppress(OSError):  # cut off before it has sent all
                connection.sendall(b'x' * 100_000)
            assert receive(connection, 100_000) == b'x' * limit


def test_alter_changes_only_what_the_server_sends(server):
    url, got = server
    with in_front_of(url, alter=bytes.upper) as proxy, client(proxy) as connection:
        connection.sendall(b'abc')
        assert receive(connection, 3) == b'ABC' and b''.join(got) == b'abc'


def test_without_a_server_behind_it_connections_end():
    with in_front_of('amqp://127.0.0.1:1') as proxy, client(proxy) as connection:
        assert connection.recv(1) == b'' and proxy.accepted == 1


def test_a_proxy_that_is_stuck_is_not_waited_for(server, monkeypatch):
    url, _ = server
    go_on = threading.Event()
    with in_front_of(url) as proxy:
        proxy.loop.call_soon_threadsafe(go_on.wait)
        monkeypatch.setattr(proxy_module, 'CALL_TIMEOUT_S', 0.1)
        with pytest.raises(Failure, match=f'port {proxy.port} has not answered within 0.1 s'):
            proxy.cut()
        monkeypatch.undo()
        go_on.set()
