"""sieve.py: a run has the same verdict with it as without it; only what is odd is kept."""

import gzip
import json
import os
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import audit
from siamese import gathered, ledger, numbered, pages, progress, sieve, verdict

DUE = 1_795_457_556_000_000
RUN = 'cafe0001'


@pytest.fixture(autouse=True, scope='module')
def small_pages():
    """Pages of 8 messages, of which one may wait to be put away: a short run has many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, 'SIZE', 8)
        patch.setattr(sieve, 'SIZE', 8)
        patch.setattr(sieve, 'WARM_PAGES', 1)
        yield


def line(by, event, epoch=1, **facts):
    return {'at': 0.0, 'by': by, 'run': 'cafe0001', 'epoch': epoch, 'event': event, **facts}


def connected(by, epoch=1, **facts):
    facts = {'broker': 'b', 'queue': 'q', 'queue_type': 'classic', **facts}
    return line(by, 'connected', epoch, **facts)


def many(by, event, numbers, digest='d', due=DUE, epoch=1):
    """Return a line of many messages; without a digest, as `confirmed` has none."""
    facts = {'of': RUN, **numbered.packed_numbers([*numbers]), 'due': [due, len(numbers)]}
    if digest and event != 'confirmed':
        facts['digest'] = digest
    if event == 'attempted':
        facts['priority'] = 0
    return line(by, event, epoch, **facts)


def name_of(number, due=DUE):
    return numbered.name_of(RUN, number, due)


def one(by, event, number, attempt=1, epoch=1, due=DUE, **facts):
    return line(by, event, epoch, id=name_of(number, due), attempt=attempt, **facts)


def came(number, by='carol', event='acked', redelivered=False, digest='d', **facts):
    return one(by, event, number, redelivered=redelivered, digest=digest, **facts)


def sent(numbers):
    return [many('alice', 'attempted', numbers), many('alice', 'confirmed', numbers)]


def found_by_sieve(events):
    """Return what the audit finds with the sieve, and how many messages it only counted."""
    evidence = sieve.evidence_of(events)
    return verdict.judge_all(evidence), evidence.plain


def counted(found, plain=0):
    """Return what a report says: numbers of what may be plain, names of all else."""
    numbers = verdict.counts(found, plain)
    names = {kind: ids for kind, ids in found.items() if kind not in verdict.PLAIN_KINDS}
    return {**names, **{kind: numbers[kind] for kind in verdict.PLAIN_KINDS}}


# ---- the same verdict

NUMBERS = st.integers(1, 20)
RANGES = st.tuples(NUMBERS, NUMBERS).map(lambda ends: range(min(ends), max(ends) + 1))
LISTS = st.one_of(RANGES, st.lists(NUMBERS, min_size=1, max_size=6))
EPOCHS = st.integers(1, 2)
ATTEMPTS = st.sampled_from([1, 1, 1, 2])
DUES = st.sampled_from([DUE, DUE, DUE, DUE + 1])
DIGESTS = st.sampled_from(['d', 'd', 'd', 'x'])
CONSUMERS = st.sampled_from(['carol', 'dave'])
ANSWERS = st.sampled_from(['confirmed', 'nacked', 'returned', 'in_doubt', 'attempted'])
ENDS = st.sampled_from(['acked', 'rejected', 'unacked', 'invalid'])
EVENTS = st.one_of(
    RANGES.map(sent),
    st.builds(many, st.just('alice'), st.just('attempted'), LISTS, DIGESTS, DUES, EPOCHS),
    st.builds(many, st.just('alice'), st.just('confirmed'), LISTS, due=DUES, epoch=EPOCHS),
    st.builds(many, CONSUMERS, st.just('acked'), LISTS, DIGESTS, DUES, EPOCHS),
    st.builds(one, st.just('alice'), ANSWERS, NUMBERS, ATTEMPTS, EPOCHS, DUES, digest=DIGESTS),
    st.builds(came, NUMBERS, CONSUMERS, ENDS, st.booleans(), DIGESTS, epoch=EPOCHS, due=DUES),
    st.builds(line, CONSUMERS, st.sampled_from(['closed', 'disconnected']), EPOCHS),
    st.builds(connected, CONSUMERS, EPOCHS),
)
LEDGERS = st.lists(EVENTS, max_size=25).map(
    lambda groups: [
        event for group in groups for event in (group if isinstance(group, list) else [group])
    ]
)
BEGIN = [connected('alice'), connected('carol', consumes=True), *sent(range(1, 17))]


@settings(max_examples=200)
@given(LEDGERS, st.booleans())
def test_a_run_has_the_same_verdict_with_the_sieve(events, has_begun):
    """With lines of many messages and of one, in whatever order."""
    if has_begun:
        events = [*BEGIN, *events]
    found, plain = found_by_sieve(events)
    assert counted(found, plain) == counted(verdict.audit(events))


@settings(max_examples=200)
@given(LEDGERS, st.sampled_from(['x-max-length', 'x-message-ttl', 'x-delivery-limit']))
def test_the_limits_of_a_queue_explain_the_same_with_the_sieve(events, limit):
    events = [connected('alice', arguments={limit: 3}), *BEGIN[1:], *events]
    found, plain = found_by_sieve(events)
    assert counted(found, plain) == counted(verdict.audit(events))


# ---- what is kept


def plain_run(last):
    """Return the lines of a run in which nothing happened, and its consumers closed."""
    events = [connected('alice'), connected('carol'), connected('dave')]
    for first in range(1, last, 5):
        numbers = range(first, first + 5)
        events += [*sent(numbers), many('carol', 'acked', numbers)]
    return events


def test_what_went_plainly_is_only_counted():
    events = plain_run(100)
    evidence = sieve.evidence_of(events)
    assert evidence.plain == 100
    assert not evidence.messages
    assert evidence.plain_from == {'q': 100}


def test_from_which_queue_a_message_came_is_what_the_latest_connection_says():
    events = [connected('alice'), *sent(range(1, 5)), many('carol', 'acked', range(1, 3))]
    events += [connected('carol'), many('carol', 'acked', range(3, 5))]
    assert sieve.evidence_of(events).plain_from == {None: 2, 'q': 2}


def test_messages_of_two_channels_that_came_together_have_no_order():
    """1 and 2 were published over one channel, 3 and 4 over the next; 1 and 3 came first."""
    events = [connected('alice'), connected('carol'), many('alice', 'attempted', range(1, 3))]
    events += [connected('alice', 2), many('alice', 'attempted', range(3, 5), epoch=2)]
    events += [many('carol', 'acked', [1, 3]), many('carol', 'acked', [2, 4])]
    assert found_by_sieve(events)[0]['out_of_order'] == []


@pytest.mark.parametrize(
    ('event', 'kind'),
    [
        (came(7), 'duplicated'),
        (came(7, by='dave', redelivered=True), 'redelivered'),
        (came(7, digest='x'), 'corrupt'),
        (came(7, due=DUE + 1), 'unexpected'),
        (many('carol', 'acked', [7], digest='x'), 'corrupt'),
    ],
)
def test_a_late_copy_of_what_went_plainly_is_judged(event, kind):
    """Also of a message whose page was put away long ago."""
    found, plain = found_by_sieve([*plain_run(100), event])
    assert found[kind] == [one['id'] for one in ledger.singly(event)]
    assert plain == 100 - (kind != 'unexpected')


def test_two_consumers_that_share_a_queue():
    events = [connected('alice'), connected('carol'), connected('dave'), *sent(range(1, 101))]
    for name, first in (('carol', 1), ('dave', 2)):
        events.append(many(name, 'acked', range(first, 101, 2)))
    found, plain = found_by_sieve(events)
    assert (plain, found['lost'], found['ok']) == (100, [], [])


def test_a_message_that_is_not_there_is_named():
    events = [*BEGIN, many('carol', 'acked', [*range(1, 5), *range(6, 17)])]
    found, plain = found_by_sieve(events)
    assert (found['lost'], plain) == ([name_of(5)], 15)


def test_a_consumer_whose_clock_is_ahead():
    """Its lines come before those of the producer."""
    found, plain = found_by_sieve([many('carol', 'acked', range(1, 17)), *BEGIN])
    assert counted(found, plain)['ok'] == 16
    assert verdict.judge(found, plain).exit_status == 0


def test_a_copy_that_came_before_its_message_was_published_counts_as_one():
    early = [connected('carol'), came(3)]
    found, plain = found_by_sieve([*early, *BEGIN, many('carol', 'acked', range(1, 17))])
    assert (found['duplicated'], plain) == ([name_of(3)], 15)


# ---- files


@pytest.fixture
def folder(tmp_path):
    """A folder with the ledgers of a producer and of a consumer."""
    for number, event in enumerate(plain_run(100)):
        event['at'] = float(number)
        with open(tmp_path / event['by'], 'a') as file:
            print(json.dumps(event), file=file)
    return tmp_path


def assert_valid(status, capsys):
    out = capsys.readouterr().out
    assert status == 0, out
    assert '   100  ok  ' in out


def test_ledgers_are_read_side_by_side(folder):
    events = [*ledger.read(map(str, folder.iterdir()))]
    times = [event['at'] for event in events]
    assert times == sorted(times)
    assert len(times) == len(plain_run(100))


def test_a_compressed_ledger_is_read(folder, capsys):
    for name in ('alice', 'carol'):
        (folder / f'{name}.gz').write_bytes(gzip.compress((folder / name).read_bytes()))
    assert_valid(audit.main([str(folder / 'alice.gz'), str(folder / 'carol.gz')]), capsys)


def test_a_folder_stands_for_its_ledgers(folder, tmp_path, capsys):
    folder.joinpath('alice').rename(folder / 'alice.jsonl')
    data = gzip.compress(folder.joinpath('carol').read_bytes())
    folder.joinpath('carol.jsonl.gz').write_bytes(data)
    assert_valid(audit.main([str(folder)]), capsys)


def test_a_folder_without_ledgers_is_unknown(tmp_path, capsys):
    assert audit.main([str(tmp_path)]) == 3
    assert 'the ledgers know of no producer' in capsys.readouterr().out


@pytest.mark.parametrize('spoil', [lambda data: data[:-20], lambda data: b'no gzip'])
def test_a_compressed_ledger_that_is_cut_off_or_none(folder, capsys, spoil):
    data = gzip.compress((folder / 'carol').read_bytes())
    (folder / 'carol.gz').write_bytes(spoil(data))
    assert audit.main([str(folder / 'alice'), str(folder / 'carol.gz')]) == 3
    assert 'carol.gz:' in capsys.readouterr().out


def test_stdin_is_read(folder, capsys, monkeypatch):
    with open(folder / 'carol') as file:
        monkeypatch.setattr(sys, 'stdin', file)
        assert_valid(audit.main([str(folder / 'alice'), '-']), capsys)


def test_pipes_are_read_by_names_that_lead_to_no_file(folder, capsys):
    """As in `audit.py <(zcat carol.gz)`, which names /dev/fd/63; also without a last newline."""
    ends = []
    for name in ('alice', 'carol'):
        reading, writing = os.pipe()
        os.write(writing, (folder / name).read_bytes().rstrip())
        os.close(writing)
        ends.append(reading)
    paths = [f'/dev/fd/{reading}' for reading in ends]
    assert_valid(audit.main(paths), capsys)
    for reading in ends:
        os.close(reading)


@pytest.mark.parametrize(
    'facts',
    [
        {'due': [DUE, 2]},
        {'due': [DUE, -3]},
        {'due': [DUE]},
        {'due': []},
        {'due': [2**63, 3]},
        {'numbers': [1]},
        {'numbers': [3, 1]},
        {'numbers': [1, 3], 'each': [1, 2, 3]},
        {'numbers': [True, 3]},
        {'numbers': [1, 10**15], 'due': [DUE, 10**15]},
        {'numbers': ['1', '3']},
        {'of': 7},
    ],
)
def test_a_line_of_many_messages_that_makes_no_sense_cannot_be_read(facts):
    event = {**many('alice', 'confirmed', range(1, 4)), **facts}
    assert ledger.parse(json.dumps(event)) is None


@pytest.mark.parametrize(
    'event, facts, is_read',
    [
        ('attempted', {'digest': 'd', 'bytes': 1}, True),
        ('attempted', {'digests': ['d', 'e', 'f'], 'sizes': [1, 2, 3]}, True),
        ('acked', {'digests': ['d', 'e', 'f']}, True),
        ('acked', {'digest': 'd', 'digests': ['d', 'e', 'f']}, False),
        ('acked', {}, False),
        ('attempted', {}, False),
        ('acked', {'digests': ['d', 'e']}, False),
        ('acked', {'digests': ['d', 'e', 7]}, False),
        ('acked', {'digests': 'def'}, False),
        ('attempted', {'digest': 'd', 'sizes': [1, 2]}, False),
        ('attempted', {'digest': 'd', 'sizes': [1, 2, -1]}, False),
        ('attempted', {'digest': 'd', 'sizes': [1, 2, 0.5]}, False),
    ],
)
def test_bodies_of_many_messages_have_one_digest_or_each_has_one(event, facts, is_read):
    line = {**many('alice', 'confirmed', range(1, 4)), 'event': event, **facts}
    found = ledger.parse(json.dumps(line))
    assert bool(found) == is_read
    if found:
        told = [*ledger.as_told(found)]
        told = [one for line in told for one in ledger.singly(line)]
        assert [one['digest'] for one in told] == facts.get('digests', ['d'] * 3)
        assert [one.get('bytes') for one in told] in (facts.get('sizes'), [facts.get('bytes')] * 3)


@pytest.mark.parametrize(
    'facts', [{'digests': ['x']}, {'sizes': []}, {'each': [7]}, {'numbers': [1, 2]}, {'due': []}]
)
def test_a_line_of_one_message_has_nothing_of_many(facts, tmp_path):
    line = {'at': 1.0, 'by': 'carol', 'run': 'cafe', 'epoch': 1, 'event': 'acked', 'attempt': 1}
    line.update(redelivered=False, digest='d', **facts)
    path = tmp_path / 'run.jsonl'
    path.write_text(''.join(f'{json.dumps({**line, "id": f"a-{n}"})}\n' for n in (1, 2)))
    assert [event['event'] for event in ledger.read([str(path)])] == ['unreadable'] * 2


def test_a_line_of_many_messages_may_say_what_it_need_not():
    """What each of them would have anyway; also where that is unusual."""
    told = many('carol', 'acked', range(1, 4))
    for facts, kind in (
        ({'redelivered': False, 'attempt': 1}, 'ok'),
        ({'attempt': 2}, 'unexpected'),
    ):
        event = ledger.parse(json.dumps({**told, **facts}))
        found, plain = found_by_sieve([*BEGIN, event])
        assert counted(found, plain)[kind] in (3, [name_of(number) for number in range(1, 4)])


def test_a_line_of_many_messages_is_as_many_lines():
    numbers = random.Random(1).sample(range(1000), 9)
    found = [*ledger.singly(many('carol', 'acked', numbers))]
    assert [event['id'] for event in found] == [name_of(number) for number in numbers]
    assert all(ledger.parse(json.dumps(event)) == event for event in found)


def test_progress_has_a_rate_and_an_estimate(folder):
    files = ledger.Files([str(folder / 'alice')])
    files.bytes = 2 * files.bytes  # as if half of it were still to come
    for _ in files:
        pass
    shown = progress.progress_line(1_000, files, 60)
    assert shown.endswith('  1,000 lines, 17/s, 60 s left')
    assert progress.share_in_words(files) == ', 50% of the ledgers'


# ---- lines of one message


def told(by, event, number, at=0.0, **facts):
    """Return a line as earlier versions wrote it."""
    if event == 'acked':
        facts = {'redelivered': False, 'digest': 'd', **facts}
    if event == 'attempted':
        facts = {'digest': 'd', **facts}
    return {**one(by, event, number, **facts), 'at': at}


def read_back(folder, events):
    path = folder / 'ledger'
    path.write_text(''.join(json.dumps(event) + '\n' for event in events))
    return [*ledger.read([str(path)])]


TOLD = st.builds(
    told,
    st.sampled_from(['alice', 'bob']),
    st.sampled_from(['attempted', 'confirmed', 'acked', 'nacked']),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.001, 0.004, 1.0]),
    due=DUES,
    attempt=ATTEMPTS,
)
STRIPES = st.tuples(TOLD, st.integers(1, 5)).map(
    lambda pair: [
        {**pair[0], 'id': name_of(numbered.parts(pair[0]['id']).number + more)}
        for more in range(pair[1])
    ]
)


@settings(max_examples=300)
@given(st.lists(STRIPES, max_size=8))
def test_lines_that_are_alike_are_one_and_tell_the_same(tmp_path_factory, stripes):
    events = [event for stripe in stripes for event in stripe]
    read = read_back(tmp_path_factory.mktemp('ledger'), events)
    singly = [one for event in read for one in ledger.singly(event)]
    for event, back in zip(events, singly):
        assert event.items() - {('at', event['at'])} <= back.items()
        assert abs(back['at'] - event['at']) <= gathered.WITHIN_S
    assert len(singly) == len(events)


def test_a_line_of_many_is_neither_too_late_nor_too_early(tmp_path):
    """Nothing is published before the time of its line, and nothing settled after it."""
    for event, at in (('attempted', 5.0), ('confirmed', 5.002), ('acked', 5.002)):
        events = [told('alice', event, number, 5 + number / 1000) for number in range(3)]
        (read,) = read_back(tmp_path, events)
        assert (read['numbers'], read['due'], read['at']) == ([0, 2], [DUE, 3], at)


@pytest.mark.parametrize(
    'other',
    [
        told('alice', 'acked', 2, digest='x'),
        told('alice', 'acked', 2, redelivered=True),
        told('alice', 'acked', 2, at=0.1),
        told('alice', 'acked', 3),
        told('alice', 'acked', 2, epoch=2),
        told('alice', 'acked', 2, died=True),
        {**told('alice', 'acked', 2), 'id': f'{RUN}-0000000002-17954575560000x0'},
        {**told('alice', 'acked', 2), 'id': f'{RUN}-000000002-0{DUE}'},
    ],
)
def test_a_line_that_differs_is_read_by_itself(tmp_path, other):
    first = told('alice', 'acked', 1)
    assert read_back(tmp_path, [first, other]) == [first, other]


def test_names_that_end_in_a_number_are_gathered_too(tmp_path):
    events = [{**told('alice', 'confirmed', 1), 'id': f'alice-ff-{number}'} for number in (9, 10)]
    assert [event['id'] for event in ledger.singly(read_back(tmp_path, events)[0])] == [
        'alice-ff-9',
        'alice-ff-10',
    ]


def test_a_line_that_cannot_be_read_has_its_number_among_those_that_are_alike(tmp_path):
    path = tmp_path / 'ledger'
    lines = [json.dumps(told('alice', 'confirmed', number)) for number in range(4)]
    path.write_text('\n'.join([*lines[:3], 'x', lines[3]]))
    *_, odd, _ = ledger.read([str(path)])
    assert odd['where'].endswith(':4')


def test_what_was_alike_before_a_compressed_ledger_was_cut_off_is_known(tmp_path):
    chance = random.Random(3)
    lines = [
        json.dumps(told('alice', 'confirmed', number, due=DUE + chance.randrange(10**9)))
        for number in range(1000)
    ]
    path = tmp_path / 'ledger.gz'
    whole = gzip.compress('\n'.join(lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    *known, odd = ledger.read([str(path)])
    count = len([one for event in known for one in ledger.singly(event)])
    assert count > 100
    assert odd['where'].endswith(f':{count + 1}') or odd['where'].endswith(f':{count + 2}')
