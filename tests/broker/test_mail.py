"""mail.py: mails of monitor.py on a real mail server."""

import contextlib
import smtplib
import socket
import sqlite3
import ssl
import threading
import time
from email.message import EmailMessage

import pika
import pytest
import trustme
from aiosmtpd.controller import Controller
from support.clock import Clock
from support.mailbox import listed_ids, new_mailbox
from support.messages import DEAD_LETTERS, declare_dead
from support.monitor import watch
from support.processes import let_fault_last, wait_until

from siamese.monitoring import alerts, database, dead_letters, mail_server


@pytest.fixture
def mailbox(tmp_path):
    """A Mailbox that takes mails."""
    mailbox = new_mailbox(tmp_path)
    mailbox.controller.start()
    yield mailbox
    mailbox.controller.stop()


def test_the_mail_is_kept_while_the_mail_server_is_unavailable_and_tells_all(
    start, broker, channel, tmp_path
):
    mailbox = new_mailbox(tmp_path)
    declare_dead(channel)
    channel.queue_declare('strange', durable=True, arguments={**DEAD_LETTERS, 'x-message-ttl': 1})
    channel.queue_declare('unread', durable=True)
    monitor, db = watch(
        start,
        broker,
        tmp_path / 'siamese.db',
        '--mail-to',
        'ops@example.org,dev@example.org',
        '--mail-every',
        3600,
        '--unread-after',
        1,
        SMTP_URL=mailbox.smtp,
    )
    channel.basic_publish(
        '', 'strange', b'x', pika.BasicProperties(message_id='<script>alert(1)</script>\r\nBcc: me')
    )
    line = monitor.wait_for('mail not sent, retrying')
    assert 'refused' in line
    channel.basic_publish('', 'unread', b'y')
    wait_until(
        lambda: (
            alerts.warnings(db, 1, 0)
            and any(row.kind == 'unread' for row in alerts.warnings(db, 1, 0))
        ),
        'an unread message',
    )
    mailbox.controller.start()
    try:
        wait_until(lambda: mailbox.mails, 'a mail')
        ((secure, login, _),) = mailbox.logins
        assert secure and login == b'monitor'
        (mail,) = mailbox.mails
        assert mail.to == ['ops@example.org', 'dev@example.org']
        subject = ' '.join(mail.mail['Subject'].split())
        assert subject.startswith(
            'siamese: 1 message expired, 1 queue without a consumer at 127.0.0.1:'
        )
        text = mail.mail.get_body(('plain',)).get_content()
        page = mail.mail.get_body(('html',)).get_content()
        assert (
            'strange: 1 dead letter, expired' in text
            and 'unread waits without a consumer: 1 message' in text
        )
        assert '--requeue QUEUE requeues them' in text and 'Start a consumer' in text
        assert (
            '<br>&lt;script&gt;alert(1)&lt;/script&gt;\\r\\nBcc: me, 1 byte' in page
            and '<script>' not in page
        )
        assert mail.mail['Bcc'] is None
        channel.basic_publish('', 'strange', b'x', pika.BasicProperties(message_id='second'))
        wait_until(lambda: dead_letters.find(db)[1] == 2, 'the second')
        now = time.time()
        wait_until(lambda: database.get_fact(db, 'collected') > now + 1, 'two more collections')
        assert len(mailbox.mails) == 1  # the period is not over
    finally:
        mailbox.controller.stop()
    done = monitor.stop()
    assert (
        done.status == 0
        and 'open sesame' not in done.err + done.out
        and ', 1 mail sent; ' in done.out
    )


@pytest.mark.parametrize('kind', ['no TLS', 'wrong password'])
def test_a_mail_server_that_gets_no_password_or_the_wrong_one(
    kind, start, broker, channel, tmp_path
):
    mailbox = new_mailbox(tmp_path)
    if kind == 'no TLS':
        mailbox.controller = Controller(
            mailbox,
            hostname='127.0.0.1',
            port=mailbox.controller.port,
            authenticator=mailbox.log_in,
            auth_require_tls=False,
        )
    mailbox.controller.start()
    try:
        monitor, _ = watch(
            start,
            broker,
            tmp_path / 'siamese.db',
            '--mail-to',
            'ops@example.org',
            '--smtp',
            f'smtp://me:hush@127.0.0.1:{mailbox.controller.port}?cacertfile={tmp_path}/ca.pem',
        )
        declare_dead(channel)
        channel.basic_publish('siamese.dlx', '', b'x')
        line = monitor.wait_for('mail not sent, retrying')
        assert ('it offers no TLS' if kind == 'no TLS' else '535') in line and 'hush' not in line
        assert mailbox.mails == [] and bool(mailbox.logins) == (kind == 'wrong password')
    finally:
        mailbox.controller.stop()


def test_one_of_two_recipients_is_refused_and_that_is_said(
    start, broker, channel, tmp_path, mailbox
):
    monitor, _ = watch(
        start,
        broker,
        tmp_path / 'siamese.db',
        '--mail-to',
        'nobody@example.org, ops@example.org',
        SMTP_URL=mailbox.smtp,
    )
    channel.basic_publish('siamese.dlx', '', b'x')
    assert '550 no such user' in monitor.wait_for('mail not accepted for nobody@example.org')
    assert [mail.to for mail in mailbox.mails] == [['ops@example.org']]
    assert ', 1 mail sent; ' in monitor.stop().out


