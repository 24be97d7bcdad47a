"""compare.py without a broker: the table, the page and the exit status."""

import pytest

import common
from siamese.testbed import comparison, comparison_page
from siamese.testbed.checks import proxied_url
from siamese.testbed.comparison import Cell, Column


def column(facts=None, left=(), **verdicts):
    """Return a Column whose checks have these verdicts."""
    checks = {
        name: Cell(verdict, f'{name} <done>', {'msg/s': 10.0 * len(verdict)})
        for name, verdict in verdicts.items()
    }
    return Column('RabbitMQ 9', 'host:1/v', checks, facts or {}, list(left), 7)


@pytest.mark.parametrize(
    'verdicts, left, status',
    [
        (['pass', 'pass'], [], 0),
        (['pass', 'not possible'], [], 0),
        (['not possible', 'not possible'], [], 3),
        (['pass', 'not known'], [], 3),
        (['not known', 'FAIL'], [], 1),
        (['pass', 'pass'], ['siamese.compare-1.dlx'], 3),
    ],
)
def test_exit_status_of_one_broker(verdicts, left, status):
    one = column(left=left, **dict(zip(('a', 'b'), verdicts)))
    assert one.exit_status() == comparison.exit_status([one]) == status


def test_a_failure_goes_before_an_unknown_broker():
    failed, unknown = column(a='FAIL'), column(a='not known')
    assert comparison.exit_status([unknown, failed, column(a='pass')]) == 1
    assert comparison.exit_status([unknown, column(a='pass')]) == 3


def test_summary_counts_the_verdicts():
    one = column(a='pass', b='FAIL', c='pass')
    assert one.summary() == 'RabbitMQ 9 at host:1/v: 2 pass, 1 FAIL'


def test_table_wraps_texts_and_names_differences():
    columns = [column({'frame': '1'}, a='pass'), column({'frame': '2'}, a='FAIL')]
    columns[0].checks['a'].text = 'word ' * 12
    lines = list(comparison.comparison_table(columns))
    assert lines[0].split() == ['RabbitMQ', '9', 'RabbitMQ', '9']
    assert lines[2].startswith('a  ') and not lines[3].startswith('a')
    assert lines[2].count('word') + lines[3].count('word') == 12
    assert lines[-2:] == ['differences, all of them legal:', '  frame: 1; 2']


def test_equal_facts_are_no_difference():
    columns = [column({'frame': '1'}, a='pass'), column({'frame': '1'}, a='pass')]
    assert not comparison.differences(columns)


def test_a_fact_that_one_broker_lacks_is_not_known():
    columns = [column({'frame': '1'}, a='pass'), column(a='pass')]
    (difference,) = comparison.differences(columns)
    assert difference.texts == ['1', 'not known']


def test_page_escapes_texts_and_has_a_bar_for_each_broker():
    columns = [column(a='pass'), column(a='FAIL')]
    columns[1].checks['a'].metrics = {}
    page = comparison_page.html(columns, [], ['2 & 3'])
    assert '&lt;done&gt;' in page and '<done>' not in page and '2 &amp; 3' in page
    assert page.count('<svg') == page.count('<rect') == 1
    assert 'Differences' not in page


def test_page_shows_the_differences():
    columns = [column({'frame': '1'}, a='pass'), column({'frame': '2'}, a='pass')]
    page = comparison_page.html(columns, comparison.differences(columns), [])
    assert '<th>frame</th><td>1</td><td>2</td>' in page


@pytest.mark.parametrize(
    'url, expected',
    [
        ('amqp://u:p@h/v', 'amqp://u:p@h:5672/v'),
        ('amqp://h:1/v?heartbeat=3', 'amqp://h:1/v?heartbeat=3'),
        ('amqps://h/v', 'amqps://h:5671/v?server_name_indication=h'),
        ('amqp://u:p@[::1]/v', 'amqp://u:p@[::1]:5672/v'),
    ],
)
def test_a_proxied_url_has_port_and_name(url, expected):
    (endpoint,) = common.endpoints(url, 'test')
    assert proxied_url(endpoint, url) == expected
