"""The layout: what is at the root, which way imports go, and how dense the code is."""

import ast
import os

import density
import pytest

from siamese import ROOT

MAX_ROOT_FILES = 20
MAX_COMMON_LINES = 150

# A package may import packages of the layers below its own, and itself. From the top down.
LAYERS = [
    {'scripts'},
    {'web', 'testbed'},
    {'monitoring', 'access', 'scenarios'},
    {'messaging'},
    {
        'absent',
        'start',
        'script',
        'flags',
        'ledger',
        'text',
        'terminal',
        'hosts',
        'redacted',
        'refusals',
        'copies',
        'clocks',
        'limits',
        'lifetimes',
        'restarts',
        'evidence',
        'following',
        'numbered',
        'order',
        'pages',
        'sieve',
        'gathered',
        'progress',
        'verdict',
        'watching',
    },
    {'common'},
]
LOWEST_LAYER = len(LAYERS) - 1
LAYER_OF = {package: number for number, packages in enumerate(LAYERS) for package in packages}

ROOT_FILES = sorted(path.name for path in ROOT.glob('*.py'))
INTERNALS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('siamese/**/*.py'))
SCRIPTS = [name for name in ROOT_FILES if name != 'common.py']


def tree_of(name):
    return ast.parse((ROOT / name).read_text())


