"""Tokens as passwords, for URLs without a user name: they expire, and AMQP_TOKEN_COMMAND prints the next one.

RabbitMQ takes them with rabbitmq_auth_backend_oauth2. A token is never printed, nor what the command says on stderr.
"""

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

import pika

COMMAND = 'AMQP_TOKEN_COMMAND'
REMEDY = f'see AMQP_URL, or let {COMMAND} print fresh ones'
PATIENCE = 10  # s that the command may take; RabbitMQ waits as long for a login
FRESH = 10  # s; who refuses a token as young as that will refuse the next one too


class NoToken(OSError):
    """The command brought no token; the message is one line for people."""


def claims(token):
    """Return what a JWT claims as a dict, unverified; {} for what is none."""
    try:
        payload = token.split('.')[1]
        found = json.loads(base64.urlsafe_b64decode(payload + '=' * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def expiry(token):
    """Return when a JWT expires (s since 1970), inf for what is none. Whether it is genuine the broker knows."""
    try:
        return float(claims(token)['exp'])
    except (KeyError, ValueError, TypeError, OverflowError):
        return math.inf


def credentials(user, password):
    """Return pika's credentials for the user and the password of a URL; without a user they are a token's."""
    command = os.environ.get(COMMAND)
    return (
        Credentials(password, command)
        if not user and (password or command)
        else pika.PlainCredentials(user, password)
    )


def login_name(login):
    """Return what people read of whose credentials these are: a token says nothing of it."""
    return f'user {login.username!r}' if login.username else 'this token'


class Credentials(pika.PlainCredentials):
    """A token in place of user and password: the one of the URL, then those that the command prints, if there is one.

    `password` is always one that lives: where the last is about to expire, who asks waits for the command. `token` is
    the last, without waiting, and renew() looks for the next one in the background.
    """

    def __init__(self, token, command):
        self.command, self.thread, self.failing = command, None, False
        super().__init__('', token)
        self.fetched_at = -math.inf  # time.monotonic()

    def __deepcopy__(self, _memo):
        return self  # pika copies parameters, and the next connection is to have the latest token

    @property
    def password(self):
        if self.command and time.time() >= self.late_at:
            try:
                self._fetch()
            except NoToken:
                if time.time() > self.expires:
                    raise
        return self.token

    @password.setter
    def password(self, token):
        now = time.time()
        self.token, self.expires = token, expiry(token) if token else now
        life = self.expires - now
        self.renew_at, self.late_at = now + life / 2, self.expires - min(5, life / 4)

    def renew(self):
        """Return the token; when half of its life is over, have the command run in the background for the next one."""
        if (
            self.command
            and time.time() >= self.renew_at
            and not (self.thread and self.thread.is_alive())
        ):
            self.thread = threading.Thread(target=self._fetch_or_tell, daemon=True)
            self.thread.start()
        return self.token

    def reject(self):
        """Forget a token that the broker refuses; return whether the command may bring a better one."""
        if not self.command or time.monotonic() < self.fetched_at + FRESH:
            return False
        self.password = ''
        return True

    def refusal(self):
        """Return in one line why the broker may have refused the token when we logged in."""
        over = time.time() - self.expires
        why = (
            f'it expired {over:.0f} s ago'
            if over > 0
            else 'signed by somebody else, not for this broker, or withdrawn'
        )
        return f'the broker refuses this token: {why}; {REMEDY}'

    def _fetch_or_tell(self):
        try:
            self._fetch()
        except NoToken as error:
            if not self.failing:
                logging.warning('%s, trying again', error)
            self.failing = True
            now = time.time()
            self.renew_at = now + max(1, min(60, abs(self.expires - now) / 10))

    def _fetch(self):
        token = printed_by(self.command)
        if expiry(token) <= time.time():
            raise NoToken(f'{COMMAND} prints a token that has expired; or is this clock wrong?')
        if self.failing:
            logging.info('%s works again', COMMAND)
        self.password, self.fetched_at, self.failing = token, time.monotonic(), False


def printed_by(command):
    """Run a shell command, and return the token that it prints; raise NoToken if it does not in time."""
    # In a session of its own, so that Ctrl-C leaves it alone, and what it started can be ended with it.
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NoToken(f'{COMMAND} takes longer than {PATIENCE} s; run it by hand') from None
            raise
    if process.returncode:
        raise NoToken(f'{COMMAND} fails with status {process.returncode}; run it by hand')
    token = printed.decode(errors='replace').strip()
    if not token.isascii() or len(token.split()) != 1:
        raise NoToken(f'{COMMAND} prints no token, or more than that; run it by hand')
    return token
