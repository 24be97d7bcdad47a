"""alert_groups.py and nagios.py: warnings grouped, the worst first, and in one line."""

import random

import pytest

from siamese.monitoring import nagios, thresholds
from siamese.monitoring.alert_groups import REMEDIES, grouped, link
from siamese.monitoring.alerts import Alert

NOON = 1_795_521_600.0
EVIL = '\x1b[2J\u202e|<script>\r\n' + 'é' * 300


def unread(name='q', number=1, seconds=8.0):
    return Alert('unread', NOON, name, number=number, seconds=seconds)


def dead(name='q', number=1, reason='expired', **more):
    return Alert('dead', NOON, name, reason, number=number, **more)


def alarm(node, reason='memory', number=0):
    name = f'{reason} alarm on {node}'
    if reason == 'node':
        name = f'{node} does not run'
    return Alert('alarm', NOON, name, reason, number=number)


def interrupted(name, seconds):
    return Alert('interrupted', NOON, name, seconds=seconds)


def one_of_each():
    return [
        interrupted('alice', 5),
        unread(),
        *[dead(reason=reason) for reason in ('expired', 'rejected', 'maxlen', 'delivery_limit')],
        dead(reason='whatever'),
        Alert('webhook', NOON, reason='it answers 404', seconds=60),
        Alert('mail', NOON, reason='refused', seconds=60),
        Alert('limit', NOON, 'ready', 'too many'),
        *[alarm('n0', reason) for reason in ('memory', 'disk', 'node')],
        Alert('broker', NOON, seconds=60),
    ]


def test_nothing_is_no_warning():
    assert grouped([]) == []


@pytest.mark.parametrize(
    'found, text, most',
    [
        ([unread('a', 3)], 'a waits without a consumer: 3 messages, oldest 8 s', ''),
        ([unread('a', 1, None)], 'a waits without a consumer: 1 message', ''),
        (
            [unread(f'q{number}', 200 + number, 5 * number) for number in range(73)],
            '73 queues wait without a consumer: 17,228 messages, oldest 6 min',
            'q72 (272), q71 (271), q70 (270), and 70 more',
        ),
        ([dead('bert', 2055)], 'bert: 2,055 dead letters, expired', ''),
        (
            [dead('a', 1, copies=1), dead('b', 5)],
            '2 queues: 6 dead letters, expired, 1 of them may be a copy',
            'b (5), a (1)',
        ),
        (
            [dead('a', 1, 'unknown'), dead('a', 2, 'odd')],
            'a: 3 dead letters, other reasons',
            'a (2), a (1)',
        ),
        ([dead('')], 'queue unknown: 1 dead letter, expired', ''),
        ([alarm('n0')], 'memory alarm on n0', ''),
        ([alarm('n0', number=1)], 'memory alarm on n0: 1 client is blocked', ''),
        (
            [alarm('n0', number=5), alarm('n1', number=5)],
            'memory alarm on 2 nodes: 5 clients are blocked',
            'memory alarm on n0, memory alarm on n1',
        ),
        ([alarm('n0', 'node', 5)], 'n0 does not run', ''),
        ([interrupted('alice', 5)], 'alice was disconnected for 5 s, and is back', ''),
        (
            [interrupted('alice', 5), interrupted('bob', 300)],
            '2 clients were disconnected, and are back: longest 5 min',
            'bob (5 min), alice (5 s)',
        ),
    ],
)
def test_what_belongs_together_is_one_line(found, text, most):
    (group,) = grouped(found)
    assert (group.text, group.most) == (text, most)


def test_the_worst_comes_first_whatever_the_order():
    found = one_of_each()
    found += [unread(f'q{number}', 50) for number in range(3)]
    for _ in range(20):
        random.shuffle(found)
        groups = grouped(found)
        assert [group.key for group in groups] == [
            'broker',
            'alarm-disk',
            'alarm-memory',
            'alarm-node',
            'limit',
            'mail',
            'webhook',
            'unread',
            'dead-delivery_limit',
            'dead-expired',
            'dead-maxlen',
            'dead-other',
            'dead-rejected',
            'interrupted',
        ]
        critical = [group.critical for group in groups]
        assert critical == [True] * 5 + [False] * 9


def test_each_warning_has_a_remedy_and_a_page():
    groups = grouped(one_of_each())
    assert {group.key for group in groups} == set(REMEDIES)
    assert all(group.remedy and group.path.startswith('/') for group in groups)


@pytest.mark.parametrize(
    'found, path',
    [
        ([unread('a&b/c')], '/queue?name=a%26b%2Fc'),
        ([dead('a#b')], '/dead?queue=a%23b'),
        ([dead('')], '/warnings?kind=dead-expired'),
        ([unread('a'), unread('b')], '/warnings?kind=unread'),
    ],
)
def test_a_warning_leads_to_all_that_it_is_about(found, path):
    (group,) = grouped(found)
    assert group.path == path
    assert link(group, 'http://h:1/') == f'http://h:1{path}'
    assert link(group, None) == ''


