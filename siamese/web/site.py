"""The pages of the dashboard, and what serves them."""

from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from nicegui import ui

from siamese import ROOT
from siamese.web.clients_page import show_clients
from siamese.web.dead_letters_page import show_dead
from siamese.web.page import frame
from siamese.web.queues_page import show_queue, show_queues


def site(args):
    """Return the ASGI application of all pages; `args` are the parsed flags of dashboard.py."""

    @ui.page('/', title='Queues - siamese')
    async def queues_page(request: Request):
        async with frame(args, request, '/') as page:
            await show_queues(page)

    @ui.page('/queue', title='Queue - siamese')
    async def queue_page(request: Request, name: str = ''):
        async with frame(args, request, f'/queue?name={quote(name, safe="")}') as page:
            await show_queue(page, name)

    @ui.page('/dead', title='Dead letters - siamese')
    async def dead_page(request: Request, queue: str = ''):
        async with frame(args, request, '/dead') as page:
            await show_dead(page, queue)

    @ui.page('/clients', title='Clients - siamese')
    async def clients_page(request: Request):
        async with frame(args, request, '/clients') as page:
            await show_clients(page)

    site = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @site.get('/dashboard.css')
    def style():
        return FileResponse(
            ROOT / 'siamese' / 'web' / 'dashboard.css', headers={'cache-control': 'no-cache'}
        )

    ui.run_with(site, title='siamese', dark=None, tailwind=False, show_welcome_message=False)
    return site
