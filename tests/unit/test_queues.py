"""queues.py: the metrics stay true whatever counters, clocks and processes do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOON, queue

from siamese.monitoring import database, queues


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just('count'), st.integers(0, 1000)),
        st.just(('poll', 0)),
        st.just(('node restarts', 0)),
        st.just(('monitor restarts', 0)),
        st.just(('queue anew', 0)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_counts_are_those_of_the_broker_at_each_collection(tmp_path_factory, steps, several):
    path = str(tmp_path_factory.mktemp('history') / 'siamese.db')
    db, now, node_start = database.open_for_writing(path), NOON, NOON - 1000
    counter = seen = truth = 0

    def poll():
        nonlocal seen, truth
        queues.update(db, now, [queue(published=counter)], None if several else now - node_start)
        truth, seen = truth + counter - seen, counter

    poll()
    for step, count in steps:
        now += 30
        if step == 'count':
            counter += count
        elif step == 'poll':
            poll()
        elif step == 'monitor restarts':
            db.close()
            db = database.open_for_writing(path)
        else:  # what was counted since the last look is lost with the counter
            poll()
            counter = seen = 0
            if step == 'node restarts':
                node_start = now
            # Without this, a counter that has grown beyond where it stood would not
            # differ from that of a node of a cluster.
            poll()
    poll()
    assert queues.rows(db)[0]['published'] == truth
    for period in database.PERIODS:
        assert sum(row['published'] for row in database.by_period(db, period)) == truth
    for row in database.by_period(db, 'hour'):
        assert all(row[name] >= 0 for name in database.METRICS)
    db.close()


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.booleans())
def test_a_counter_never_counts_backwards_nor_more_than_it_shows(old, new, restarted, several):
    assert 0 <= queues.grown(old, new, restarted, several) <= new


def test_a_node_that_restarts_and_counts_beyond_where_it_was_is_noticed_by_its_uptime(db):
    queues.update(db, NOON, [queue(published=10)], uptime=1000)
    queues.update(db, NOON + 30, [queue(published=15)], uptime=20)
    assert queues.rows(db)[0]['published'] == 15


def test_a_node_that_restarted_and_is_up_for_longer_than_before_is_another_process(db):
    queues.update(db, NOON, [queue(published=10)], uptime=10, process='1')
    queues.update(db, NOON + 5, [queue(published=11)], uptime=15, process='1')
    queues.update(db, NOON + 40, [queue(published=15)], uptime=20, process='2')
    assert queues.rows(db)[0]['published'] == 16


def test_a_restart_between_two_collections_is_noticed_and_a_clock_that_was_set_is_not_one(db):
    queues.update(db, NOON, [queue(published=10)], uptime=100)
    queues.update(db, NOON + 5000, [queue(published=15)], uptime=500)
    assert queues.rows(db)[0]['published'] == 15
    queues.update(db, NOON + 9000, [queue(published=17)], uptime=4500)
    queues.update(db, NOON + 9050, [queue(published=18)], uptime=4505)
    assert queues.rows(db)[0]['published'] == 18


def test_of_a_cluster_a_counter_that_sinks_counts_nothing_twice(db):
    for at, published in enumerate((0, 100, 40, 50)):
        queues.update(db, NOON + at, [queue(published=published)], uptime=None)
    assert queues.rows(db)[0]['published'] == 110


def test_what_was_counted_before_the_first_collection_is_left_out(db):
    queues.update(db, NOON, [queue(published=1000)], uptime=100)
    queues.update(db, NOON + 5, [queue(published=1001), queue('new', published=7)], uptime=105)
    assert {row['name']: row['published'] for row in queues.rows(db)} == {'q': 1, 'new': 7}


@pytest.mark.parametrize('uptime, published', [(3600, 0), (3, 7), (None, 0)])
def test_what_a_node_counts_that_is_younger_than_the_history_is_not_left_out(db, uptime, published):
    database.set_facts(db, begun=NOON - 60)
    queues.update(db, NOON, [queue(published=7)], uptime)
    queues.update(db, NOON + 5, [queue(published=7)], uptime and uptime + 5)
    assert queues.rows(db)[0]['published'] == published


def test_messages_that_no_queue_takes_are_counted_of_all_queues_together(db):
    def look(at, uptime, returned=None, dropped=None):
        queues.update(
            db, NOON + at, [queue()], uptime, unroutable={'returned': returned, 'dropped': dropped}
        )

    look(0, 100, 50, 1)  # before that nobody looked
    look(5, 105, 53, 1)
    look(10, 110)  # not told
    look(15, 115, 54, 3)
    look(20, 2, 2)  # the node has restarted
    look(25, 7, 2, 1)
    (row,) = database.by_period(db, 'hour', total=True)
    assert (row['returned'], row['dropped']) == (6, 3)
    assert database.by_period(db, 'hour') == [] and 'returned' not in database.METRICS


def test_a_stream_keeps_messages_and_is_never_unread(db):
    for at in 0, 5:
        queues.update(db, NOON + at, [queue('s', 9, type='stream'), queue('q', 9)], uptime=None)
    since = {row['name']: row['no_consumer_since'] for row in queues.rows(db)}
    assert since == {'s': None, 'q': NOON}


def test_counters_that_the_broker_omits_for_a_while_are_not_counted_again(db):
    for at, published in enumerate((0, 5, None, 5, 6)):
        queues.update(db, NOON + at, [queue(published=published)], uptime=100 + at)
    assert queues.rows(db)[0]['published'] == 6


def test_a_queue_that_is_deleted_and_declared_anew(db):
    for at, rows in enumerate(
        ([queue(published=0)], [queue(published=5, ready=5)], [], [queue(published=7)])
    ):
        queues.update(db, NOON + at, rows, uptime=100 + at)
        assert [row['ready'] for row in queues.rows(db)] == [row['ready'] for row in rows]
    assert queues.rows(db)[0]['published'] == 12
    assert database.by_period(db, 'day')[0]['ready_high'] == 5


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_the_age_of_the_oldest_message_is_right_to_within_a_collection(flow):
    # For each collection: how many messages came, and how many left at most.
    db, waiting, published = database.open_for_writing(':memory:'), [], 0
    queues.update(db, NOON, [queue()], uptime=None)
    for look, (come, leave) in enumerate(flow, 1):
        waiting = (waiting + [look] * come)[leave:]
        published += come
        queues.update(
            db, NOON + look, [queue(published=published, ready=len(waiting))], uptime=None
        )
        oldest = queues.rows(db)[0]['oldest_since']
        assert oldest == (NOON + waiting[0] - 1 if waiting else None)


def test_samples_have_the_rates_of_each_collection(db):
    for at, published in ((0, 0), (10, 20), (20, 20)):
        queues.update(db, NOON + at, [queue(published=published, ready=3)], uptime=None)
    assert queues.samples(db) == {
        'q': [(NOON + 10, 3, 0, 2.0, 0.0, 0.0), (NOON + 20, 3, 0, 0.0, 0.0, 0.0)]
    }
    assert queues.samples(db, 'q') == queues.samples(db) and queues.samples(db, 'other') == {}
    queues.update(db, NOON + 20 + queues.KEEP_SAMPLES_S, [queue(published=20)], uptime=None)
    assert len(queues.samples(db)['q']) == 1


def test_rates_are_computed_from_samples_where_there_are_some(db):
    rates = []
    for at, published in ((0, 100), (5, 200), (10, 200), (15, 400), (60, 1000)):
        queues.update(db, NOON + at, [queue(published=published, publish_rate=7)], uptime=None)
        rates.append(queues.rows(db)[0]['publish_rate'])
    assert rates == [7, 20, 10, 20, 7]  # 7: the broker's, where nothing was seen in the last 15 s


def test_all_queues_together_have_samples_of_their_own(db):
    rows = [queue('a', ready=2, published=10), queue('b', ready=1, published=5)]
    queues.update(db, NOON, [queue('a'), queue('b')], uptime=None)
    queues.update(db, NOON + 10, rows, uptime=None)
    queues.update(db, NOON + 20, rows[:1], uptime=None)
    (first, second) = queues.samples(db, total=True)['']
    assert (first.ready, first.publish_rate) == (3, 1.5)
    assert (second.ready, second.publish_rate) == (2, 0)  # b is gone, and what it counted is not


def test_one_sample_a_minute_is_kept_for_a_day(db):
    for at in range(0, 7200, 20):
        queues.update(db, NOON + at, [queue(published=at, ready=1)], uptime=None)
    minutes = queues.samples(db, 'q', table='minute')['q']
    assert [sample.at for sample in minutes] == [NOON + at for at in range(60, 7200, 60)]
    assert {sample.publish_rate for sample in minutes} == {1.0}
    assert len(queues.samples(db, table='minute', total=True)['']) == len(minutes)
    assert queues.samples(db, 'q')['q'][0].at > NOON + 7200 - queues.KEEP_SAMPLES_S - 60
    queues.update(db, NOON + 86400 + 3600, [queue(published=9999)], uptime=None)
    assert queues.samples(db, 'q', table='minute')['q'][0].at >= NOON + 3600
    queues.update(db, NOON + 86400 + 3700, [], uptime=None)
    assert queues.samples(db, 'q', table='minute') == {}


def aged(age_s, **facts):
    return {**queue(ready=1), 'seen': NOON, 'oldest_since': NOON - age_s, **facts}


@pytest.mark.parametrize(
    'row, age',
    [
        (aged(5), '< 10 s'),
        (aged(10.4), '< 10 s'),  # a look may be late
        (aged(30), '32 s'),
        (aged(3, ready=0, unacked=20), '< 10 s'),
        (aged(3, ready=0), ''),
        (aged(3, oldest_since=None), '?'),
    ],
)
def test_the_oldest_message_has_an_age_and_not_the_interval_of_the_counters(row, age):
    assert queues.oldest_age(row, NOON + 2, resolution_s=10) == age


def test_the_age_is_known_to_within_the_intervals_of_the_broker_and_of_our_looks(db):
    assert queues.age_resolution_s(db) == queues.STATISTICS_INTERVAL_S
    database.set_facts(db, monitor={'name': 'm', 'seen': NOON, 'interval': 5}, counted_every=60)
    assert queues.age_resolution_s(db) == 65
