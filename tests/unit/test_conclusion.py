"""conclusion.py: the one sentence of a comparison."""

import pytest
from support.comparisons import EXAMPLE, MEANINGS, NEW, OLD, QPID, broker, compared, document

from siamese.testbed.conclusion import conclusion

SECOND = broker('RabbitMQ 3.10.8', label='RabbitMQ 3.10.8 at h:2/v')
FIRST = broker('RabbitMQ 3.10.8', label='RabbitMQ 3.10.8 at h:1/v')
GONE = broker('not known', **dict.fromkeys(MEANINGS, 'not known'))
FAILED = broker('GarageMQ', RPC='FAIL', throughput='FAIL', latency='not known')
CLOSED = broker('Tiny', **dict.fromkeys(MEANINGS, 'not possible'))


@pytest.mark.parametrize(
    'found, sentence',
    [
        (document(OLD), 'RabbitMQ 3.10.8 passes all 5 checks.'),
        (
            EXAMPLE,
            'Both pass all 5 checks; RabbitMQ 4.0.5 is 1.2 times as fast at persistent messages; '
            'no other difference in speed beyond noise; three legal differences.',
        ),
        (
            document(FIRST, SECOND, comparisons=[compared(0, 1, None)]),
            'Both pass all 5 checks; no difference in speed beyond noise; no legal differences.',
        ),
        (
            document(OLD, NEW, comparisons=[compared(0, 1, '')], differences={'a': ['1', '2']}),
            'Both pass all 5 checks; whether one is faster is not known; one legal difference.',
        ),
        (
            document(OLD, NEW, comparisons=[compared(0, 1, 1.04, 'latency', 'p50')]),
            'Both pass all 5 checks; a message takes 1.04 times as long through RabbitMQ 4.0.5; '
            'no legal differences.',
        ),
        (
            document(OLD, NEW, comparisons=[compared(0, 1, 2, 'new', 'thing')]),
            'Both pass all 5 checks; broker 0 is 2 times as good as broker 1; '
            'no legal differences.',
        ),
        (
            document(FAILED, status=1),
            'GarageMQ fails 2 of 5 checks (throughput; RPC), passes 2, 1 is not known.',
        ),
        (
            document(OLD, QPID),
            'RabbitMQ 3.10.8 passes all 5 checks; qpid 10.1.0 passes 4 of 5 checks, '
            '1 is not possible; no legal differences.',
        ),
        (document(CLOSED, status=3), 'No check is possible on Tiny.'),
        (
            document(GONE, status=3),
            'Nothing is known about the broker at 127.0.0.1:5672/%2F.',
        ),
        (
            document(
                OLD,
                NEW,
                broker('LavinMQ 2.9.1'),
                comparisons=[compared(1, 0, 1.2), compared(1, 2, 12.34), compared(0, 2, None)],
            ),
            'All three pass all 5 checks; '
            'RabbitMQ 4.0.5 is 1.2 times as fast at persistent messages as RabbitMQ 3.10.8; '
            'RabbitMQ 4.0.5 is 12 times as fast at persistent messages as LavinMQ 2.9.1; '
            'no other difference in speed beyond noise; no legal differences.',
        ),
        (
            document(OLD, not_tried=['RPC'], spoils=True),
            'RabbitMQ 3.10.8 passes all 5 checks; one check was not tried; '
            'other processes spoiled the figures.',
        ),
    ],
)
def test_the_sentence(found, sentence):
    assert conclusion(found) == sentence


def test_of_many_failures_the_first_are_named():
    names = ('throughput', 'latency', 'priority', 'RPC')
    (found,) = document(broker('X', **dict.fromkeys(names, 'FAIL')))['brokers']
    sentence = conclusion(document(found, status=1))
    assert sentence == 'X fails 4 of 5 checks (throughput; latency; priority; ...), passes 1.'


def test_what_was_not_looked_for_is_not_none():
    unknown = broker('X', **{'limits met': 'not known'})
    assert conclusion(document(OLD, unknown)).endswith('; legal differences are not known.')
    without = broker('X')
    del without['checks']['limits met']
    sentence = conclusion(document(without, without, not_tried=['limits met']))
    assert sentence == 'Both pass all 4 checks; one check was not tried.'


def test_what_is_left_is_said():
    left = {**OLD, 'left': ['siamese.compare-1.dlx']}
    assert conclusion(document(left)).endswith('; something is left on RabbitMQ 3.10.8.')


def test_one_or_two_checks_are_counted_as_people_do():
    one = {**OLD, 'checks': {'RPC': OLD['checks']['RPC']}}
    assert conclusion(document(one)) == 'RabbitMQ 3.10.8 passes the one check.'
    two = {**OLD, 'checks': {name: OLD['checks'][name] for name in ('RPC', 'latency')}}
    assert conclusion(document(two, two)).startswith('Both pass both checks; ')
