"""The mail about alerts, as notices.py wants it sent."""

from __future__ import annotations

import argparse
import logging
import re
import sqlite3
from email.message import EmailMessage
from sqlite3 import Connection

from siamese.monitoring import mail_server, mail_text
from siamese.monitoring.mail_server import Refusals
from siamese.monitoring.mail_text import Envelope
from siamese.monitoring.notices import Notice, Notifier
from siamese.text import printable

WORD = r'[^\s@<>()\[\]\\,:;".]+'
LABEL = r'[\w-]{1,63}'
DOMAIN = rf'(?:{LABEL}(?:\.{LABEL})*|\[[\w.:]+\])'
SPEC = rf'{WORD}(?:\.{WORD})*(?:@{DOMAIN})?'
# me@example.org, or with a name: Me <me@example.org>
ADDRESS = re.compile(rf'{SPEC}|[^@<>()\[\]\\,:;"]*<{SPEC}>')


class Mailer(Notifier):
    """Sends mails to the recipients that the flags name."""

    fact = 'mail'

    def __init__(
        self,
        db: Connection,
        args: argparse.Namespace,
        retry_s: float,
    ) -> None:
        super().__init__(db, args, args.mail_every, retry_s)
        self.why_short = ''  # why the last mail does not say everything

    def envelope(self, notice: Notice) -> Envelope:
        return Envelope(
            sender=self.args.mail_from,
            recipients=self.args.mail_to,
            dashboard=self.args.dashboard_url,
            since=notice.since,
            now=notice.now,
        )

    def write(self, notice: Notice) -> EmailMessage:
        """Return the whole mail; or in short what cannot be written, whatever it is."""
        self.why_short = ''
        envelope = self.envelope(notice)
        try:
            return mail_text.whole(self.db, envelope, notice)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  a stranger wrote it
            why = f'the rest cannot be written ({type(error).__name__})'
            self.why_short = why
            return mail_text.short(self.db, envelope, notice, why)

    def send(self, mail: EmailMessage, notice: Notice) -> str:
        """Send a mail, or in short what the server does not take as it is."""
        try:
            refused = mail_server.send(mail, self.args.smtp)
        except Exception as error:
            if not mail_server.refuses_content(error):
                raise
            why = 'the mail server refuses the rest'
            self.why_short = f'{why}: {self.reason(error)}'
            mail = mail_text.short(self.db, self.envelope(notice), notice, why)
            refused = mail_server.send(mail, self.args.smtp)
        self.log_what_is_missing(refused)
        return str(mail['Subject'])

    def log_what_is_missing(self, refused: Refusals) -> None:
        if self.why_short:
            logging.warning('the mail was sent in short: %s', self.why_short)
        for recipient, answer in refused.items():
            text = 'mail not accepted for %s: %s'
            logging.warning(text, printable(recipient), mail_server.reason(answer))

    def reason(self, error: Exception) -> str:
        return mail_server.reason(error)
