"""HTML by elements: text is escaped wherever it becomes a part of one."""

from __future__ import annotations

from html import escape

VOID = ('meta', 'rect', 'line')  # elements without content


class Html(str):
    """Text that is HTML already. Any other text is escaped."""


def markup(*content: object) -> Html:
    """Return content as HTML, one after the other."""
    return Html(''.join(map(_escaped, content)))


def _escaped(content: object) -> str:
    if isinstance(content, Html):
        return content
    return escape(str(content))


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element; `aria_label` is the attribute aria-label, `class_` is class."""
    start = name
    for attribute, value in attributes.items():
        key = attribute.rstrip('_').replace('_', '-')
        start += f' {key}="{escape(str(value))}"'
    if name in VOID:
        return Html(f'<{start} />')
    return Html(f'<{start}>{markup(*content)}</{name}>')
