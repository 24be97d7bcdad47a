"""reports.py: what --once shows of many queues."""

from types import SimpleNamespace

from support.builders import NOON, queue

from siamese.monitoring import database, queues, reports


def lines_of(capsys, *found):
    db = database.open_for_writing(':memory:')
    queues.update(db, NOON, found, uptime=None)
    reports._print_queues(SimpleNamespace(now=NOON, queues=queues.rows(db), resolution_s=5))
    return capsys.readouterr().out.splitlines()


def test_the_fullest_queue_is_the_first(capsys):
    shown = lines_of(capsys, queue('a'), queue('b', 3), queue('c', 20, unacked=2), queue('d'))
    assert [line.split()[0] for line in shown] == ['queue', 'c', 'b', 'a', 'd']


def test_many_idle_queues_are_one_line(capsys):
    idle = [queue(f'idle-{number}') for number in range(518)]
    unknown = queue('unknown')
    unknown['ready'] = None
    shown = lines_of(capsys, *idle, queue('busy', 1), unknown)
    assert [line.split()[0] for line in shown[1:-1]] == ['busy', 'unknown']
    assert shown[-1] == 'and 518 queues without messages: --json FILE writes all'
