"""Text in which no URL keeps its password, however it was mistyped.

It needs the standard library only.
"""

from __future__ import annotations

import re

LOGIN = re.compile(r'//.*@', re.DOTALL)
# The shell cuts a URL at & or ;, so that the @ may be missing. A port is no password.
CUT_LOGIN = re.compile(r"""://[^\s'"/@:[]*:(?!\d+\b)[^\s'"]*""")


def redacted(text: object) -> str:
    """Return text with *** in place of the logins in it."""
    without = LOGIN.sub('//***@', str(text))
    return CUT_LOGIN.sub('://***', without)


def holds_login(value: object) -> bool:
    """Return whether a value, or one in a list of them, is a URL with a login."""
    if isinstance(value, (list, tuple)):
        return any(holds_login(each) for each in value)
    return isinstance(value, str) and '://' in value and redacted(value) != value
