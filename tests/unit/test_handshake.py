"""handshake.py and loop.py: what a server speaks, and waiting for descriptors of any number."""

import fcntl
import resource
import socket

import pytest

import common
from siamese.messaging import handshake
from siamese.messaging.loop import SELECT_LIMIT, Loop, Poller


@pytest.mark.parametrize(
    ('greeting', 'spoken'),
    [
        (b'', ''),
        (b'\x01\0\0\0\0\x01\xff', ''),  # connection.start
        (b'AMQP\0\0\x09\x01', 'AMQP 0-9-1'),
        (b'AMQP\0\x01\0\0', 'AMQP 1.0'),
        (b'AMQP\x03\x01\0\0', 'AMQP 1.0 with SASL'),
        (b'AMQP\x01\x01\0\x0a', 'AMQP 0-10'),
        (b'AMQP\x01\x01\x08\0', 'AMQP 0-8'),
        (b'AMQP\x09\x09\x09\x09', 'AMQP of another kind (AMQP\\t\\t\\t\\t)'),
        (b'AMQP', 'AMQP of another kind (AMQP)'),
        (b'HTTP/1.1 400 Bad Request', 'HTTP'),
        (b'SSH-2.0-OpenSSH_9.2', 'SSH'),
        (b'\x15\x03\x03\0\x02\x02\x46', 'TLS'),
        (b'220 mail.example\r\n\x1b[31m', '"220 mail.example\\r\\n\\x1b["'),
    ],
)
def test_the_first_bytes_tell_what_a_server_speaks(greeting, spoken):
    assert handshake.protocol(greeting) == spoken


def test_the_address_can_be_pasted_back():
    (endpoint,) = common.endpoints('amqp://u:secret@[::1]:80', 'test')
    error = handshake.wrong_protocol(endpoint, 'HTTP')
    assert str(error).startswith('[::1]:80 speaks HTTP, not AMQP 0-9-1; is the port right?')


@pytest.fixture
def beyond_select():
    """Two connected sockets; the descriptor of the first is one that select does not take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = SELECT_LIMIT + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, least), hard))
    low, other = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD, SELECT_LIMIT))
    yield high, other
    for each in low, other, high:
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_descriptor_beyond_those_of_select_is_served(beyond_select):
    high, other = beyond_select
    loop = Loop()
    seen = []
    loop.add_handler(high.fileno(), lambda fileno, events: seen.append(events), loop.READ)
    loop.call_later(0, lambda: None)
    loop.poll()  # there is nothing yet
    other.send(b'x')
    loop.poll()
    assert seen == [loop.READ]
    loop.remove_handler(high.fileno())
    loop.close()


def test_lower_descriptors_are_waited_for_by_select():
    """It wakes to the microsecond, poll and epoll to the next millisecond."""
    one, other = socket.socketpair()
    loop = Loop()
    loop.add_handler(one.fileno(), lambda *_: None, loop.READ)
    assert isinstance(loop._poller, Poller)
    assert not loop._poller.is_beyond_select
    loop.close()
    one.close()
    other.close()
