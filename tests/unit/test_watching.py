"""watching.py: what ledgers that grow prove so far, and up to when."""

import json

import pytest
from support.processes import wait_until

from siamese.watching import SO_FAR, Standing, Watch


def line(by, at, event, **facts):
    return {'at': at, 'by': by, 'run': 'cafe0001', 'epoch': 1, 'event': event, **facts}


def about(number, by, at, event, **facts):
    return line(by, at, event, id=f'alice-cafe0001-{number}', attempt=1, **facts)


def opened(by, at):
    return line(by, at, 'connected', broker='b', queue='q')


def sent(number, at):
    return [
        about(number, 'alice', at, 'attempted', digest='d', priority=0),
        about(number, 'alice', at, 'confirmed'),
    ]


def took(number, by, at, digest='d'):
    return about(number, by, at, 'acked', digest=digest, redelivered=False)


@pytest.fixture
def append(tmp_path):
    """A function that appends lines to the ledger."""

    def append(*lines):
        with open(tmp_path / 'run.jsonl', 'a') as file:
            file.write(''.join(json.dumps(each) + '\n' for each in lines))

    return append


@pytest.fixture
def look(tmp_path):
    """A function that reads what is there, and returns what it proves."""
    watch = Watch([str(tmp_path)], tell=lambda fault: None)

    def look():
        watch.next_verdict = 0.0
        watch.follow_once()
        return watch.standing

    return look


def test_before_there_is_a_line_nothing_is_proven(look):
    assert look() == Standing()


def test_what_waits_is_not_lost_while_somebody_is_at_work(append, look):
    append(opened('alice', 1), *sent(1, 2), *sent(2, 2), line('alice', 3, 'closed'))
    append(opened('carol', 3), took(1, 'carol', 4))
    now = look()
    assert (now.verdict, now.at, now.is_over) == (SO_FAR, 4, False)
    assert dict(now.counts) == {'attempted': 2, 'confirmed': 2, 'acked': 1, 'waiting': 1}


def test_when_all_have_closed_it_is_the_verdict_of_the_audit_until_somebody_comes(append, look):
    append(opened('alice', 1), *sent(1, 2), *sent(2, 2), line('alice', 3, 'closed'))
    append(opened('carol', 3), took(1, 'carol', 4), line('carol', 5, 'closed'))
    now = look()
    assert (now.verdict.text, now.at, now.is_over) == ('invalid: 1 lost', 5, True)
    assert now.faults[0] == 'lost: alice-cafe0001-2' and 'is the queue drained' in now.faults[1]
    append(opened('dave', 6))
    assert look().verdict == SO_FAR
    append(took(2, 'dave', 7), line('dave', 8, 'closed'))
    now = look()
    assert now.verdict.text.startswith('valid') and (now.at, now.faults) == (8, [])


def test_a_fault_is_proven_while_they_are_at_work(append, look):
    append(opened('alice', 1), *sent(1, 2), opened('carol', 3), took(1, 'carol', 4, digest='x'))
    now = look()
    assert now.verdict[:2] == ('invalid: 1 corrupt', 1)
    assert now.faults == ['corrupt: alice-cafe0001-1']


def test_it_judges_only_when_ledgers_grow(append, look):
    append(opened('alice', 1), *sent(1, 2))
    assert look() is look()


def test_a_thread_reads_until_it_is_finished(append, tmp_path):
    told = []
    watch = Watch([str(tmp_path)], tell=told.append)
    watch.start()
    append(opened('alice', 1), *sent(1, 2), opened('carol', 3), took(1, 'carol', 4, digest='x'))
    wait_until(lambda: told, 'the fault')
    append(*sent(2, 5))
    evidence = watch.finish()
    assert told == ['corrupt: alice-cafe0001-1'] == [*watch.told]
    assert 'alice-cafe0001-2' in evidence.messages


def test_a_ledger_that_is_none_ends_the_reading_with_a_reason(tmp_path):
    watch = Watch([str(tmp_path)], tell=lambda fault: None)
    (tmp_path / 'folder.jsonl').mkdir()
    watch.start()
    assert 'folder.jsonl: Is a directory' in wait_until(lambda: watch.standing.problem, 'a problem')
