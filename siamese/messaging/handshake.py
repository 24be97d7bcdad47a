"""What the other side says while we connect, and why it cannot be used.

What a server says of itself does not change by waiting: another protocol, no
login that we have. Unusable tells it in one line. A server that says nothing is
asked once more in other words: an HTTP server waits for a request before it
speaks, and one that misses a client certificate is not heard when we talk.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl

import pika
from pika import frame, spec
from pika.compat import as_bytes
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    InvalidFrameError,
)

from common import bracketed
from siamese.messaging import size_limits

# How long a server that says nothing may take to answer in other words.
ANSWER_TIMEOUT_S = 0.7
ALERT_TIMEOUT_S = 0.5
REQUEST = b'GET / HTTP/1.0\r\n\r\n'

AFTER_TLS = 'closed right after the TLS handshake; does it want a certfile and keyfile?'

# Bytes that tell one protocol from another; a TLS alert has 7.
GREETING_BYTES = 7

FRAME_TYPES = (
    spec.FRAME_METHOD,
    spec.FRAME_HEADER,
    spec.FRAME_BODY,
    spec.FRAME_HEARTBEAT,
)

AMQP_HEADERS = {
    b'\0\0\x09\x01': 'AMQP 0-9-1',
    b'\0\x01\0\0': 'AMQP 1.0',
    b'\x02\x01\0\0': 'AMQP 1.0 with TLS',
    b'\x03\x01\0\0': 'AMQP 1.0 with SASL',
    b'\x01\x01\0\x0a': 'AMQP 0-10',
    b'\x01\x01\0\x09': 'AMQP 0-9',
    b'\x01\x01\x08\0': 'AMQP 0-8',
}
OTHER_PROTOCOLS = {
    b'HTTP/': 'HTTP',
    b'SSH-': 'SSH',
    b'\x15\x03': 'TLS',
    b'\x16\x03': 'TLS',
}


class Unusable(AMQPConnectionError):
    """The server cannot be used, however long we wait.

    The message names cause and remedy in one line.
    """


# ---- what a server speaks


def protocol(greeting: bytes) -> str:
    """Return what a server speaks that begins with these bytes; '' for frames of AMQP 0-9-1."""
    if not greeting or greeting[0] in FRAME_TYPES:
        return ''
    if greeting.startswith(b'AMQP'):
        return AMQP_HEADERS.get(greeting[4:8], f'AMQP of another kind ({readable(greeting)})')
    for begin, name in OTHER_PROTOCOLS.items():
        if greeting.startswith(begin):
            return name
    return f'"{readable(greeting)}"'


def readable(greeting: bytes) -> str:
    """Return how the text of a server begins, in ASCII."""
    return ascii(greeting[:20])[2:-1]


def wrong_protocol(endpoint: pika.ConnectionParameters, spoken: str) -> Unusable:
    """Return the error that says what a server speaks in place of AMQP 0-9-1."""
    remedy = 'is the port right? it is mostly 5672, with TLS 5671'
    if spoken == 'TLS':
        remedy = 'is the port right, or is it amqps://?'
    if spoken == 'AMQP 0-9-1':
        return Unusable(f'{address_of(endpoint)} speaks {spoken}, but refuses our protocol header')
    return Unusable(f'{address_of(endpoint)} speaks {spoken}, not AMQP 0-9-1; {remedy}')


def address_of(endpoint: pika.ConnectionParameters) -> str:
    """Return 'host:port' of an endpoint."""
    return f'{bracketed(endpoint.host)}:{endpoint.port}'


# ---- a connection that listens to it


def refused_method(close: spec.Channel.Close | spec.Connection.Close) -> str:
    """Return the method over which a broker closes, for example queue.declare, or ''."""
    refused = spec.methods.get(close.class_id << 16 | close.method_id)
    return refused.NAME.lower() if refused else ''


class Connection(pika.SelectConnection):
    """A SelectConnection that ends with Unusable where the server cannot be used.

    refused: the method over which the broker closed it, if it says that; is_ending: the
    broker closes it, and what still comes means nothing.
    """

    refused = ''
    is_ending = False

    @property
    def publisher_confirms(self) -> bool:
        """Whether confirm.select may be tried: always, unless the broker's table says no."""
        capabilities = self.server_capabilities
        return not capabilities or bool(capabilities.get('publisher_confirms'))

    @property
    def basic_nack(self) -> bool:
        """The same: pika wants both for confirms, but a broker without basic.nack confirms too."""
        return self.publisher_confirms

    def _on_connection_close_from_broker(self, method_frame: frame.Method) -> None:
        self.is_ending = True
        self.refused = refused_method(method_frame.method)
        super()._on_connection_close_from_broker(method_frame)

    def _on_data_available(self, data_in: bytes) -> None:
        received = self._frame_buffer + data_in
        if not self._opened and len(received) >= GREETING_BYTES and protocol(received):
            self._end_over(received)
        else:
            super()._on_data_available(data_in)

    def _read_frame(self) -> tuple[int, frame.Frame | None]:
        """Read a frame as pika does, but none that is too large."""
        size_limits.check_first_frame(self._frame_buffer, self.params.frame_max)
        taken, value = super()._read_frame()
        if isinstance(value, frame.Header):
            size_limits.check_body(value.body_size)
        return taken, value

    def _end_over(self, received: bytes) -> None:
        """End the connection over bytes that begin no frame of AMQP 0-9-1."""
        error: AMQPError = InvalidFrameError(f'no frame of AMQP: {readable(received)}')
        if not self._opened:
            error = wrong_protocol(self.params, protocol(received))
        self._terminate_stream(error)

    def _proto_data_received(self, data: bytes) -> None:
        try:
            super()._proto_data_received(data)
        except Exception as error:  # invalid bytes may raise any
            if self._opened:
                raise
            where = address_of(self.params)
            why = f'{where} speaks no valid AMQP 0-9-1 ({error!r}); is the port right?'
            self._terminate_stream(Unusable(why))

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        """Say more of an end right after the TLS handshake."""
        said_nothing = self.connection_state == self.CONNECTION_PROTOCOL
        is_end = self._got_eof or isinstance(error, (ssl.SSLEOFError, ConnectionResetError))
        if is_end and said_nothing and self.params.ssl_options:
            error = ConnectionError(errno.ECONNRESET, AFTER_TLS)
        super()._proto_connection_lost(error)

    def _get_credentials(self, method_frame: frame.Method) -> tuple[str, bytes | None]:
        try:
            return super()._get_credentials(method_frame)
        except AuthenticationError:
            mechanisms = as_bytes(method_frame.method.mechanisms).decode(errors='replace')
            offered = ' '.join(mechanisms.split()) or 'none'
            ours = self.params.credentials.TYPE
            raise Unusable(
                f'{address_of(self.params)} does not offer the login mechanism {ours}, '
                f'but {offered}; see ?auth_mechanism= and auth_mechanisms of the broker'
            ) from None


