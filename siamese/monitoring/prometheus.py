"""The metrics of a history for Prometheus, and so for Grafana."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from common import Failure
from siamese.monitoring import clients, database, dead_letters, queues
from siamese.monitoring.database import Row

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
            rows = queues.known(db)
            people = clients.known(db)
            state = database.broker(db)['state']
            dead = dead_letters.ever(db)
            unroutable = database.get_fact(db, 'unroutable') or {}
        yield from _of_queues(rows)
        values = [([row['queue'], row['reason']], row['count']) for row in dead]
        yield _counter('dead_letters', 'Dead letters', ['queue', 'reason'], values)
        for name in database.UNROUTABLE:
            text = f'Messages {name}, for no queue took them'
            yield _counter(name, text, [], [([], unroutable.get(name, 0))])
        yield from _of_clients(people)
        yield _gauge('broker_up', UP, [], [([], int(state == database.UP))])


def _of_queues(rows: list[Row]) -> Iterator[Metric]:
    for name, text in COUNTERS.items():
        values = [([row['name']], row[name]) for row in rows]
        yield _counter(f'queue_{name}', text, ['queue'], values)
    for name, text in GAUGES.items():
        values = [([row['name']], row[name]) for row in rows]
        yield _gauge(f'queue_{name}', text, ['queue'], values)
    oldest = [([row['name']], row['oldest_since']) for row in rows if row['oldest_since']]
    yield _gauge('queue_oldest_since_seconds', OLDEST, ['queue'], oldest)


def _of_clients(rows: list[Row]) -> Iterator[Metric]:
    labels = ['client', 'user']
    there = [([row['name'], row['user']], int(row['state'] != 'gone')) for row in rows]
    yield _gauge('client_connected', CONNECTED, labels, there)
    interruptions = [([row['name'], row['user']], row['interruptions']) for row in rows]
    yield _counter('client_interruptions', INTERRUPTIONS, labels, interruptions)


def _counter(name: str, text: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f'siamese_{name}', text, labels=labels), values)


def _gauge(name: str, text: str, labels: list[str], values: Values) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f'siamese_{name}', text, labels=labels), values)


def _filled(family: Any, values: Values) -> Metric:
    for labels, value in values:
        family.add_metric(labels, value)
    return family
