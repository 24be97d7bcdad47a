#!/usr/bin/env python3
"""List what these scripts made on a broker, and delete it.

In the virtual host of AMQP_URL that is: queues and exchanges siamese.*; queues that
dead-letter into siamese.dlx, so also those of fanout_consumer.py, which have the
names of hosts; policies siamese.*; and the users that roles.py made. The management
API knows them. Without it only those are found that have the names of the scripts
without flags. NAME stands for the queue and the exchange of that name, whoever made
them: then nothing else is looked at.

Without --delete nothing changes. With it, what is in use is left alone: stop the
scripts first. A queue that holds messages is deleted if you agree, or with --yes.

    $ ./cleanup.py
    queue           messages  consumers
    bert                   0          0
    siamese.ack            0          0
    siamese.blocks         0          0
    siamese.dead           5          0
    siamese.perf           0          0
    siamese.rpc            0          0
    exchange siamese.dlx
    exchange siamese.fanout
    user siamese-administrator
    user siamese-monitoring
    user siamese-publisher
    user siamese-subscriber
    6 queues, 2 exchanges, 0 policies, 4 users; messages waiting: 5; 0 deleted

Exit status: 0 done, 2 usage, 3 broker unreachable, or something is left that was to
be deleted.

Examples:
    ./cleanup.py --delete               # asks before it deletes messages
    ./cleanup.py --delete --yes         # asks nothing, for scripts
    ./cleanup.py --delete anna bert     # only the queues anna and bert
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import logging
import select
import socket
import sys
from argparse import Namespace
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, NamedTuple

import pika
from pika.exceptions import ChannelClosedByBroker

import common
from common import Failure
from siamese import flags, script, start
from siamese.access import users
from siamese.messaging import answers, blocking, management_api
from siamese.messaging.answers import count, inner, text
from siamese.messaging.management_api import part
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE
from siamese.scenarios import hello
from siamese.terminal import show, show_table
from siamese.text import count_of, printable

PREFIX = 'siamese.'
KNOWN_QUEUES = (
    'siamese.ack',
    'siamese.blocks',
    'siamese.perf',
    'siamese.rpc',
    DEAD_LETTER_QUEUE,
)
KNOWN_EXCHANGES = (DEAD_LETTER_EXCHANGE, hello.EXCHANGE)
KINDS = ('queue', 'exchange', 'policy', 'user')

QUEUE_COLUMNS = 'name,type,arguments,messages,consumers'
STREAM_ARGUMENTS = (
    'x-max-age',
    'x-max-length-bytes',
    'x-stream-max-segment-size-bytes',
    'x-initial-cluster-size',
    'x-queue-leader-locator',
)

NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
NO_PERMISSION = (401, 403)  # of the management API
ANSWER_INTERVAL_S = 0.1

SUMMARY = (
    '{queues:,queue}, {exchanges:,exchange}, {policies:,policy/policies}, {users:,user}; '
    'messages waiting: {messages:,}; {deleted} deleted'
)


class Found(NamedTuple):
    """What a script made; of a queue also what it holds, None if that is unknown."""

    kind: str
    name: str
    messages: 'int | None' = 0
    consumers: 'int | None' = 0
    problem: str = ''  # why it cannot be deleted
    is_stream: bool = False  # for AMQP a stream is empty and unused, whatever it holds

    def __str__(self) -> str:
        return f'{self.kind} {printable(self.name)}'


# ---- find


def find(args: Namespace) -> list[Found]:
    """Return what the scripts made, in the order in which it can be deleted."""
    with blocking.connected(args.endpoint) as connection:
        if args.names:
            return named(connection, args.names)
        try:
            refuse_other_broker(args, connection)
            return listed(args, connection)
        except management_api.Refused as refused:
            logging.warning('other names than the usual ones are not found: %s', refused)
            return usual(connection)


def named(connection: pika.BlockingConnection, names: Iterable[str]) -> list[Found]:
    """Return the queues and the exchanges of these names."""
    names = list(dict.fromkeys(names))
    queues = [queue_or_stream(connection, name) for name in names]
    exchanges = [exchange_of(connection, name) for name in names]
    return [found for found in queues + exchanges if found]


def usual(connection: pika.BlockingConnection) -> list[Found]:
    """Return what scripts make that run without flags."""
    queues = [queue_or_stream(connection, name) for name in KNOWN_QUEUES]
    host = socket.gethostname()
    queues.append(queue_of(connection, host))
    if queues[-1] and not is_fanout_queue(connection, host):
        queues.pop()
    exchanges = [exchange_of(connection, name) for name in KNOWN_EXCHANGES]
    return [found for found in queues + exchanges if found]


def listed(args: Namespace, connection: pika.BlockingConnection) -> list[Found]:
    """Return what the management API lists; raise Refused if that is nothing at all."""
    vhost = part(args.endpoint.virtual_host)
    path = f'queues/{vhost}?columns={QUEUE_COLUMNS}'
    rows = answers.get_list(args.api, path, needs='name')
    rows.sort(key=itemgetter('name'))
    queues = [queue_in(connection, row) for row in rows if is_our_queue(row)]
    found = [queue for queue in queues if queue]
    exchanges = names_at(args, f'exchanges/{vhost}?columns=name')
    found += [Found('exchange', name) for name in exchanges]
    try:
        policies = names_at(args, f'policies/{vhost}')
        # What marks a user goes with that.
        policies = [name for name in policies if not name.startswith(users.MARK)]
        found += [Found('policy', name) for name in policies]
        own_users = users.own_users(args.api, args.endpoint.virtual_host)
        found += [Found('user', name) for name in own_users]
    except management_api.Refused as refused:
        if refused.status not in NO_PERMISSION:
            raise
        logging.warning('policies and users are not found: %s', refused)
    return found


def names_at(args: Namespace, path: str) -> list[str]:
    """Return the names at a path of the management API that are ours."""
    names = [text(row, 'name') for row in answers.get_list(args.api, path, needs='name')]
    return sorted(name for name in names if name.startswith(PREFIX))


def is_our_queue(row: dict[str, Any]) -> bool:
    """Return whether a script made a queue, as the management API shows it."""
    dead_letters_to = text(inner(row, 'arguments'), 'x-dead-letter-exchange')
    return row['name'].startswith(PREFIX) or dead_letters_to == DEAD_LETTER_EXCHANGE


def refuse_other_broker(args: Namespace, connection: pika.BlockingConnection) -> None:
    """Raise Failure if the management API is that of another broker."""
    here = blocking.server_properties(connection).get('cluster_name')
    there = text(answers.get_object(args.api, 'overview'), 'cluster_name')
    if here and there and here != there:
        raise Failure(
            f'the management API at {args.api.base} is that of another broker '
            f'({there}, not {here}); see --management-url',
            3,
        )


def queue_of(connection: pika.BlockingConnection, name: str) -> 'Found | None':
    """Return what a queue holds now, None if there is no such queue."""
    try:
        channel = connection.channel()
        method = channel.queue_declare(queue=name, passive=True).method
        channel.close()
    except ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND and 'down' not in error.reply_text:
            return None
        return Found('queue', name, None, None, why_refused(error))
    return Found('queue', name, method.message_count, method.consumer_count)


def queue_in(connection: pika.BlockingConnection, row: dict[str, Any]) -> 'Found | None':
    """Return what a queue holds that the management API lists, None if it is gone."""
    queue = queue_of(connection, row['name'])
    if queue and row.get('type') == 'stream':
        return queue._replace(
            messages=count(row, 'messages'),
            consumers=count(row, 'consumers'),
            is_stream=True,
        )
    return queue


def queue_or_stream(connection: pika.BlockingConnection, name: str) -> 'Found | None':
    """Return what a queue holds, as far as AMQP tells; None if there is no such queue."""
    queue = queue_of(connection, name)
    if queue and queue.messages == 0 and may_be_stream(connection, name):
        return queue._replace(messages=None, consumers=None, is_stream=True)
    return queue


def may_be_stream(connection: pika.BlockingConnection, name: str) -> bool:
    """Return whether a queue has the arguments of a stream.

    The broker compares them when a queue is declared again, and names the first
    that is different.
    """
    try:
        channel = connection.channel()
        channel.queue_declare(queue=name, durable=True, arguments={'x-queue-type': 'stream'})
        channel.close()
    except ChannelClosedByBroker as error:
        return any(f"'{argument}'" in error.reply_text for argument in STREAM_ARGUMENTS)
    return True


def exchange_of(connection: pika.BlockingConnection, name: str) -> 'Found | None':
    """Return an exchange, None if there is no such exchange."""
    try:
        channel = connection.channel()
        channel.exchange_declare(exchange=name, passive=True)
        channel.close()
    except ChannelClosedByBroker:
        return None
    return Found('exchange', name)


def is_fanout_queue(connection: pika.BlockingConnection, name: str) -> bool:
    """Return whether fanout_consumer.py made a queue.

    The broker compares the arguments when a queue is declared again.
    """
    for queue_type in flags.QUEUE_TYPES:
        try:
            channel = connection.channel()
            channel.queue_declare(
                queue=name,
                durable=True,
                arguments={
                    'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE,
                    'x-queue-type': queue_type,
                    'x-expires': hello.QUEUE_EXPIRES_MS,
                },
            )
            channel.close()
        except ChannelClosedByBroker:
            continue
        return True
    return False


def why_refused(error: ChannelClosedByBroker) -> str:
    """Return in a few words why the broker closed the channel."""
    if error.reply_code == RESOURCE_LOCKED:
        return 'it is exclusive, and goes with its client'
    if error.reply_code == PRECONDITION_FAILED and 'in use' in error.reply_text:
        return 'in use: a queue that is left is bound to it'
    return error.reply_text


# ---- delete


def delete_all(args: Namespace, found: list[Found]) -> dict[Found, str]:
    """Delete what was found; return what was left, and why."""
    agreed = [one for one in found if may_hold_messages(one) and agrees(args, one)]
    left: dict[Found, str] = {}
    with blocking.connected(args.endpoint) as connection:
        for one in sorted(found, key=place_in_order):
            why = script.stop_requested()
            if not why:
                why = delete(args, connection, one, one in agreed, bool(left))
            if why:
                left[one] = why
            if not args.quiet:
                result = f'left, {why}' if why else 'deleted'
                show(f'{one}: {result}')
    return left


def place_in_order(one: Found) -> tuple[int, bool]:
    """Return a key to sort by: whatever needs another one is deleted before that."""
    return KINDS.index(one.kind), one.name == DEAD_LETTER_QUEUE


def may_hold_messages(one: Found) -> bool:
    return bool(one.messages) or one.is_stream


def agrees(args: Namespace, queue: Found) -> bool:
    """Return whether the messages of a queue may be deleted; ask if that is not known."""
    if args.yes:
        return True
    is_terminal = sys.stdin and sys.stdin.isatty()
    if queue.consumers or not is_terminal:
        return False
    print(f'delete {queue} and its {held_by(queue)}? [y/N] ', end='', file=sys.stderr, flush=True)
    while not script.stop_requested():
        ready, _, _ = select.select([sys.stdin], [], [], ANSWER_INTERVAL_S)
        if ready:
            return sys.stdin.readline().strip().lower() in ('y', 'yes')
    print(file=sys.stderr)
    return False


def delete(
    args: Namespace,
    connection: pika.BlockingConnection,
    one: Found,
    with_messages: bool,
    others_left: bool,
) -> str:
    """Delete one; return why it was left, '' if it is gone."""
    if one.name == DEAD_LETTER_QUEUE and others_left:
        return 'other queues that are left dead-letter into it'
    try:
        if one.kind == 'queue':
            return delete_queue(connection, one, with_messages)
        if one.kind == 'exchange':
            connection.channel().exchange_delete(exchange=one.name, if_unused=True)
            return ''
        return delete_by_api(args, one)
    except ChannelClosedByBroker as error:
        return why_refused(error)
    except management_api.Refused as refused:
        return str(refused)


def delete_queue(
    connection: pika.BlockingConnection,
    one: Found,
    with_messages: bool,
) -> str:
    """Delete a queue; return why it was left, '' if it is gone.

    Quorum queues do not know if_empty and if_unused, so we look a moment before.
    """
    now = one if one.is_stream else queue_of(connection, one.name)
    if not now:
        return ''
    if now.problem:
        return now.problem
    if now.consumers:
        return f'in use by {count_of(now.consumers, "consumer")}'
    if may_hold_messages(now) and not with_messages:
        return f'it holds {held_by(now)}; see --yes'
    connection.channel().queue_delete(queue=one.name)
    return ''


def delete_by_api(args: Namespace, one: Found) -> str:
    """Delete a policy or a user; return why it was left, '' if it is gone."""
    vhost = args.endpoint.virtual_host
    if one.kind == 'policy':
        args.api.delete(f'policies/{part(vhost)}/{part(one.name)}')
        return ''
    if one.name in (args.endpoint.credentials.username, args.api.login.username):
        return 'it is this login; see AMQP_URL'
    others = users.remove(args.api, vhost, one.name)
    if others:
        logging.info('%s keeps its permissions on %s', one, ', '.join(others))
    return ''


# ---- show


def show_all(found: list[Found]) -> None:
    queues = [one for one in found if one.kind == 'queue']
    if queues:
        rows = [[one.name, shown(one.messages), shown(one.consumers)] for one in queues]
        show_table(('queue', 'messages', 'consumers'), rows)
    for one in found:
        if one.kind != 'queue':
            show(one)


def held_by(queue: Found) -> str:
    """Return how many messages a queue holds, in words."""
    if queue.messages:
        return count_of(queue.messages, 'message')
    return 'messages, perhaps: it is a stream'


def shown(count: 'int | None') -> 'int | str':
    return '?' if count is None else count


def summarize(
    args: Namespace,
    found: list[Found],
    left: dict[Found, str],
) -> dict[str, Any]:
    kinds = [one.kind for one in found]
    deleted = len(found) - len(left) if args.delete else 0
    return {
        'broker': common.display_address(args.endpoint),
        'found': [{**one._asdict(), 'problem': left.get(one, one.problem)} for one in found],
        'queues': kinds.count('queue'),
        'exchanges': kinds.count('exchange'),
        'policies': kinds.count('policy'),
        'users': kinds.count('user'),
        'messages': sum(one.messages or 0 for one in found),
        'deleted': deleted,
        'exit_status': 3 if left else 0,
    }


# ---- flags


def parse_args(argv: 'list[str] | None') -> Namespace:
    parser = flags.parser(__doc__)
    parser.add_argument(
        'names',
        nargs='*',
        type=flags.name,
        metavar='NAME',
        help='only the queue and the exchange of this name (default: all that scripts made)',
    )
    group = parser.add_argument_group('what to do (default: only list)')
    group.add_argument('--delete', action='store_true', help='delete what was found')
    group.add_argument(
        '--yes',
        action='store_true',
        help='with --delete: also queues that hold messages (default: ask, on a terminal)',
    )
    flags.add_url_flags(parser)
    management_api.add_flag(parser)
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    if args.yes and not args.delete:
        parser.error('--yes goes with --delete')
    try:
        management_api.of_flags(args, args.endpoints[0])
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv: 'list[str] | None' = None) -> int:
    args = parse_args(argv)
    start.finish_on_signal()
    args.endpoint = blocking.first_reachable(args.endpoints)
    args.api = management_api.of_flags(args, args.endpoint)
    found = find(args)
    if not args.quiet:
        show_all(found)
    left: dict[Found, str] = {}
    if args.delete:
        left = delete_all(args, found)
    summary = summarize(args, found, left)
    script.report(args, SUMMARY, summary)
    return summary['exit_status']


if __name__ == '__main__':
    script.run(main)
