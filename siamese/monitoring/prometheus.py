"""The metrics of a history for Prometheus, and so for Grafana.

Strangers name clients, and the queues in the header x-death. So the first MAX_SERIES of
these have a series each, and the others one together, OTHER.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from common import Failure
from siamese.monitoring import clients, database, dead_letters, metrics_server, queues
from siamese.monitoring.clients import ClientRow
from siamese.monitoring.queues import QueueRow
from siamese.text import readable, shorten

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
IN_DOUBT = 'Dead letters, not requeued, that may be copies of others'
CONNECTED = '1 if a client is connected, 0 if it is gone'
INTERRUPTIONS = 'How often a client was gone and came back'
UP = '1 if the broker is available, 0 if it is not'

MAX_SERIES = 1000
OTHER = '(other)'
LONGEST_LABEL = 255  # characters
REASONS = ('expired', 'rejected', 'maxlen', 'delivery_limit', 'unknown')

Values = Iterable[tuple[list[str], float]]  # pairs of labels and value


def serve(path: str, port: int) -> None:
    """Serve http://127.0.0.1:PORT/metrics from the history in a file, in a thread.

    Raises Failure.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        remedy = 'pip install -r requirements/monitor.txt'
        raise Failure(f'--prometheus needs prometheus_client: {remedy}', 2) from None
    registry = CollectorRegistry()
    registry.register(Collector(path))
    try:
        metrics_server.start(registry, port)
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
            kept = dead_letters.by_queue(db)
            unroutable = database.get_fact(db, 'unroutable') or {}
        yield from _of_queues(rows)
        yield from _of_dead_letters(dead)
        labels = ['queue', 'reason']
        values = _bounded(_values(kept, labels, 'copies'))
        yield _gauge('dead_letters_in_doubt', IN_DOUBT, labels, values)
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


def _of_dead_letters(counts: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ['queue', 'reason']
    rows = [{**row, 'reason': _known_reason(row['reason'])} for row in counts]
    values = _values(rows, labels, 'count')
    yield _counter('dead_letters', 'Dead letters', labels, _bounded(values))


def _known_reason(reason: str) -> str:
    return reason if reason in REASONS else OTHER


def _of_clients(rows: list[ClientRow]) -> Iterator[Metric]:
    labels = ['client', 'user']
    keys = ['name', 'user']
    there: list[dict[str, Any]] = [{**row, 'connected': row['state'] != 'gone'} for row in rows]
    there.sort(key=lambda row: (not row['connected'], -row['last_seen']))
    values = _values(there, keys, 'connected')
    yield _gauge('client_connected', CONNECTED, labels, _bounded(values))
    values = _values(there, keys, 'interruptions')
    yield _counter('client_interruptions', INTERRUPTIONS, labels, _bounded(values))


def _values(
    rows: Iterable[Mapping[str, Any]],
    keys: list[str],
    column: str,
) -> Values:
    """Return the values of a column, but for those that are unknown."""
    known = [row for row in rows if row[column] is not None]
    return [([row[key] for key in keys], float(row[column])) for row in known]


def _bounded(values: Values) -> Values:
    """Return the first MAX_SERIES values, and the sum of the others as OTHER.

    Labels are text that Prometheus reads; what is the same then is one series.
    """
    series: dict[tuple[str, ...], float] = {}
    for labels, value in values:
        key = tuple(shorten(readable(label), LONGEST_LABEL) for label in labels)
        if key not in series and len(series) >= MAX_SERIES:
            key = tuple(OTHER for label in labels)
        series[key] = series.get(key, 0) + value
    return [([*key], value) for key, value in series.items()]


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
