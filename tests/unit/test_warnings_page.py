"""warnings_page.py: where each warning, and what it is about, leads."""

import pytest

from siamese.monitoring.alert_groups import REMEDIES, grouped
from siamese.monitoring.alerts import Alert
from siamese.web import warnings_page

NOON = 1_795_521_600.0


def test_a_warning_leads_to_all_that_it_is_about():
    found = [Alert('unread', NOON, name, number=1) for name in ('a', 'b')]
    found.append(Alert('broker', NOON, seconds=60))
    rows = [warnings_page.table_row(group) for group in grouped(found)]
    assert [(row['tone'], row['href']) for row in rows] == [
        ('bad', '/warnings?kind=broker'),
        ('warn', '/warnings?kind=unread'),
    ]
    assert [row['remedy'] for row in rows] == [REMEDIES['broker'], REMEDIES['unread']]


@pytest.mark.parametrize(
    'alert, href, name',
    [
        (Alert('unread', NOON, 'a/b', number=1), '/queue?name=a%2Fb', 'a/b'),
        (Alert('dead', NOON, 'a&b', 'expired'), '/dead?queue=a%26b', 'a&b'),
        (Alert('dead', NOON, '', 'expired'), '', 'queue unknown'),
        (Alert('interrupted', NOON, 'alice', seconds=5), '/clients', 'alice'),
        (Alert('alarm', NOON, 'disk alarm on n', 'disk'), '', 'disk alarm on n'),
        (Alert('unread', NOON, '\x1b[2J' + 'x' * 300), None, '\\x1b[2J' + 'x' * 92 + '…'),
    ],
)
def test_what_a_warning_is_about_leads_to_its_page(alert, href, name):
    row = warnings_page.member_row(alert)
    assert row['name'] == name
    assert href is None or row['href'] == href


def test_rows_have_ids_of_their_own():
    found = [Alert('dead', NOON, 'q', reason) for reason in ('unknown', 'odd')]
    ids = [warnings_page.member_row(alert)['id'] for alert in found]
    assert len(set(ids)) == 2