def test_queues_that_a_stranger_invented_hide_none_that_the_broker_has():
    invented = [dead(f'x{number}', 100, invented=True) for number in range(1000)]
    (group,) = grouped([*invented, dead('orders', 1)])
    assert group.most.startswith('orders (1), x0 (100), ')


# ---- in one line


def line(found, unknown=(), limits=None, queues=1):
    figures = thresholds.figures([], found)
    found = [*found, *thresholds.exceeded(figures, limits or {}, NOON)]
    return nagios.line(grouped(found), unknown, figures, limits or {}, queues)


@pytest.mark.parametrize(
    'found, unknown, status',
    [
        ([], [], 0),
        ([], ['?'], 3),
        ([unread()], ['?'], 1),
        ([dead()], [], 1),
        ([alarm('n0')], [], 2),
        ([unread(), Alert('broker', NOON, seconds=1)], ['?'], 2),
    ],
)
def test_the_exit_status_is_that_of_the_worst(found, unknown, status):
    assert nagios.status(grouped(found), unknown) == status


def test_the_line_names_the_worst_three_and_its_figures():
    assert line([]) == (
        'SIAMESE OK - 1 queue | ready=0 unacked=0 unread=0 oldest=0s dead=0 queues=1 warnings=0'
    )
    text = line(one_of_each())
    assert text.startswith(
        'SIAMESE CRITICAL - the broker has been unavailable for 60 s; disk alarm'
    )
    assert '; and 11 more warnings. First of all: Is it running?' in text
    assert text.endswith(' | ready=0 unacked=0 unread=1 oldest=8s dead=5 queues=1 warnings=14')


def test_a_limit_that_is_exceeded_is_critical():
    found = [unread('q', 11), dead('q', 3)]
    limits = {'unread': 10, 'dead': 3, 'oldest': 7.5}
    text = line(found, limits=limits)
    assert text.startswith(
        'SIAMESE CRITICAL - the oldest message without a consumer waits 8 s, more than 7.5; '
        '11 messages wait without a consumer, more than 10; q waits'
    )
    assert 'unread=11;;10 oldest=8s;;7.5 dead=3;;3 ' in text
    assert line(found, limits={'dead': 3}).startswith('SIAMESE WARNING')


def test_an_unknown_age_is_not_0():
    assert ' unread=1 oldest=U ' in line([unread(seconds=None)])
    assert ' unread=2 oldest=8s ' in line([unread(seconds=None), unread('b')])


def test_what_waits_in_queues_is_unknown_where_their_figures_are():
    unknown = [{'name': 'q', 'ready': None, 'unacked': None}]
    assert thresholds.figures(unknown, [dead()]) == {
        'ready': None,
        'unacked': None,
        'unread': None,
        'oldest': None,
        'dead': 1,
    }


def test_an_unknown_figure_exceeds_no_limit():
    figures = {'ready': None, 'unacked': None, 'unread': 0, 'oldest': 0, 'dead': 0}
    assert thresholds.exceeded(figures, {'ready': 0}, NOON) == []
    text = nagios.line([], ['no statistics'], figures, {'ready': 0}, 1)
    assert text.startswith('SIAMESE UNKNOWN - no statistics | ready=U;;0 unacked=U ')


@pytest.mark.parametrize('unknown', [[], [EVIL * 9]])
def test_the_line_is_short_and_printable_whatever_strangers_name_things(unknown):
    names = [f'{number}{EVIL}' for number in range(1000)]
    found = [unread(name, 10**12) for name in names]
    found += [dead(name, 10**9, name) for name in names]
    found += [interrupted(name, 1e9) for name in names]
    found += [alarm(name) for name in names]
    found.append(Alert('mail', NOON, reason=EVIL * 10, seconds=1e9))
    text = line(found, unknown, {'unread': 0}, queues=10**6)
    assert len(f'{text}\n'.encode()) < 1024
    assert text.isprintable() and text.count('|') == 1
    assert text.endswith('s dead=1000000000000 queues=1000000 warnings=6')
    for group in grouped(found):
        assert group.text.isprintable() and group.most.isprintable()
        assert len(group.most) < 500


@pytest.mark.parametrize(
    'text',
    ['', 'ready', 'ready=', 'ready=x', 'queues=1', 'dead=-1', 'ready=inf', 'ready=nan', '|=1'],
)
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(thresholds.argparse.ArgumentTypeError):
        thresholds.parse(text)


def test_limits_are_read():
    assert thresholds.parse('ready=10000, dead=0,oldest=1.5') == {
        'ready': 10000,
        'dead': 0,
        'oldest': 1.5,
    }
