"""The metrics of a history for Prometheus, and so for Grafana."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from common import Failure
from siamese.monitoring import clients, database, dead_letters, queues
from siamese.monitoring.clients import ClientRow
from siamese.monitoring.queues import QueueRow

if TYPE_CHECKING:  # an extra: only --prometheus needs it
    from prometheus_client.core import Metric

COUNTERS = {
    'published': 'Messages published to a queue',
    'delivered': 'Messages delivered to consumers',
    'acked': 'Messages acknowledged',
    'redelivered': 'Messages redelivered',
}
GAUGES = {
    'ready': 'Messages ready for delivery',
    'unacked': 'Messages delivered and not acknowledged',
    'consumers': 'Consumers of a queue',
}
OLDEST = 'Since when the oldest message waits'
CONNECTED = '1 if a client is connected, 0 if it is gone'
INTERRUPTIONS = 'How often a client was gone and came back'
UP = '1 if the broker is available, 0 if it is not'

Values = Iterable[tuple[list[str], float]]  # pairs of labels and value


def serve(path: str, port: int) -> None:
    """Serve http://127.0.0.1:PORT/metrics from the history in a file, in a thread.

    Raises Failure.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        remedy = 'pip install -r requirements/monitor.txt'
        raise Failure(f'--prometheus needs prometheus_client: {remedy}', 2) from None
    registry = CollectorRegistry()
    registry.register(Collector(path))
    try:
        start_http_server(port, addr='127.0.0.1', registry=registry)
    except OSError as error:
        text = f'cannot serve metrics at 127.0.0.1:{port}: {error.strerror}'
        raise Failure(f'{text}; choose another --prometheus', 2) from None


class Collector:
    """What prometheus_client asks for metrics, at each request."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        with contextlib.closing(database.open_for_reading(self.path)) as db:
            rows = queues.rows(db)
            people = clients.rows(db)
            state = database.broker(db)['state']
            dead = dead_letters.ever(db)
            unroutable = database.get_fact(db, 'unroutable') or {}
        yield from _of_queues(rows)
        labels = ['queue', 'reason']
        values = _values(dead, labels, 'count')
        yield _counter('dead_letters', 'Dead letters', labels, values)
        for name in database.UNROUTABLE:
            text = f'Messages {name}, for no queue took them'
            yield _counter(name, text, [], [([], unroutable.get(name, 0))])
        yield from _of_clients(people)
        yield _gauge('broker_up', UP, [], [([], int(state == database.UP))])


def _of_queues(rows: list[QueueRow]) -> Iterator[Metric]:
    labels = ['queue']
    for name, text in COUNTERS.items():
        values = _values(rows, ['name'], name)
        yield _counter(f'queue_{name}', text, labels, values)
    for name, text in GAUGES.items():
        values = _values(rows, ['name'], name)
        yield _gauge(f'queue_{name}', text, labels, values)
    waiting = [row for row in rows if row['oldest_since']]
    values = _values(waiting, ['name'], 'oldest_since')
    yield _gauge('queue_oldest_since_seconds', OLDEST, labels, values)


def _of_clients(rows: list[ClientRow]) -> Iterator[Metric]:
    labels = ['client', 'user']
    keys = ['name', 'user']
    there = [{**row, 'connected': row['state'] != 'gone'} for row in rows]
    values = _values(there, keys, 'connected')
    yield _gauge('client_connected', CONNECTED, labels, values)
    values = _values(rows, keys, 'interruptions')
    yield _counter('client_interruptions', INTERRUPTIONS, labels, values)


def _values(rows: Iterable[Mapping[str, Any]], keys: list[str], column: str) -> Values:
    return [([row[key] for key in keys], float(row[column])) for row in rows]


def _counter(name: str, text: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f'siamese_{name}', text, labels=labels)
    return _filled(family, values)


def _gauge(name: str, text: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f'siamese_{name}', text, labels=labels)
    return _filled(family, values)


def _filled(family: Any, values: Values) -> Metric:
    for labels, value in values:
        family.add_metric(labels, value)
    return family
