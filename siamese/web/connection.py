"""An HTTP connection of uvicorn that tells the door which stage its client is in."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from siamese.web.door import ANSWER, BODY, HEAD, WEBSOCKET, Door, Guest, Stage


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection of uvicorn that came in by a door."""

    guest: Guest

    def __init__(self, door: Door, **settings: Any) -> None:
        super().__init__(**settings)
        self.door = door

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        guest = self.door.guest_of(transport)
        if guest is None:
            transport.abort()
            return
        self.guest = guest
        guest.transport = transport
        guest.enter(HEAD)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.guest.enter(self.stage())

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.guest.enter(self.stage())

    def stage(self) -> Stage:
        if self.transport.get_protocol() is not self:
            return WEBSOCKET
        cycle = self.cycle  # the request that came last
        if cycle is None or cycle.response_complete:
            return HEAD
        if cycle.more_body:
            return BODY
        return ANSWER
