"""A mail server for tests, and what it got."""

import email
import email.policy
import ssl
from types import SimpleNamespace

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

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
        if b'unwanted' in envelope.content:
            return '554 5.7.1 this is not wanted here'
        self.mails.append(
            SimpleNamespace(
                to=envelope.rcpt_tos,
                secure=bool(session.ssl),
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


def listed_ids(mailbox):
    """Return the message_ids that all mails together list, each as often as they do."""
    return sorted(
        line.split()[3]
        for mail in list(mailbox.mails)
        for line in mail.mail.get_body(('plain',)).get_content().splitlines()
        if '  unknown  ' in line
    )
