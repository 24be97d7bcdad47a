"""mail.py, mail_text.py, mail_server.py: when a mail is due, what it says, whom it trusts."""

import smtplib
import ssl
import time
from types import SimpleNamespace

import pytest
from support.builders import NOON, letter, queue, seen

from siamese.monitoring import (
    alert_groups,
    alerts,
    database,
    dead_letters,
    mail,
    mail_server,
    mail_text,
    notices,
    queues,
)
from siamese.monitoring.mail_text import Envelope
from siamese.monitoring.notices import Notice

NOTHING = alerts.Told(letter=0, standing=[], interruptions={})
ENVELOPE = Envelope('Me <me@example.org>', ['ops'], None, NOON - 60, NOON)


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def flags(**given):
    return SimpleNamespace(
        **{
            'mail_from': 'me',
            'mail_to': ['ops'],
            'mail_every': 0,
            'unread_after': 0,
            'smtp': 'smtp://127.0.0.1:1',
            'dashboard_url': None,
            **given,
        }
    )


def news_of(db, told=NOTHING, unread_after=300, now=NOON):
    return alerts.news(db, unread_after, told, now)


def notice_of(news, after=0):
    return Notice(news, after, NOON - 60, NOON)


def whole(db, news, **envelope):
    """Return the mail about news."""
    return mail_text.whole(db, ENVELOPE._replace(**envelope), notice_of(news))


def text_of(mail):
    return mail.get_body(('plain',)).get_content()


def test_a_mail_that_cannot_be_sent_is_logged_once_kept_and_told(db, caplog):
    args = flags(mail_to=['=?utf-8?q?=0a?='])
    assert mail.ADDRESS.fullmatch(args.mail_to[0])  # nobody would think of it
    mailer = mail.Mailer(db, args, retry_s=0)
    dead_letters.insert(db, [letter(1)], 's', time.time())
    for _ in range(3):
        mailer.send_if_due()
    assert mailer.sent == 0
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith('mail not sent, retrying every 0 s: ') and '\n' not in line
    assert database.get_fact(db, 'mail')['told']['letter'] == 0
    group, _ = alert_groups.grouped(alerts.warnings(db, 0, 0))
    assert group.key == 'mail'
    assert group.text.startswith('no mail could be sent for 0 s, retrying: ')


def test_each_alert_is_news_once(db):
    told = NOTHING

    def titles(now, then=None):
        """Return the subject of the mail that is due; `then` is when it is sent."""
        nonlocal told
        news = news_of(db, told, now=now)
        told = alerts.remembered(told, news.then)
        if not news.is_new:
            return None
        told = news.then
        return whole(db, news)['Subject'].partition(' at ')[0]

    database.set_facts(db, place='h', state='up', since=NOON)
    assert titles(NOON) is None
    database.set_facts(db, state='unavailable', since=NOON)
    assert titles(NOON + 299) is None
    assert titles(NOON + 301) == 'siamese CRITICAL: broker unavailable'
    assert titles(NOON + 4000) is None  # once
    database.set_facts(db, state='up', since=NOON + 5000, alarms={'disk alarm on n': NOON + 5000})
    assert titles(NOON + 5001) == 'siamese CRITICAL: 1 disk alarm'
    assert titles(NOON + 6000) is None
    dead_letters.insert(db, [letter(1), letter(2)], 's', NOON + 5500)
    assert titles(NOON + 6000) == 'siamese CRITICAL: 1 disk alarm, 2 messages expired'
    database.set_facts(db, state='unavailable', since=NOON + 7000, alarms={})
    assert titles(NOON + 8000) == 'siamese CRITICAL: broker unavailable'  # once more


def test_what_is_news_does_not_depend_on_the_clock(db):
    """Three letters, interruptions and outages, at noon, an hour before, and a day after."""
    told = NOTHING
    for number, now in enumerate((NOON, NOON - 3600, NOON + 86400)):
        seen(db, now, 'a')
        seen(db, now + 1)
        seen(db, now + 2, f'b{number}')
        dead_letters.insert(db, [letter(number)], 's', now)
        database.set_facts(db, state='unavailable', since=now - 301)
        news = news_of(db, told, now=now)
        assert [alert.kind for alert in news.alerts] == ['broker', 'dead', 'interrupted']
        assert news.is_new and news.dead == 1
        told = news.then
        assert not news_of(db, told, now=now).is_new
        database.set_facts(db, state='up', since=now)
        told = alerts.remembered(told, news_of(db, told, now=now).then)


def test_a_letter_is_told_when_the_one_before_it_was_deleted(db):
    dead_letters.insert(db, [letter(1)], 's', NOON)
    told = news_of(db).then
    database.forget(db, NOON + 1, NOON + 1)
    dead_letters.insert(db, [letter(2)], 's', NOON)
    assert news_of(db, told).dead == 1


@pytest.mark.parametrize('sent', [NOON + 7200, NOON, NOON - 7200])
def test_a_mail_that_was_sent_in_the_future_was_sent_now(db, sent, monkeypatch):
    monkeypatch.setattr(notices.time, 'time', lambda: NOON)
    state = {'told': NOTHING, 'until': sent, 'sent': sent, 'failure': None}
    database.set_facts(db, mail=state)
    mailer = mail.Mailer(db, flags(mail_every=60), retry_s=0)
    expected = {NOON + 7200: 60, NOON: 60, NOON - 7200: 60 - 7200}[sent]
    assert mailer.due - time.monotonic() == pytest.approx(expected, abs=5)


