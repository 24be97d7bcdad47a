#!/usr/bin/env python3
"""Write docs/reference/flags.md: the flags of every script, from their parsers.

    python tools/reference.py

tests/unit/test_documents.py compares the page with the parsers.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'reference' / 'flags.md'
HEAD = """\
# The flags of every script

Made by `make reference` from the parsers of the scripts: this is what `--help` says, without the
examples. `--help` and `--version` are left out.

"""
LEFT_OUT = (argparse._HelpAction, argparse._VersionAction)


class Parsed(Exception):
    """Holds the parser of a script that was about to parse."""


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of the script with this name (without .py)."""
    script = importlib.import_module(name)

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Parsed(parser)

    with mock.patch.object(sys, 'argv', [f'{name}.py']):
        with mock.patch.object(argparse.ArgumentParser, 'parse_args', stop):
            try:
                script.parse_args([])
            except Parsed as parsed:
                parser: argparse.ArgumentParser = parsed.args[0]
                return parser
    raise AssertionError(f'{name}.py parses nothing')


def spelled(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return a flag with its value, as the usage line spells it."""
    formatter = argparse.HelpFormatter(parser.prog, width=1000)
    return formatter._format_action_invocation(action)


def meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return the help of a flag, with its default in it."""
    formatter = argparse.HelpFormatter(parser.prog)
    return formatter._expand_help(action).replace('|', '\\|')


def rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the rows of the table of a script, in the order of its help."""
    parser.format_help()  # sorts the groups
    for group in parser._action_groups:
        for action in group._group_actions:
            if not isinstance(action, LEFT_OUT):
                flag = spelled(action, parser).replace('|', '\\|')
                yield f'| `{flag}` | {meaning(action, parser)} |'


def section(name: str) -> str:
    """Return the part of the page about a script."""
    parser = parser_of(name)
    about = (parser.description or '').strip().splitlines()[0]
    lines = [f'## {name}.py', '', about, '', '| flag | meaning |', '|---|---|', *rows(parser), '']
    return '\n'.join(lines)


def scripts() -> list[str]:
    """Return the names of the scripts, without .py."""
    is_script = "if __name__ == '__main__'"
    return sorted(path.stem for path in ROOT.glob('*.py') if is_script in path.read_text())


def page() -> str:
    """Return the page."""
    return HEAD + '\n'.join(section(name) for name in scripts())


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding='utf-8')
