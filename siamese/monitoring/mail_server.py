"""The mail server: what its URL says, and how a mail is sent there."""

from __future__ import annotations

import io
import smtplib
import socket
import ssl
from email.message import EmailMessage
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from siamese.messaging.bounded_http import Deadline, Reader, TooLarge
from siamese.text import printable, shorten

# For a whole mail: many servers let strangers wait, and examine a mail before they
# accept it.
SMTP_TIMEOUT_S = 600
MOST_BYTES = 64 * 1024  # of all that a server answers while a mail is sent
PORTS = {'smtp': 25, 'smtps': 465}
SUBMISSION_PORT = 587
BAD_URL = 'bad SMTP URL'
EXPECTED_URL = 'expected smtp://user:password@host:port'
KEYS = {'cacertfile', 'verify'}
VERIFY = {None, 'verify_peer', 'verify_none'}
TOO_LARGE = 552
LONGEST_REASON = 300  # characters

Refusals = dict[str, tuple[int, bytes]]  # answers of the mail server by recipient


class Server(NamedTuple):
    """A mail server and the login there."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    context: ssl.SSLContext

    @property
    def is_verified(self) -> bool:
        """Return whether it has to prove who it is."""
        return self.context.verify_mode != ssl.CERT_NONE


def server(url: str) -> Server:
    """Return the Server of an SMTP URL; raise ValueError, without repeating the URL.

    smtp:// turns to TLS with STARTTLS where the server offers it, and gives no
    password away where it does not; smtps:// speaks TLS from the beginning.
    ?cacertfile=FILE names the authority that signed the server's certificate.
    ?verify=verify_peer or verify_none says whether that certificate is verified.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or '').encode('idna')  # as the socket will do
        port = parts.port or _usual_port(parts.scheme, parts.username)
    except (ValueError, KeyError):
        raise ValueError(f'{BAD_URL}: {EXPECTED_URL} or smtps://...') from None
    keys = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not keys.keys() <= KEYS:
        raise ValueError(f'{BAD_URL}: after ? come {" and ".join(sorted(KEYS))} only')
    if keys.get('verify') not in VERIFY:
        raise ValueError(f'{BAD_URL}: verify is verify_peer or verify_none')
    needs_proof = parts.scheme == 'smtps' or bool(parts.username)
    context = _context(keys, needs_proof)
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


def _context(keys: dict[str, str], needs_proof: bool) -> ssl.SSLContext:
    """Return how TLS is spoken: with a server that proves who it is, or with any.

    Without a login nothing is verified unless the URL asks for it: it is TLS where
    the server has it, and many have a certificate that they made themselves (Debian's
    Postfix). The alternative would be no TLS at all.
    """
    try:
        context = ssl.create_default_context(cafile=keys.get('cacertfile'))
    except OSError as error:
        raise ValueError(f'{BAD_URL}: cannot read cacertfile ({error})') from None
    usual = 'verify_none'
    if needs_proof or 'cacertfile' in keys:
        usual = 'verify_peer'
    if keys.get('verify', usual) == 'verify_none':
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Answers(Reader):
    """What a mail server answers: until a deadline, and no more than MOST_BYTES."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__(sock, deadline)
        self.left = MOST_BYTES

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.left -= count or 0
        if self.left < 0:
            raise TooLarge(f'it answers with more than {MOST_BYTES // 1024} KiB')
        return count


class Client(smtplib.SMTP):
    """A client with limits of time and size; smtplib has them for each line only."""

    def __init__(self, *where: Any, **options: Any) -> None:
        self.deadline = Deadline(SMTP_TIMEOUT_S)
        super().__init__(*where, **options)

    def getreply(self) -> tuple[int, bytes]:
        if self.sock and self.file is None:  # a new connection, or a new one within TLS
            self.file = io.BufferedReader(Answers(self.sock, self.deadline))
        return super().getreply()


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same with TLS from the beginning."""


def send(message: EmailMessage, url: str) -> Refusals:
    """Send a mail; return {recipient: answer} of those for whom it was not accepted.

    Raises OSError or smtplib.SMTPException if it was accepted for none.
    """
    to = server(url)
    with _connect(to) as smtp:
        smtp.ehlo()
        is_secure = to.scheme == 'smtps' or _start_tls(smtp, to)
        if to.user and not is_secure:
            text = 'it offers no TLS, so it gets no password; see smtps://'
            raise smtplib.SMTPNotSupportedError(text)
        if to.is_verified and not is_secure:
            text = 'it offers no TLS, so it cannot prove who it is; see ?verify= of --smtp'
            raise smtplib.SMTPNotSupportedError(text)
        if to.user:
            smtp.login(to.user, to.password)
        return smtp.send_message(message)


def _start_tls(smtp: smtplib.SMTP, to: Server) -> bool:
    """Turn to TLS where the server has it; return whether it has.

    A Postfix that cannot read its key offers TLS, and then answers 454.
    """
    if not smtp.has_extn('starttls'):
        return False
    try:
        smtp.starttls(context=to.context)
    except smtplib.SMTPResponseException:
        if to.user or to.is_verified:
            raise
        return False
    return True


def _connect(to: Server) -> smtplib.SMTP:
    if to.scheme == 'smtps':
        return TlsClient(to.host, to.port, timeout=SMTP_TIMEOUT_S, context=to.context)
    return Client(to.host, to.port, timeout=SMTP_TIMEOUT_S)


def refuses_content(error: Exception) -> bool:
    """Return whether a mail server refuses this mail, for its size or its content.

    It refuses it for good; another mail it may take.
    """
    if isinstance(error, smtplib.SMTPDataError):
        return 500 <= error.smtp_code < 600
    return isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code == TOO_LARGE


def reason(error: BaseException | tuple[int, bytes | str]) -> str:
    """Return in a few words what a mail server said: an exception, or (code, text)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = printable(error.verify_message)
        return f'its certificate does not hold ({why}); see ?cacertfile= and ?verify= of --smtp'
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = error.recipients.items()
        texts = [f'{printable(name)}: {reason(answer)}' for name, answer in answers]
        return shorten('; '.join(texts), LONGEST_REASON)
    if isinstance(error, smtplib.SMTPResponseException):
        return reason((error.smtp_code, error.smtp_error))
    if isinstance(error, tuple):
        code, text = error
        if isinstance(text, bytes):
            text = text.decode(errors='replace')
        return shorten(f'{code} {text}', LONGEST_REASON)
    return shorten(error, LONGEST_REASON) or type(error).__name__
