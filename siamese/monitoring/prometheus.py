"""The figures of a history for Prometheus, and so for Grafana."""

from common import Failure
from siamese.monitoring import clients, queues
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead

COUNTERS = {
    'published': 'Messages published to a queue',
    'delivered': 'Messages delivered to consumers',
    'acked': 'Messages acknowledged',
    'redelivered': 'Messages delivered once again',
}
GAUGES = {
    'ready': 'Messages that wait',
    'unacked': 'Messages delivered and not acknowledged',
    'consumers': 'Consumers of a queue',
}


def serve(path, port):
    """Serve http://127.0.0.1:PORT/metrics from the history in the file `path`, in a thread; raise Failure."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise Failure(
            '--prometheus needs prometheus_client: pip install -r requirements/monitor.txt', 2
        ) from None
    registry = CollectorRegistry()
    registry.register(Collector(path))
    try:
        start_http_server(port, addr='127.0.0.1', registry=registry)
    except OSError as error:
        raise Failure(
            f'cannot serve metrics at 127.0.0.1:{port}: {error.strerror}; choose another --prometheus',
            2,
        ) from None


class Collector:
    """What prometheus_client asks for figures, each time that it is asked for them."""

    def __init__(self, path):
        self.path = path

    def describe(self):
        return []

    def collect(self):
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        db = history.open_for_reading(self.path)
        rows, people, broker = queues.known(db), clients.known(db), history.broker(db)
        errors, unroutable = dead.ever(db), history.get_fact(db, 'unroutable') or {}
        db.close()
        for name, text in COUNTERS.items():
            yield filled(
                CounterMetricFamily(f'siamese_queue_{name}', text, labels=['queue']),
                [([row['name']], row[name]) for row in rows],
            )
        for name, text in GAUGES.items():
            yield filled(
                GaugeMetricFamily(f'siamese_queue_{name}', text, labels=['queue']),
                [([row['name']], row[name]) for row in rows],
            )
        yield filled(
            GaugeMetricFamily(
                'siamese_queue_oldest_since_seconds',
                'Since when the oldest message waits',
                labels=['queue'],
            ),
            [([row['name']], row['oldest_since']) for row in rows if row['oldest_since']],
        )
        yield filled(
            CounterMetricFamily('siamese_dead_letters', 'Dead letters', labels=['queue', 'reason']),
            [([row['queue'], row['reason']], row['count']) for row in errors],
        )
        for name in history.UNROUTABLE:
            yield filled(
                CounterMetricFamily(f'siamese_{name}', f'Messages {name}, for no queue took them'),
                [([], unroutable.get(name, 0))],
            )
        yield filled(
            GaugeMetricFamily(
                'siamese_client_connected',
                '1 if a client is connected, 0 if it is gone',
                labels=['client', 'user'],
            ),
            [([row['name'], row['user']], int(row['state'] != 'gone')) for row in people],
        )
        yield filled(
            CounterMetricFamily(
                'siamese_client_interruptions',
                'How often a client was gone and came back',
                labels=['client', 'user'],
            ),
            [([row['name'], row['user']], row['interruptions']) for row in people],
        )
        yield filled(
            GaugeMetricFamily('siamese_broker_up', '1 if the broker is there, 0 if it is away'),
            [([], int(broker['state'] == 'up'))],
        )


def filled(family, values):
    """Return a metric with its (labels, value) pairs."""
    for labels, value in values:
        family.add_metric(labels, value)
    return family
