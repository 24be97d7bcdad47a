"""The scripts against what LavinMQ 2.9.1 answered, over a real socket."""

import json

import pytest
from support import lavinmq_api
from support.processes import Running

from siamese.access.standard_roles import ROLES
from siamese.access.users import MARK
from siamese.monitoring import snapshot

USERS = [f'siamese-{role}' for role in ROLES]


@pytest.fixture
def lavinmq():
    with lavinmq_api.served() as (broker, url):
        broker.url = url
        yield broker


@pytest.fixture
def script(lavinmq):
    """A function that runs a script with this API; the AMQP URL is that of nobody."""

    def script(*argv):
        env = {'AMQP_URL': 'amqp://guest:guest@127.0.0.1:1', 'MANAGEMENT_URL': lavinmq.url}
        return Running(*argv, env=env).end()

    return script


def users_of(lavinmq):
    return [user['name'] for user in lavinmq.of('users') if user['name'] != 'guest']


def test_once_knows_rates_and_names_of_clients(script, tmp_path):
    done = script('monitor.py', '--once', '--history', tmp_path / 'none.db')
    assert done.status == 0 and done.err == ''
    queue = next(line for line in done.out.splitlines() if line.startswith('siamese.perf'))
    assert queue.split() == ['siamese.perf', '0', '2', '1', '?', '100.0', '100.0', '100.2']
    assert 'consumes siamese.perf' in done.out and 'erin ' in done.out and 'grace ' in done.out
    assert '127.0.0.1:59612' not in done.out and 'rabbitmq-plugins' not in done.out
    checked = script('monitor.py', '--once', '--check', '--history', tmp_path / 'none.db')
    assert checked.status == 0 and checked.out.startswith('SIAMESE OK - 2 queues | ready=0 ')


def test_the_history_knows_what_it_is(script, lavinmq, tmp_path):
    path = tmp_path / 'now.json'
    script('monitor.py', '--once', '--json', path, '--history', tmp_path / 'none.db')
    broker = json.loads(path.read_text())['broker']
    assert (broker['product'], broker['version']) == ('LavinMQ', '2.9.1')
    assert broker['missing'] == [snapshot.NO_EVENTS]
    assert not [path for _, path in lavinmq.asked if 'amq.rabbitmq.event' in path]


def test_roles_are_made_recognized_and_removed_though_the_tag_is_dropped(script, lavinmq):
    made = script('roles.py', '--create')
    assert made.status == 0 and made.out.count('created\n') == 4, made
    assert users_of(lavinmq) == USERS
    tags = {user['name']: user['tags'] for user in lavinmq.of('users')}
    assert tags['siamese-administrator'] == 'administrator' and tags['siamese-publisher'] == ''
    assert {policy['name'] for policy in lavinmq.of('policies')} == {MARK + user for user in USERS}
    again = script('roles.py', '--create')
    assert again.status == 0 and again.out.count('existed, permissions restored\n') == 4, again
    one = script('roles.py', '--remove', '--role', 'publisher')
    assert one.out == 'siamese-publisher: removed\n' and one.status == 0
    removed = script('roles.py', '--remove')
    assert removed.status == 0 and removed.out.count(': removed\n') == 3
    assert users_of(lavinmq) == [] and lavinmq.of('policies') == []
    nothing = script('roles.py', '--remove')
    assert nothing.status == 1 and nothing.out.count('does not exist\n') == 4
    assert nothing.err.endswith('nothing was removed; see --prefix, --role\n')


def test_users_of_others_are_left_alone(script, lavinmq):
    script('roles.py', '--create', '--role', 'subscriber')
    lavinmq.put(('users', 'siamese-publisher'), {'tags': ''})
    refused = script('roles.py', '--create')
    assert refused.status == 3 and 'siamese-publisher: not made by roles.py' in refused.err
    left = script('roles.py', '--remove', '--role', 'publisher')
    assert left.status == 1 and 'siamese-publisher: not made by roles.py, left alone' in left.out
    assert users_of(lavinmq) == ['siamese-subscriber', 'siamese-publisher']
    taken = script('roles.py', '--create', '--overwrite')
    assert taken.status == 0 and 'overwritten' in taken.out
    assert script('roles.py', '--remove').status == 0 and users_of(lavinmq) == []
