"""The mail about what nobody picked up: what it says, and how it is sent.

There is no queue of mails. The history remembers (fact `mail`) until when it was told; while the mail server is away
that stays as it is, so the mail that is sent later tells of all that came together.
"""

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
from urllib.parse import parse_qs, unquote, urlsplit

from siamese.monitoring import alerts as notices
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.text import count_of, printable, table, utc

TIMEOUT = 300  # s for each answer of the mail server; many let strangers wait, and look at a mail before they take it
FINISH = 5  # s that a mail on its way may take when monitor.py ends
LOOK = 5  # s between looks whether a mail is due
RETRY = 6  # looks between attempts to send one
LISTED = 100  # dead letters
WORD, LABEL = r'[^\s@<>()\[\]\\,:;".]+', r'[\w-]{1,63}'
SPEC = rf'{WORD}(?:\.{WORD})*(?:@(?:{LABEL}(?:\.{LABEL})*|\[[\w.:]+\]))?'
ADDRESS = re.compile(
    rf'{SPEC}|[^@<>()\[\]\\,:;"]*<{SPEC}>'
)  # me@example.org, or with a name: Me <me@example.org>
WHAT_TO_DO = {
    'broker': 'The broker does not answer. Is it running? The scripts keep trying, and lose nothing that it accepted.',
    'alarm': 'While there is an alarm the broker takes no messages. Free memory or disk on that node.',
    'unread': 'Start a consumer of that queue, or delete the queue if nobody needs it any more.',
    'dead': 'Start a consumer, or let messages live longer. Then ./monitor.py --requeue-dead QUEUE sends them back.',
    'interrupted': 'It is back. If that happens again: see its log, and the log of the broker for the same time.',
}


