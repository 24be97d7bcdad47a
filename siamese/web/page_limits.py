"""How many pages may be built: each of them takes memory until its browser is gone.

A page whose websocket does not come is kept for a minute, by NiceGUI.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nicegui import Client
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from siamese import hosts
from siamese.refusals import log
from siamese.web.login import address_of

# Parts of a page; they take no memory.
PARTS = ('/_nicegui/', '/_nicegui_ws/', '/dashboard.', '/favicon.', '/history.csv')
MAX_PAGES = 200
CROWDED = 50  # from here on, a page whose websocket does not come is kept for GRACE_S only
GRACE_S = 15
BURST = 20  # pages for one address at once
PER_SECOND = 5  # then
MAX_ADDRESSES = 1000


class Pace:
    """So many at once for each key, then so many a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.spent: dict[str, tuple[float, float]] = {}  # by key: how many, and when

    def takes(self, key: str) -> bool:
        """Return whether there may be one more now, and count it."""
        now = self.clock()
        spent, last = self.spent.pop(key, (0.0, now))
        spent = max(0.0, spent - (now - last) * PER_SECOND)
        may = spent < BURST
        if may:
            spent += 1
        self.spent[key] = (spent, now)
        if len(self.spent) > MAX_ADDRESSES:
            del self.spent[next(iter(self.spent))]
        return may


class PageLimits:
    """The ASGI middleware between the Gate and the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope['type'] == 'http' and not scope['path'].startswith(PARTS):
            answer = self.page_or_refusal(HTTPConnection(scope))
        await answer(scope, receive, send)

    def page_or_refusal(self, asked: HTTPConnection) -> ASGIApp:
        """Return the pages, or the refusal to build one more."""
        address = address_of(asked)
        if len(Client.instances) >= CROWDED:
            Client.prune_instances(client_age_threshold=GRACE_S)
        if len(Client.instances) < MAX_PAGES and self.pace.takes(hosts.sender(address)):
            return self.app
        log.warning('refused a page to %s: too many are asked for', address)
        text = 'Too many pages are asked for. Try again in some seconds.'
        return PlainTextResponse(text, 503, headers={'retry-after': '5'})
