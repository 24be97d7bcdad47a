"""What the pages of the past, of nodes and of verdicts show, without a browser."""

import pytest
from support.builders import NOON

from siamese.monitoring.history import Range
from siamese.monitoring.queues import Sample
from siamese.web import history_page, lines, nodes, queue_details, verdicts_page

DAY = 86400
MIDNIGHT = NOON - DAY / 2
NODE = {
    'name': 'n',
    'running': True,
    'alarms': [],
    'uptime': 100.0,
    'mem_used': 85_000_000,
    'mem_limit': 100_000_000,
    'disk_free': 20_000_000_000,
    'disk_free_limit': 50_000_000,
    'fd_used': 5,
    'fd_total': 1000,
}


# ---- the range of the history


def test_without_anything_it_is_what_the_report_is_about():
    assert history_page.range_of({}, NOON) == Range('day', MIDNIGHT - 31 * DAY, NOON)


@pytest.mark.parametrize(
    'query',
    [
        {'period': 'second'},
        {'since': 'yesterday'},
        {'until': '2026-13-01'},
        {'since': "'; DROP TABLE bucket"},
    ],
)
def test_garbage_counts_as_nothing(query):
    assert history_page.range_of(query, NOON) == history_page.range_of({}, NOON)


def test_the_last_day_is_part_of_it_and_no_more_is_asked_for_than_can_be_answered():
    query = {'since': '1970-01-01', 'until': '2026-11-24', 'period': 'hour', 'find': 'q'}
    found = history_page.range_of(query, NOON)
    assert found[:3] == ('hour', MIDNIGHT - 13 * DAY, MIDNIGHT + DAY)
    assert found.is_found('a queue') and not found.is_found('a letter')
    assert history_page.days_of(found) == ('2026-11-11', '2026-11-24')


@pytest.mark.parametrize(
    'wanted, starts',
    [
        (Range('day', MIDNIGHT - DAY, NOON), [MIDNIGHT - DAY, MIDNIGHT]),
        (Range('hour', NOON - 3600, NOON), [NOON - 3600]),
        (Range('year', 1704067200, NOON), [1704067200, 1735689600, 1767225600]),
    ],
)
def test_the_periods_of_a_range(wanted, starts):
    assert history_page.starts_of(wanted) == starts


# ---- lines over time


def sample(at, ready, rate):
    return Sample(at, ready, 0, rate, rate, rate)


def test_a_point_is_the_most_that_waited_and_the_mean_of_rates():
    samples = [sample(0, 5, 1.0), sample(5, 9, 3.0), sample(10, 2, 2.0), sample(15, 1, 7.0)]
    assert lines.line_of(samples, 'ready', 15, 20) == [(10, 9), (15, 1)]
    assert lines.line_of(samples, 'publish_rate', 15, 20) == [(10, 2.0), (15, 7.0)]


def test_a_line_has_a_gap_and_no_rate_that_is_the_mean_of_one():
    samples = [sample(0, 5, 1.0), sample(600, 9, 50.0), sample(615, 9, 2.0)]
    assert lines.line_of(samples, 'publish_rate', 15, 20) == [(0, 1.0), (307.5, None), (615, 2.0)]
    assert [point[1] for point in lines.line_of(samples, 'ready', 15, 20)] == [5, None, 9, 9]


def test_no_line_is_drawn_through_an_outage_however_short():
    samples = [sample(0, 5, 1.0), sample(15, 5, 1.0), sample(30, 6, 50.0), sample(45, 6, 2.0)]
    outages = [(16, 29)]
    ready = [(0, 5), (15, 5), (22.5, None), (30, 6), (45, 6)]
    assert lines.line_of(samples, 'ready', 15, 20, outages) == ready
    rates = [(0, 1.0), (15, 1.0), (30, None), (45, 2.0)]
    assert lines.line_of(samples, 'publish_rate', 15, 20, outages) == rates


def test_what_is_unknown_is_no_point():
    assert lines.line_of([sample(0, None, 1.0)], 'ready', 15, 20) == []


# ---- nodes


def test_a_row_of_a_node():
    row = nodes.table_row(NODE)
    assert (row['memory'], row['disk'], row['descriptors']) == ('85 MB', '20 GB', '5 of 1,000')
    assert (row['tone'], row['state']) == ('good', 'runs')
    alarmed = nodes.table_row({**NODE, 'alarms': ['memory', 'disk']})
    assert (alarmed['tone'], alarmed['state']) == ('bad', 'memory and disk alarm')
    assert nodes.table_row({**NODE, 'running': False})['state'] == 'does not run'


def test_a_node_of_an_older_history_has_no_figures():
    old = {name: NODE[name] for name in ('name', 'running', 'alarms', 'uptime')}
    row = nodes.table_row(old)
    assert (row['memory'], row['disk_limit'], row['descriptors']) == ('?', '?', '?')


@pytest.mark.parametrize(
    'size, text', [(None, '?'), (0, '0 B'), (999, '999 B'), (1500, '1.5 kB'), (2.5e9, '2.5 GB')]
)
def test_a_size(size, text):
    assert nodes.size_of(size) == text


def test_the_disk_is_tight_near_its_limit():
    assert not nodes.is_tight(NODE)
    assert nodes.is_tight({**NODE, 'disk_free': 90_000_000})


# ---- how a queue is set up


def test_a_consumer_leads_to_its_client():
    consumer = {
        'client': 'a&b',
        'user': 'guest',
        'tag': 't',
        'prefetch': 0,
        'acknowledges': False,
    }
    row = queue_details.consumer_row(0, consumer)
    assert row['href'] == '/clients?find=a%26b'
    assert (row['prefetch'], row['acknowledges']) == ('unlimited', 'no')
    nobody = queue_details.consumer_row(0, {**consumer, 'client': '', 'prefetch': None})
    assert (nobody['href'], nobody['client'], nobody['prefetch']) == ('', 'unknown', '?')


# ---- verdicts


@pytest.mark.parametrize(
    'status, state',
    [(0, ('good', 'passed')), (1, ('bad', 'failed')), (3, ('warn', 'not known'))],
)
def test_the_state_of_a_verdict(status, state):
    assert verdicts_page.state_of({'exit_status': status}) == state
