"""What the dashboard shows of the broker's nodes: how near they are to blocking publishers."""

from __future__ import annotations

from collections.abc import Sequence

from siamese.monitoring.database import Node
from siamese.text import UNKNOWN, duration, printable
from siamese.web.formats import count
from siamese.web.page import Page
from siamese.web.tables import Row, Table, column
from siamese.web.widgets import box, mark, say

UNITS = (('GB', 1e9), ('MB', 1e6), ('kB', 1e3))
NEAR = 0.8  # of the memory at which publishers are blocked
TIGHT = 2  # times the free disk space below which they are
NOT_TOLD = 'the broker does not tell'
COLUMNS = [
    column('name', 'Node', 'wide', first=True),
    column('state', 'State', 'state'),
    column('memory', 'Memory used', 'number'),
    column('memory_limit', 'Publishers blocked at', 'number'),
    column('disk', 'Disk free', 'number'),
    column('disk_limit', 'Publishers blocked below', 'number'),
    column('descriptors', 'File descriptors', 'number', broad=True),
    column('uptime', 'Up for', 'number'),
]


class NodeTiles:
    """Memory and disk of the node that is worst off."""

    def __init__(self, page: Page) -> None:
        self.memory = page.tile('Memory')
        self.disk = page.tile('Disk')

    def show(self, nodes: Sequence[Node]) -> None:
        self.show_memory(nodes)
        self.show_disk(nodes)

    def show_memory(self, nodes: Sequence[Node]) -> None:
        shares = {}
        for node in nodes:
            if node.get('mem_used') is not None and node.get('mem_limit'):
                shares[memory_share(node)] = node
        if not shares:
            self.memory.show(UNKNOWN, NOT_TOLD)
            return
        worst = max(shares)
        limit = size_of(shares[worst]['mem_limit'])
        self.memory.show(f'{worst:,.0%}', f'of the {limit} that block publishers')
        mark(self.memory.element, 'bad', worst >= NEAR)

    def show_disk(self, nodes: Sequence[Node]) -> None:
        known = [node for node in nodes if node.get('disk_free') is not None]
        if not known:
            self.disk.show(UNKNOWN, NOT_TOLD)
            return
        worst = min(known, key=disk_above_limit)
        limit = size_of(worst['disk_free_limit'])
        self.disk.show(size_of(worst['disk_free']), f'free; below {limit} publishers are blocked')
        mark(self.disk.element, 'bad', is_tight(worst))


class NodesView:
    """The table of nodes."""

    def __init__(self) -> None:
        with box('section', 'card') as self.card:
            with box('div', 'head'):
                say('h2', 'Nodes of the broker')
            self.table = Table('nodes', COLUMNS)

    def show(self, nodes: Sequence[Node]) -> None:
        self.card.set_visibility(bool(nodes))
        self.table.show([table_row(node) for node in nodes])


def memory_share(node: Node) -> float:
    """Return how much is used of the memory at which publishers are blocked."""
    return (node['mem_used'] or 0) / (node['mem_limit'] or 1)


def disk_above_limit(node: Node) -> int:
    return (node['disk_free'] or 0) - (node['disk_free_limit'] or 0)


def is_tight(node: Node) -> bool:
    return (node['disk_free'] or 0) < TIGHT * (node['disk_free_limit'] or 0)


def size_of(number_of_bytes: int | None) -> str:
    """Return a number of bytes as 85 MB or 1.2 GB."""
    if number_of_bytes is None:
        return UNKNOWN
    for unit, factor in UNITS:
        if number_of_bytes >= factor:
            return f'{number_of_bytes / factor:.3g} {unit}'
    return f'{number_of_bytes} B'


def table_row(node: Node) -> Row:
    tone, state = state_of(node)
    descriptors = count(node.get('fd_used'))
    if node.get('fd_total'):
        descriptors += f' of {count(node["fd_total"])}'
    return {
        'id': node['name'],
        'name': printable(node['name']),
        'tone': tone,
        'state': state,
        'memory': size_of(node.get('mem_used')),
        'memory_limit': size_of(node.get('mem_limit')),
        'disk': size_of(node.get('disk_free')),
        'disk_limit': size_of(node.get('disk_free_limit')),
        'descriptors': descriptors,
        'uptime': duration(node['uptime']),
    }


def state_of(node: Node) -> tuple[str, str]:
    """Return the tone and the name of the state of a node."""
    if node['running'] is False:
        return 'bad', 'does not run'
    if node['alarms']:
        return 'bad', f'{" and ".join(node["alarms"])} alarm'
    return 'good', 'runs'