# ---- asking a server that says nothing


def ask_again(endpoint: pika.ConnectionParameters) -> BaseException | None:
    """Ask a server that says nothing what it speaks; return why it cannot be used, if so.

    That is Unusable, or the error of a TLS alert. Takes up to 3 s.
    """
    spoken = ''
    try:
        spoken = protocol(first_words(endpoint))
    except ssl.SSLError as error:
        return error
    except OSError:
        pass  # it may have closed the connection because it waited for TLS
    if not spoken and not endpoint.ssl_options and speaks_tls(endpoint):
        spoken = 'TLS'
    # A broker refuses HTTP by what it likes best:
    # RabbitMQ 4 by AMQP 1.0.
    if not spoken or spoken.startswith('AMQP'):
        return None
    return wrong_protocol(endpoint, spoken)


def first_words(endpoint: pika.ConnectionParameters) -> bytes:
    """Return the first bytes that a server sends by itself or to a request of HTTP; raise OSError.

    Over TLS we listen first: the alert for a missing certificate is lost if we talk.
    """
    address = endpoint.host, endpoint.port
    with socket.create_connection(address, ANSWER_TIMEOUT_S) as connection:
        tls = endpoint.ssl_options
        if not tls:
            return answer(connection)
        name = tls.server_hostname or endpoint.host
        with tls.context.wrap_socket(connection, server_hostname=name) as secured:
            secured.settimeout(ALERT_TIMEOUT_S)
            with contextlib.suppress(socket.timeout):
                return secured.recv(20)
            secured.settimeout(ANSWER_TIMEOUT_S)
            return answer(secured)


def answer(connection: socket.socket) -> bytes:
    """Return how an answer to a request of HTTP begins, b'' if there is none."""
    connection.sendall(REQUEST)
    with contextlib.suppress(socket.timeout):
        return connection.recv(20)
    return b''


def speaks_tls(endpoint: pika.ConnectionParameters) -> bool:
    """Return whether a server completes the handshake of TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        connection = socket.create_connection((endpoint.host, endpoint.port), ANSWER_TIMEOUT_S)
        with connection, context.wrap_socket(connection):
            return True
    except OSError:
        return False
