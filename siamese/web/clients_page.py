"""What the dashboard shows of clients."""

from siamese.monitoring import clients
from siamese.text import printable
from siamese.web.page import read_history
from siamese.web.widgets import box, column, count, empty, fill, finder, say, since, table, view_of

CLIENT_COLUMNS = [
    column('name', 'Client', 'wide', True, first=True),
    column('user', 'User', 'wide'),
    column('state', 'State', 'state'),
    column('does', 'Does', 'wide'),
    column('since', 'Since', 'number', True),
    column('sent', 'Sent', 'number', True),
    column('received', 'Received', 'number', True),
    column('interruptions', 'Interruptions', 'number', True),
    column('last_interruption', 'Last interruption', 'number', True),
]


def client_row(row, now):
    tone = {'gone': 'off', 'blocked': 'bad', 'idle': 'off'}.get(row['state'], 'good')
    return {
        'id': f'{row["name"]} {row["user"]}',
        'tone': tone,
        **{name: printable(row[name] or '') for name in ('name', 'user', 'state', 'does')},
        **{name: count(row[name]) for name in ('sent', 'received', 'interruptions')},
        'since': since(row['since'], now),
        'last_interruption': since(row['last_interruption'], now) or 'none',
    }


async def show_clients(page):
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Clients')
            search = finder('Find a client', lambda: refresh())
        nothing = empty(
            'No clients yet', 'Whoever connects is listed here, and stays listed when it is gone.'
        )
        rows = table('clients', CLIENT_COLUMNS, lambda: refresh(), 'last_interruption')

    async def refresh():
        found, _ = await read_history(page, clients.known)
        if found is None:
            return
        wanted = (search.value or '').lower()
        matching = [
            row for row in found if wanted in f'{row["name"]} {row["user"]} {row["does"]}'.lower()
        ]
        nothing.set_visibility(not found)
        rows.set_visibility(bool(found))
        fill(rows, [client_row(row, page.now) for row in view_of(rows, matching)], len(matching))

    page.refreshers.append(refresh)
