"""The pages of the dashboard, and the application that serves them."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from nicegui import ui

from siamese import ROOT
from siamese.web.clients_page import show_clients
from siamese.web.dead_letters_page import show_dead_letters
from siamese.web.page import frame
from siamese.web.queues_page import show_queue, show_queues

STYLE_SHEET = ROOT / 'siamese' / 'web' / 'dashboard.css'


def site(args: argparse.Namespace) -> FastAPI:
    """Return the ASGI application; `args` are the flags of dashboard.py."""
    add_pages(args)
    application = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    @application.get('/dashboard.css')
    def style_sheet() -> FileResponse:
        headers = {'cache-control': 'no-cache'}
        return FileResponse(STYLE_SHEET, headers=headers)

    ui.run_with(
        application,
        title='siamese',
        dark=None,
        tailwind=False,
        show_welcome_message=False,
    )
    return application


def add_pages(args: argparse.Namespace) -> None:
    @ui.page('/', title='Queues - siamese')
    async def queues_page(request: Request) -> None:
        async with frame(args, request, '/') as page:
            show_queues(page)

    @ui.page('/queue', title='Queue - siamese')
    async def queue_page(request: Request, name: str = '') -> None:
        here = f'/queue?name={quote(name, safe="")}'
        async with frame(args, request, here) as page:
            show_queue(page, name)

    @ui.page('/dead', title='Dead letters - siamese')
    async def dead_letters(request: Request, queue: str = '') -> None:
        async with frame(args, request, '/dead') as page:
            show_dead_letters(page, queue)

    @ui.page('/clients', title='Clients - siamese')
    async def clients_page(request: Request) -> None:
        async with frame(args, request, '/clients') as page:
            show_clients(page)
