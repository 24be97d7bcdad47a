"""What the dashboard shows of clients."""

from __future__ import annotations

from siamese.monitoring import clients
from siamese.monitoring.clients import ClientRow
from siamese.text import printable
from siamese.web.formats import count, since
from siamese.web.page import Page, read_history
from siamese.web.widgets import (
    Row,
    box,
    column,
    empty,
    fill,
    finder,
    paged_table,
    say,
    view_of,
)

COLUMNS = [
    column('name', 'Client', 'wide', True, first=True),
    column('user', 'User', 'wide'),
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
}


class ClientsView:
    """The table of clients, and the field that finds some of them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with box('section', 'card'):
            with box('div', 'head'):
                say('h2', 'Clients')
                self.search = finder('Find a client', self.refresh)
            self.nothing = empty(
                'No clients yet',
                'Every client that connects is listed here, and stays listed when it is gone.',
            )
            self.table = paged_table(
                'clients',
                COLUMNS,
                self.refresh,
                sort_by='last_interruption',
            )

    async def refresh(self) -> None:
        found, _ = await read_history(self.page, clients.rows)
        if found is None:
            return
        self.nothing.set_visibility(not found)
        self.table.set_visibility(bool(found))
        matching = [row for row in found if self.is_wanted(row)]
        now = self.page.now
        shown = view_of(self.table, matching)
        rows = [table_row(client, now) for client in shown]
        fill(self.table, rows, len(matching))

    def is_wanted(self, client: ClientRow) -> bool:
        wanted = (self.search.value or '').lower()
        text = f'{client["name"]} {client["user"]} {client["does"]}'
        return wanted in text.lower()


def table_row(client: ClientRow, now: float) -> Row:
    last = since(client['last_interruption'], now)
    return {
        'id': f'{client["name"]} {client["user"]}',
        'tone': TONES.get(client['state'], 'good'),
        'name': printable(client['name'] or ''),
        'user': printable(client['user'] or ''),
        'state': printable(client['state'] or ''),
        'does': printable(client['does'] or ''),
        'since': since(client['since'], now),
        'published': count(client['published']),
        'delivered': count(client['delivered']),
        'interruptions': count(client['interruptions']),
        'last_interruption': last or 'none',
    }


def show_clients(page: Page) -> None:
    page.refreshers.append(ClientsView(page).refresh)
