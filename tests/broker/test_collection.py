"""What holds for every script and module when it is run or imported."""

import ast
import json
import re
import subprocess
import sys

import pytest
from support.processes import TEST_TIMEOUT_S
from support.scripts import MODULES, SCRIPTS

from siamese import ROOT, flags


def output_of(*command):
    """Run a command to its end, which must be good; return its stdout and stderr."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
    )
    return done.stdout, done.stderr


def assert_groups_stand_once(shown):
    """No group of flags stands twice or is empty, and those all scripts share are the last."""
    groups, _, _ = shown.partition('\nexamples:\n')
    found = re.findall(r'^(\S.*):\n(.*)', groups, re.MULTILINE)
    titles = [title for title, _ in found]
    assert titles
    assert len(set(titles)) == len(titles)
    assert all(first_flag.startswith('  ') for _, first_flag in found)
    last = [title for title in flags.LAST_GROUPS if title in titles]
    assert titles[len(titles) - len(last) :] == last


@pytest.mark.parametrize('name', SCRIPTS)
def test_its_help_is_its_docstring_and_costs_no_sympy(name):
    out, err = output_of(sys.executable, '-X', 'importtime', name, '--help')
    text = (ROOT / name).read_text()
    about, _, examples = ast.get_docstring(ast.parse(text)).partition('Examples:\n')
    usage, _, rest = out.partition('\n\n')
    assert usage.startswith(f'usage: {name} ')
    assert rest.startswith(about.rstrip())
    assert examples
    assert out.rstrip().endswith(examples.rstrip())
    library = 'uvicorn' if 'siamese.web' in text else 'pika'
    assert '--verbose' not in out or f'log what {library} does' in out
    assert_groups_stand_once(rest.partition(about.rstrip())[2])
    assert 'argparse' in err
    assert 'sympy' not in err
    assert all(line.startswith('import time:') for line in err.splitlines())


def dotted(name):
    return name[:-3].replace('/', '.').replace('.__init__', '')


def test_importing_a_module_does_nothing():
    modules = [dotted(name) for name in [*MODULES, *SCRIPTS]]
    out, err = output_of(sys.executable, '-m', 'tests.support.import_each', *modules)
    nothing = {
        'threads': 1,
        'SIGINT': 'default_int_handler',
        'SIGTERM': 'SIG_DFL',
        'output': '',
    }
    assert json.loads(out) == dict.fromkeys(modules, nothing)
    assert err == ''


def test_make_help_lists_every_target():
    shown, _ = output_of('make', 'help')
    targets = re.findall(r'^([a-z0-9-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert [line.split()[1] for line in shown.splitlines() if line.startswith('  make')] == targets
