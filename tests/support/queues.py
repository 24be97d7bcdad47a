"""An independent look at queues, and at the management API."""

import base64
import contextlib
import json
import time
import urllib.request
from urllib.parse import quote

from support.processes import TEST_TIMEOUT_S, wait_until

from siamese.testbed.qpid import Qpid


def manage(broker, method, path):
    """Call the management API; return the body."""
    scheme, _, rest = broker.management_url.partition('://')
    login, _, host = rest.partition('@')
    body = b'' if method == 'PUT' else None
    request = urllib.request.Request(f'{scheme}://{host}/api/{path}', body, method=method)
    request.add_header('Authorization', 'Basic ' + base64.b64encode(login.encode()).decode())
    request.add_header('Content-Type', 'application/json')
    with urllib.request.urlopen(request, timeout=TEST_TIMEOUT_S) as response:
        return response.read()


@contextlib.contextmanager
def own_virtual_host(broker, name):
    """Yield the URL of a virtual host that no other test sees."""
    if isinstance(broker, Qpid):  # it was started with some
        yield broker.url.replace('%2F', broker.unused_hosts.pop())
        return
    vhost = quote(f'{name}-{time.monotonic_ns()}', safe='')
    manage(broker, 'PUT', f'vhosts/{vhost}')
    yield broker.url.replace('%2F', vhost)
    manage(broker, 'DELETE', f'vhosts/{vhost}')


SYNC_METADATA = """
case lists:keymember(mnesia, 1, application:which_applications()) of
    true -> mnesia:sync_log();
    false -> ok
end.
"""


def flush_broker_metadata(broker):
    """Have the broker write its declarations to disk.

    When RabbitMQ dies a moment after a declaration, it forgets the queue, and
    with it the confirmed messages: Mnesia writes to disk later. Khepri, in its place from
    RabbitMQ 4.2 on, writes before the broker answers.
    """
    if isinstance(broker, Qpid):
        return
    assert broker.ctl('eval', SYNC_METADATA).strip() == 'ok'


def kill_broker(broker):
    """Kill a broker that remembers every queue and binding declared before."""
    flush_broker_metadata(broker)
    broker.kill()


def waiting(channel, queue):
    """Return how many messages wait in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count


def judge(run, *ledgers):
    """Return audit.py's exit status and findings."""
    done = run('audit.py', *ledgers, '--json', '-', '--quiet')
    return done.status, json.loads(done.out)


def dead_letters(channel, count):
    """Return the dead letters of a test as drain() does, once there are `count`.

    The broker brings them to their queue in its own time.
    """
    wait_until(lambda: waiting(channel, 'siamese.dead') >= count, f'{count} dead letters')
    return drain(channel, 'siamese.dead')


def drain(channel, queue):
    """Return and acknowledge all messages that wait in a queue as [(properties, body)]."""
    messages = []
    expected = waiting(channel, queue)
    if expected:
        # A quorum queue stops at 2,000 unacked messages (RabbitMQ 3.10.8).
        channel.basic_qos(prefetch_count=1000)
        for method, properties, body in channel.consume(queue, inactivity_timeout=TEST_TIMEOUT_S):
            assert method, f'{expected} messages waited in {queue}, {len(messages)} came'
            messages.append((properties, body))
            if len(messages) == expected or not len(messages) % 500:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if len(messages) == expected:
                break
        channel.cancel()
    return messages
