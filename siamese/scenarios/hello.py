"""The message of scenarios 3 and 4: 'Hello world', numbered and dated; what makes one invalid, or a copy."""

import re
import time
from collections import namedtuple

import pika

from siamese.copies import REPLAYED, Copy, explain
from siamese.messaging.deliveries import Invalid, publish_attempt

TEXT = b'Hello world'
REMEMBERED = 10_000  # messages a consumer knows of, the latest: 4 MB

Hello = namedtuple('Hello', 'producer run number age overdue')


def message(link, number, **properties):
    """Return body and properties of message `number` of this run; `properties` are further ones."""
    return TEXT, pika.BasicProperties(
        message_id=f'{link.args.name}-{link.run}-{number}',
        content_type='text/plain',
        app_id=link.args.name,
        headers={'x-sent-ms': int(time.time() * 1000)},
        **properties,
    )


def read(properties, body):
    """Return the Hello a message is; raise Invalid.

    number: counted from 1 in each run; age in s, by the clocks of producer and consumer; overdue: whether it is older
    than its time to live.
    """
    if properties.content_type != 'text/plain':
        raise Invalid('foreign content type', properties.content_type)
    if body != TEXT:
        raise Invalid('another text', f'{len(body)} bytes, {body[:40]!r}')
    id = (
        properties.message_id if isinstance(properties.message_id, str) else ''
    )  # bytes if they are no UTF-8
    named = re.fullmatch('(.{1,200})-([0-9a-f]{8})-([1-9][0-9]{0,17})', id)
    if not named or not named[1].isprintable():
        raise Invalid('message_id is no name, run and number', properties.message_id)
    sent = (properties.headers or {}).get('x-sent-ms')
    if not isinstance(sent, int) or isinstance(sent, bool):
        raise Invalid('header x-sent-ms is no number', sent)
    age = time.time() - sent / 1000
    lives = properties.expiration or ''
    return Hello(
        named[1], named[2], int(named[3]), age, lives.isdecimal() and age > int(lives) / 1000
    )


def count_copies(known, link, method, properties, settled=True):
    """Note a delivery, and return how often this process has had the message, this time included.

    `known` is an OrderedDict for this function alone; `settled` is False if the delivery will not be acknowledged.
    Within one connection a message comes again only if it was not settled, and flagged as redelivered (but see
    delivery.may_repeat); raise Invalid for a copy that this does not explain.
    """
    this = publish_attempt(properties), link.epoch
    before, was_settled, times = known.get(properties.message_id, (None, False, 0))
    earlier = [Copy(*before, False, was_settled)] if before else []
    copy = Copy(*this, method.redelivered, settled)
    if explain(earlier, copy, link.args.queue_type) == REPLAYED:
        raise Invalid('replayed', 'settled before' if was_settled else 'not flagged as redelivered')
    known[properties.message_id] = this, settled, times + 1
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return times + 1
