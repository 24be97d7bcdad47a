"""What the dashboard shows of clients."""

from __future__ import annotations

from siamese.monitoring import clients
from siamese.monitoring.clients import ClientRow
from siamese.text import UNKNOWN, duration, printable
from siamese.web.finder import Finder
from siamese.web.formats import count, since
from siamese.web.page import Page, read_history
from siamese.web.tables import PagedTable, Row, column
from siamese.web.widgets import Empty, box, say

COLUMNS = [
    column('name', 'Client', 'wide', True, first=True),
    column('user', 'User', 'wide', broad=True),
    column('state', 'State', 'state'),
    column('does', 'Does', 'wide'),
    column('since', 'Since', 'number', True),
    column('published', 'Published', 'number', True),
    column('delivered', 'Delivered', 'number', True),
    column('interruptions', 'Interruptions', 'number', True),
    column('last_interruption', 'Last interruption', 'number', True),
]
TONES = {
    'gone': 'off',
    'blocked': 'bad',
    'idle': 'off',
    'connected': 'off',
}


class ClientsView:
    """The table of clients, and the field that finds some of them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', 'Producers, consumers and other connections')
                self.finder = Finder('Find a client', page.address, self.refresh)
            self.nothing = Empty()
            self.table = PagedTable(
                page.address,
                'clients',
                COLUMNS,
                self.refresh,
                sort_by='last_interruption',
            )

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, clients.rows)
        if found is None:
            return
        matching = self.finder.matching(found, texts_of)
        now = self.page.now
        unknown = self.page.unknown
        shown = self.table.view_of(matching, id_of)
        rows = [table_row(client, now, unknown) for client in shown]
        self.table.show(rows, len(matching))
        self.table.set_visibility(bool(matching))
        if matching:
            self.nothing.hide()
        elif found:
            self.finder.show_nothing(self.nothing, 'client', len(found))
        else:
            self.nothing.show(
                'No clients yet',
                'Every client that connects is listed here, and stays listed when it is gone.',
            )


def texts_of(client: ClientRow) -> list[str]:
    """Return in what a client is looked for."""
    return [client['name'], client['user'], client['does'], client['state']]


def id_of(client: ClientRow) -> str:
    return f'{client["name"]} {client["user"]}'


def table_row(client: ClientRow, now: float, unknown: str = '') -> Row:
    """Return the row of a client; `unknown` says since when nobody knows what it does."""
    state = printable(client['state'] or '')
    tone = TONES.get(state, 'good')
    began = since(client['since'], now)
    if unknown and state != 'gone':
        state = unknown
        tone = 'off'
        began = UNKNOWN
    return {
        'id': id_of(client),
        'tone': tone,
        'name': printable(client['name'] or ''),
        'user': printable(client['user'] or ''),
        'state': state,
        'does': printable(client['does'] or ''),
        'since': began,
        'published': count(client['published']),
        'delivered': count(client['delivered']),
        'interruptions': count(client['interruptions']),
        'last_interruption': last_interruption(client, now),
    }


def last_interruption(client: ClientRow, now: float) -> str:
    """Return when a client was interrupted last, and for how long."""
    began = client['last_interruption']
    ended = client['back']
    if began is None or ended is None:
        return 'none'
    return f'{since(began, now)}, for {duration(ended - began)}'


def show_clients(page: Page) -> None:
    page.refreshers.append(ClientsView(page).refresh)
