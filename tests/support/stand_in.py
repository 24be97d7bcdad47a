"""A small AMQP server over real sockets that can say anything.

It stands in for brokers that cannot be had, or not in the state that a test
needs: with another protocol, without publisher confirms, with a certificate
that has expired. What it is not told to say, it says as a broker would.
"""

import contextlib
import socket
import ssl
import threading

from pika import frame, spec

HEADER_BYTES = 8
PROPERTIES = {
    'product': 'stand-in',
    'version': '1.0',
    'capabilities': {
        'publisher_confirms': True,
        'basic.nack': True,
        'consumer_cancel_notify': True,
        'connection.blocked': True,
        'authentication_failure_close': True,
    },
}
MANY_CHANNELS = 2047
FRAME_MAX = 131072

# In an answer: close the connection, without a word.
HANG_UP = object()

# What a broker answers; a function gets the method that is answered.
ANSWERS = {
    spec.Connection.Open: spec.Connection.OpenOk(),
    spec.Connection.Close: spec.Connection.CloseOk(),
    spec.Channel.Open: spec.Channel.OpenOk(),
    spec.Channel.Close: spec.Channel.CloseOk(),
    spec.Queue.Declare: lambda method: spec.Queue.DeclareOk(method.queue or 'q', 0, 0),
    spec.Queue.Bind: spec.Queue.BindOk(),
    spec.Queue.Delete: spec.Queue.DeleteOk(0),
    spec.Exchange.Declare: spec.Exchange.DeclareOk(),
    spec.Exchange.Delete: spec.Exchange.DeleteOk(),
    spec.Confirm.Select: spec.Confirm.SelectOk(),
    spec.Basic.Qos: spec.Basic.QosOk(),
    spec.Basic.Consume: lambda method: spec.Basic.ConsumeOk(method.consumer_tag or 'c'),
    spec.Basic.Cancel: lambda method: spec.Basic.CancelOk(method.consumer_tag),
}


def close_connection(code, text):
    """Return an answer: the broker closes the connection."""
    return spec.Connection.Close(code, text, 0, 0)


def close_channel(code, text):
    """Return an answer: the broker closes the channel."""
    return spec.Channel.Close(code, text, 0, 0)


class StandIn:
    """A server on loopback; see serving() for what it says.

    port: where it listens; heard: the methods it got, as pika decodes them.
    """

    def __init__(self, listener, greeting, mechanisms, properties, channel_max, answers, tls):
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.greeting = greeting
        self.start = spec.Connection.Start(
            version_minor=9,
            server_properties=properties,
            mechanisms=mechanisms,
        )
        tune = spec.Connection.Tune(channel_max, FRAME_MAX, 0)
        self.answers = {spec.Connection.StartOk: tune, **ANSWERS, **answers}
        self.tls = tls
        self.heard = []

    def starts(self):
        """Return the logins so far: one for each connection."""
        return [method for method in self.heard if isinstance(method, spec.Connection.StartOk)]

    def url(self, scheme='amqp', **query):
        """Return its URL, with a password that no output may show."""
        parameters = '&'.join(f'{key}={value}' for key, value in query.items())
        return f'{scheme}://alice:S3cr3t@localhost:{self.port}/v?{parameters}'

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        """Serve one connection, until one side ends it."""
        with contextlib.suppress(OSError), connection:
            if self.tls:
                connection = self.secured(connection)
            if callable(self.greeting):
                self.greeting(connection)
                return
            received = connection.recv(HEADER_BYTES)
            if self.greeting is not None:
                connection.sendall(self.greeting)
                return
            connection.sendall(frame.Method(0, self.start).marshal())
            self.answer_frames(connection, received[HEADER_BYTES:])

    def secured(self, connection):
        """Return the connection with TLS; read to its end what comes where that fails.

        Else the alert that tells why would be lost.
        """
        secured = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except ssl.SSLError:
            raw = socket.socket(fileno=secured.detach())
            with raw:
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(FRAME_MAX):
                    pass
            raise
        return secured

    def answer_frames(self, connection, buffer):
        while data := connection.recv(FRAME_MAX):
            buffer += data
            while True:
                size, received = frame.decode_frame(buffer)
                if not received:
                    break
                buffer = buffer[size:]
                if isinstance(received, frame.Method):
                    self.heard.append(received.method)
                    answer = self.answer_to(received.method)
                    if answer is HANG_UP:
                        return
                    if answer:
                        is_about_all = isinstance(answer, spec.Connection.Close)
                        number = 0 if is_about_all else received.channel_number
                        connection.sendall(frame.Method(number, answer).marshal())

    def answer_to(self, method):
        answer = self.answers.get(type(method))
        return answer(method) if callable(answer) else answer


@contextlib.contextmanager
def serving(
    greeting=None,
    mechanisms='PLAIN AMQPLAIN',
    properties=PROPERTIES,
    channel_max=MANY_CHANNELS,
    answers=(),
    tls=None,
):
    """Yield a StandIn, for as long as the with-block runs.

    `greeting` replaces AMQP: bytes that it answers to the first bytes of the
    client before it closes the connection, or a function of the socket.
    `answers` are {class of a method: the method that it answers, None for
    silence, HANG_UP}. `tls` is the SSLContext of a server.
    """
    with socket.create_server(('127.0.0.1', 0)) as listener:
        server = StandIn(
            listener, greeting, mechanisms, properties, channel_max, dict(answers), tls
        )
        threading.Thread(target=server.accept, daemon=True).start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)


# ---- other protocols


def http(connection):
    """Speak HTTP: wait for a line, as servers do, before the answer."""
    received = b''
    while b'\n' not in received:
        data = connection.recv(1000)
        if not data:
            return
        received += data
    connection.sendall(b'HTTP/1.0 400 Bad Request\r\n\r\n')


def ssh(connection):
    """Speak SSH: the server begins."""
    connection.sendall(b'SSH-2.0-OpenSSH_9.2\r\n')
    wait_for_end(connection)


def silence(connection):
    """Say nothing."""
    wait_for_end(connection)


def wait_for_end(connection):
    while connection.recv(1000):
        pass


# ---- TLS


def server_context(certificate, authority=None):
    """Return the SSLContext of a server with a certificate of trustme.

    With an authority it wants client certificates of that one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if authority:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


def write_pem(certificate, path):
    """Write key and certificate of trustme into one file; return its path."""
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
