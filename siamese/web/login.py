"""Who may see the dashboard: a login that the broker judges, sessions that end, nothing for requests from elsewhere.

Gate stands in front of every request and every websocket. No password is kept: the management API is asked once
(GET /api/whoami), and a session of limited time begins, known by a random cookie.
"""

import asyncio
import html
import logging
import re
import secrets
import time
from collections import Counter, namedtuple
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import pika
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from siamese.messaging import credentials as tokens
from siamese.messaging import management_api as management
from siamese.web import server as listener

Session = namedtuple('Session', 'user administrator ends')  # ends: time.time()

OPEN_PATHS = ('/dashboard.css',)  # what the login page itself needs
MAX_FORM = 32_768  # bytes; tokens are long
PENALTY = 1  # s that a wrong password costs whoever gave it
TURNS = 4  # passwords looked at at once
TAGS = {'monitoring', 'administrator'}
REFUSAL = (
    'The broker refuses this user and password, or the user has neither the tag monitoring nor administrator. '
    'An administrator of the broker can give it: rabbitmqctl set_user_tags USER monitoring'
)
HEADERS = {
    # NiceGUI compiles its templates in the browser, which needs eval; but nothing may come from, or go, elsewhere.
    'content-security-policy': "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - siamese</title><link rel="stylesheet" href="/dashboard.css"></head>
<body class="login"><main><form method="post" action="/login?next={next}">
<h1>siamese</h1>
<p>Log in with your user of the broker; it needs the tag <code>monitoring</code>, to send dead letters back
<code>administrator</code>.</p>
{message}
<label for="user">User <small>(none with a token)</small></label>
<input id="user" name="user" autocomplete="username" autofocus>
<label for="password">Password or token</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Log in</button>
</form></main></body></html>
"""

_sessions = {}  # cookie: Session


def whoami(rules, user, password):
    """Ask the broker who this is; return the name and the set of tags. Raises management.Refused.

    `password` may be a token (JWT), for brokers with the oauth2 backend; `user` is '' then, or anything.
    """
    url = rules.management_url
    if url:  # without the login in it: it is not ours that is in question
        url = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition('@')[2]).geturl()
    endpoint = SimpleNamespace(
        host=rules.endpoints[0].host,
        ssl_options=rules.endpoints[0].ssl_options,
        credentials=pika.PlainCredentials(user, password),
    )
    about = management.api(endpoint, url)('whoami')
    tags = about['tags']  # a list since RabbitMQ 3.9, before that and elsewhere a text
    return about['name'], set(tags if isinstance(tags, list) else tags.split(','))


def session_of(cookie):
    """Return the Session that a cookie stands for, or None if it stands for none, or for one that ended."""
    session = _sessions.get(cookie)
    return session if session and time.time() < session.ends else None


def end(cookie):
    """Log out."""
    _sessions.pop(cookie, None)


class Gate:
    """The ASGI middleware in front of all pages. `rules` are the parsed flags of dashboard.py."""

    def __init__(self, app, rules):
        self.app, self.rules = app, rules
        self.turns = asyncio.Semaphore(TURNS)
        self.counts = Counter(logins=0, refused=0)

    async def __call__(self, scope, receive, send):
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return
        try:
            answer = await self.judge(scope, receive)
        except ValueError:  # a Host or an Origin like http://[
            answer = PlainTextResponse('This makes no sense.', 400)
        if answer and scope['type'] == 'websocket':
            await send({'type': 'websocket.close', 'code': 1008})
            return

        async def send_with_headers(message):
            if message['type'] == 'http.response.start':
                kinds = dict(message['headers'])
                more = (
                    HEADERS
                    if kinds.get(b'cache-control')
                    else {**HEADERS, 'cache-control': 'no-store'}
                )
                message['headers'] = [
                    *message['headers'],
                    *((k.encode(), v.encode()) for k, v in more.items()),
                ]
            await send(message)

        await (answer or self.app)(scope, receive, send_with_headers)

    async def judge(self, scope, receive):
        """Return the response that a request gets here, or None for what may pass."""
        asked = HTTPConnection(scope)
        host, origin = asked.headers.get('host', ''), asked.headers.get('origin')
        if origin and urlsplit(origin).netloc != host:
            return PlainTextResponse('This comes from another site.', 403)
        # A name of somebody else's that leads to this address would let a strange site read what is open here.
        if not self.rules.login and not listener.is_loopback(urlsplit(f'//{host}').hostname):
            return PlainTextResponse('Without --login only as http://localhost.', 403)
        if asked.url.path == '/login':
            return await self.login(Request(scope, receive))
        if (
            asked.url.path in OPEN_PATHS
            or not self.rules.login
            or session_of(asked.cookies.get(self.rules.cookie))
        ):
            return None
        if (
            scope['type'] == 'http'
            and scope['method'] == 'GET'
            and 'text/html' in asked.headers.get('accept', '')
        ):
            where = asked.url.path + ('?' + asked.url.query if asked.url.query else '')
            return RedirectResponse(f'/login?next={quote(where, safe="")}', 303)
        return PlainTextResponse('Log in first, at /login.', 401)

    async def login(self, request):
        """Show the form, or look at what was filled in and begin a session."""
        target = request.query_params.get('next', '/')
        if not re.fullmatch(r'/(?![/\\])[^\\\s]*', target):  # only to ourselves
            target = '/'
        if request.method != 'POST':
            ended = 'Your session has ended.' if 'ended' in request.query_params else ''
            return show(target, ended)
        form = b''
        async for chunk in request.stream():
            form += chunk
            if len(form) > MAX_FORM:
                return show(target, 'That is too long for a password or a token.', 413)
        fields = parse_qs(form.decode(errors='replace'))
        user, password = fields.get('user', [''])[0], fields.get('password', [''])[0]
        async with self.turns:
            try:
                name, tags = await asyncio.to_thread(whoami, self.rules, user, password)
            except management.Refused as refused:
                if refused.status != 401:
                    logging.warning('nobody can log in: %s', refused)
                    return show(
                        target,
                        'The broker does not answer. Nobody can log in until its management API does.',
                        503,
                    )
                name, tags = user, ()
        if not TAGS.intersection(tags):
            logging.warning('login of %s from %s refused', ascii(name[:100]), request.client.host)
            self.counts['refused'] += 1
            await asyncio.sleep(PENALTY)
            return show(target, REFUSAL, 403)
        self.counts['logins'] += 1
        logging.info('%s logged in', ascii(name))
        for cookie in [cookie for cookie in _sessions if not session_of(cookie)]:
            end(cookie)
        cookie = secrets.token_urlsafe(32)
        ends = min(time.time() + self.rules.session, tokens.expiry(password))
        _sessions[cookie] = Session(name, 'administrator' in tags, ends)
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            self.rules.cookie,
            cookie,
            max_age=int(ends - time.time()),
            httponly=True,
            samesite='lax',
            secure=bool(self.rules.certfile),
        )
        return answer


def show(target, message='', status=200):
    """Return the login page, which leads to the path `target`."""
    message = f'<p class="refused" role="alert">{html.escape(message)}</p>' if message else ''
    return HTMLResponse(PAGE.format(next=quote(target, safe=''), message=message), status)
