"""A server of the standard library, at work in a thread."""

import contextlib
import threading


@contextlib.contextmanager
def serving(server):
    """Let a socketserver work until the end of the with-block."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
