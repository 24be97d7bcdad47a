"""verdict.py and audit.py: the ledgers of good runs, of bad ones, and of what cannot be judged."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

import audit
from siamese import verdict
from siamese.evidence import Evidence

OF_A_CHANNEL = 'connected', 'disconnected', 'closed'


def line(by, event, id=None, attempt=1, epoch=1, **facts):
    found = {'at': 0, 'by': by, 'run': 'cafe', 'epoch': epoch, 'event': event}
    if event not in OF_A_CHANNEL:
        found.update(id=id, attempt=attempt)
    return {**found, **facts}


def sent(id, attempt=1, digest='d', answer='confirmed'):
    attempted = line('alice', 'attempted', id, attempt, digest=digest)
    return [attempted, line('alice', answer, id, attempt)] if answer else [attempted]


def seen(id, attempt=1, by='carol', epoch=1, redelivered=False, digest='d', event='acked', **facts):
    return line(by, event, id, attempt, epoch, redelivered=redelivered, digest=digest, **facts)


def connected(by, **facts):
    return line(by, 'connected', broker='a broker', **facts)


def both(event, at, **facts):
    """Return the lines of carol and dave that tell of their channel at a time."""
    facts.update(at=at)
    if event == 'connected':
        facts.update(broker='a broker')
    return [line(by, event, **facts) for by in ('carol', 'dave')]


CLOSED = [line('carol', 'closed'), line('dave', 'closed')]
CASES = {  # name: (ledger, what is found, exit status)
    'sane': ([*sent('1'), seen('1'), *CLOSED], {'ok'}, 0),
    'lost': ([*sent('1'), *sent('2'), seen('1'), *CLOSED], {'lost'}, 1),
    'in_doubt': ([*sent('1'), seen('1'), *sent('2', answer=None)], {'in_doubt'}, 0),
    'recovered': ([*sent('1', answer=None), seen('1')], {'recovered', 'ok'}, 0),
    'corrupt': ([*sent('1'), seen('1', digest='x')], {'corrupt'}, 1),
    'corrupt, and noticed': ([*sent('1'), seen('1', digest='x', event='invalid')], {'corrupt'}, 1),
    'rejected_as_invalid': ([*sent('1'), seen('1', event='invalid')], {'rejected_as_invalid'}, 1),
    'unexpected': ([*sent('1'), seen('1'), seen('2')], {'unexpected'}, 1),
    'unexpected, without id': ([*sent('1'), seen('1'), seen(None)], {'unexpected'}, 1),
    'unexpected attempt': ([*sent('1'), seen('1', attempt=2)], {'unexpected'}, 1),
    'duplicated': ([*sent('1'), seen('1'), seen('1', by='dave'), *CLOSED], {'duplicated'}, 1),
    'duplicated, though flagged': (
        [*sent('1'), seen('1'), seen('1', by='dave', redelivered=True), *CLOSED],
        {'duplicated'},
        1,
    ),
    'duplicated on a lost connection, not flagged': (
        [*sent('1'), seen('1'), line('carol', 'disconnected'), seen('1', by='dave')],
        {'duplicated'},
        1,
    ),
    'replayed': ([*sent('1'), seen('1'), seen('1', event='invalid')], {'duplicated'}, 1),
    'redelivered': (
        [
            *sent('1'),
            seen('1'),
            line('carol', 'disconnected'),
            seen('1', epoch=2, redelivered=True),
            line('carol', 'closed', epoch=2),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'redelivered after a kill': (
        [*sent('1'), seen('1'), seen('1', by='dave', redelivered=True), line('dave', 'closed')],
        {'redelivered', 'ok'},
        0,
    ),
    'redelivered to a consumer that was killed, though acknowledged and closed': (
        [*sent('1'), seen('1'), line('carol', 'closed'), seen('1', by='dave', redelivered=True)],
        {'duplicated', 'ok'},
        1,
    ),
    'redelivered, unacked and lost, though acknowledged and closed': (
        [
            *sent('1'),
            seen('1'),
            line('carol', 'closed'),
            seen('1', by='dave', redelivered=True, event='unacked'),
            line('dave', 'disconnected'),
        ],
        {'duplicated', 'ok'},
        1,
    ),
    'acknowledged and closed after others that no ledger tells of': (
        [
            *sent('1'),
            seen('1', redelivered=True),
            line('carol', 'closed'),
            seen('1', by='dave', redelivered=True),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'redelivered twice, closed twice': (
        [
            *sent('1'),
            seen('1'),
            seen('1', by='dave', redelivered=True),
            seen('1', by='erin', redelivered=True),
            line('dave', 'closed'),
            line('erin', 'closed'),
        ],
        {'duplicated'},
        1,
    ),
    'redelivered without flag, after the broker was killed': (
        [
            *both('connected', at=1, epoch=1),
            *sent('1'),
            {**seen('1'), 'at': 2},
            *both('disconnected', at=3, epoch=1),
            *both('connected', at=5, epoch=2),
            {**seen('1', by='dave', epoch=2), 'at': 6},
            line('dave', 'closed', epoch=2),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'redelivered without flag, though the broker was up': (
        [
            *both('connected', at=1, epoch=1),
            *sent('1'),
            {**seen('1'), 'at': 2},
            {**line('carol', 'disconnected'), 'at': 3},
            {**connected('erin', epoch=2), 'at': 4},
            {**seen('1', by='erin', epoch=2), 'at': 5},
            {**line('dave', 'closed'), 'at': 6},
        ],
        {'duplicated', 'ok'},
        1,
    ),
    'redelivered without flag by a broker that has none': (
        [
            connected('carol', flags_redelivered=False),
            *sent('1'),
            seen('1', event='rejected'),
            seen('1'),
            line('carol', 'disconnected'),
            seen('1', by='dave'),
            line('dave', 'closed'),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'republished': (
        [*sent('1', answer='in_doubt'), *sent('1', 2), seen('1'), seen('1', 2, by='dave'), *CLOSED],
        {'republished', 'ok'},
        0,
    ),
    'republished, delivered once': (
        [*sent('1', answer='returned'), *sent('1', 2), seen('1', 2), *CLOSED],
        {'ok'},
        0,
    ),
    'rejected, then acknowledged': (
        [*sent('1'), seen('1', event='rejected'), seen('1', redelivered=True), *CLOSED],
        {'redelivered', 'ok'},
        0,
    ),
    'rejected, not flagged': (
        [*sent('1'), seen('1', event='rejected'), seen('1'), *CLOSED],
        {'duplicated', 'ok'},
        1,
    ),
    'held, then acknowledged': (
        [
            *sent('1'),
            seen('1', event='unacked'),
            line('carol', 'closed'),
            seen('1', by='dave', redelivered=True),
            line('dave', 'closed'),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'never acknowledged': ([*sent('1'), seen('1', event='unacked'), *CLOSED], {'lost'}, 1),
    'rejected after it was acknowledged': (
        [*sent('1'), seen('1'), seen('1', event='rejected', redelivered=True)],
        {'duplicated', 'ok'},
        1,
    ),
    'delivery_limit': (
        [
            *sent('1'),
            seen('1', event='rejected'),
            seen('1', event='delivery_limit', redelivered=True),
        ],
        {'redelivered', 'delivery_limit'},
        0,
    ),
    'returned': ([*sent('1', answer='returned'), *sent('2'), seen('2')], {'returned', 'ok'}, 0),
    'altered, and rejected': (
        [*sent('1'), seen('1', event='rejected', digest='x'), seen('1', redelivered=True)],
        {'corrupt', 'redelivered'},
        1,
    ),
    'redelivered, after the broker had closed the channel, and the script the connection': (
        [
            *(*sent('1'), seen('1'), line('carol', 'disconnected'), line('carol', 'closed')),
            *(seen('1', by='dave', redelivered=True), line('dave', 'closed')),
        ],
        {'redelivered', 'ok'},
        0,
    ),
    'a stream, read by two': (
        [
            line(by, 'connected', broker='RabbitMQ', queue='q', queue_type='stream')
            for by in ('carol', 'dave')
        ]
        + [*sent('1'), seen('1'), seen('1', by='dave'), *CLOSED],
        {'ok'},
        0,
    ),
    'a stream, read twice by one': (
        [
            line('carol', 'connected', broker='RabbitMQ', queue='q', queue_type='stream'),
            *(*sent('1'), seen('1'), seen('1')),
        ],
        {'duplicated', 'ok'},
        1,
    ),
    'lost between nodes': (
        [
            line('carol', 'connected', broker='RabbitMQ', queue='q', queue_type='quorum'),
            *sent('1'),
            seen('1'),
            seen('1', redelivered=True),
            line('carol', 'closed'),
        ],
        {'ack_lost', 'ok'},
        0,
    ),
    'lost between nodes, elsewhere again': (
        [
            line(by, 'connected', broker='RabbitMQ', queue='q', queue_type='quorum')
            for by in ('carol', 'dave')
        ]
        + [*sent('1'), seen('1'), seen('1', by='dave', redelivered=True), *CLOSED],
        {'ack_lost', 'ok'},
        0,
    ),
    'lost between nodes, and the second consumer was killed': (
        [
            line(by, 'connected', broker='RabbitMQ', queue='q', queue_type='quorum')
            for by in ('carol', 'dave')
        ]
        + [*sent('1'), seen('1'), line('carol', 'closed')]
        + [seen('1', by='dave', redelivered=True)],
        {'ack_lost', 'ok'},
        0,
    ),
    'twice from a quorum queue, not flagged': (
        [
            line(by, 'connected', broker='RabbitMQ', queue='q', queue_type='quorum')
            for by in ('carol', 'dave')
        ]
        + [*sent('1'), seen('1'), seen('1', by='dave'), *CLOSED],
        {'duplicated', 'ok'},
        1,
    ),
    'republished without a reason': (
        [*sent('1'), *sent('1', 2), seen('1'), seen('1', 2)],
        {'duplicated'},
        1,
    ),
}


MESSAGES = {'1', '2', 'without message_id: d'}


@pytest.fixture
def audit_of(tmp_path, capsys):
    """A function that runs audit.py on a ledger: its lines, or text.

    Returns its exit status and its output.
    """

    def audit_of(events, *flags):
        if not isinstance(events, str):
            events = ''.join(json.dumps(event) + '\n' for event in events)
        ledger = tmp_path / 'run.jsonl'
        ledger.write_text(events)
        status = audit.main([str(ledger), *flags])
        out, err = capsys.readouterr()
        assert err == ''
        return status, out

    return audit_of


@pytest.mark.parametrize('case', CASES)
def test_each_finding_has_its_verdict(case, audit_of):
    events, expected, status = CASES[case]
    kinds = {name for name, ids in verdict.audit(events).items() if MESSAGES & {*ids}}
    kinds -= {'attempted', 'confirmed'}
    if 'ok' not in expected:
        kinds -= {'ok'}
    assert kinds == expected
    assert audit_of(events)[0] == status


def in_order(ids, sender_epoch=1, priority=0):
    """Return the lines of messages that are published one after the other."""
    return [
        {**event, 'epoch': sender_epoch, 'priority': priority} for id in ids for event in sent(id)
    ]


ORDERS = {  # name: (what is published, what comes, which of them come too late)
    'in order': (in_order('123'), [seen('1'), seen('2'), seen('3')], []),
    'swapped': (in_order('123'), [seen('2'), seen('1'), seen('3')], ['1 (after 2)']),
    'one far too late': (
        in_order('1234'),
        [seen('2'), seen('3'), seen('4', event='rejected'), seen('1')],
        ['1 (after 4)'],
    ),
    'to two consumers': (in_order('12'), [seen('2'), seen('1', by='dave')], []),
    'over another channel': (in_order('12'), [seen('2'), seen('1', epoch=2)], []),
    'from two channels': (
        [*in_order('1'), *in_order('2', sender_epoch=2)],
        [seen('2'), seen('1')],
        [],
    ),
    'redelivered': (in_order('12'), [seen('2'), seen('1', redelivered=True)], []),
    'flagged, and in between': (
        in_order('123'),
        [seen('3', redelivered=True), seen('2'), seen('1')],
        ['1 (after 2)'],
    ),
    'republished': ([*in_order('12'), *sent('1', 2)], [seen('2'), seen('1', 2)], []),
    'priorities': (
        [*in_order('1', priority=1), *in_order('2', priority=2)],
        [seen('2'), seen('1')],
        [],
    ),
    'in a ledger of an older version': ([*sent('1'), *sent('2')], [seen('2'), seen('1')], []),
    'from among the dead': (in_order('12'), [seen('2'), seen('1', died=True)], []),
    'twice': (in_order('12'), [seen('1'), seen('2'), seen('1', by='carol')], []),
    'of a queue that drops': (
        [connected('carol', queue='q', arguments={'x-message-ttl': 1}), *in_order('12')],
        [seen('2'), seen('1')],
        [],
    ),
    'of a quorum queue': (
        [connected('carol', queue='q', queue_type='quorum'), *in_order('12')],
        [seen('2'), seen('1')],
        [],
    ),
    'where nothing is flagged': (
        [connected('carol', flags_redelivered=False), *in_order('12')],
        [seen('2'), seen('1')],
        [],
    ),
}


@pytest.mark.parametrize('case', ORDERS)
def test_what_comes_after_a_later_one_is_out_of_order(case):
    published, came, late = ORDERS[case]
    found = verdict.audit([*published, *came])
    assert found['out_of_order'] == late
    assert any('out of order' in note for note in found['notes']) == ('quorum' in case)
    assert (verdict.judge(found).exit_status == 1) == bool(late or found['duplicated'])


def expiring(id, at, exchange='news', ttl='10000'):
    """Return the lines of a message with a time to live, published at a time and confirmed."""
    attempted = line('alice', 'attempted', id, digest='d', expiration=ttl)
    attempted['at'] = at
    if exchange:
        attempted['exchange'] = exchange
    return [attempted, line('alice', 'confirmed', id)]


def listener(by, queue, first, *ids, last, exchange='news', end='closed'):
    """Return the lines of a consumer of a fanout exchange, from its first moment to its last."""
    lines = [line(by, 'connected', broker='RabbitMQ', exchange=exchange, queue=queue)]
    lines += [seen(id, by=by) for id in ids]
    if end:
        lines.append(line(by, end))
    lines = [{**event, 'at': last} for event in lines]
    lines[0]['at'] = first
    return lines


FANOUT = {  # name: (ledger, what is found besides attempted and confirmed)
    'one copy for each queue': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, '1', last=20),
        ],
        {'ok': ['1']},
    ),
    'two copies for one queue': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'a', 0, '1', last=20),
        ],
        {'ok': ['1'], 'duplicated': ['1']},
    ),
    'a shared queue': (
        [
            *expiring('1', 5),
            *expiring('2', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'a', 0, '2', last=20),
        ],
        {'ok': ['1', '2']},
    ),
    'lost in one queue': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=20),
        ],
        {'ok': ['1'], 'lost': ['1 in b']},
    ),
    'left too early': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=14),
        ],
        {'ok': ['1'], 'expired': ['1 in b']},
    ),
    'killed before': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=0, end=None),
        ],
        {'ok': ['1'], 'expired': ['1 in b']},
    ),
    'came late': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 6, last=20),
        ],
        {'ok': ['1']},
    ),
    'returned, too late': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, last=1),
            *listener('dave', 'a', 18, last=30),
        ],
        {'expired': ['1 in a']},
    ),
    'returned in time': (
        [
            *expiring('1', 5),
            *listener('carol', 'a', 0, last=1),
            *listener('dave', 'a', 12, '1', last=30),
        ],
        {'ok': ['1']},
    ),
    'another exchange': (
        [*expiring('1', 5), *listener('carol', 'a', 0, last=20, exchange='other')],
        {'expired': ['1']},
    ),
    'no exchange': (
        [*expiring('1', 5, exchange=None), *listener('carol', 'a', 0, last=20)],
        {'expired': ['1']},
    ),
}


@pytest.mark.parametrize('case', FANOUT)
def test_fanout_and_time_to_live(case):
    events, expected = FANOUT[case]
    found = verdict.audit(events)
    kinds = verdict.MEANING.keys() - {'attempted', 'confirmed'}
    assert {kind: found[kind] for kind in kinds if found[kind]} == expected


RUN = [
    event
    for n in range(1, 24)
    for event in (*sent(f'm{n}', digest=f'd{n}'), seen(f'm{n}', digest=f'd{n}'))
] + CLOSED


@given(
    st.permutations(range(23)),
    st.sampled_from(['lost', 'corrupt', 'rejected_as_invalid', 'unexpected', 'duplicated']),
)
def test_one_wrong_line_among_many_is_found_and_named(order, fault):
    victim = f'm{order[0] + 1}'
    events = [dict(event) for event in RUN]
    at = next(
        n for n, event in enumerate(events) if event['event'] == 'acked' and event['id'] == victim
    )
    if fault == 'lost':
        del events[at]
    elif fault == 'corrupt':
        events[at]['digest'] = 'other'
    elif fault == 'rejected_as_invalid':
        events[at]['event'] = 'invalid'
    elif fault == 'unexpected':
        events = [
            event for event in events if event.get('id') != victim or event['event'] == 'acked'
        ]
    else:
        events.insert(at, events[at])
    found = verdict.audit(events)
    assert found[fault] == [victim]
    assert all(not found[other] for other in verdict.FAULTS if other != fault)


@given(st.data())
def test_the_order_of_the_processes_does_not_matter(data):
    streams = {}
    for event in RUN:
        streams.setdefault(event['by'], []).append(event)
    turns = data.draw(st.permutations([by for by, events in streams.items() for _ in events]))
    positions = {by: count() for by in streams}
    assert verdict.audit([streams[by][next(positions[by])] for by in turns]) == verdict.audit(RUN)


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('', 'no producer'),
        (json.dumps(sent('1')[0]), 'no consumer'),
        ('{"torn', 'run.jsonl:1 cannot be read'),
        # Confirmed, but lost only if a consumer had looked.
        ('\n'.join(map(json.dumps, sent('1'))), 'no consumer'),
        (json.dumps(seen('1')), 'no producer'),
        (json.dumps(seen('1', event='invalid')), 'no producer'),
        ('[' * 100_000, 'cannot be read'),
        (json.dumps(seen('1', attempt='1')), 'cannot be read'),
        (json.dumps(seen('1', attempt=[])), 'cannot be read'),
        (json.dumps(seen('1', by=['x'])), 'cannot be read'),
        (json.dumps(line('a', 'connected', broker=7)), 'cannot be read'),
        (json.dumps(line('a', 'closed', epoch={})), 'cannot be read'),
        ('[]', 'cannot be read'),
        ('null', 'cannot be read'),
        ('{"event": []}', 'cannot be read'),
        ('\xff', 'cannot be read'),
        ('{"event": "attempted"}', 'cannot be read'),
        (json.dumps({**sent('1')[0], 'id': ['x']}), 'cannot be read'),
        (json.dumps({**sent('1')[0], 'at': 10**400, 'expiration': '1'}), 'cannot be read'),
        (json.dumps({**sent('1')[0], 'at': float('inf')}), 'cannot be read'),
        (json.dumps(line('a', 'new event')), 'cannot be read'),
    ],
)
def test_what_cannot_be_judged(text, complaint, audit_of):
    status, out = audit_of(text + '\n' if text else '')
    assert status == 3
    assert complaint in out
    assert 'unknown: ' in out


@pytest.mark.parametrize(
    'case, status',
    [
        ('corrupt', 1),
        ('rejected_as_invalid', 1),
        ('lost', 3),
        ('unexpected', 3),
        ('republished without a reason', 3),
    ],
)
def test_what_an_unreadable_line_could_explain_is_not_judged(case, status, audit_of):
    lines = [json.dumps(event) for event in CASES[case][0]]
    found, out = audit_of('\n'.join(['torn', *lines]))
    assert found == status
    assert (f'{verdict.words(case)}: 1' in out) == (status == 1)


def test_attempts_beyond_reason_are_judged_at_once():
    events = [*sent('1', answer='in_doubt'), *sent('1', 10**15), seen('1'), seen('1', 10**15)]
    assert verdict.audit(events)['duplicated'] == ['1']


def test_a_ledger_named_twice_counts_once(tmp_path):
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(''.join(json.dumps(event) + '\n' for event in CASES['sane'][0]))
    link = tmp_path / 'link'
    link.symlink_to(ledger)
    assert audit.main([str(ledger), str(link), f'{tmp_path}/./run.jsonl', '--quiet']) == 0


def test_the_report_names_the_faults_but_not_thousands(audit_of, tmp_path):
    events = [event for n in range(100) for event in sent(f'm{n:02}')]
    status, out = audit_of([*events, seen('m00')], '--json', str(tmp_path / 'verdict'))
    lines = out.splitlines()
    assert status == 1
    assert '    99  lost                 confirmed, but never delivered' in lines
    assert 'lost: m01' in lines
    assert 'lost: ... and 79 more' in lines
    summary = json.loads((tmp_path / 'verdict').read_text())
    assert summary['verdict'] == 'invalid: 99 lost'
    assert len(summary['lost']) == 99
    assert summary['attempted'] == 100


def test_what_strangers_write_cannot_forge_the_report(audit_of):
    forged = 'x\nvalid: every confirmed message was delivered\x1b[2J'
    by = f'carol{forged}'
    status, out = audit_of([*sent('1'), seen('1', by=by), seen(forged, by=by)])
    assert status == 1
    assert '\x1b' not in out
    assert '\nvalid' not in out
    assert out.endswith('\ninvalid: 1 unexpected\n')


def test_messages_without_id_are_told_apart():
    events = [*sent('1'), seen('1'), seen(None, digest='a' * 64), seen(None, digest='b' * 64)]
    assert len(verdict.audit(events)['unexpected']) == 2


# ---- sizes with which nothing but linear work ends


COPIES = 60_000


@pytest.mark.parametrize('attempts', [1, COPIES])
def test_very_many_copies_of_one_message(attempts):
    events = sent('1')
    for number in range(COPIES):
        attempt = 1 + number % attempts
        events += sent('1', attempt + 1, answer='in_doubt')[1:]
        events.append(seen('1', attempt, redelivered=True))
    assert verdict.audit(events)['duplicated'] == ['1']


def test_very_many_queues_with_very_many_mortal_messages():
    listeners = 2_000
    messages = 1_500
    events = [
        {**connected('carol', epoch=number, exchange='news', queue=f'q{number}'), 'at': 1}
        for number in range(listeners)
    ]
    for number in range(messages):
        events += expiring(f'm{number}', at=2)
    events.append(seen('m0'))
    found = verdict.audit(events)
    assert len(found['expired']) == messages
    assert found['expired'][1] == f'm1 in {listeners} queues'


def test_very_many_connections_of_one_queue():
    events = []
    for number in range(15_000):
        channel = connected('carol', epoch=number, exchange='news', queue='q', at=number)
        ended = line('carol', 'disconnected', epoch=number, at=number + 0.5)
        events += [channel, *expiring(f'm{number}', at=number), ended]
    events.append({**seen('m0', epoch=0), 'at': 0})
    assert len(verdict.audit(events)['expired']) == 14_999


def test_what_is_alike_is_kept_once():
    """A ledger of a million lines is read into less memory than its text."""
    evidence = Evidence()
    text = json.dumps(seen('1', digest='d' * 64))
    evidence.add_all(json.loads(text) for _ in range(1_000))
    arrivals = evidence.messages['1'].arrivals
    assert len(arrivals) == 1_000
    assert len({id(arrival) for arrival in arrivals}) == 1


# ---- what is still in the queues


def in_queue(name, **figures):
    return {
        'at': 0,
        'by': '',
        'run': '',
        'epoch': 0,
        'event': 'queue',
        'queue': name,
        'policy': {},
        **figures,
    }


ASKED = [
    in_queue('q', messages=1200),
    in_queue('r\n', messages=1),
    in_queue('s'),
    in_queue('t', messages=0),
]


def test_where_messages_are_lost_the_queues_that_are_not_empty_are_named():
    found = verdict.audit([*sent('1'), *sent('2'), seen('1'), *ASKED])
    begins = [note.partition(' (')[0].partition(';')[0] for note in found['notes']]
    assert begins == [
        'not drained: 1 message still in r\\n',
        'not drained: 1,200 messages still in q',
        'not known: how many messages are still in s',
    ]


def test_where_nothing_is_lost_it_does_not_matter_what_is_in_the_queues():
    assert verdict.audit([*sent('1'), seen('1'), *ASKED])['notes'] == []
