"""A relay on loopback between a script and the broker, to put TLS or a fault in between."""

import contextlib
import socket
import ssl
import threading


@contextlib.contextmanager
def relay(host, port, certificate=None, alter=lambda data: data):
    """Yield the port of a relay to host:port; it passes what the broker sends through `alter`.

    With a trustme `certificate` it speaks TLS.
    """
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    listener = socket.create_server(('127.0.0.1', 0))

    def pump(source, target, alter=lambda data: data):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(alter(data))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

    def serve(plain):
        with contextlib.suppress(OSError):
            client = context.wrap_socket(plain, server_side=True) if certificate else plain
            server = socket.create_connection((host, port))
            threading.Thread(target=pump, args=(server, client, alter), daemon=True).start()
            pump(client, server)

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()