def server(url):
    """Return (scheme, host, port, user, password, TLS context) of an SMTP URL; raise ValueError, without repeating it.

    smtp:// turns to TLS with STARTTLS where the server offers it, and gives no password away where it does not;
    smtps:// speaks TLS from the beginning. ?cacertfile=FILE names who signed the server's certificate.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or '').encode('idna')  # as the socket will do
        port = parts.port or {'smtp': 587 if parts.username else 25, 'smtps': 465}[parts.scheme]
        context = ssl.create_default_context(
            cafile=parse_qs(parts.query).get('cacertfile', [None])[0]
        )
    except (ValueError, KeyError):
        raise ValueError(
            'bad SMTP URL: expected smtp://user:password@host:port or smtps://...'
        ) from None
    except OSError as error:
        raise ValueError(f'bad SMTP URL: cannot read cacertfile ({error})') from None
    if not parts.hostname:
        raise ValueError(
            'bad SMTP URL: the host is missing; expected smtp://user:password@host:port'
        )
    user, password = unquote(parts.username or ''), unquote(parts.password or '')
    if not (user + password).isascii():
        raise ValueError(
            'bad SMTP URL: user and password may hold ASCII only'
        )  # smtplib cannot send others
    return parts.scheme, parts.hostname, port, user, password, context


def start_thread(args):
    """Send mails from now on, as the flags say; return a function that ends it and returns how many were sent.

    It is done in a thread with a connection of its own to the history: a mail server may take minutes.
    """
    db = history.open_for_writing(args.history)
    mail = history.get_fact(db, 'mail') or {'until': time.time(), 'sent': 0}
    history.set_facts(
        db, mail=mail if args.mail_to else None
    )  # while nobody is told anything, there is nothing to catch up
    if not args.mail_to:
        return lambda: 0
    stop, sent = threading.Event(), []

    args.look = min(args.interval, LOOK)

    def work():
        while not stop.wait(args.look):
            with contextlib.suppress(
                sqlite3.Error
            ):  # the main thread says what is wrong with the file
                sent.extend(send_if_due(db, args, mail))

    def end():
        stop.set()
        thread.join(FINISH)
        return len(sent)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return end


def send_if_due(db, args, mail):
    """Send the mail that is due, if there is something to tell; return a list of what was sent.

    `mail` is the fact, which holds here even where it cannot be noted.
    """
    if time.time() < max(mail['sent'] + args.mail_every, mail.get('retry', 0)):
        return []
    try:
        with history.transaction(db):  # nobody is writing what was until now
            now = time.time()
            message = build_message(
                db, args.mail_from, args.mail_to, args.unread_after or 0, mail['until'], now
            )
        if not message:
            return []
        refused = send(message, args.smtp)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  the next mail will tell it, whatever went wrong with this one
        if 'retry' not in mail:
            logging.warning(
                'mail not sent, trying again every %g s: %s', RETRY * args.look, reason(error)
            )
        mail['retry'] = time.time() + RETRY * args.look
        history.set_facts(db, mail=mail)
        return []
    logging.info('mail sent: %s', message['Subject'])
    for recipient, answer in refused.items():
        logging.warning('mail not taken for %s: %s', printable(recipient), reason(answer))
    mail.update(until=now, sent=now)
    mail.pop('retry', None)
    history.set_facts(db, mail=mail)
    return [message]


def build_message(db, sender, recipients, unread_after, since, now):
    """Return the EmailMessage that tells what happened after `since`, or None if there is nothing to tell."""
    warnings = notices.warnings(db, unread_after, since, now)
    if not any(since < row['began'] <= now for row in warnings):
        return None
    letters, count = dead.letters(db, since=since, requeued=False, limit=LISTED)
    counted = {kind: sum(row['kind'] == kind for row in warnings) for kind in WHAT_TO_DO}
    titles = ['broker away'] * counted['broker'] + [
        f'{count_of(number, noun)}{more}'
        for number, noun, more in (
            (counted['alarm'], 'alarm', ''),
            (count, 'message', ' not picked up'),
            (counted['unread'], 'queue', ' without a consumer'),
            (counted['interrupted'], 'client', ' interrupted'),
        )
        if number
    ]
    place = history.broker(db)['place']
    intro = f'At {place}, from {utc(since)} to {utc(now)} UTC:'
    lines = [(row['text'], WHAT_TO_DO[row['kind']]) for row in warnings]
    heads = ('died (UTC)', 'queue', 'reason', 'sender', 'message_id', 'bytes')
    rows = [
        (
            utc(row['at']),
            row['queue'],
            row['reason'],
            row['sender'],
            row['message_id'],
            row['size'],
        )
        for row in letters
    ]
    more = (
        f'... and {count - len(rows)} more: ./monitor.py --report dead' if count > len(rows) else ''
    )

    message = EmailMessage()
    message['Subject'] = f'siamese: {", ".join(titles)} at {place}'
    message['From'], message['To'] = sender, ', '.join(recipients)
    message['Date'], message['Message-ID'] = (
        formatdate(now),
        make_msgid(domain=parseaddr(sender)[1].rpartition('@')[2] or None),
    )
    text = [intro, '', *(f'* {printable(what)}\n  {remedy}' for what, remedy in lines)]
    text += ['', *table(heads, rows), more] if rows else []
    message.set_content('\n'.join(text).rstrip() + '\n')
    cells = [
        '<tr>' + ''.join(f'<td>{html.escape(printable(value))}</td>' for value in row) + '</tr>'
        for row in rows
    ]
    head = '<tr>' + ''.join(f'<th align="left">{name}</th>' for name in heads) + '</tr>'
    message.add_alternative(
        f'<p>{html.escape(intro)}</p>\n<ul>\n'
        + '\n'.join(
            f'<li>{html.escape(printable(what))}<br>{html.escape(remedy)}</li>'
            for what, remedy in lines
        )
        + '\n</ul>\n'
        + ('\n'.join(['<table cellpadding="4">', head, *cells, '</table>']) if rows else '')
        + f'<p>{more}</p>\n',
        subtype='html',
    )
    return message


def send(message, url):
    """Send an EmailMessage; return {recipient: answer} of those for whom it was not taken.

    Raises OSError or smtplib.SMTPException if it was taken for none.
    """
    scheme, host, port, user, password, context = server(url)
    kind, tls = (
        (smtplib.SMTP_SSL, {'context': context}) if scheme == 'smtps' else (smtplib.SMTP, {})
    )
    with kind(host, port, timeout=TIMEOUT, **tls) as smtp:
        smtp.ehlo()
        secure = scheme == 'smtps'
        if not secure and smtp.has_extn('starttls'):
            smtp.starttls(context=context)
            secure = True
        if user and not secure:
            raise smtplib.SMTPNotSupportedError(
                'it offers no TLS, so it gets no password; see smtps://'
            )
        if user:
            smtp.login(user, password)
        return smtp.send_message(message)


def reason(error):
    """Return in a few words what a mail server said: an exception, or its (code, text)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return '; '.join(
            f'{printable(recipient)}: {reason(answer)}'
            for recipient, answer in error.recipients.items()
        )
    if isinstance(error, smtplib.SMTPResponseException):
        error = error.smtp_code, error.smtp_error
    if isinstance(error, tuple):
        code, text = error
        error = f'{code} {text.decode(errors="replace") if isinstance(text, bytes) else text}'
    return printable(error) or type(error).__name__
