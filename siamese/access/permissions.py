"""What a user of a broker may do, found out by trying: operations by AMQP and by the management API.

Each operation is tried for real, on a queue and an exchange of the name given, which begins with TEMPORARY. What is
made here and not removed is removed by tidy_up(), or expires.
"""

import copy
import logging
import secrets
import signal
from contextlib import contextmanager, suppress

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from common import Failure
from siamese import script
from siamese.messaging import management_api as management
from siamese.messaging.blocking import connected

TEMPORARY = 'siamese.check-'
EXPIRES = {
    'x-queue-type': 'classic',
    'x-expires': 600_000,
}  # ms; if we are killed it goes, and with it the exchange


def have(channel, name):
    """Have a queue, an exchange and a message to try things with."""
    channel.queue_declare(name, durable=True, arguments=EXPIRES)
    channel.exchange_declare(name, durable=True, auto_delete=True)
    channel.queue_bind(name, name)
    publish(channel, name)


def clear(channel, name):
    channel.queue_delete(name)
    channel.queue_delete(f'{name}-declared')
    channel.exchange_delete(name)


def declare(channel, name):
    channel.queue_declare(f'{name}-declared', durable=True, arguments=EXPIRES)
    channel.queue_delete(f'{name}-declared')


def publish(channel, name):
    channel.confirm_delivery()
    with suppress(UnroutableError):  # there is no such queue, but the right
        channel.basic_publish('', name, b'tried by roles.py', mandatory=True)


def set_policy(call, vhost, name):
    call(
        f'policies/{vhost}/{name}', 'PUT', {'pattern': f'^{name}$', 'definition': {'max-length': 9}}
    )
    call(f'policies/{vhost}/{name}', 'DELETE')


def create_user(call, vhost, name):
    call(f'users/{name}-new', 'PUT', {'password': secrets.token_urlsafe(), 'tags': ''})
    call(f'users/{name}-new', 'DELETE')


BY_AMQP = {
    'declare': declare,
    'bind': lambda channel, name: channel.queue_bind(name, name, 'tried'),
    'publish': publish,
    'consume': lambda channel, name: channel.basic_consume(name, lambda *_: None),
    'get': lambda channel, name: channel.basic_get(name),
    'purge': lambda channel, name: channel.queue_purge(name),
    'delete': lambda channel, name: channel.queue_delete(name),
}
BY_API = {
    'read the API': lambda call, *_: call('overview'),
    'see all nodes': lambda call, *_: call('nodes'),
    'set a policy': set_policy,
    'create a user': create_user,
}
OPERATIONS = ['connect', *BY_AMQP, *BY_API]


def try_all(owner, endpoint, management_url, name):
    """Try all OPERATIONS as a user, until a signal comes; return what each was refused with, '' if it was allowed.

    `endpoint` are pika parameters of this user, `owner` those of one who may make what is needed; if it may not, the
    operations are tried on what is not there. Raises Failure or management.Refused when the broker goes away.
    """
    refusals, vhost = {}, management.part(endpoint.virtual_host)
    with connected(owner) as connection:
        refusal_by_amqp(connection, have, name)
    try:
        with connected(endpoint) as connection:
            refusals['connect'] = ''
            for what, verb in BY_AMQP.items():
                if not script.stop_requested():
                    refusals[what] = refusal_by_amqp(connection, verb, name)
    except Failure as failure:
        if refusals or failure.status != 1:
            raise
        refusals = dict.fromkeys(['connect', *BY_AMQP], str(failure))
    for what, verb in BY_API.items():
        if not script.stop_requested():
            refusals[what] = refusal_by_api(
                management.api(endpoint, management_url), verb, vhost, name
            )
    return refusals


def refusal_by_amqp(connection, verb, name):
    """Try a verb on a channel of its own; return what the broker refused it with, '' if it did not."""
    channel = connection.channel()
    try:
        verb(channel, name)
        channel.close()
    except ChannelClosedByBroker as error:
        if error.reply_code not in (
            403,
            404,
        ):  # 404: rights come first, so who hears of that has them
            raise
        return error.reply_text if error.reply_code == 403 else ''
    return ''


def refusal_by_api(call, verb, *args):
    """Try a call of the API; return what it was refused with, '' if it was not."""
    try:
        with undisturbed():
            verb(call, *args)
    except management.Refused as refused:
        if refused.status not in (401, 403):
            raise
        return str(refused)
    return ''


def as_user(endpoint, user, password):
    """Return pika parameters like `endpoint`, for this user."""
    parameters = copy.copy(endpoint)
    parameters.credentials = pika.PlainCredentials(user, password)
    return parameters


@contextmanager
def undisturbed():
    """Let signals wait: what is begun here is finished."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tidy_up(endpoint, management_url, name):
    """Remove what the check `name` made; log what cannot be removed."""
    with undisturbed():
        try:
            with connected(endpoint) as connection:
                refusal_by_amqp(connection, clear, name)
        except Failure as failure:
            logging.warning('%s; the queue %s expires after 10 minutes', failure, name)
        try:
            sweep(management.api(endpoint, management_url), endpoint.virtual_host, name)
        except management.Refused as refused:
            logging.error(
                '%s; users %s-... may be left, ./roles.py --remove removes them', refused, name
            )


def sweep(call, vhost, prefix):
    """Remove the users and the policies whose names begin with `prefix`, as far as this user may."""
    for path in 'users', f'policies/{management.part(vhost)}':
        refusal_by_api(call, remove, path, prefix)


def remove(call, path, prefix):
    for found in call(path):
        if found['name'].startswith(prefix):
            call(f'{path}/{management.part(found["name"])}', 'DELETE')
