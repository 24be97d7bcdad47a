"""How a queue is set up: arguments, policy, bindings, where its dead letters go, who consumes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from urllib.parse import urlencode

from siamese.monitoring import details
from siamese.monitoring.details import Binding, Consumer, Details
from siamese.text import UNKNOWN, count_of, printable
from siamese.web.formats import count
from siamese.web.page import Page, read_history
from siamese.web.tables import Row, Table, column
from siamese.web.widgets import box, say

DEFAULT_EXCHANGE = 'the default exchange'
CONSUMER_COLUMNS = [
    column('client', 'Client', 'link', first=True),
    column('user', 'User', 'wide'),
    column('tag', 'Consumer tag', 'wide'),
    column('prefetch', 'Prefetch', 'number'),
    column('acknowledges', 'Acknowledges'),
]
BINDING_COLUMNS = [
    column('source', 'Exchange', 'wide', first=True),
    column('routing_key', 'Routing key', 'wide'),
    column('arguments', 'Arguments', 'wide'),
]
ACKNOWLEDGES = {True: 'yes', False: 'no', None: UNKNOWN}


class QueueDetailsView:
    """A card with the set-up of a queue, its consumers and its bindings."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.shown: Details | None = None
        with box('section', 'card') as self.card:
            with box('div', 'head'):
                say('h2', 'Set-up')
            self.facts = box('dl', 'facts')
            self.consumers_title = say('h3')
            self.consumers = Table('consumers', CONSUMER_COLUMNS)
            self.bindings_title = say('h3')
            self.bindings = Table('bindings', BINDING_COLUMNS)
        self.card.set_visibility(False)

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, self.read)
        self.card.set_visibility(found is not None)
        if found is None or found == self.shown:
            return
        self.shown = found
        self.show_facts(found)
        self.show_consumers(found)
        self.show_bindings(found)

    def read(self, db: sqlite3.Connection) -> Details | None:
        return details.of_queue(db, self.name)

    def show_facts(self, found: Details) -> None:
        self.facts.clear()
        with self.facts:
            for name, value in facts_of(found).items():
                say('dt', name)
                say('dd', printable(value))

    def show_consumers(self, found: Details) -> None:
        known = found['consumers']
        title = 'Consumers: unknown'
        if known is not None:
            title = title_of(found['consumer_count'], len(known), 'consumer')
        self.consumers_title.set_text(title)
        rows = [consumer_row(number, row) for number, row in enumerate(known or ())]
        self.consumers.show(rows)
        self.consumers.set_visibility(bool(rows))

    def show_bindings(self, found: Details) -> None:
        known = found['bindings']
        title = 'Bindings: unknown'
        if known is not None:
            title = title_of(found['binding_count'], len(known), 'binding')
        self.bindings_title.set_text(f'{title}, beside that to {DEFAULT_EXCHANGE}')
        rows = [binding_row(number, row) for number, row in enumerate(known or ())]
        self.bindings.show(rows)
        self.bindings.set_visibility(bool(rows))


def title_of(total: int, shown: int, noun: str) -> str:
    title = count_of(total, noun)
    if shown < total:
        title += f', of which these are the first {shown}'
    return title


def facts_of(found: Details) -> dict[str, str]:
    policy = found['policy'] or 'none'
    if found['policy_arguments']:
        policy += f': {texts_of(found["policy_arguments"])}'
    return {
        'features': features_of(found),
        'arguments': texts_of(found['arguments']) or 'none',
        'policy': policy,
        'dead letters go to': target_of(found),
    }


def target_of(found: Details) -> str:
    """Return where the dead letters of a queue go."""
    target = details.dead_letter_target(found)
    if target is None:
        return 'nowhere: what expires or is rejected is dropped'
    exchange, key = target
    where = exchange or DEFAULT_EXCHANGE
    if key:
        return f'{where}, with the routing key {key}'
    return f'{where}, with their own routing keys'


def features_of(found: Details) -> str:
    features = found['features']
    if features is None:
        return UNKNOWN
    return ', '.join(features).replace('_', '-') or 'not durable'


def texts_of(arguments: Mapping[str, str]) -> str:
    return ', '.join(f'{name} = {value}' for name, value in arguments.items())


def set_up_of(db: sqlite3.Connection, name: str) -> Row:
    """Return the cells that tell in a table of queues how one of them is set up."""
    found = details.of_queue(db, name)
    if not found:
        return {'features': UNKNOWN, 'policy': UNKNOWN, 'arguments': UNKNOWN}
    return {
        'features': features_of(found),
        'policy': printable(found['policy']),
        'arguments': printable(texts_of(found['arguments'])),
    }


def consumer_row(number: int, consumer: Consumer) -> Row:
    client = consumer['client']
    query = urlencode({'find': client})
    prefetch = 'unlimited'
    if consumer['prefetch'] != 0:
        prefetch = count(consumer['prefetch'])
    return {
        'id': number,
        'client': printable(client) or 'unknown',
        'href': f'/clients?{query}' if client else '',
        'user': printable(consumer['user']),
        'tag': printable(consumer['tag']),
        'prefetch': prefetch,
        'acknowledges': ACKNOWLEDGES[consumer['acknowledges']],
    }


def binding_row(number: int, binding: Binding) -> Row:
    return {
        'id': number,
        'source': printable(binding['source']),
        'routing_key': printable(binding['routing_key']),
        'arguments': printable(texts_of(binding['arguments'])),
    }
