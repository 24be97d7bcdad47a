"""The address of a page: what it shows is in the query, so that it outlives a reload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from nicegui import ui


class Address:
    """The path and the query of a page, in the browser that shows it.

    A value that is '' is not in the query.
    """

    def __init__(self, path: str, query: Mapping[str, str]) -> None:
        self.path = path
        self.query = {name: value for name, value in query.items() if value}

    def __str__(self) -> str:
        if not self.query:
            return self.path
        return f'{self.path}?{urlencode(self.query)}'

    def get(self, name: str, default: str = '') -> str:
        return self.query.get(name, default)

    def set(self, **values: str) -> None:
        """Change the query; the button Back leads to what it was before."""
        self._change('pushState', values)

    def replace(self, **values: str) -> None:
        """Change the query, as part of the step that the person is at."""
        self._change('replaceState', values)

    def _change(self, how: str, values: Mapping[str, str]) -> None:
        before = str(self)
        self.query.update(values)
        self.query = {name: value for name, value in self.query.items() if value}
        if str(self) != before:
            ui.run_javascript(f'history.{how}(null, "", {json.dumps(str(self))})')
