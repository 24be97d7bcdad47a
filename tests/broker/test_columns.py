"""Tables and long lines on terminals of 60, 80 and 120 columns, and in a pipe."""

import json
import sys
import time

import pytest
from support.builders import letter
from support.messages import declare_dead
from support.processes import Running, wait_until
from support.pseudo_terminal import OnTerminal

from siamese.monitoring import database, dead_letters

WIDTHS = (60, 80, 120)
NAME = 'siamese.orders-of-customers-in-the-north'  # so no table fits 80 columns


def whole_on_terminals(*command, **env):
    """Assert that a command prints the same words in a pipe and, in lines that fit, on terminals.

    Returns what it printed into the pipe.
    """
    piped = Running(*command, env=env).end()
    assert '\033' not in piped.out + piped.err
    for width in WIDTHS:
        shown = OnTerminal(
            *(sys.executable, *command),
            columns=width,
            env={**env, 'NO_COLOR': '1'},
        ).end()
        assert shown.status == piped.status
        assert '\033' not in shown.text
        lines = shown.text.replace('\r', '').split('\n')
        assert max(map(len, lines)) <= width, (width, shown.text)
        printed = (piped.out + piped.err).split()
        assert sorted(shown.text.split()) == sorted(printed), (width, shown.text)
    return piped.out


@pytest.fixture
def queues(channel):
    """Two queues with a message each, one of them dead-lettered, and a long name."""
    declare_dead(channel)
    channel.queue_declare(NAME, durable=True)
    channel.basic_publish('', NAME, b'x')
    channel.basic_publish('siamese.dlx', '', b'x')


def is_counted(out):
    """Return whether the broker has counted all of both queues, so that nothing changes now."""
    rows = json.loads(out)['queues']
    known = [(row['consumers'], row['publish_rate']) for row in rows if row['ready'] == 1]
    return len(known) == 2 and known == [(0, 0)] * 2


def test_the_situation_fits(broker, run, url, queues, tmp_path):
    flags = ('monitor.py', '--once', '--history', tmp_path / 'none.db')
    env = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    wait_until(lambda: is_counted(run(*flags, '--json', '-', **env).out), 'the figures')
    out = whole_on_terminals(*flags, **env)
    assert NAME in out and 'warning: ' in out


def test_what_was_made_fits(broker, url, queues):
    env = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    assert NAME in whole_on_terminals('cleanup.py', NAME, 'siamese.dead', **env)


@pytest.mark.parametrize('report', ['day', 'dead'])
def test_a_report_fits(tmp_path, report):
    path = tmp_path / 'siamese.db'
    db = database.open_for_writing(str(path))
    found = letter(queue=NAME, message_id='a-long-message-id-of-somebody', at=time.time())
    dead_letters.insert(db, [found], 'session', time.time())
    db.close()
    out = whole_on_terminals('monitor.py', '--report', report, '--history', path)
    assert NAME in out


def test_a_matrix_of_permissions_fits(broker, url):
    """With the rights of an administrator, whom no role limits."""
    env = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    prefix = ('--prefix', 'test-columns')
    assert Running('roles.py', '--create', *prefix, env=env).end().status == 0
    try:
        for width in WIDTHS:
            command = (sys.executable, 'roles.py', '--check', *prefix)
            shown = OnTerminal(*command, columns=width, env={**env, 'NO_COLOR': '1'}).end()
            lines = shown.text.replace('\r', '').split('\n')
            assert shown.status == 0
            assert max(map(len, lines)) <= width, shown.text
            assert shown.text.split().count('allowed') == 21
    finally:
        Running('roles.py', '--remove', *prefix, env=env).end()
