"""cleanup.py without a broker: which names it knows, and in which order it deletes."""

import importlib
import socket

import pytest
from support.scripts import SCENARIO_SCRIPTS

import cleanup


@pytest.mark.parametrize('name', SCENARIO_SCRIPTS)
def test_it_knows_what_each_script_declares_without_flags(name):
    args = importlib.import_module(name[: -len('.py')]).parse_args([])
    queue = getattr(args, 'queue', None)
    exchange = getattr(args, 'exchange', None)
    assert queue or exchange
    assert queue in (None, socket.gethostname(), *cleanup.KNOWN_QUEUES)
    assert exchange in (None, *cleanup.KNOWN_EXCHANGES)


@pytest.mark.parametrize(
    'name, arguments, ours',
    [
        ('siamese.anything', {}, True),
        ('bert', {'x-dead-letter-exchange': 'siamese.dlx'}, True),
        ('bert', {'x-dead-letter-exchange': 'other.dlx'}, False),
        ('siamesequeue', {}, False),
    ],
)
def test_a_queue_is_ours_by_its_name_or_its_dead_letters(name, arguments, ours):
    assert cleanup.is_our_queue({'name': name, 'arguments': arguments}) is ours


def test_dead_letters_go_after_the_queues_that_need_them_and_before_the_exchanges():
    found = [
        cleanup.Found('user', 'a'),
        cleanup.Found('exchange', 'siamese.dlx'),
        cleanup.Found('queue', 'siamese.dead'),
        cleanup.Found('queue', 'zoe'),
        cleanup.Found('policy', 'p'),
    ]
    ordered = sorted(found, key=cleanup.place_in_order)
    assert [one.name for one in ordered] == ['zoe', 'siamese.dead', 'siamese.dlx', 'p', 'a']