def imports_of(tree):
    """Yield (line, dotted name) of every module that a file imports, within functions as well.

    `from a import b` yields a.b, since b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'line {node.lineno}: a relative import'
            for alias in node.names:
                yield node.lineno, f'{node.module}.{alias.name}'


def package_of(dotted):
    """Return the package of ours that a dotted name is in; None for a library, and for siamese.

    A module of siamese/ itself counts as a package. siamese holds nothing but ROOT and
    VERSION, and these may be imported everywhere.
    """
    first, *rest = dotted.split('.')
    if first == 'siamese':
        return rest[0] if rest and rest[0] not in ('ROOT', 'VERSION') else None
    if first == 'common':
        return 'common'
    return 'scripts' if f'{first}.py' in SCRIPTS else None


def dotted(name):
    return name[: -len('.py')].replace('/', '.').replace('.__init__', '')


def is_upward(package, target):
    """Return whether an import of package `target` goes up, or to another one of the same layer.

    The modules of siamese/ itself are one layer, and may import each other, unless in a circle.
    """
    if package == target:
        return package == 'scripts'
    if LAYER_OF[package] == LOWEST_LAYER - 1:
        return LAYER_OF[target] < LAYER_OF[package]
    return LAYER_OF[target] <= LAYER_OF[package]


def upward_imports(name, tree):
    """Return the imports of a file that go up or sideways, each as one line for people."""
    package = package_of(dotted(name))
    if package is None:
        return []
    found = []
    for line, imported in imports_of(tree):
        target = package_of(imported)
        if target is not None and is_upward(package, target):
            found.append(f'{name}:{line} imports {imported}')
    return found


def cycles_in(graph):
    """Return the nodes from which a way leads back to themselves."""
    found = []
    for start in graph:
        reached, ahead = set(), list(graph[start])
        while ahead:
            node = ahead.pop()
            if node not in reached:
                reached.add(node)
                ahead += graph.get(node, ())
        if start in reached:
            found.append(start)
    return found


def module_imported(name):
    """Return the file of ours that `import name` or `from module import name` reads, or None."""
    for candidate in (name, name.rpartition('.')[0]):
        if candidate and candidate in MODULES:
            return candidate
    return None


MODULES = {dotted(name): name for name in [*ROOT_FILES, *INTERNALS]}


# ---- the root


def test_the_root_holds_at_most_20_python_files():
    assert len(ROOT_FILES) <= MAX_ROOT_FILES, ROOT_FILES


@pytest.mark.parametrize('name', SCRIPTS)
def test_each_root_file_but_common_is_an_executable_script(name):
    text = (ROOT / name).read_text()
    assert os.access(ROOT / name, os.X_OK)
    assert text.startswith('#!/usr/bin/env python3\n')
    assert "if __name__ == '__main__':" in text


def test_common_is_no_script():
    assert not os.access(ROOT / 'common.py', os.X_OK)
    assert '__main__' not in (ROOT / 'common.py').read_text()


def test_common_has_at_most_150_lines():
    assert len((ROOT / 'common.py').read_text().splitlines()) <= MAX_COMMON_LINES


# ---- imports


def test_each_package_has_a_layer():
    packages = {package_of(dotted(name)) for name in INTERNALS} - {None}
    assert packages <= LAYER_OF.keys(), f'without a layer: {packages - LAYER_OF.keys()}'


@pytest.mark.parametrize('name', ROOT_FILES + INTERNALS)
def test_imports_go_down(name):
    assert upward_imports(name, tree_of(name)) == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {}
    for module, name in MODULES.items():
        targets = {module_imported(imported) for _, imported in imports_of(tree_of(name))}
        graph[module] = targets - {None, 'siamese'}
    assert cycles_in(graph) == []


def test_common_imports_nothing_of_ours():
    imported = [name for _, name in imports_of(tree_of('common.py'))]
    assert [name for name in imported if name in MODULES or package_of(name)] == []
    assert not any(name.split('.')[0] == 'siamese' for name in imported)


# ---- the environment


class AtImport(ast.NodeVisitor):
    """Finds where a module reads the environment while it is imported: outside of functions."""

    def __init__(self):
        self.lines = []

    # The names of the methods are those of ast.
    def visit_FunctionDef(self, node):
        """Look at what runs at import: decorators and defaults, not the body."""
        defaults = [default for default in node.args.kw_defaults if default]
        for part in (*node.decorator_list, *node.args.defaults, *defaults):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        """Its body does not run at import."""

    def visit_Name(self, node):
        self.note(node, node.id)

    def visit_Attribute(self, node):
        self.note(node, node.attr)
        self.generic_visit(node)

    def note(self, node, name):
        if name in ('environ', 'getenv'):
            self.lines.append(node.lineno)


def lines_that_read_the_environment(tree):
    visitor = AtImport()
    visitor.visit(tree)
    return visitor.lines


def test_common_reads_no_environment_at_import():
    assert lines_that_read_the_environment(tree_of('common.py')) == []


# ---- how dense the code is


@pytest.fixture(scope='module')
def total():
    return density.total_of(density.measure())


def test_the_mean_line_has_at_most_42_columns(total):
    assert density.MAX_MEAN_COLUMNS == 42
    assert total.mean_columns <= 42


def test_there_are_at_most_10_conditional_expressions_in_1000_lines(total):
    assert density.MAX_CONDITIONALS == 10
    assert total.per_thousand_lines(total.conditionals) <= 10


def test_there_are_at_most_2_wide_tuple_assignments_in_1000_lines(total):
    assert density.MAX_WIDE_TUPLES == 2
    assert total.per_thousand_lines(total.wide_tuples) <= 2


def test_there_is_no_nested_conditional_expression(total):
    assert total.nested == []


def test_there_is_no_function_over_40_lines(total):
    assert density.MAX_FUNCTION_LINES == 40
    assert total.long_functions == []


def test_there_is_no_class_over_200_lines(total):
    assert density.MAX_CLASS_LINES == 200
    assert total.large_classes == []


# ---- these tests can fail


def test_an_import_that_goes_up_is_named():
    tree = ast.parse('def f():\n    from siamese.web import page\n')
    assert upward_imports('siamese/messaging/link.py', tree) == [
        'siamese/messaging/link.py:2 imports siamese.web.page'
    ]


@pytest.mark.parametrize(
    'name, text',
    [
        ('producer.py', 'import validate'),
        ('common.py', 'from siamese import text'),
        ('siamese/web/page.py', 'import siamese.testbed.proxy'),
        ('siamese/text.py', 'from siamese.messaging.link import connected'),
        ('siamese/access/saml.py', 'import producer'),
    ],
)
def test_an_import_that_breaks_the_rule_is_found(name, text):
    assert len(upward_imports(name, ast.parse(text))) == 1


@pytest.mark.parametrize(
    'name, text',
    [
        ('producer.py', 'import os, pika, common'),
        ('siamese/web/page.py', 'from siamese import ROOT, text'),
        ('siamese/web/page.py', 'from siamese.web.widgets import box'),
        ('siamese/script.py', 'from siamese import ledger'),
    ],
)
def test_an_import_that_keeps_the_rule_is_let_pass(name, text):
    assert upward_imports(name, ast.parse(text)) == []


def test_a_circle_is_found():
    assert cycles_in({'a': ['b'], 'b': ['c'], 'c': ['b'], 'd': []}) == ['b', 'c']


@pytest.mark.parametrize(
    'text, lines',
    [
        ('import os\nHOME = os.environ["HOME"]', [2]),
        ('from os import environ\nHOME = environ["HOME"]', [2]),
        ('import os\ndef f(a=os.getenv("A")):\n    return os.environ', [2]),
        ('import os\ndef f():\n    return os.environ', []),
        ('import os\nclass A:\n    home = os.environ.get("HOME")', [3]),
    ],
)
def test_reading_the_environment_at_import_is_found(text, lines):
    assert lines_that_read_the_environment(ast.parse(text)) == lines


def test_density_counts_what_it_says():
    text = 'a = 1 if b else 2 if c else 3\n\nx, y, z = 1, 2, 3\nv, w = 4, 5\n'
    text += 'def long():\n' + '    pass\n' * 40
    text += 'class Large:\n' + '    pass\n' * 200
    counted = density.density_of(text, 'some.py')
    assert (counted.lines, counted.conditionals, counted.wide_tuples) == (245, 2, 1)
    assert counted.nested == ['some.py:1']
    assert counted.long_functions == ['some.py:long (41 lines)']
    assert counted.large_classes == ['some.py:Large (201 lines)']
    assert density.violations(counted) == [
        '4.1 wide tuple assignments in 1,000 lines',
        'nested conditional expression: some.py:1',
        'long function: some.py:long (41 lines)',
        'large class: some.py:Large (201 lines)',
    ]
