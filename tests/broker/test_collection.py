"""The constitution of the collection: what holds for every script."""

import ast
import os
import re
import subprocess
import sys

import pytest
from support.processes import Running
from support.scripts import SCRIPTS

from siamese import ROOT, flags

MODULES = sorted(
    str(path.relative_to(ROOT)) for path in [ROOT / 'common.py', *ROOT.glob('siamese/**/*.py')]
)


def dotted(name):
    return name[:-3].replace('/', '.').replace('.__init__', '')


NEED_PRIMES = {'producer.py', 'validate.py'}


def test_there_are_scripts():
    assert {'producer.py', 'validate.py', 'audit.py', 'broker.py'} <= set(SCRIPTS)
    assert not any(os.access(ROOT / name, os.X_OK) for name in MODULES)


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_can_be_run_as_a_command(name):
    assert os.access(ROOT / name, os.X_OK)
    assert (ROOT / name).read_text().startswith('#!/usr/bin/env python3\n"""')


@pytest.mark.parametrize('name', SCRIPTS)
def test_it_has_a_sample_a_readme_row_a_changelog_line_and_tests(name):
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert f'$ ./{name}' in docstring and 'Exit status' in docstring
    assert re.search(rf'^\| `{name}` \|', (ROOT / 'README.md').read_text(), re.MULTILINE)
    assert f'`{name}`' in (ROOT / 'CHANGELOG.md').read_text()
    assert any(name in path.read_text() for path in ROOT.glob(f'tests/*/test_{name}'))


@pytest.mark.parametrize('name', SCRIPTS)
def test_its_help_is_its_docstring_and_ends_with_examples(name):
    done = Running(name, '--help').end()
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    about, _, examples = docstring.partition('Examples:\n')
    assert done.status == 0 and done.err == ''
    usage, _, rest = done.out.partition('\n\n')
    assert usage.startswith(f'usage: {name} ')
    assert rest.startswith(about.rstrip())
    assert done.out.rstrip().endswith(examples.rstrip()) and examples
    library = 'uvicorn' if 'siamese.web' in (ROOT / name).read_text() else 'pika'
    assert '--verbose' not in done.out or f'log what {library} does' in done.out


@pytest.mark.parametrize('name', SCRIPTS)
def test_no_group_of_flags_stands_twice_in_its_help_or_is_empty(name):
    done = Running(name, '--help').end()
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    about, _, _ = docstring.partition('Examples:\n')
    _, _, shown = done.out.partition(about.rstrip())
    groups, _, _ = shown.partition('\nexamples:\n')
    found = re.findall(r'^(\S.*):\n(.*)', groups, re.MULTILINE)
    titles = [title for title, _ in found]
    assert titles and len(set(titles)) == len(titles)
    assert all(first_flag.startswith('  ') for _, first_flag in found)
    last = [title for title in flags.LAST_GROUPS if title in titles]
    assert titles[len(titles) - len(last) :] == last


@pytest.mark.parametrize('name', SCRIPTS)
def test_its_help_costs_no_sympy(name):
    command = [sys.executable, '-X', 'importtime', name, '--help']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert b'sympy' not in done.stderr and b'argparse' in done.stderr


@pytest.mark.parametrize('name', [*MODULES, *SCRIPTS])
def test_importing_it_does_nothing(name):
    shown = 'threading.active_count(), signal.getsignal(signal.SIGTERM)'
    code = f'import {dotted(name)}, threading, signal; print({shown})'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=True, encoding='utf-8'
    )
    assert done.stdout.startswith(('1 Handlers.SIG_DFL', '1 0')) and done.stderr == ''


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
    assert (
        'Python 3.9' in (ROOT / 'README.md').read_text()
        and '(3, 9)' in (ROOT / 'tools' / 'setup.sh').read_text()
    )
    for path in [*ROOT.glob('*.py'), *ROOT.glob('siamese/**/*.py')]:
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_make_help_lists_every_target():
    shown = subprocess.run(
        ['make', 'help'], cwd=ROOT, capture_output=True, check=True, encoding='utf-8'
    ).stdout
    targets = re.findall(r'^([a-z0-9-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert [line.split()[1] for line in shown.splitlines() if line.startswith('  make')] == targets
