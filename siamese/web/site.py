"""The pages of the dashboard, and the application that serves them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from nicegui import app, run, ui

from siamese import ROOT
from siamese.web.clients_page import show_clients
from siamese.web.dead_letters_page import show_dead_letters
from siamese.web.history_page import csv_of, show_history
from siamese.web.page import Page, frame
from siamese.web.page_limits import PageLimits
from siamese.web.queues_page import show_queue, show_queues
from siamese.web.verdicts_page import show_verdicts
from siamese.web.warnings_page import show_warnings

QUEUE = '/queue'
PAGES = {
    '/': ('Queues', show_queues),
    QUEUE: ('Queue', show_queue),
    '/dead': ('Dead letters', show_dead_letters),
    '/history': ('History', show_history),
    '/verdicts': ('Verdicts', show_verdicts),
    '/clients': ('Clients', show_clients),
    '/warnings': ('Warnings', show_warnings),
}
FILES = ROOT / 'siamese' / 'web'
SERVED = ('dashboard.css', 'dashboard.js', 'favicon.svg')
# A page that was not heard of for so long is built anew, which costs its reader the focus.
RECONNECT_S = 15
BUILD_TIMEOUT_S = 30  # a busy machine is slow, and then this page is wanted most
NOT_FOUND = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>No such page - siamese</title>
<link rel="icon" href="/favicon.svg">
<link rel="stylesheet" href="/dashboard.css">
</head>
<body class="login"><main><form action="/">
<h1>There is no such page</h1>
<p>It may have moved. The page of all queues leads to the others.</p>
<button>All queues</button>
</form></main></body></html>
"""


def site(args: argparse.Namespace) -> FastAPI:
    """Return the ASGI application; `args` are the flags of dashboard.py."""
    add_pages(args)
    application = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    for name in SERVED:
        add_file(application, name)

    @application.get('/history.csv')
    async def history_as_csv(request: Request) -> Response:
        return await csv_of(args, request.query_params)

    # Nothing runs in this pool. The other methods would start a process for it at once.
    run.process_pool_start_method = 'fork'
    # It takes all paths that are not known until here.
    ui.run_with(
        application,
        title='siamese',
        favicon=(FILES / 'favicon.svg').read_text(),
        language='en-US',
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_S,
    )

    app.add_exception_handler(404, not_found)
    application.add_middleware(PageLimits)
    return application


def add_file(application: FastAPI, name: str) -> None:
    @application.get(f'/{name}')
    def file() -> FileResponse:
        headers = {'cache-control': 'no-cache'}
        return FileResponse(FILES / name, headers=headers)


def not_found(request: Request, error: Exception) -> HTMLResponse:
    return HTMLResponse(NOT_FOUND, 404)


def add_pages(args: argparse.Namespace) -> None:
    for path, (title, show) in PAGES.items():
        add_page(args, path, title, show)


def add_page(
    args: argparse.Namespace,
    path: str,
    title: str,
    show: Callable[[Page], None],
) -> None:
    @ui.page(path, response_timeout=BUILD_TIMEOUT_S)
    async def build(request: Request) -> Response | None:
        heading = title
        if path == QUEUE:
            heading = request.query_params.get('name') or title
        async with frame(args, request, heading) as page:
            show(page)
        if not page.is_missing:
            return None
        return ui.context.client.build_response(request, 404)
