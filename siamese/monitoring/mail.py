"""The mail about alerts: what it says, and how it is sent.

There is no queue of mails. The history remembers (fact `mail`) until when its
recipients were told. While the mail server is unavailable that stays as it is, so
the next mail tells of everything since then.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import logging
import re
import smtplib
import sqlite3
import ssl
import threading
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from sqlite3 import Connection
from typing import Any, Callable, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from siamese.monitoring import alerts, database, dead_letters
from siamese.monitoring.dead_letters import DeadLetterRow
from siamese.text import count_of, printable, table, utc

# For each answer of the mail server: many let strangers wait, and examine a mail
# before they accept it.
SMTP_TIMEOUT_S = 300
END_TIMEOUT_S = 5  # for a mail that is on its way when monitor.py ends
CHECK_INTERVAL_S = 5  # between checks whether a mail is due
CHECKS_BEFORE_RETRY = 6
MAX_LISTED_DEAD_LETTERS = 100  # dead letters in one mail
WORD = r'[^\s@<>()\[\]\\,:;".]+'
LABEL = r'[\w-]{1,63}'
DOMAIN = rf'(?:{LABEL}(?:\.{LABEL})*|\[[\w.:]+\])'
SPEC = rf'{WORD}(?:\.{WORD})*(?:@{DOMAIN})?'
# me@example.org, or with a name: Me <me@example.org>
ADDRESS = re.compile(rf'{SPEC}|[^@<>()\[\]\\,:;"]*<{SPEC}>')
PORTS = {'smtp': 25, 'smtps': 465}
SUBMISSION_PORT = 587
BAD_URL = 'bad SMTP URL'
EXPECTED_URL = 'expected smtp://user:password@host:port'
WHAT_TO_DO = {
    'broker': (
        'The broker does not answer. Is it running?'
        ' The scripts keep trying, and lose nothing that it confirmed.'
    ),
    'alarm': (
        'While there is an alarm the broker accepts no messages. Free memory or disk on that node.'
    ),
    'unread': (
        'Start a consumer of that queue.'
        ' If it is not needed any more, ./cleanup.py --delete QUEUE deletes it.'
    ),
    'dead': (
        'Start a consumer, or let messages live longer.'
        ' Then ./monitor.py --requeue QUEUE requeues them.'
    ),
    'interrupted': (
        'It is back. If that happens again:'
        ' see its log, and the log of the broker for the same time.'
    ),
}
COLUMNS = ('dead-lettered (UTC)', 'queue', 'reason', 'sender', 'message_id', 'bytes')


Refusals = dict[str, tuple[int, bytes]]  # answers of the mail server by recipient


class Server(NamedTuple):
    """A mail server and the login there."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    context: ssl.SSLContext


