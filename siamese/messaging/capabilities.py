"""What a broker offers beyond AMQP 0-9-1: by its own table, or tried where it has none.

RabbitMQ and LavinMQ tell it in their server properties. Others, such as Apache
Qpid, have no such table, and yet confirm: there confirm.select is tried. Whether a
broker takes arguments of queues (x-...) is in no table. It is asked for them, and
they are left out once it has refused them, unless the user asked for one.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pika.channel import Channel
from pika.exceptions import MethodNotImplemented

from siamese.messaging.errors import CLOSED_BY_BROKER, CODES_OF_BAD_FRAMES, cause
from siamese.messaging.handshake import Unusable
from siamese.messaging.silence import ANSWER_TIMEOUT_S, Silence

# Where no table promises confirms, what does not answer confirm.select has none.
TRY_S = 10

# Qpid's INVALID_ARGUMENT; AMQP 0-9-1 has no such code.
INVALID_ARGUMENT = 542

QUEUE_TYPE = 'x-queue-type'
CONFIRM = 'confirm.select'


class Capabilities:
    """What the broker at one endpoint offers.

    asked: the arguments of queues that the user asked for, each with its flag;
    has_table: whether the broker tells what it offers; takes_arguments: of queues,
    until it has refused them.
    """

    def __init__(self, asked: Mapping[str, str]) -> None:
        self.asked = asked
        self.table: dict[str, Any] = {}
        self.has_table = True
        self.takes_arguments = True

    def look(self, server_properties: Mapping[str, Any]) -> None:
        """Take over what the broker says of itself."""
        table = server_properties.get('capabilities')
        self.has_table = bool(table)
        self.table = table or {}

    @property
    def may_return_rejected(self) -> bool:
        """Whether what is rejected may come back: no dead-lettering is promised."""
        return not self.has_table or not self.takes_arguments

    def answer_timeout_s(self, method: str) -> float:
        """Return how long the broker may take to answer a method."""
        if method == CONFIRM and not self.has_table:
            return TRY_S
        return ANSWER_TIMEOUT_S

    def missing(self, args: argparse.Namespace, publishes: bool) -> list[str]:
        """Return what a script with these flags will miss, and what that means for it."""
        flags = vars(args)
        consumes = 'prefetch' in flags
        lacks = []
        if not self.takes_arguments:
            lacks.append('no dead-lettering (what is rejected or expires is dropped, counted only)')
        if not self.has_table and flags.get('ttl'):
            lacks.append(
                'no promise of --ttl (Apache Qpid reads it as a date: they expire at once)'
            )
        if publishes and self.has_table and not self.table.get('basic.nack'):
            lacks.append('no basic.nack (what it cannot take is not told)')
        if publishes and not self.table.get('connection.blocked'):
            lacks.append('no blocked notifications (its alarms look like slow confirms)')
        if consumes and not self.table.get('consumer_cancel_notify'):
            lacks.append('no consumer cancel (a deleted queue is not noticed)')
        return lacks

    def log_missing(self, args: argparse.Namespace, publishes: bool) -> None:
        """Say in one line what a script will miss."""
        missing = self.missing(args, publishes)
        if missing:
            logging.info('this broker offers %s', '; '.join(missing))

    # ---- arguments of queues

    def adapt(self, channel: Channel) -> None:
        """Let queues be declared on a channel with no arguments but those that are taken."""
        if not self.has_table or not self.takes_arguments:
            channel.queue_declare = partial(self._declare, channel.queue_declare)

    def _declare(
        self,
        declare: Callable[..., None],
        arguments: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        declare(arguments=self.accepted(arguments or {}), **options)

    def accepted(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the arguments that this broker takes."""
        if not self.takes_arguments:
            return {}
        # Types of queues are RabbitMQ's own: others have one, and it needs no name.
        return {
            name: value
            for name, value in arguments.items()
            if self.has_table or name != QUEUE_TYPE or name in self.asked
        }

    # ---- what a refusal means

    def gives_in(self, reason: BaseException) -> bool:
        """Return whether arguments of queues were refused, and can be left out from now on."""
        if not self.takes_arguments or not refuses_arguments(reason):
            return False
        self.takes_arguments = False
        logging.info(
            'the broker takes no arguments of queues (%s), leaving them out', cause(reason)
        )
        return True

    def meaning(self, reason: BaseException, awaited: str) -> BaseException:
        """Return the error that a loss stands for, if it means that something is not offered.

        `awaited` is the method that was not answered yet, or ''.
        """
        if awaited == CONFIRM and not self.has_table and is_no_to_confirms(reason):
            return MethodNotImplemented('Confirm.Select')
        if self.asked and refuses_arguments(reason):
            names = ' and '.join(sorted(set(self.asked.values())))
            return Unusable(f'the broker cannot do {names} ({cause(reason)}); leave that out')
        return reason


def refuses_arguments(reason: BaseException) -> bool:
    """Return whether the broker closed because it takes no arguments of queues."""
    if not isinstance(reason, CLOSED_BY_BROKER):
        return False
    text = str(reason.reply_text).lower()
    return reason.reply_code == INVALID_ARGUMENT or 'unsupported queue declare arg' in text


def is_no_to_confirms(reason: BaseException) -> bool:
    """Return whether an end means that confirm.select is unknown, or never answered."""
    if isinstance(reason, CLOSED_BY_BROKER):
        return reason.reply_code in CODES_OF_BAD_FRAMES
    return isinstance(reason, Silence)


def asked_arguments(args: argparse.Namespace) -> dict[str, str]:
    """Return the arguments of queues that the flags ask for, each with its flag."""
    flags = vars(args)
    asked = {name: f'--queue-arg {name}' for name, _ in flags.get('queue_arg', ())}
    if flags.get('queue_type', 'classic') != 'classic':
        asked[QUEUE_TYPE] = f'--queue-type {args.queue_type}'
    if flags.get('priority'):
        asked['x-max-priority'] = '--priority'
    if flags.get('ttl') and 'queue' in flags:
        asked['x-message-ttl'] = '--ttl'
    return asked


def offers_of(args: argparse.Namespace) -> dict[int, Capabilities]:
    """Return what each endpoint offers, by its id(): pika's parameters are not hashable."""
    asked = asked_arguments(args)
    return {id(endpoint): Capabilities(asked) for endpoint in args.endpoints}
