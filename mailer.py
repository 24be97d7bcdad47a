"""The mail about what nobody picked up: what it says, and how it is sent.

There is no queue of mails. The history remembers (fact `mail`) until when it was told; while the mail server is away
that stays as it is, so the mail that is sent later tells of all that came together.
"""

import html
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import parse_qs, unquote, urlsplit

import dead
import history
import notices
from tables import plain, table, when

TIMEOUT = 5  # s for each answer of the mail server
LISTED = 100  # dead letters
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
        port = parts.port or {'smtp': 587 if parts.username else 25, 'smtps': 465}[parts.scheme]
        context = ssl.create_default_context(cafile=parse_qs(parts.query).get('cacertfile', [None])[0])
    except (ValueError, KeyError):
        raise ValueError('bad SMTP URL: expected smtp://user:password@host:port or smtps://...') from None
    except OSError as error:
        raise ValueError(f'bad SMTP URL: cannot read cacertfile ({error})') from None
    if not parts.hostname:
        raise ValueError('bad SMTP URL: the host is missing; expected smtp://user:password@host:port')
    return parts.scheme, parts.hostname, port, unquote(parts.username or ''), unquote(parts.password or ''), context


def compose(db, sender, recipients, unread_after, since, now):
    """Return the EmailMessage that tells what happened after `since`, or None if there is nothing to tell."""
    warnings = notices.warnings(db, unread_after, since, now)
    if not any(row['began'] > since for row in warnings if row['kind'] in ('unread', 'dead', 'interrupted')):
        return None
    letters, count = dead.letters(db, since=since, requeued=False, limit=LISTED)
    count_of = {kind: sum(row['kind'] == kind for row in warnings) for kind in WHAT_TO_DO}
    titles = [f'{number} {what}' for number, what in (
        (count, 'messages not picked up'), (count_of['unread'], 'queues without a consumer'),
        (count_of['interrupted'], 'clients interrupted')) if number]
    place = history.broker(db)['place']
    intro = f'At {place}, from {when(since)} to {when(now)} UTC:'
    lines = [(row['text'], WHAT_TO_DO[row['kind']]) for row in warnings]
    heads = ('died (UTC)', 'queue', 'reason', 'sender', 'message_id', 'bytes')
    rows = [(when(row['at']), row['queue'], row['reason'], row['sender'], row['message_id'], row['size'])
            for row in letters]
    more = f'... and {count - len(rows)} more: ./monitor.py --report dead' if count > len(rows) else ''

    message = EmailMessage()
    message['Subject'] = f'siamese: {", ".join(titles)} at {place}'
    message['From'], message['To'] = sender, ', '.join(recipients)
    message['Date'], message['Message-ID'] = formatdate(now), make_msgid(domain=sender.rpartition('@')[2])
    text = [intro, '', *(f'* {plain(what)}\n  {remedy}' for what, remedy in lines)]
    text += ['', *table(heads, rows), more] if rows else []
    message.set_content('\n'.join(text).rstrip() + '\n')
    cells = ['<tr>' + ''.join(f'<td>{html.escape(plain(value))}</td>' for value in row) + '</tr>' for row in rows]
    head = '<tr>' + ''.join(f'<th align="left">{name}</th>' for name in heads) + '</tr>'
    message.add_alternative(
        f'<p>{html.escape(intro)}</p>\n<ul>\n'
        + '\n'.join(f'<li>{html.escape(plain(what))}<br>{html.escape(remedy)}</li>' for what, remedy in lines)
        + '\n</ul>\n' + ('\n'.join(['<table cellpadding="4">', head, *cells, '</table>']) if rows else '')
        + f'<p>{more}</p>\n', subtype='html')
    return message


def send(message, url):
    """Send an EmailMessage; raise OSError or smtplib.SMTPException (an OSError as well) if that fails."""
    scheme, host, port, user, password, context = server(url)
    kind, tls = (smtplib.SMTP_SSL, {'context': context}) if scheme == 'smtps' else (smtplib.SMTP, {})
    with kind(host, port, timeout=TIMEOUT, **tls) as smtp:
        smtp.ehlo()
        secure = scheme == 'smtps'
        if not secure and smtp.has_extn('starttls'):
            smtp.starttls(context=context)
            secure = True
        if user and not secure:
            raise smtplib.SMTPNotSupportedError('it offers no TLS, so it gets no password; see smtps://')
        if user:
            smtp.login(user, password)
        smtp.send_message(message)
