"""Who may see the dashboard: logins that the broker checks, and sessions.

Gate stands in front of every request and every websocket, and refuses those
that another site sends. No password is kept: the management API is asked once
(GET /api/whoami), and a session of limited time begins, known by a random
cookie.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import logging
import math
import re
import secrets
import time
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import pika
from starlette.requests import HTTPConnection, Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siamese import hosts
from siamese.access.users import tags_of
from siamese.messaging import answers, credentials, management_api
from siamese.refusals import log
from siamese.web import server
from siamese.web.guesses import Guesses

OPEN_PATHS = ('/dashboard.css', '/favicon.svg')  # the login page itself needs these
MAX_FORM_BYTES = 32_768  # tokens are long
WRONG_PASSWORD_DELAY_S = 1
CONCURRENT_LOGINS = 4
COOKIE_BYTES = 32
TAGS = {'monitoring', 'administrator'}
REFUSAL = (
    'The broker refuses this user and password, '
    'or the user has neither the tag monitoring nor administrator. '
    'An administrator of the broker can give it: '
    'rabbitmqctl set_user_tags USER monitoring'
)
UNAVAILABLE = (
    'The broker does not answer. Logging in is possible again when its management API answers.'
)
WAIT = 'Too many wrong passwords, for this user or from this address. Try again in {} s.'
TOO_LONG = 'That is too long for a password or a token.'

# NiceGUI compiles its templates in the browser, which needs eval; but nothing
# may be loaded from elsewhere, or be sent there.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self' data:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
HEADERS = {
    'content-security-policy': '; '.join(CONTENT_SECURITY_POLICY),
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - siamese</title>
<link rel="icon" href="/favicon.svg">
<link rel="stylesheet" href="/dashboard.css">
</head>
<body class="login"><main>
<form method="post" action="/login?next={next}">
<h1>siamese</h1>
<p>Log in with your user of the broker. It needs the tag
<code>monitoring</code>, or <code>administrator</code> to requeue
dead letters.</p>
{message}
<label for="user">User <small>(none with a token)</small></label>
<input id="user" name="user" autocomplete="username" autofocus>
<label for="password">Password or token</label>
<input id="password" name="password" type="password"
  autocomplete="current-password" required>
<button>Log in</button>
</form></main></body></html>
"""


# ---- sessions


class Session(NamedTuple):
    user: str
    administrator: bool
    ends: float  # time.monotonic(): the clock may jump


_sessions: dict[str, Session] = {}  # by cookie


def session_of(cookie: str) -> Session | None:
    """Return the session of a cookie; None if there is none or it ended."""
    session = _sessions.get(cookie)
    if session is None or time.monotonic() >= session.ends:
        return None
    return session


def begin(session: Session) -> str:
    """Keep a session; return its cookie. Sessions that ended are dropped."""
    for cookie in list(_sessions):
        if session_of(cookie) is None:
            end(cookie)
    cookie = secrets.token_urlsafe(COOKIE_BYTES)
    _sessions[cookie] = session
    return cookie


def end(cookie: str) -> None:
    """Log out."""
    _sessions.pop(cookie, None)


# ---- the broker's word


def whoami(
    args: argparse.Namespace,
    user: str,
    password: str,
) -> tuple[str, set[str]]:
    """Ask the broker for the name and the tags of a user.

    The password may be a token (JWT), for brokers with the oauth2 backend;
    then the user is '', or anything. Raises management_api.Refused.
    """
    broker = args.endpoints[0]
    endpoint = SimpleNamespace(
        host=broker.host,
        ssl_options=broker.ssl_options,
        credentials=pika.PlainCredentials(user, password),
    )
    url = without_login(args.management_url)
    api = management_api.api(endpoint, url, args.management_timeout)
    user_now = answers.get_object(api, 'whoami', needs='name')
    return answers.text(user_now, 'name'), set(tags_of(user_now))


def without_login(url: str | None) -> str | None:
    """Return a URL without the user and password in it.

    The user who logs in must be checked, not that of this script.
    """
    if not url:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition('@')[2]
    return parts._replace(netloc=host).geturl()


# ---- the gate


