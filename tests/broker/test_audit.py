"""audit.py: the books of runs that went well, that went badly, and that cannot be judged."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes import Running

import audit as audit_script
from siamese import verdict as audit


def line(by, event, id=None, attempt=1, epoch=1, **facts):
    return {
        'at': 0,
        'by': by,
        'run': 'cafe',
        'epoch': epoch,
        'event': event,
        **(
            {}
            if event in ('connected', 'disconnected', 'closed')
            else {'id': id, 'attempt': attempt}
        ),
        **facts,
    }


def sent(id, attempt=1, digest='d', answer='confirmed'):
    attempted = line('alice', 'attempted', id, attempt, digest=digest)
    return [attempted, line('alice', answer, id, attempt)] if answer else [attempted]


def seen(id, attempt=1, by='carol', epoch=1, redelivered=False, digest='d', event='acked'):
    return line(by, event, id, attempt, epoch, redelivered=redelivered, digest=digest)


CLOSED = [line('carol', 'closed'), line('dave', 'closed')]
CASES = {  # name: (books, what is found, verdict)
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
    'redelivered without flag by LavinMQ': (
        [
            line('dave', 'connected', broker='LavinMQ 2.9'),
            *sent('1'),
            seen('1'),
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
    'republished, came out once': (
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


@pytest.mark.parametrize('case', CASES)
def test_cases(case, tmp_path):
    books, labels, status = CASES[case]
    found = audit.audit(books)
    interesting = {
        name for name, ids in found.items() if {'1', '2', f'without message_id: {"d":.16}'} & {*ids}
    }
    assert (
        interesting - {'attempted', 'confirmed'} - ({'ok'} if 'ok' not in labels else set())
        == labels
    )
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(''.join(json.dumps(event) + '\n' for event in books))
    assert audit_script.main([str(ledger), '--quiet']) == status


def mortal(id, at, exchange='news', ttl='10000'):
    """Return the lines of a message with a time to live, accepted at a time."""
    return [
        {
            **line('alice', 'attempted', id, digest='d', expiration=ttl),
            'at': at,
            **({'exchange': exchange} if exchange else {}),
        },
        line('alice', 'confirmed', id),
    ]


def listener(by, queue, first, *ids, last, exchange='news', end='closed'):
    """Return the lines of a consumer of a fanout exchange, from its first moment to its last."""
    lines = [
        line(by, 'connected', broker='RabbitMQ', exchange=exchange, queue=queue),
        *(seen(id, by=by) for id in ids),
        *([line(by, end)] if end else []),
    ]
    return [{**event, 'at': at} for event, at in zip(lines, [first, *[last] * len(ids), last])]


FANOUT = {  # name: (books, what is found besides attempted and accepted)
    'one copy for each queue': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, '1', last=20),
        ],
        {'ok': ['1']},
    ),
    'two copies for one queue': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'a', 0, '1', last=20),
        ],
        {'ok': ['1'], 'duplicated': ['1']},
    ),
    'a shared queue': (
        [
            *mortal('1', 5),
            *mortal('2', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'a', 0, '2', last=20),
        ],
        {'ok': ['1', '2']},
    ),
    'lost in one queue': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=20),
        ],
        {'ok': ['1'], 'lost': ['1 in b']},
    ),
    'left too early': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=14),
        ],
        {'ok': ['1'], 'expired': ['1 in b']},
    ),
    'killed before': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 0, last=0, end=None),
        ],
        {'ok': ['1'], 'expired': ['1 in b']},
    ),
    'came late': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, '1', last=20),
            *listener('dave', 'b', 6, last=20),
        ],
        {'ok': ['1']},
    ),
    'returned, too late': (
        [*mortal('1', 5), *listener('carol', 'a', 0, last=1), *listener('dave', 'a', 18, last=30)],
        {'expired': ['1 in a']},
    ),
    'returned in time': (
        [
            *mortal('1', 5),
            *listener('carol', 'a', 0, last=1),
            *listener('dave', 'a', 12, '1', last=30),
        ],
        {'ok': ['1']},
    ),
    'another exchange': (
        [*mortal('1', 5), *listener('carol', 'a', 0, last=20, exchange='other')],
        {'expired': ['1']},
    ),
    'no exchange': (
        [*mortal('1', 5, exchange=None), *listener('carol', 'a', 0, last=20)],
        {'expired': ['1']},
    ),
}


@pytest.mark.parametrize('case', FANOUT)
def test_fanout_and_time_to_live(case):
    books, expected = FANOUT[case]
    found = audit.audit(books)
    assert {
        name: ids
        for name, ids in found.items()
        if ids and name in audit.MEANING and name not in ('attempted', 'confirmed')
    } == expected


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
    found = audit.audit(events)
    assert found[fault] == [victim]
    assert all(not found[other] for other in audit.FAULTS if other != fault)


@given(st.data())
def test_the_order_of_the_processes_does_not_matter(data):
    streams = {}
    for event in RUN:
        streams.setdefault(event['by'], []).append(event)
    turns = data.draw(st.permutations([by for by, events in streams.items() for _ in events]))
    positions = {by: count() for by in streams}
    assert audit.audit([streams[by][next(positions[by])] for by in turns]) == audit.audit(RUN)


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('', 'no producer'),
        (json.dumps(sent('1')[0]), 'no consumer'),
        ('{"torn', 'run.jsonl:1 cannot be read'),
        (
            '\n'.join(map(json.dumps, sent('1'))),
            'no consumer',
        ),  # accepted, but lost only if somebody had looked
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
def test_what_cannot_be_judged(text, complaint, tmp_path):
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(text + '\n' if text else '')
    done = Running('audit.py', ledger).end()
    assert (
        done.status == 3
        and f'{complaint}' in done.out
        and 'unknown: ' in done.out
        and done.err == ''
    )


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
def test_what_an_unreadable_line_could_explain_is_not_judged(case, status, tmp_path, capsys):
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text('torn\n' + ''.join(json.dumps(event) + '\n' for event in CASES[case][0]))
    assert audit_script.main([str(ledger)]) == status
    assert (f'{case.replace("_", " ")}: 1' in capsys.readouterr().out) == (status == 1)


def test_a_ledger_named_twice_counts_once(tmp_path):
    ledger = tmp_path / 'run.jsonl'
    ledger.write_text(''.join(json.dumps(event) + '\n' for event in CASES['sane'][0]))
    (tmp_path / 'link').symlink_to(ledger)
    assert (
        audit_script.main(
            [str(ledger), str(tmp_path / 'link'), f'{tmp_path}/./run.jsonl', '--quiet']
        )
        == 0
    )


def test_attempts_beyond_reason_are_judged_at_once():
    books = [*sent('1', answer='in_doubt'), *sent('1', 10**15), seen('1'), seen('1', 10**15)]
    assert audit.audit(books)['duplicated'] == ['1']


def test_the_report_names_the_faults_but_not_thousands(tmp_path):
    ledger = tmp_path / 'run.jsonl'
    books = [event for n in range(100) for event in sent(f'm{n:02}')] + [seen('m00')]
    ledger.write_text(''.join(json.dumps(event) + '\n' for event in books))
    done = Running('audit.py', ledger, '--json', tmp_path / 'verdict').end()
    lines = done.out.splitlines()
    assert (
        done.status == 1 and '    99  lost                 confirmed, but never delivered' in lines
    )
    assert 'lost: m01' in lines and 'lost: ... and 79 more' in lines
    summary = json.loads((tmp_path / 'verdict').read_text())
    assert (
        summary['verdict'] == 'invalid: 99 lost'
        and len(summary['lost']) == 99
        and summary['attempted'] == 100
    )


def test_what_strangers_write_cannot_forge_the_report(tmp_path):
    ledger, forged = tmp_path / 'run.jsonl', 'x\nvalid: all that was accepted came out\x1b[2J'
    books = [*sent('1'), seen('1', by=f'carol{forged}'), seen(forged, by=f'carol{forged}')]
    ledger.write_text(''.join(json.dumps(event) + '\n' for event in books))
    done = Running('audit.py', ledger).end()
    assert done.status == 1 and '\x1b' not in done.out and '\nvalid' not in done.out
    assert done.out.endswith('\ninvalid: 1 unexpected\n')


def test_messages_without_id_are_told_apart():
    books = [*sent('1'), seen('1'), seen(None, digest='a' * 64), seen(None, digest='b' * 64)]
    assert len(audit.audit(books)['unexpected']) == 2


def test_a_missing_file_and_bad_flags():
    done = Running('audit.py', '/none').end()
    assert done.status == 3 and 'No such file' in done.err and 'Traceback' not in done.err
    assert Running('audit.py').end().status == 2
