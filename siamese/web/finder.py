"""The field that finds rows of a table by a part of their name, or by a regular expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from nicegui import events

from common import Failure
from siamese.text import count_of, printable
from siamese.web import patterns
from siamese.web.address import Address
from siamese.web.widgets import Empty, Refresh, box, finder, say

Stored = TypeVar('Stored')  # a row of the history


def found_by(query: Mapping[str, str]) -> patterns.Finds:
    """Return what the query of an address looks for; raises Failure as patterns.finds()."""
    return patterns.finds(query.get('find', ''), is_expression(query))


def is_expression(query: Mapping[str, str]) -> bool:
    return bool(query.get('regex'))


class Finder:
    """The field, and whether its text is an expression; both are in the address."""

    def __init__(
        self,
        name: str,
        address: Address,
        on_change: Refresh,
    ) -> None:
        self.address = address
        self.on_change = on_change
        with box('div', 'finder'):
            finder(name, address, on_change)
            with box('label'):
                self.add_choice()
                say('span', 'regex')

    def add_choice(self) -> None:
        choice = box('input')
        choice.props['type'] = 'checkbox'
        choice.props['checked'] = is_expression(self.address.query)
        handler = '(event) => emit(event.target.checked)'
        choice.on('change', self.choose, js_handler=handler)

    async def choose(self, event: events.GenericEventArguments) -> None:
        chosen = ''
        if event.args:
            chosen = 'yes'
        self.address.replace(regex=chosen, page='')
        await self.on_change()

    def matching(
        self,
        rows: Sequence[Stored],
        texts_of: Callable[[Stored], Iterable[str]],
    ) -> list[Stored]:
        """Return the rows that are looked for: none while the expression is not one."""
        try:
            is_found = found_by(self.address.query)
        except Failure:
            return []
        return [row for row in rows if any(map(is_found, texts_of(row)))]

    def show_nothing(self, empty: Empty, noun: str, total: int) -> None:
        """Say why none of `total` rows is shown."""
        verb = 'contains'
        if is_expression(self.address.query):
            verb = 'matches'
        wanted = printable(self.address.get('find'))
        empty.show(
            f'No {noun} {verb} "{wanted}"',
            self.problem() or f'{count_of(total, noun)} in all: clear the field to see them.',
        )

    def problem(self) -> str:
        """Return why the text is no expression, '' if it is, or need not be."""
        try:
            found_by(self.address.query)
        except Failure as failure:
            return f'This is no regular expression: {failure}.'
        return ''
