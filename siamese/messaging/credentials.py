"""Tokens as passwords, for URLs without a user name.

Tokens expire, and the shell command in AMQP_TOKEN_COMMAND prints the next one.
RabbitMQ accepts them with its plugin rabbitmq_auth_backend_oauth2. Neither a
token nor what the command writes to stderr is ever printed.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

import pika
from pika.credentials import ExternalCredentials
from pika.spec import Connection

from common import NoUser

COMMAND = 'AMQP_TOKEN_COMMAND'
REMEDY = f'see AMQP_URL, or let {COMMAND} print fresh ones'

# How long the command may take. RabbitMQ waits as long for a login.
COMMAND_TIMEOUT_S = 10

# A broker that refuses a token as young as this will refuse the next one too.
FRESH_S = 10

# A token is replaced so long before it expires, or a quarter of its life if
# that is shorter.
EXPIRY_MARGIN_S = 5

# After a failure of the command the next attempt follows within these limits.
FIRST_RETRY_S = 1
LAST_RETRY_S = 60


class NoToken(OSError):
    """The command brought no token; the message is one line for people."""


# ---- what a token says


def claims(token: str) -> dict[str, Any]:
    """Return the unverified claims of a JWT; {} if `token` is not a JWT."""
    try:
        payload = token.split('.')[1]
        padding = '=' * (-len(payload) % 4)
        found = json.loads(base64.urlsafe_b64decode(payload + padding))
    except (IndexError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return found


def expiry(token: str) -> float:
    """Return when a JWT expires (s since 1970); inf if `token` is not a JWT.

    Only the broker knows whether the token is genuine.
    """
    try:
        return float(claims(token)['exp'])
    except (KeyError, ValueError, TypeError, OverflowError):
        return math.inf


# ---- credentials for pika


def from_login(user: str, password: str) -> pika.PlainCredentials:
    """Return pika's credentials for the user and the password of a URL.

    Without a user the password is a token.
    """
    command = os.environ.get(COMMAND)
    if not user and (password or command):
        return TokenCredentials(password, command)
    return pika.PlainCredentials(user, password)


def use_token_if_no_user(endpoint: pika.ConnectionParameters) -> None:
    """Replace the login of an endpoint by a token, where its URL names no user.

    That is amqp://:TOKEN@host, or a URL without a login while AMQP_TOKEN_COMMAND is set.
    With auth_mechanism=external the client certificate is the login.
    """
    login = endpoint.credentials
    if isinstance(login, (TokenCredentials, CertificateCredentials)):
        return
    if isinstance(login, ExternalCredentials):
        endpoint.credentials = CertificateCredentials()
    elif isinstance(login, NoUser) and COMMAND in os.environ:
        endpoint.credentials = from_login('', '')
    elif not login.username:
        endpoint.credentials = from_login('', login.password)


def login_name(login: pika.PlainCredentials) -> str:
    """Return how messages name a login; a token or a certificate has no user name."""
    if isinstance(login, CertificateCredentials):
        return 'this client certificate'
    if not login.username:
        return 'this token'
    return f'user {login.username!r}'


class CertificateCredentials(pika.PlainCredentials):
    """The client certificate of the TLS connection in place of user and password."""

    TYPE = ExternalCredentials.TYPE

    def __init__(self) -> None:
        super().__init__('', '')

    def response_for(self, start: Connection.Start) -> tuple[str | None, bytes | None]:
        return ExternalCredentials().response_for(start)


class TokenCredentials(pika.PlainCredentials):
    """A token in place of user and password.

    It begins with the token of the URL. The command, if there is one, prints the
    next ones.

    `password` is always a valid token; if the current one is about to expire,
    reading it runs the command first, and raises NoToken if that fails. `token`
    is the current one, without waiting. renew() fetches the next one in the
    background.
    """

    def __init__(self, token: str, command: str | None) -> None:
        self.command = command
        self.thread: threading.Thread | None = None
        self.is_failing = False
        self.fetched_at = -math.inf  # time.monotonic()
        super().__init__('', token)

    def __deepcopy__(self, _memo: dict[int, Any]) -> TokenCredentials:
        # pika copies its parameters. The next connection needs the latest token.
        return self

    @property
    def password(self) -> str:
        if self.command and time.time() >= self.late_at:
            try:
                self._fetch(self.command)
            except NoToken:
                if time.time() > self.expires:
                    raise
        return self.token

    @password.setter
    def password(self, token: str) -> None:
        now = time.time()
        self.token = token
        self.expires = expiry(token) if token else now
        life = self.expires - now
        self.renew_at = now + life / 2
        self.late_at = self.expires - min(EXPIRY_MARGIN_S, life / 4)

    def renew(self) -> str:
        """Return the token.

        After half of its life, fetch the next one in the background.
        """
        is_running = self.thread and self.thread.is_alive()
        is_due = time.time() >= self.renew_at
        if self.command and is_due and not is_running:
            self.thread = threading.Thread(
                target=self._fetch_or_warn,
                args=(self.command,),
                daemon=True,
            )
            self.thread.start()
        return self.token

    def reject(self) -> bool:
        """Forget a token that the broker refuses.

        Return whether the command may bring a better one.
        """
        age = time.monotonic() - self.fetched_at
        if not self.command or age < FRESH_S:
            return False
        self.password = ''
        return True

    def refusal(self) -> str:
        """Return in one line why the broker may have refused the token at login."""
        expired_s = time.time() - self.expires
        why = 'signed by somebody else, not for this broker, or withdrawn'
        if expired_s > 0:
            why = f'it expired {expired_s:.0f} s ago'
        return f'the broker refuses this token: {why}; {REMEDY}'

    def _fetch_or_warn(self, command: str) -> None:
        try:
            self._fetch(command)
        except NoToken as error:
            if not self.is_failing:
                logging.warning('%s, retrying', error)
            self.is_failing = True
            now = time.time()
            wait = abs(self.expires - now) / 10
            wait = min(max(wait, FIRST_RETRY_S), LAST_RETRY_S)
            self.renew_at = now + wait

    def _fetch(self, command: str) -> None:
        token = printed_by(command)
        if expiry(token) <= time.time():
            raise NoToken(f'{COMMAND} prints a token that has expired; or is this clock wrong?')
        if self.is_failing:
            logging.info('%s works again', COMMAND)
        self.password = token
        self.fetched_at = time.monotonic()
        self.is_failing = False


# ---- the command


def printed_by(command: str) -> str:
    """Run a shell command, and return the token that it prints.

    Raises NoToken if it fails, takes too long, or prints something else.
    """
    # In its own session: Ctrl-C does not reach the command, and everything
    # that the command started can be killed with it.
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        printed = _output_of(process)
    if process.returncode:
        raise NoToken(f'{COMMAND} fails with status {process.returncode}; run it by hand')
    token = printed.decode(errors='replace').strip()
    if not token.isascii() or len(token.split()) != 1:
        raise NoToken(f'{COMMAND} prints no token, or more than that; run it by hand')
    return token


def _output_of(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for the output of a process; kill its session if that fails."""
    try:
        printed, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _kill_session(process)
        why = f'takes longer than {COMMAND_TIMEOUT_S} s'
        raise NoToken(f'{COMMAND} {why}; run it by hand') from None
    except BaseException:
        _kill_session(process)
        raise
    return printed


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
