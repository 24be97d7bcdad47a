"""proxy.py: does to a connection what it says, and nothing else. The server
says what reached it.
"""

import contextlib
import socket
import threading

import pytest
from support.processes import PATIENCE, wait_until

from siamese.testbed import proxy


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


def client(between):
    return socket.create_connection(('127.0.0.1', between.port), PATIENCE)


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


def test_it_passes_all_bytes_both_ways_and_keeps_the_rest_of_the_url(server):
    url, got = server
    body = bytes(range(256)) * 8192  # 2 MB
    with proxy.in_front_of(url) as between, client(between) as connection:
        assert between.url == f'amqp://user:secret@127.0.0.1:{between.port}/%2F?heartbeat=3'
        threading.Thread(target=connection.sendall, args=(body,), daemon=True).start()
        assert receive(connection, len(body)) == b''.join(got) == body
        assert between.accepted == 1


@pytest.mark.parametrize('reset', [False, True])
def test_cut(server, reset):
    with proxy.in_front_of(server[0]) as between, client(between) as connection:
        connection.sendall(b'x')
        assert receive(connection, 1) == b'x'
        between.cut(reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b''
        with client(between) as another:  # new ones are welcome
            another.sendall(b'y')
            assert receive(another, 1) == b'y'


def test_hold_keeps_what_comes_until_release(server):
    url, got = server
    with proxy.in_front_of(url) as between, client(between) as connection:
        between.hold('down')
        connection.sendall(b'one')
        wait_until(lambda: b''.join(got) == b'one', 'it at the server')
        between.hold('up')
        connection.sendall(b'two')
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert b''.join(got) == b'one'
        connection.settimeout(PATIENCE)
        between.release()
        assert receive(connection, 6) == b'onetwo' == b''.join(got)


def test_what_is_held_is_dropped_by_a_cut(server):
    url, got = server
    with proxy.in_front_of(url) as between:
        with client(between) as connection:
            between.hold()
            connection.sendall(b'lost')
            between.cut()
            assert has_ended(connection)
        between.release()
        with client(between) as another:
            another.sendall(b'new')
            assert receive(another, 3) == b'new' == b''.join(got)


def test_refuse_and_accept(server):
    with proxy.in_front_of(server[0]) as between:
        with client(between) as connection:
            connection.sendall(b'x')
            assert receive(connection, 1) == b'x'
            between.refuse()
            with pytest.raises(ConnectionRefusedError):
                client(between)
            connection.sendall(b'x')  # those that are there stay
            assert receive(connection, 1) == b'x'
        between.accept()
        with client(between) as another:
            another.sendall(b'y')
            assert receive(another, 1) == b'y'


@pytest.mark.parametrize('limit', [0, 1, 70_000])
def test_a_limit_in_bytes(server, limit):
    with proxy.in_front_of(server[0]) as between:
        between.limit = limit
        with client(between) as connection:
            with contextlib.suppress(OSError):  # cut off before it has sent all
                connection.sendall(b'x' * 100_000)
            assert receive(connection, 100_000) == b'x' * limit


def test_alter_changes_only_what_the_server_sends(server):
    url, got = server
    with proxy.in_front_of(url, alter=bytes.upper) as between, client(between) as connection:
        connection.sendall(b'abc')
        assert receive(connection, 3) == b'ABC' and b''.join(got) == b'abc'


def test_nobody_behind_it():
    with proxy.in_front_of('amqp://127.0.0.1:1') as between, client(between) as connection:
        assert connection.recv(1) == b'' and between.accepted == 1