class Gate:
    """The ASGI middleware in front of all pages.

    `args` are the parsed flags of dashboard.py.
    """

    def __init__(self, app: ASGIApp, args: argparse.Namespace) -> None:
        self.app = app
        self.args = args
        self.turns = asyncio.Semaphore(CONCURRENT_LOGINS)
        self.guesses = Guesses()
        self.counts = Counter(logins=0, refused=0)

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return
        if scope.get('method') == 'HEAD':  # of the answer, uvicorn leaves out the body
            scope = {**scope, 'method': 'GET'}
        try:
            answer = await self.answer_to(scope, receive)
        except ValueError:  # a Host or an Origin like http://[
            answer = PlainTextResponse('This is not a valid request.', 400)
        if answer is not None and scope['type'] == 'websocket':
            await send({'type': 'websocket.close', 'code': 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                add_headers(message)
            await send(message)

        await (answer or self.app)(scope, receive, send_with_headers)

    async def answer_to(
        self,
        scope: Scope,
        receive: Receive,
    ) -> Response | None:
        """Return the response to a request; None if it may pass."""
        asked = HTTPConnection(scope)
        host = hosts.named_in(asked.headers.get('host', ''))
        if is_from_another_site(asked):
            return PlainTextResponse('This comes from another site.', 403)
        if not self.args.login and not hosts.is_loopback(host):
            text = 'Without --login only as http://localhost.'
            return PlainTextResponse(text, 403)
        # Not asked.url: the Host header may add to that, and the routes do not look at it.
        path = scope['path']
        if path == '/login':
            return await self.login(Request(scope, receive))
        if not self.args.login or path in OPEN_PATHS:
            return None
        if session_of(asked.cookies.get(self.args.cookie, '')):
            return None
        if is_for_a_page(asked):
            return redirect_to_login(asked)
        return PlainTextResponse('Log in first, at /login.', 401)

    async def login(self, request: Request) -> Response:
        """Show the form, or check what was filled in and begin a session."""
        target = target_of(request)
        if request.method != 'POST':
            message = ''
            if 'ended' in request.query_params:
                message = 'Your session has ended.'
            return login_page(target, message)
        form = await read_form(request)
        if form is None:
            return login_page(target, TOO_LONG, 413)
        user, password = form
        return await self.log_in(request, target, user, password)

    async def log_in(
        self,
        request: Request,
        target: str,
        user: str,
        password: str,
    ) -> Response:
        address = address_of(request)
        wait = self.guesses.wait_s(user, address)
        if wait > 0:
            return self.make_wait(target, address, wait)
        try:
            name, tags = await self.ask_broker(user, password)
        except management_api.Refused as refused:
            if refused.status != 401:
                self.guesses.right(user, address)  # nothing is known to be wrong
                log.warning('cannot check logins: %s', refused)
                return login_page(target, UNAVAILABLE, 503)
            name = user
            tags = set()
        if TAGS.isdisjoint(tags):
            return await self.refuse(request, target, name)
        self.guesses.right(user, address)
        self.counts['logins'] += 1
        logging.info('%s logged in', ascii(name))
        lasts_s = min(
            self.args.session,
            credentials.expiry(password) - time.time(),
        )
        ends = time.monotonic() + lasts_s
        session = Session(name, 'administrator' in tags, ends)
        return self.welcome(session, target)

    async def ask_broker(
        self,
        user: str,
        password: str,
    ) -> tuple[str, set[str]]:
        """Call whoami() in a thread, for a few logins at a time."""
        async with self.turns:
            return await asyncio.to_thread(
                whoami,
                self.args,
                user,
                password,
            )

    async def refuse(
        self,
        request: Request,
        target: str,
        name: str,
    ) -> Response:
        """Refuse a login; the delay makes guessing passwords slow."""
        shown = ascii(name[:100])
        log.warning('login of %s from %s refused', shown, address_of(request))
        self.counts['refused'] += 1
        await asyncio.sleep(WRONG_PASSWORD_DELAY_S)
        return login_page(target, REFUSAL, 403)

    def make_wait(self, target: str, address: str, wait_s: float) -> Response:
        """Refuse a login without asking the broker: too many before it were wrong."""
        log.warning('logins from %s refused for %.0f s', address, wait_s)
        self.counts['refused'] += 1
        seconds = math.ceil(wait_s)
        answer = login_page(target, WAIT.format(seconds), 429)
        answer.headers['retry-after'] = str(seconds)
        return answer

    def welcome(self, session: Session, target: str) -> Response:
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            self.args.cookie,
            begin(session),
            max_age=int(session.ends - time.monotonic()),
            httponly=True,
            samesite='lax',
            secure=server.is_behind_tls(self.args),
        )
        return answer


# ---- requests


def is_from_another_site(asked: HTTPConnection) -> bool:
    origin = asked.headers.get('origin')
    if not origin:
        return False
    return urlsplit(origin).netloc != asked.headers.get('host', '')


def address_of(asked: HTTPConnection) -> str:
    """Return the address of the client, '' if it has none."""
    if asked.client is None:
        return ''
    return asked.client.host


def is_for_a_page(asked: HTTPConnection) -> bool:
    """Return whether a browser asks for a page, and not for a part of one."""
    if asked.scope['type'] != 'http' or asked.scope['method'] != 'GET':
        return False
    return 'text/html' in asked.headers.get('accept', '')


def redirect_to_login(asked: HTTPConnection) -> Response:
    here = quote(asked.scope['path'])
    query = asked.scope['query_string'].decode('latin-1')
    if query:
        here += f'?{query}'
    return RedirectResponse(f'/login?next={quote(here, safe="")}', 303)


def target_of(request: Request) -> str:
    """Return the path to show after the login; never another site."""
    target = request.query_params.get('next', '/')
    if re.fullmatch(r'/(?![/\\])[^\\\s]*', target):
        return target
    return '/'


async def read_form(request: Request) -> tuple[str, str] | None:
    """Return the user and the password of a form; None if it is too long."""
    form = b''
    async for chunk in request.stream():
        form += chunk
        if len(form) > MAX_FORM_BYTES:
            return None
    fields = parse_qs(form.decode(errors='replace'))
    user = fields.get('user', [''])[0]
    password = fields.get('password', [''])[0]
    return user, password


# ---- responses


def add_headers(message: Message) -> None:
    """Add HEADERS to a response, and no-store where it says nothing else."""
    headers = list(message['headers'])
    names = {name for name, _ in headers}
    for name, value in HEADERS.items():
        headers.append((name.encode(), value.encode()))
    if b'cache-control' not in names:
        headers.append((b'cache-control', b'no-store'))
    message['headers'] = headers


def login_page(target: str, message: str = '', status: int = 200) -> Response:
    """Return the login page, which leads to the path `target`."""
    if message:
        text = html.escape(message)
        message = f'<p class="refused" role="alert">{text}</p>'
    next_path = quote(target, safe='')
    page = PAGE.format(next=next_path, message=message)
    return HTMLResponse(page, status)