def server(url: str) -> Server:
    """Return the Server of an SMTP URL; raise ValueError, without repeating the URL.

    smtp:// turns to TLS with STARTTLS where the server offers it, and gives no
    password away where it does not; smtps:// speaks TLS from the beginning.
    ?cacertfile=FILE names the authority that signed the server's certificate.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or '').encode('idna')  # as the socket will do
        port = parts.port or _usual_port(parts.scheme, parts.username)
        files = parse_qs(parts.query).get('cacertfile', [None])
        context = ssl.create_default_context(cafile=files[0])
    except (ValueError, KeyError):
        raise ValueError(f'{BAD_URL}: {EXPECTED_URL} or smtps://...') from None
    except OSError as error:
        raise ValueError(f'{BAD_URL}: cannot read cacertfile ({error})') from None
    if not parts.hostname:
        raise ValueError(f'{BAD_URL}: the host is missing; {EXPECTED_URL}')
    user = unquote(parts.username or '')
    password = unquote(parts.password or '')
    if not (user + password).isascii():  # smtplib cannot send others
        raise ValueError(f'{BAD_URL}: user and password may hold ASCII only')
    return Server(parts.scheme, parts.hostname, port, user, password, context)


def _usual_port(scheme: str, user: str | None) -> int:
    if scheme == 'smtp' and user:
        return SUBMISSION_PORT
    return PORTS[scheme]


def start_thread(args: argparse.Namespace) -> Callable[[], int]:
    """Send mails from now on, as the flags say.

    Returns a function that ends it and returns how many were sent. It is done in a
    thread with its own connection to the history: a mail server may take minutes.
    """
    db = database.open_for_writing(args.history)
    mail = database.get_fact(db, 'mail') or {'until': time.time(), 'sent': 0}
    if not args.mail_to:
        # Without recipients there is nothing to catch up with later.
        database.set_facts(db, mail=None)
        return lambda: 0
    database.set_facts(db, mail=mail)
    check_s = min(args.interval, CHECK_INTERVAL_S)
    stop = threading.Event()
    sent: list[EmailMessage] = []

    def work() -> None:
        while not stop.wait(check_s):
            # The main thread says what is wrong with the file.
            with contextlib.suppress(sqlite3.Error):
                sent.extend(send_if_due(db, args, mail, check_s * CHECKS_BEFORE_RETRY))

    def end() -> int:
        stop.set()
        thread.join(END_TIMEOUT_S)
        return len(sent)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return end


def send_if_due(
    db: Connection, args: argparse.Namespace, mail: dict[str, float], retry_s: float
) -> list[EmailMessage]:
    """Send the mail that is due, if there is something to tell; return what was sent.

    `mail` is the fact, which holds here even where it cannot be stored.
    """
    if time.time() < max(mail['sent'] + args.mail_every, mail.get('retry', 0)):
        return []
    try:
        # In a transaction: no other process is writing what was until now.
        with database.transaction(db):
            now = time.time()
            message = build_message(
                db,
                args.mail_from,
                args.mail_to,
                args.unread_after or 0,
                mail['until'],
                now,
            )
        if not message:
            return []
        refused = send(message, args.smtp)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  the next mail will tell it, whatever failed
        _postpone(db, mail, error, retry_s)
        return []
    _log_sent(message, refused)
    mail.update(until=now, sent=now)
    mail.pop('retry', None)
    database.set_facts(db, mail=mail)
    return [message]


def _postpone(db: Connection, mail: dict[str, float], error: Exception, retry_s: float) -> None:
    """Note when a mail that could not be sent is retried; log the first failure."""
    if 'retry' not in mail:
        text = 'mail not sent, retrying every %g s: %s'
        logging.warning(text, retry_s, reason(error))
    mail['retry'] = time.time() + retry_s
    database.set_facts(db, mail=mail)


def _log_sent(message: EmailMessage, refused: Refusals) -> None:
    logging.info('mail sent: %s', message['Subject'])
    for recipient, answer in refused.items():
        text = 'mail not accepted for %s: %s'
        logging.warning(text, printable(recipient), reason(answer))


def build_message(
    db: Connection,
    sender: str,
    recipients: list[str],
    unread_after: float,
    since: float,
    now: float,
) -> EmailMessage | None:
    """Return the mail about what happened after `since`, None if nothing did."""
    found = alerts.warnings(db, unread_after, since, now)
    if not any(since < alert['began'] <= now for alert in found):
        return None
    listed, count = dead_letters.find(
        db,
        since=since,
        requeued=False,
        limit=MAX_LISTED_DEAD_LETTERS,
    )
    place = database.broker(db)['place']
    domain = parseaddr(sender)[1].rpartition('@')[2]
    content = Content(
        intro=f'At {place}, from {utc(since)} to {utc(now)} UTC:',
        alerts=[(printable(alert['text']), WHAT_TO_DO[alert['kind']]) for alert in found],
        dead_letters=[_cells(row) for row in listed],
        more=_more(count - len(listed)),
    )
    message = EmailMessage()
    message['Subject'] = f'siamese: {", ".join(_titles(found, count))} at {place}'
    message['From'] = sender
    message['To'] = ', '.join(recipients)
    message['Date'] = formatdate(now)
    message['Message-ID'] = make_msgid(domain=domain or None)
    message.set_content(content.as_text())
    message.add_alternative(content.as_html(), subtype='html')
    return message


def _titles(found: list[alerts.Alert], dead: int) -> list[str]:
    """Return what the subject of a mail says: each kind of alert, and how many."""
    kinds = [alert['kind'] for alert in found]
    counted = [
        (kinds.count('alarm'), 'alarm', ''),
        (dead, 'message', ' not picked up'),
        (kinds.count('unread'), 'queue', ' without a consumer'),
        (kinds.count('interrupted'), 'client', ' interrupted'),
    ]
    titles = ['broker unavailable'] * kinds.count('broker')
    for number, noun, more in counted:
        if number:
            titles.append(count_of(number, noun) + more)
    return titles


def _cells(row: DeadLetterRow) -> list[Any]:
    return [
        utc(row['at']),
        row['queue'],
        row['reason'],
        row['sender'],
        row['message_id'],
        row['size'],
    ]


def _more(count: int) -> str:
    if count <= 0:
        return ''
    return f'... and {count} more: ./monitor.py --report dead'


class Content(NamedTuple):
    """What a mail says."""

    intro: str
    alerts: list[tuple[str, str]]  # what happened, and what to do
    dead_letters: list[list[Any]]  # cells of the COLUMNS
    more: str  # dead letters that are not listed

    def as_text(self) -> str:
        lines = [self.intro, '']
        for what, remedy in self.alerts:
            lines += [f'* {what}', f'  {remedy}']
        if self.dead_letters:
            lines += ['', *table(COLUMNS, self.dead_letters), self.more]
        return '\n'.join(lines).rstrip() + '\n'

    def as_html(self) -> str:
        lines = [f'<p>{html.escape(self.intro)}</p>', '<ul>']
        for what, remedy in self.alerts:
            lines.append(f'<li>{html.escape(what)}<br>{html.escape(remedy)}</li>')
        lines.append('</ul>')
        if self.dead_letters:
            head = ''.join(f'<th align="left">{name}</th>' for name in COLUMNS)
            lines += ['<table cellpadding="4">', f'<tr>{head}</tr>']
            lines += [_html_row(row) for row in self.dead_letters]
            lines.append('</table>')
        lines.append(f'<p>{self.more}</p>')
        return '\n'.join(lines) + '\n'


def _html_row(row: list[Any]) -> str:
    cells = ''.join(f'<td>{html.escape(printable(value))}</td>' for value in row)
    return f'<tr>{cells}</tr>'


def send(message: EmailMessage, url: str) -> Refusals:
    """Send a mail; return {recipient: answer} of those for whom it was not accepted.

    Raises OSError or smtplib.SMTPException if it was accepted for none.
    """
    to = server(url)
    with _connect(to) as smtp:
        smtp.ehlo()
        is_secure = to.scheme == 'smtps'
        if not is_secure and smtp.has_extn('starttls'):
            smtp.starttls(context=to.context)
            is_secure = True
        if to.user and not is_secure:
            text = 'it offers no TLS, so it gets no password; see smtps://'
            raise smtplib.SMTPNotSupportedError(text)
        if to.user:
            smtp.login(to.user, to.password)
        return smtp.send_message(message)


def _connect(to: Server) -> smtplib.SMTP:
    if to.scheme == 'smtps':
        return smtplib.SMTP_SSL(to.host, to.port, timeout=SMTP_TIMEOUT_S, context=to.context)
    return smtplib.SMTP(to.host, to.port, timeout=SMTP_TIMEOUT_S)


def reason(error: BaseException | tuple[int, bytes | str]) -> str:
    """Return in a few words what a mail server said: an exception, or (code, text)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = error.recipients.items()
        texts = [f'{printable(name)}: {reason(answer)}' for name, answer in answers]
        return '; '.join(texts)
    if isinstance(error, smtplib.SMTPResponseException):
        return reason((error.smtp_code, error.smtp_error))
    if isinstance(error, tuple):
        code, text = error
        if isinstance(text, bytes):
            text = text.decode(errors='replace')
        return printable(f'{code} {text}')
    return printable(error) or type(error).__name__
