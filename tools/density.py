#!/usr/bin/env python3
"""Count how dense the code is, and compare that with the limits below.

    usage: density.py [--files]

Counts every Python file that git knows, apart from tests, docs, tools and bench/peers. --files adds
a table, a line for each file. Exit status: 0 every figure is within its limit, 1 one is not.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_COUNTED = ('tests/', 'bench/peers/', 'docs/', 'tools/')

MAX_MEAN_COLUMNS = 42
MAX_CONDITIONALS = 10  # in 1,000 lines
MAX_WIDE_TUPLES = 2  # in 1,000 lines
MAX_NESTED_CONDITIONALS = 0
MAX_FUNCTION_LINES = 40
MAX_CLASS_LINES = 200

WIDE_TUPLE = 3  # names that one assignment sets


@dataclass
class Density:
    """What was counted in one file, or in several."""

    lines: int = 0  # that are not blank
    columns: int = 0
    conditionals: int = 0  # `a if b else c`
    wide_tuples: int = 0  # `a, b, c = ...`
    nested: list[str] = field(default_factory=list)
    long_functions: list[str] = field(default_factory=list)
    large_classes: list[str] = field(default_factory=list)

    @property
    def mean_columns(self) -> float:
        return self.columns / max(self.lines, 1)

    def per_thousand_lines(self, count: int) -> float:
        return 1000 * count / max(self.lines, 1)

    def add(self, other: Density) -> None:
        self.lines += other.lines
        self.columns += other.columns
        self.conditionals += other.conditionals
        self.wide_tuples += other.wide_tuples
        self.nested += other.nested
        self.long_functions += other.long_functions
        self.large_classes += other.large_classes


def is_nested(conditional: ast.IfExp) -> bool:
    """Return whether a conditional expression holds another one."""
    within = [node for node in ast.walk(conditional) if node is not conditional]
    return any(isinstance(node, ast.IfExp) for node in within)


def is_wide_tuple(node: ast.Assign) -> bool:
    target = node.targets[0]
    return isinstance(target, ast.Tuple) and len(target.elts) >= WIDE_TUPLE


def lines_of(definition: ast.stmt) -> int:
    end = definition.end_lineno or definition.lineno
    return end - definition.lineno + 1


def count_node(density: Density, node: ast.AST, name: str) -> None:
    """Add one node of the syntax tree of the file `name`."""
    if isinstance(node, ast.IfExp):
        density.conditionals += 1
        if is_nested(node):
            density.nested.append(f'{name}:{node.lineno}')
    elif isinstance(node, ast.Assign):
        density.wide_tuples += is_wide_tuple(node)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if lines_of(node) > MAX_FUNCTION_LINES:
            density.long_functions.append(f'{name}:{node.name} ({lines_of(node)} lines)')
    elif isinstance(node, ast.ClassDef) and lines_of(node) > MAX_CLASS_LINES:
        density.large_classes.append(f'{name}:{node.name} ({lines_of(node)} lines)')


def density_of(text: str, name: str) -> Density:
    """Count one file, whose text is given."""
    lines = [line for line in text.splitlines() if line.strip()]
    density = Density(lines=len(lines), columns=sum(map(len, lines)))
    for node in ast.walk(ast.parse(text)):
        count_node(density, node, name)
    return density


def counted_files() -> list[str]:
    """Return the names of the files that are counted."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '*.py']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding='utf-8')
    names = sorted(set(listed.stdout.split()))
    ours = [name for name in names if not name.startswith(NOT_COUNTED)]
    return [name for name in ours if (ROOT / name).exists()]


def measure() -> dict[str, Density]:
    """Return the density of each file that is counted, by its name."""
    texts = {name: (ROOT / name).read_text(encoding='utf-8') for name in counted_files()}
    return {name: density_of(text, name) for name, text in texts.items()}


def total_of(files: dict[str, Density]) -> Density:
    total = Density()
    for density in files.values():
        total.add(density)
    return total


def violations(total: Density) -> list[str]:
    """Return what is over its limit, each as one line."""
    conditionals = total.per_thousand_lines(total.conditionals)
    wide_tuples = total.per_thousand_lines(total.wide_tuples)
    found = []
    if total.mean_columns > MAX_MEAN_COLUMNS:
        found.append(f'the mean line has {total.mean_columns:.1f} columns')
    if conditionals > MAX_CONDITIONALS:
        found.append(f'{conditionals:.1f} conditional expressions in 1,000 lines')
    if wide_tuples > MAX_WIDE_TUPLES:
        found.append(f'{wide_tuples:.1f} wide tuple assignments in 1,000 lines')
    if len(total.nested) > MAX_NESTED_CONDITIONALS:
        found += [f'nested conditional expression: {place}' for place in total.nested]
    found += [f'long function: {function}' for function in total.long_functions]
    found += [f'large class: {large}' for large in total.large_classes]
    return found


def print_files(files: dict[str, Density]) -> None:
    """Print a table, the widest lines first."""
    print('columns  conditionals  nested  wide tuples  long functions  lines  file')
    for name, density in sorted(files.items(), key=lambda item: -item[1].mean_columns):
        row = f'{density.mean_columns:7.1f}  {density.conditionals:12}  {len(density.nested):6}'
        row += f'  {density.wide_tuples:11}  {len(density.long_functions):14}'
        print(f'{row}  {density.lines:5}  {name}')
    print()


def print_total(files: int, total: Density) -> None:
    conditionals = total.per_thousand_lines(total.conditionals)
    wide_tuples = total.per_thousand_lines(total.wide_tuples)
    print(f'{files} files, {total.lines:,} lines that are not blank')
    print(f'{total.mean_columns:6.1f} columns in the mean line (at most {MAX_MEAN_COLUMNS})')
    print(
        f'{conditionals:6.1f} conditional expressions in 1,000 lines (at most {MAX_CONDITIONALS})'
    )
    print(f'{wide_tuples:6.1f} wide tuple assignments in 1,000 lines (at most {MAX_WIDE_TUPLES})')
    print(f'{len(total.nested):6} nested conditional expressions (none)')
    print(f'{len(total.long_functions):6} functions over {MAX_FUNCTION_LINES} lines (none)')
    print(f'{len(total.large_classes):6} classes over {MAX_CLASS_LINES} lines (none)')


def main() -> int:
    parser = argparse.ArgumentParser(description='Count how dense the code is.')
    parser.add_argument('--files', action='store_true', help='also print a line for each file')
    args = parser.parse_args()
    files = measure()
    total = total_of(files)
    if args.files:
        print_files(files)
    print_total(len(files), total)
    found = violations(total)
    for violation in found:
        print(f'over its limit: {violation}', file=sys.stderr)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
