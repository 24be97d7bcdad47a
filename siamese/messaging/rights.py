"""How far a login may go where it may not declare: looking at all, at its own, at nothing.

RabbitMQ up to 4.0 lets anybody look (a passive declaration); from 4.3 on that
takes a permission for what is looked at. Where a look is refused nobody can
tell whether it is there, and the script goes on: what it needs and may not use is
refused when it uses it.
"""

from __future__ import annotations

import logging

from pika.channel import Channel

from common import Failure
from siamese.messaging.errors import (
    DECLARATIONS,
    cause,
    exists_with_other_properties,
    refused_method,
)
from siamese.messaging.topology import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_QUEUE,
    declare_passively,
    take_dead_letter_queue_as_it_is,
)

DECLARE = 0
LOOK_AT_ALL = 1
LOOK_AT_OWN = 2
LOOK_AT_NOTHING = 3
DEAD_LETTERS = (DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE)


class Rights:
    """What the login of one connection may do before its work begins.

    refusal: why it may not declare, if so; keeps_old_queue: whether siamese.dead is there
    with other properties, and taken as it is.
    """

    def __init__(self) -> None:
        self.level = DECLARE
        self.refusal: Failure | None = None
        self.keeps_old_queue = False

    def apply(self, channel: Channel) -> None:
        """Let the declarations of a channel do no more than is allowed."""
        if self.level > DECLARE:
            declare_passively(channel, self.may_look_at)
        elif self.keeps_old_queue:
            take_dead_letter_queue_as_it_is(channel)

    def may_look_at(self, name: str) -> bool:
        """Return whether to look if an exchange or a queue is there."""
        if self.level == LOOK_AT_OWN:
            return name not in DEAD_LETTERS
        return self.level < LOOK_AT_NOTHING

    def lower(self, refused: BaseException, refusal: Failure | None) -> bool:
        """Take a refusal; return whether less can be tried over a new channel."""
        method = refused_method(refused)
        is_use = bool(method) and method not in DECLARATIONS
        if self.level == LOOK_AT_NOTHING or (self.level > DECLARE and is_use):
            return False
        self.level += 1
        self.refusal = self.refusal or refusal
        if self.level == LOOK_AT_ALL:
            logging.info(
                'no permission to declare (%s); checking that queues and exchanges exist',
                cause(refused),
            )
        if self.level == LOOK_AT_OWN:
            logging.info('nor to look (%s); cannot tell whether all is there', cause(refused))
        return True

    def keep_old_queue(self, refused: BaseException) -> bool:
        """Take a refusal; return whether it is about siamese.dead, and that can be kept."""
        if self.keeps_old_queue or not exists_with_other_properties(refused, DEAD_LETTER_QUEUE):
            return False
        self.keeps_old_queue = True
        logging.info('%s was declared otherwise, taking it as it is', DEAD_LETTER_QUEUE)
        return True
