"""prometheus.py: counters never fall, and strangers cannot make series without end."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.builders import NOON, letter, queue, seen

from siamese.monitoring import clients, database, dead_letters, prometheus, queues

OTHER = prometheus.OTHER


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'siamese.db')


@pytest.fixture
def db(path):
    return database.open_for_writing(path)


def series_of(path, name):
    """Return {labels: value} of all series of a metric, as Prometheus reads them."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in prometheus.Collector(path).collect()
        for sample in family.samples
        if sample.name == name
    }


def test_the_counter_of_dead_letters_does_not_fall_when_they_are_forgotten(tmp_path):
    db = database.open_for_writing(str(tmp_path / 'siamese.db'))

    def told(name='siamese_dead_letters_total'):
        return {
            tuple(sample.labels.values()): sample.value
            for family in prometheus.Collector(db_path).collect()
            for sample in family.samples
            if sample.name == name
        }

    db_path = str(tmp_path / 'siamese.db')
    dead_letters.insert(db, [letter(1), letter(2), letter(3, reason='rejected')], 's', NOON)
    assert told() == {('q', 'expired'): 2, ('q', 'rejected'): 1}
    database.forget(db, NOON + 1, NOON + 1)
    assert dead_letters.find(db)[1] == 0 and told() == {
        ('q', 'expired'): 2,
        ('q', 'rejected'): 1,
    }
    dead_letters.insert(db, [letter(4)], 's', NOON + 2)
    assert told() == {('q', 'expired'): 3, ('q', 'rejected'): 1}
    assert told('siamese_dead_letters_in_doubt') == {('q', 'expired'): 0}
    dead_letters.insert(db, [letter(4)], 'after a break', NOON + 3)
    assert told('siamese_dead_letters_in_doubt') == {('q', 'expired'): 1}


def test_invented_queues_and_reasons_share_one_series(db, path):
    total = prometheus.MAX_SERIES + 5
    invented = [letter(n, queue=f'invented {n}') for n in range(total)]
    dead_letters.insert(db, [*invented, letter(0, reason='invented')], 's', NOON)
    queues.update(db, NOON, [queue('orders')], uptime=None)
    dead_letters.insert(db, [letter(1, queue='orders'), letter(2, queue='z' * 9999)], 's', NOON)
    found = series_of(path, 'siamese_dead_letters_total')
    assert len(found) == prometheus.MAX_SERIES + 1
    assert found['orders', 'expired'] == 1  # the broker knows that queue
    assert found['invented 0', 'expired'] == 1  # the first come first
    assert found[OTHER, OTHER] == total + 3 - prometheus.MAX_SERIES
    assert sum(found.values()) == total + 3
    assert max(len(label) for labels in found for label in labels) <= 255


def test_a_series_stays_when_others_come(db, path):
    first = [letter(n, queue=f'q{n}') for n in range(prometheus.MAX_SERIES)]
    dead_letters.insert(db, first, 's', NOON)
    before = series_of(path, 'siamese_dead_letters_total')
    later = [letter(n, queue=f'a{n}') for n in range(50)]
    dead_letters.insert(db, later, 's', NOON)
    after = series_of(path, 'siamese_dead_letters_total')
    assert after == {**before, (OTHER, OTHER): 50}


def test_clients_without_end_share_one_series_and_those_that_are_there_come_first(db, path):
    strangers = {
        (f'stranger {n}', 'guest'): {'does': '', 'blocked': False, 'connections': {str(n): (0, 0)}}
        for n in range(prometheus.MAX_SERIES + 7)
    }
    clients.update(db, NOON, strangers)
    seen(db, NOON + 1, 'a')
    found = series_of(path, 'siamese_client_connected')
    assert len(found) == prometheus.MAX_SERIES + 1
    assert found['alice', 'guest'] == 1 and found[OTHER, OTHER] == 0


def test_a_name_that_is_no_text_is_shown(db, path):
    """Older versions stored names that are not UTF-8 as they heard them."""
    for name in (b'\xff\xfe', '\x1b[2J'):
        clients.client_connected(db, NOON, name, 'guest', repr(name))
    registry = CollectorRegistry()
    registry.register(prometheus.Collector(path))
    assert generate_latest(registry).count(b'siamese_client_connected{') == 2
    assert series_of(path, 'siamese_client_connected') == {
        ('\ufffd\ufffd', 'guest'): 1,
        ('\\x1b[2J', 'guest'): 1,
    }
