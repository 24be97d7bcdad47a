"""What a reader looks for: a part of a text, or a regular expression.

The expression of a stranger could keep Python's `re` busy for years. RE2 takes time in
proportion to the text.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from common import Failure

LONGEST = 200  # characters of an expression

Finds = Callable[[str], bool]  # whether a name is looked for


def finds(text: str, is_expression: bool) -> Finds:
    """Return what tells whether a name is looked for; capitals do not matter.

    Raises Failure if the text is to be an expression, and is none.
    """
    if is_expression:
        return expression(text)
    wanted = text.lower()
    return lambda name: wanted in name.lower()


def expression(text: str) -> Finds:
    """Return what tells whether a name matches; raises Failure."""
    if len(text) > LONGEST:
        raise Failure(f'it is longer than {LONGEST} characters', 2)
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        raise Failure(text_of(error), 2) from None
    # RE2 reads UTF-8: what is no text has no such form.
    return lambda name: bool(compiled.search(name.encode(errors='replace')))


def text_of(error: re2.error) -> str:
    """Return what RE2 says of an expression, for people."""
    (problem,) = error.args
    return problem.decode(errors='replace') if isinstance(problem, bytes) else str(problem)
