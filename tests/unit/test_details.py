"""details.py: what a queue is bound to, and who consumes from it."""

import json

import pytest
from support.builders import NOON, queue

from siamese.monitoring import database, details, queues


@pytest.fixture
def db():
    db = database.open_for_writing(':memory:')
    queues.update(db, NOON, [queue('q')], uptime=None)
    return db


def made(arguments=None, policy_arguments=None, bindings=(), consumers=()):
    return details.details_of(
        arguments or {}, 'p', policy_arguments or {}, list(bindings), list(consumers)
    )


def test_details_are_kept_of_queues_that_are_known(db):
    found = made({'x-max-length': 5})
    details.update(db, [('q', found), ('unknown', found)])
    assert details.of_queue(db, 'q') == found and details.of_queue(db, 'unknown') is None
    assert found['arguments'] == {'x-max-length': '5'}


def test_of_a_history_of_an_earlier_version_the_features_are_unknown(db):
    details.update(db, [('q', made())])
    db.execute("UPDATE detail SET facts = json_remove(facts, '$.features')")
    assert details.of_queue(db, 'q')['features'] is None


def test_only_what_has_changed_is_written(db):
    details.update(db, [('q', made())])
    before = db.total_changes
    details.update(db, [('q', made())])
    assert db.total_changes == before
    details.update(db, [('q', made({'x-expires': 1}))])
    assert db.total_changes == before + 1


def test_of_very_many_bindings_and_of_long_arguments_the_first_are_kept(db):
    binding = details.Binding(source='x', routing_key='k', arguments={})
    found = made({'long': 'x' * 100_000, **{str(n): n for n in range(500)}}, {}, [binding] * 300)
    details.update(db, [('q', found)])
    kept = details.of_queue(db, 'q')
    assert len(kept['bindings']) == details.MOST and kept['binding_count'] == 300
    assert len(json.dumps(kept)) < 50_000


@pytest.mark.parametrize(
    'arguments, policy, target',
    [
        ({}, {}, None),
        ({'x-dead-letter-exchange': ''}, {}, ('', '')),
        ({}, {'dead-letter-exchange': 'dlx', 'dead-letter-routing-key': 'k'}, ('dlx', 'k')),
        ({'x-dead-letter-exchange': 'mine'}, {'dead-letter-exchange': 'dlx'}, ('mine', '')),
    ],
)
def test_where_dead_letters_go(arguments, policy, target):
    assert details.dead_letter_target(made(arguments, policy)) == target


def test_a_queue_that_is_deleted_and_forgotten_leaves_nothing(db):
    details.update(db, [('q', made())])
    queues.update(db, NOON + 1, [], uptime=None)
    database.forget(db, NOON + 99 * 86400, NOON + 99 * 86400)
    assert db.execute('SELECT count(*) AS count FROM detail').fetchone()['count'] == 0
