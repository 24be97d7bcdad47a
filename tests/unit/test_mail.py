"""mail.py: when a mail is due, and what its subject says."""

import time
from types import SimpleNamespace

from support.builders import NOON, letter

from siamese.monitoring import database, dead_letters, mail


def test_a_mail_that_cannot_be_sent_is_logged_once_and_retried(caplog):
    db = database.open_for_writing(':memory:')
    dead_letters.insert(db, [letter(1)], 's', time.time())
    told = {'until': 0, 'sent': 0}
    args = SimpleNamespace(
        mail_from='me',
        mail_to=['=?utf-8?q?=0a?='],
        mail_every=0,
        unread_after=0,
        smtp='smtp://127.0.0.1:1',
    )
    assert mail.ADDRESS.fullmatch(args.mail_to[0])  # nobody would think of it
    for _ in range(3):
        assert mail.send_if_due(db, args, told, retry_s=0) == []
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith('mail not sent, retrying every 0 s: ') and '\n' not in line
    assert told['until'] == 0 and database.get_fact(db, 'mail') == told


def test_a_mail_is_due_once_for_each_alert():
    db = database.open_for_writing(':memory:')

    def subject(since, now):
        message = mail.build_message(db, 'Monitor <me@example.org>', ['ops'], 300, since, now)
        return message and message['Subject'].partition(' at ')[0]

    database.set_facts(db, place='h', state='up', since=NOON)
    assert subject(0, NOON) is None
    database.set_facts(db, state='unavailable', since=NOON)
    assert subject(0, NOON + 299) is None
    assert subject(0, NOON + 301) == 'siamese: broker unavailable'
    assert subject(NOON + 301, NOON + 4000) is None  # once
    database.set_facts(db, state='up', since=NOON + 5000, alarms={'disk alarm on n': NOON + 5000})
    assert subject(NOON + 301, NOON + 5001) == 'siamese: 1 alarm'
    assert subject(NOON + 5001, NOON + 6000) is None
    dead_letters.insert(db, [letter(1), letter(2)], 's', NOON + 5500)
    assert subject(NOON + 5001, NOON + 6000) == 'siamese: 1 alarm, 2 messages not picked up'
    assert mail.build_message(db, 'Me <me@example.org>', ['ops'], 0, 0, NOON + 6000)[
        'Message-ID'
    ].endswith('@example.org>')
