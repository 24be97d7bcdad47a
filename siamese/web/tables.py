"""Tables: their cells change in place, and only what has changed travels to the browser.

Names of rows and columns are ours; what the broker says is only ever a value, and
live_table.js shows values as text.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from nicegui import events, ui

from siamese.web.address import Address
from siamese.web.widgets import Refresh

SIZES = (25, 50, 100, 500)  # how many rows a page of a table may have
ORDER_CHANGED = 'The order has changed: sort again'

PLAIN = {'page': 1, 'size': 0, 'sort': '', 'hint': '', 'chosen': ''}  # all rows and columns

Row = dict[str, Any]  # of a table: its id, and for each column a text or a number
Stored = TypeVar('Stored', bound=Mapping[str, Any])  # a row of the history


def column(
    name: str,
    label: str,
    kind: str = 'text',
    sortable: bool = False,
    first: bool = False,
    href: str = 'href',
    broad: bool = False,
    usual: bool = True,
) -> dict[str, Any]:
    """Return a column of a table.

    Its kind is text, number, wide (may wrap), link (to what the row has as `href`; a
    text where that is ''), open (a button that emits 'open'), state (in the row's
    tone), local (a time in s, shown as that of the browser) or spark (a path, with the
    row's peak as its name). Unless somebody chooses columns, a `broad` one is left out
    where the window is not, and one that is not `usual` is left out everywhere.
    """
    return {
        'name': name,
        'label': label,
        'kind': kind,
        'sortable': sortable,
        'first': first,
        'href': href,
        'broad': broad,
        'usual': usual,
    }


class Table(ui.element, component='live_table.js'):
    """A table that shows all its rows."""

    def __init__(self, name: str, columns: list[dict[str, Any]]) -> None:
        super().__init__()
        self.columns = columns
        self.number = 0  # of updates, so that none is shown after a later one
        self.rows: list[Row] = []
        self.state: dict[str, Any] = {}
        self._props['label'] = name
        self._props['columns'] = columns
        self._props['sizes'] = SIZES
        self.show([])

    def show(self, rows: list[Row], total: int = 0, **state: Any) -> None:
        """Show rows, each of which has an id of its own."""
        state = {**PLAIN, 'total': total, **state}
        if rows == self.rows and state == self.state:
            return
        self.number += 1
        changes = difference(self.rows, rows)
        changes['state'] = {**state, 'number': self.number}
        self.rows = rows
        self.state = state
        view = {'rows': rows, **changes['state']}
        if not self.client.has_socket_connection:
            self._props['view'] = view
            return
        with self._props.suspend_updates():
            self._props['view'] = view  # for a browser that comes back
        self.run_method('patch', changes)


def difference(before: Sequence[Row], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the cells that have changed by row, and the ids if these have changed."""
    known = {row['id']: row for row in before}
    changes = []
    for row in rows:
        old = known.get(row['id'], {})
        cells = {name: value for name, value in row.items() if old.get(name) != value}
        if cells:
            changes.append([row['id'], cells])
    order = [row['id'] for row in rows]
    if order == list(known):
        return {'changes': changes, 'order': None}
    return {'changes': changes, 'order': order}


class PagedTable(Table):
    """A table that shows one page of its rows.

    Its sort, page, size and columns are in the address. It is sorted by the column
    `sort_by` first, the largest value on top. `on_again` is what its hint does, if that
    is not to sort again.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        columns: list[dict[str, Any]],
        on_change: Refresh,
        sort_by: str = '',
        on_again: Refresh | None = None,
    ) -> None:
        self.address = address
        self.on_change = on_change
        self.usual_sort = sort_by and f'-{sort_by}'
        self.is_held = False
        self.asked = ''  # the address whose rows are shown
        self.hint = ''
        super().__init__(name, columns)
        self.on('hands', self.hold)
        self.on('sort', self.sort)
        self.on('page', self.turn)
        self.on('size', self.resize)
        self.on('columns', self.choose)
        self.on('again', on_again or self.arrange)

    # ---- what a person does

    def hold(self, event: events.GenericEventArguments) -> None:
        """Keep the rows in their places while somebody has a hand on them."""
        self.is_held = event.args

    async def sort(self, event: events.GenericEventArguments) -> None:
        self.address.set(sort=event.args, page='')
        await self.on_change()

    async def turn(self, event: events.GenericEventArguments) -> None:
        self.address.set(page=str(event.args))
        await self.on_change()

    async def resize(self, event: events.GenericEventArguments) -> None:
        size = str(event.args)
        if event.args == SIZES[0]:
            size = ''
        self.address.set(rows=size, page='')
        await self.on_change()

    async def choose(self, event: events.GenericEventArguments) -> None:
        """Show a column, or leave it out: here, for a browser may not know the last choice yet."""
        name, is_wanted = event.args
        chosen = {*self.chosen()} - {name}
        if is_wanted:
            chosen.add(name)
        asked = ''
        if chosen != {*self.usual_columns()}:
            asked = ','.join(self.in_place(chosen))
        self.address.replace(columns=asked)
        await self.on_change()

    async def arrange(self) -> None:
        """Show what belongs on this page now, whoever has a hand on it."""
        self.asked = ''
        await self.on_change()

    # ---- what it shows

    def sorting(self) -> str:
        """Return the name of the column it is sorted by, after a - if the largest is on top."""
        chosen = self.address.get('sort', self.usual_sort)
        names = [column['name'] for column in self.columns if column['sortable']]
        if chosen.lstrip('-') in names:
            return chosen
        return self.usual_sort

    def first_of(self, total: int) -> int:
        """Return how many of `total` rows are on the pages before the one that is shown."""
        size = self.size()
        last = max(0, total - 1) // size
        return size * min(last, self.page_number() - 1)

    def size(self) -> int:
        """Return how many rows a page has."""
        asked = self.address.get('rows')
        for size in SIZES:
            if asked == str(size):
                return size
        return SIZES[0]

    def chosen(self) -> list[str]:
        """Return the names of the columns that are shown, beside the first."""
        asked = self.address.get('columns').split(',')
        return self.in_place(asked) or self.usual_columns()

    def in_place(self, names: Container[str]) -> list[str]:
        """Return the names that are those of columns, from left to right."""
        known = [column['name'] for column in self.columns[1:]]
        return [name for name in known if name in names]

    def usual_columns(self) -> list[str]:
        others = self.columns[1:]
        return [column['name'] for column in others if column['usual']]

    def page_number(self) -> int:
        text = self.address.get('page', '1')
        if text.isdecimal() and len(text) < 9:
            return max(1, int(text))
        return 1

    def view_of(
        self,
        rows: Sequence[Stored],
        id_of: Callable[[Stored], Any] = itemgetter('name'),
    ) -> Sequence[Stored]:
        """Return the rows that are shown now, in their order; `id_of` as in show()."""
        ordered = in_order(rows, self.sorting())
        first = self.first_of(len(rows))
        wanted = ordered[first : first + self.size()]
        is_same = str(self.address) == self.asked
        self.asked = str(self.address)
        self.hint = ''
        if not self.is_held or not is_same:
            return wanted
        by_id = {id_of(row): row for row in rows}
        places = [row['id'] for row in self.rows]
        kept = [by_id[place] for place in places if place in by_id]
        if not kept or kept == wanted:
            return wanted
        self.hint = ORDER_CHANGED
        return kept

    def show_in_order(self, rows: list[Row], total: int) -> None:
        """Show rows of `total` that were read in order, unless they would move under a hand."""
        is_same = str(self.address) == self.asked
        self.asked = str(self.address)
        self.hint = ''
        places = [row['id'] for row in self.rows]
        if self.is_held and is_same and places != [row['id'] for row in rows]:
            self.hint = ORDER_CHANGED
            rows = self.rows
        self.show(rows, total)

    def show(self, rows: list[Row], total: int = 0, **state: Any) -> None:
        """Show rows of `total`; the `hint` is a button that emits 'again'."""
        state.setdefault('hint', self.hint)
        size = self.size()
        super().show(
            rows,
            total,
            page=self.first_of(total) // size + 1,
            size=size,
            sort=self.sorting(),
            chosen=self.address.get('columns') and self.chosen(),
            **state,
        )


def in_order(rows: Sequence[Stored], sorting: str) -> list[Stored]:
    name = sorting.lstrip('-')
    if not name:
        return list(rows)

    def sort_key(row: Stored) -> Any:
        if isinstance(row[name], str):
            return row[name]
        return row[name] or 0

    return sorted(rows, key=sort_key, reverse=sorting.startswith('-'))
