"""soak.py without a broker: its table, and what it reads from a ledger."""

import soak
from siamese.testbed.workload import CONSUMERS, NAMES, PRODUCERS, ended_early, new_events


def test_table_has_a_row_for_each_fault_and_one_for_all():
    injected = [
        soak.Injected('cut', 0.1),
        soak.Injected('kill', 3.0),
        soak.Injected('cut', 0.3),
    ]
    rows = [line.split() for line in soak.outage_table(injected)]
    assert rows[1:] == [
        ['cut', '2', '0.2', 's', '0.3', 's'],
        ['kill', '1', '3.0', 's', '3.0', 's'],
        ['all', '3', '0.3', 's', '3.0', 's'],
    ]


def test_table_without_faults_is_only_a_head():
    assert len(list(soak.outage_table([]))) == 1


def test_an_event_is_read_once_and_only_when_it_is_complete(tmp_path):
    path = tmp_path / 'ledger'
    path.write_text('{"n": 1}\n{"n": ')
    with open(path) as ledger, open(path, 'a') as writer:
        assert list(new_events(ledger)) == [{'n': 1}]
        assert list(new_events(ledger)) == []
        writer.write('2}\n')
        writer.flush()
        assert list(new_events(ledger)) == [{'n': 2}]


def test_every_worker_is_started():
    assert sorted(NAMES) == sorted({**PRODUCERS, **CONSUMERS})


def test_the_summary_shows_every_count():
    counts = dict.fromkeys(soak.COUNTED, 1234)
    shown = soak.SUMMARY.format_map({**counts, 'verdict': 'valid'})
    assert shown.count('1,234') == len(soak.COUNTED) and shown.endswith('\nvalid')


def test_a_worker_that_could_not_tell_or_did_not_begin_is_no_failed_check():
    statuses = {status: ended_early('alice', status).status for status in (1, 3, 130, -9)}
    assert statuses == {1: 1, 3: 3, 130: 3, -9: 1}