def test_a_mail_server_that_says_nothing_keeps_nothing_up(start, broker, channel, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as silent:
        monitor, db = watch(
            start,
            broker,
            tmp_path / 'siamese.db',
            '--mail-to',
            'ops@example.org',
            '--smtp',
            f'smtp://127.0.0.1:{silent.getsockname()[1]}',
        )
        channel.basic_publish('siamese.dlx', '', b'x')
        silent.settimeout(60)
        with silent.accept()[0] as asked:
            channel.basic_publish('siamese.dlx', '', b'y')
            wait_until(lambda: dead_letters.find(db)[1] == 2, 'two dead letters')
            now = time.time()
            wait_until(lambda: database.get_fact(db, 'collected') > now, 'a collection')
            asked.setblocking(False)
            with pytest.raises(BlockingIOError):  # it still waits for an answer
                asked.recv(1)
            done = monitor.stop()
    assert done.status == 0 and ', 0 mails sent; ' in done.out and 'Traceback' not in done.err


def publish_dead_letter(channel, id):
    channel.basic_publish('siamese.dlx', '', b'x', pika.BasicProperties(message_id=id))


def test_each_dead_letter_is_in_exactly_one_mail_however_long_it_took_to_store_it(
    start, broker, channel, tmp_path, mailbox
):
    path = tmp_path / 'siamese.db'
    _, db = watch(
        start,
        broker,
        path,
        '--mail-to',
        'ops@example.org',
        '--mail-every',
        3,
        SMTP_URL=mailbox.smtp,
    )
    publish_dead_letter(channel, 'first')
    wait_until(lambda: listed_ids(mailbox) == ['first'], 'the first mail')
    publish_dead_letter(channel, 'second')
    wait_until(lambda: dead_letters.find(db)[1] == 2, 'the second dead letter')
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        publish_dead_letter(channel, 'third')
        let_fault_last(6)  # now the second mail is due
        other.execute('ROLLBACK')
    wait_until(
        lambda: {'second', 'third'} <= set(listed_ids(mailbox)),
        f'all dead letters: {listed_ids(mailbox)}',
    )
    publish_dead_letter(channel, 'last')
    wait_until(lambda: 'last' in listed_ids(mailbox), 'the last mail')
    assert listed_ids(mailbox) == ['first', 'last', 'second', 'third']


def test_the_first_mail_begins_when_mails_begin(start, broker, channel, tmp_path, mailbox):
    path = tmp_path / 'siamese.db'
    for number, flags in enumerate(
        ([], ['--mail-to', 'ops@example.org'], [], ['--mail-to', 'ops@example.org'])
    ):
        monitor, db = watch(start, broker, path, '--mail-every', 0, *flags, SMTP_URL=mailbox.smtp)
        publish_dead_letter(channel, f'letter-{number}')
        wait_until(lambda n=number, db=db: dead_letters.find(db)[1] == n + 1, 'the dead letter')
        if flags:
            wait_until(lambda n=number: f'letter-{n}' in listed_ids(mailbox), 'a mail')
        assert monitor.stop().status == 0
    assert listed_ids(mailbox) == ['letter-1', 'letter-3']


@contextlib.contextmanager
def local_mailbox(folder, **how):
    """A mail server as on Debian: it offers TLS with a certificate of its own, wants no login."""
    mailbox = new_mailbox(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert('debian').configure_cert(context)
    mailbox.controller = Controller(
        mailbox,
        hostname='127.0.0.1',
        port=mailbox.controller.port,
        authenticator=mailbox.log_in,
        tls_context=context,
        **how,
    )
    mailbox.smtp = f'smtp://127.0.0.1:{mailbox.controller.port}'
    mailbox.controller.start()
    yield mailbox
    mailbox.controller.stop()


def test_without_a_login_the_mail_server_may_have_any_certificate(start, broker, channel, tmp_path):
    with local_mailbox(tmp_path) as mailbox:
        flags = '--mail-to', 'ops@example.org', '--smtp', mailbox.smtp
        watch(start, broker, tmp_path / 'siamese.db', *flags)
        publish_dead_letter(channel, 'one')
        wait_until(lambda: listed_ids(mailbox) == ['one'], 'a mail')
        assert mailbox.mails[0].secure


def test_with_a_login_a_wrong_certificate_is_told_everywhere_and_the_mail_is_kept(
    start, run, broker, channel, tmp_path
):
    with local_mailbox(tmp_path) as mailbox:
        history = tmp_path / 'siamese.db'
        smtp = mailbox.smtp.replace('//', '//me:open%20sesame@')
        mails = '--mail-to', 'ops@example.org', '--mail-every', 0
        monitor, db = watch(start, broker, history, *mails, SMTP_URL=smtp)
        publish_dead_letter(channel, 'one')
        line = monitor.wait_for('mail not sent, retrying')
        assert 'its certificate does not hold' in line and '?verify= of --smtp' in line
        api = '--management-url', broker.management_url
        wait_until(lambda: (database.get_fact(db, 'mail') or {}).get('failure'), 'the failure')
        once = run('monitor.py', '--once', '--history', history, *api).out
        assert 'warning: no mail could be sent for ' in once and 'does not hold' in once
        check = run('monitor.py', '--once', '--check', '--history', history, *api)
        assert check.status == 1 and 'no mail could be sent' in check.out
        assert mailbox.logins == [] and 'sesame' not in monitor.stop().err + once + check.out
        watch(start, broker, history, *mails, SMTP_URL=f'{smtp}?verify=verify_none')
        wait_until(lambda: listed_ids(mailbox) == ['one'], 'the mail')
        wait_until(lambda: not database.get_fact(db, 'mail')['failure'], 'nothing to say')
        assert {secure for secure, *_ in mailbox.logins} == {True}


@pytest.mark.parametrize('why', ['size', 'content'])
def test_a_mail_that_is_refused_as_it_is_is_sent_in_short_and_the_next_one_in_full(
    why, start, broker, channel, tmp_path
):
    with local_mailbox(tmp_path, data_size_limit=8_000) as mailbox:
        flags = '--mail-to', 'ops@example.org', '--mail-every', 0, '--smtp', mailbox.smtp
        monitor, db = watch(start, broker, tmp_path / 'siamese.db', *flags)
        message_id = {'size': 'x' * 200, 'content': 'unwanted'}[why]
        count = {'size': 100, 'content': 1}[why]
        with channel.connection.channel() as together:
            together.tx_select()
            for _ in range(count):
                together.basic_publish(
                    'siamese.dlx', '', b'x', pika.BasicProperties(message_id=message_id)
                )
            together.tx_commit()
        line = monitor.wait_for('the mail was sent in short: the mail server refuses the rest')
        assert {'size': '552', 'content': '554 5.7.1 this is not wanted'}[why] in line
        short = mailbox.mails[-1].mail.get_body(('plain',)).get_content()
        assert 'dead-lettered. This is all that could be sent' in short
        assert message_id not in short
        wait_until(lambda: 'at 127.0.0.1' in mailbox.mails[-1].mail['Subject'], 'a subject')
        # A busy machine tells them in several mails.
        wait_until(lambda: database.get_fact(db, 'mail')['told']['letter'] == count, 'the rest')
        publish_dead_letter(channel, 'good')
        wait_until(lambda: 'good' in listed_ids(mailbox), 'the next mail')


def test_each_dead_letter_is_in_one_mail_whatever_the_clock_does(
    start, run, broker, channel, tmp_path, mailbox
):
    """It is 30 s and an hour ahead and then right, and hours behind and then right."""
    clock = Clock(tmp_path)
    path = tmp_path / 'siamese.db'
    told = []
    for number, seconds in enumerate((30, 0, 3600, 0, -7200, 0)):
        clock.set(seconds)
        if not number:
            flags = '--mail-to', 'ops@example.org', '--mail-every', 1
            watch(start, broker, path, *flags, SMTP_URL=mailbox.smtp, **clock.env)
        told.append(f'letter-{number}')
        publish_dead_letter(channel, told[-1])
        wait_until(lambda: listed_ids(mailbox) == told, f'{told} in mails', patience=20)
    once = run('monitor.py', '--once', '--history', path, '--management-url', broker.management_url)
    assert 'queue unknown: 6 dead letters' in once.out


# ---- a hostile mail server


@contextlib.contextmanager
def talkative(talk, tls=None):
    """Yield the port of a mail server that answers with what `talk()` yields; then it is right."""

    def serve():
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):  # whoever listens may have had enough
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            for piece in talk():
                connection.sendall(piece)
            connection.sendall(b'221 so far\r\n' * 9)
        connection.close()

    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join()


def lines_without_end():
    for _ in range(100_000):
        yield b'220-' + b'x' * 70 + b'\r\n'


def byte_after_byte():
    """A byte is early enough each time, all of them are not."""
    for byte in b'220-' + b'x' * 56 + b'\r\n':
        yield bytes([byte])
        let_fault_last(0.1)


@pytest.mark.parametrize('scheme', ['smtp', 'smtps'])
@pytest.mark.parametrize(
    'talk, limit_s, why',
    [
        (lines_without_end, 60, 'it answers with more than 64 KiB'),
        (byte_after_byte, 2, 'no whole answer within 2 s'),
    ],
)
def test_what_a_mail_server_answers_has_an_end(monkeypatch, scheme, talk, limit_s, why):
    monkeypatch.setattr(mail_server, 'SMTP_TIMEOUT_S', limit_s)
    context = None
    if scheme == 'smtps':
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert('127.0.0.1').configure_cert(context)
    mail = EmailMessage()
    mail['To'] = mail['From'] = 'ops@example.org'
    with talkative(talk, context) as port:
        url = f'{scheme}://127.0.0.1:{port}?verify=verify_none'
        with pytest.raises(smtplib.SMTPServerDisconnected, match=why):
            mail_server.send(mail, url)