def test_strangers_cannot_make_a_mail_long_nor_hide_what_matters(db):
    queues.update(db, NOON, [queue('orders')], uptime=None)
    invented = [
        letter(number, queue=f'invented {number} ' + 'x' * 10_000, reason='r' * 10_000)
        for number in range(3000)
    ]
    orders = letter(queue='orders', reason='also invented')
    dead_letters.insert(db, [*invented, orders], 's', NOON)
    built = whole(db, news_of(db))
    lines = text_of(built).splitlines()
    assert lines[2] == '* 3,001 queues: 3,001 dead letters, other reasons'
    assert lines[3].startswith('  orders (1), invented ')
    assert lines[3].endswith(', and 2,998 more')
    assert lines[-1] == '... and 2,901 more: ./monitor.py --report dead'
    assert len(built.as_bytes()) < 200_000


def test_a_letter_that_cannot_be_written_hides_no_other(db, monkeypatch):
    mailer = mail.Mailer(db, flags(), retry_s=0)
    dead_letters.insert(db, [letter(1), letter(2)], 's', NOON)
    monkeypatch.setattr(mail_text, '_cells', lambda row: 1 / 0)
    built = mailer.write(notice_of(news_of(db)))
    assert '2 messages expired' in built['Subject']
    assert 'ZeroDivisionError' in text_of(built)
    assert 'alice' not in built.as_string()


def test_a_mail_says_the_worst_first_and_what_to_do_by_reason(db):
    database.set_facts(db, alarms={'memory alarm on n0': NOON}, state='up', since=NOON)
    dead_letters.insert(db, [letter(1, reason='rejected'), letter(2)], 's', NOON)
    lines = text_of(whole(db, news_of(db))).splitlines()
    assert [line for line in lines if line.startswith('* ')] == [
        '* memory alarm on n0',
        '* q: 1 dead letter, expired',
        '* q: 1 dead letter, rejected',
    ]
    told = '\n'.join(lines)
    assert 'raise vm_memory_high_watermark' in told
    assert 'Start a consumer, or let messages live longer' in told
    assert 'A consumer rejected them' in told


def test_a_mail_leads_to_the_dashboard(db):
    dead_letters.insert(db, [letter(queue='a & b')], 's', NOON)
    built = whole(db, news_of(db), dashboard='https://example.org/siamese/')
    link = 'https://example.org/siamese/dead?queue=a%20%26%20b'
    assert link in text_of(built)
    page = built.get_body(('html',)).get_content()
    assert f'<a href="{link}">' in page
    assert 'http' not in text_of(whole(db, news_of(db)))


def test_the_virtual_host_is_readable_and_harmless(db):
    database.set_facts(db, place='h:5672/a%2Fb%0D%0ABcc%3A%20me')
    dead_letters.insert(db, [letter()], 's', NOON)
    built = whole(db, news_of(db))
    assert built['Subject'].endswith(' at h:5672, virtual host a/b\\r\\nBcc: me')
    assert built['Bcc'] is None


@pytest.mark.parametrize(
    'url, mode',
    [
        ('smtp://localhost', ssl.CERT_NONE),
        ('smtp://localhost?verify=verify_peer', ssl.CERT_REQUIRED),
        ('smtp://me:secret@localhost', ssl.CERT_REQUIRED),
        ('smtp://me:secret@localhost?verify=verify_none', ssl.CERT_NONE),
        ('smtps://localhost', ssl.CERT_REQUIRED),
        ('smtps://localhost?verify=verify_none', ssl.CERT_NONE),
    ],
)
def test_a_certificate_is_verified_where_there_is_a_login_or_a_wish(url, mode):
    context = mail_server.server(url).context
    assert context.verify_mode == mode
    assert context.check_hostname == (mode == ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    'tail, complaint',
    [
        ('?verify=no', 'verify is verify_peer or verify_none'),
        ('?verfy=verify_none', 'after ? come cacertfile and verify only'),
        ('?cacertfile=/none', 'cannot read cacertfile'),
    ],
)
def test_a_parameter_that_is_wrong_is_named(tail, complaint):
    with pytest.raises(ValueError, match='bad SMTP URL') as raised:
        mail_server.server(f'smtp://me:secret@localhost{tail}')
    assert complaint in str(raised.value) and 'secret' not in str(raised.value)


@pytest.mark.parametrize(
    'error, refuses',
    [
        (smtplib.SMTPDataError(552, b'too large'), True),
        (smtplib.SMTPDataError(554, b'spam'), True),
        (smtplib.SMTPSenderRefused(552, b'too large', 'me'), True),
        (smtplib.SMTPDataError(452, b'no room'), False),
        (smtplib.SMTPSenderRefused(550, b'who', 'me'), False),
        (smtplib.SMTPRecipientsRefused({}), False),
        (OSError('refused'), False),
    ],
)
def test_only_a_refusal_for_good_of_the_content_asks_for_a_short_mail(error, refuses):
    assert mail_server.refuses_content(error) == refuses
