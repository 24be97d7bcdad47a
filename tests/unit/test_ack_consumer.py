"""ack_consumer.py: its percentages, and the traps that it warns of."""

import logging
from types import SimpleNamespace

import pytest

import ack_consumer
from siamese.scenarios.hello import Hello


@pytest.mark.parametrize(
    ('flags', 'percents'),
    [
        ((), (60, 30, 10)),
        (('--ack', 100), (100, 0, 0)),
        (('--lose', 10), (90, 0, 10)),
        (('--reject', 100), (0, 100, 0)),
        (('--ack', 50, '--reject', 50), (50, 50, 0)),
        (('--ack', 0.1, '--reject', 0.2, '--lose', 99.7), (0.1, 0.2, 99.7)),
        (('--reject', 70, '--lose', 30), (0, 70, 30)),
        (('--ack', 0, '--lose', 100), (0, 0, 100)),
    ],
)
def test_percentages_that_are_not_given_are_the_rest(flags, percents):
    args = ack_consumer.parse_args([*map(str, flags)])
    assert (args.ack, args.reject, args.lose) == percents


@pytest.mark.parametrize(
    ('decision', 'copy_number', 'remarks', 'queue_type', 'warning'),
    [
        ('rejected', 19, [], 'classic', ''),
        ('rejected', 20, [], 'classic', 'rejected 20 times; a classic queue has no delivery limit'),
        ('rejected', 20, [], 'quorum', ''),
        ('rejected', 21, ['delivery_limit'], 'quorum', 'delivered 21 times, delivery limit'),
        ('acked', 20, [], 'classic', ''),
        ('unacked', 1, [], 'classic', 'all deliveries that --prefetch allows are unacked'),
    ],
)
def test_each_trap_has_its_warning(caplog, decision, copy_number, remarks, queue_type, warning):
    args = SimpleNamespace(queue_type=queue_type, prefetch=1)
    traps = ack_consumer.Traps(SimpleNamespace(args=args, epoch=1))
    message = Hello(producer='alice', run='cafecafe', number=1, age=0.0, overdue=False)
    with caplog.at_level(logging.WARNING):
        traps.warn(message, decision, copy_number, remarks)
    assert bool(caplog.messages) == bool(warning)
    assert warning in ''.join(caplog.messages)
