"""An independent look at queues, and at the management API."""

import base64
import json
import urllib.request

from support.processes import TEST_TIMEOUT_S


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


def flush_broker_metadata(broker):
    """Have the broker write its declarations to disk.

    When RabbitMQ dies a moment after a declaration, it forgets the queue, and
    with it the confirmed messages.
    """
    assert broker.ctl('eval', 'mnesia:sync_log().').strip() == 'ok'


def waiting(channel, queue):
    """Return how many messages wait in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count


def judge(run, ledger):
    """Return audit.py's exit status and findings."""
    done = run('audit.py', ledger, '--json', '-', '--quiet')
    return done.status, json.loads(done.out)


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
