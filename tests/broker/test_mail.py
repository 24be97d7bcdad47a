"""mail.py: mails of monitor.py on a real mail server."""

import contextlib
import email
import email.policy
import socket
import sqlite3
import ssl
import time
from types import SimpleNamespace

import pika
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from support.messages import DEAD_LETTERS, declare_dead
from support.monitor import watch
from support.processes import let_fault_last, wait_until

from siamese.monitoring import alerts, database, dead_letters
from siamese.testbed import rabbitmq as broker_module


class Mailbox:
    """A mail server that wants TLS and a password."""

    def __init__(self, authority):
        self.mails = []
        self.logins = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert('127.0.0.1').configure_cert(context)
        self.controller = Controller(
            self,
            hostname='127.0.0.1',
            port=broker_module.free_ports(1)[0],
            auth_required=True,
            authenticator=self.log_in,
            tls_context=context,
            require_starttls=True,
        )

    def log_in(self, server, session, envelope, mechanism, data):
        self.logins.append((bool(session.ssl), data.login, data.password))
        return AuthResult(success=data.password == b'open sesame', handled=False)

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith('nobody'):
            return '550 no such user'
        envelope.rcpt_tos.append(address)
        return '250 OK'

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(
            SimpleNamespace(
                to=envelope.rcpt_tos,
                mail=email.message_from_bytes(envelope.content, policy=email.policy.default),
            )
        )
        return '250 OK'


def new_mailbox(folder):
    """Return a Mailbox that does not listen yet; its `smtp` is a URL for it.

    The authority of its certificate is in ca.pem in the folder.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / 'ca.pem'))
    mailbox = Mailbox(authority)
    mailbox.smtp = (
        f'smtp://monitor:open%20sesame@127.0.0.1:{mailbox.controller.port}'
        f'?cacertfile={folder}/ca.pem'
    )
    return mailbox


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
            and any(row['kind'] == 'unread' for row in alerts.warnings(db, 1, 0))
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
            'siamese: 1 message not picked up, 1 queue without a consumer at 127.0.0.1:'
        )
        text = mail.mail.get_body(('plain',)).get_content()
        page = mail.mail.get_body(('html',)).get_content()
        assert (
            'strange: 1 dead letter, expired' in text
            and 'unread: 1 message and no consumer' in text
        )
        assert '--requeue QUEUE requeues them' in text and 'Start a consumer' in text
        assert (
            '<td>&lt;script&gt;alert(1)&lt;/script&gt;\\r\\nBcc: me</td>' in page
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
        and ', 1 mails sent; ' in done.out
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
    assert ', 1 mails sent; ' in monitor.stop().out


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


def listed_ids(mailbox):
    """Return the message_ids that all mails together list, each as often as they do."""
    return sorted(
        line.split()[3]
        for mail in list(mailbox.mails)
        for line in mail.mail.get_body(('plain',)).get_content().splitlines()
        if '  unknown  ' in line
    )


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
