"""What holds for every script and module: read from their files, none is run."""

import ast
import os
import re

import interrupts
import pytest
from support.scripts import MODULES, SCRIPTS

from siamese import ROOT

BEGINNING = """\
if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()"""


def test_there_are_scripts():
    assert {'producer.py', 'validate.py', 'audit.py', 'broker.py'} <= set(SCRIPTS)
    assert not any(os.access(ROOT / name, os.X_OK) for name in MODULES)


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_can_be_run_as_a_command(name):
    assert os.access(ROOT / name, os.X_OK)
    assert (ROOT / name).read_text().startswith('#!/usr/bin/env python3\n"""')


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_hears_signals_before_it_imports_anything(name):
    text = (ROOT / name).read_text()
    docstring, header, _ = ast.parse(text).body[:3]
    assert isinstance(docstring, ast.Expr)
    assert ast.get_source_segment(text, header) == BEGINNING
    assert name in interrupts.FLAGS  # bench/interrupts.py tries it


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_has_a_sample_a_readme_row_a_changelog_line_and_tests(name):
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert f'$ ./{name}' in docstring and 'Exit status' in docstring
    assert f'`{name}`' in (ROOT / 'README.md').read_text()
    table = (ROOT / 'docs/reference/scripts.md').read_text()
    assert re.search(rf'^\| `{name}` \|', table, re.MULTILINE)
    assert f'`{name}`' in (ROOT / 'CHANGELOG.md').read_text()
    assert any(name in path.read_text() for path in ROOT.glob(f'tests/*/test_{name}'))


@pytest.mark.parametrize('name', [*MODULES, *SCRIPTS])
def test_no_script_imports_another(name):
    nodes = list(ast.walk(ast.parse((ROOT / name).read_text())))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not imported & {script[:-3] for script in SCRIPTS}


@pytest.mark.parametrize('name', MODULES)
def test_contributors_find_it(name):
    folder, _, file = name.rpartition('/')
    contributing = (ROOT / 'CONTRIBUTING.md').read_text()
    assert file == '__init__.py' or f'`{file}`' in contributing
    assert not folder or f'`{folder}/`' in contributing


def test_python_3_9_is_promised_everywhere_and_kept():
    assert 'requires-python = ">=3.9"' in (ROOT / 'pyproject.toml').read_text()
    assert 'target-version = "py39"' in (ROOT / 'pyproject.toml').read_text()
    assert 'Python 3.9' in (ROOT / 'README.md').read_text()
    assert '(3, 9)' in (ROOT / 'tools' / 'setup.sh').read_text()
    for path in [*ROOT.glob('*.py'), *ROOT.glob('siamese/**/*.py')]:
        ast.parse(path.read_text(), feature_version=(3, 9))
