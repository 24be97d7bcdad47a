"""text.py: what strangers wrote is escaped on its way out, and cannot harm a spreadsheet."""

import argparse
import csv
import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese import flags, script
from siamese.monitoring import reports
from siamese.terminal import show
from siamese.text import Counting, printable, table

EVIL = 'a\x1b[2J\r\nb\u202ec\u2028d\x9be\x00'
ESCAPED = 'a\\x1b[2J\\r\\nb\\u202ec\\u2028d\\x9be\\x00'


@pytest.fixture
def log(capsys):
    """A function that logs a line as scripts do, and returns what came out."""
    before = logging.getLogger().handlers[:]

    def log(*words):
        flags.set_up_log('name', verbose=False)
        logging.warning(*words)
        return capsys.readouterr().err

    yield log
    logging.getLogger().handlers[:] = before


def test_a_line_of_the_log_is_one_line_whatever_it_quotes(log):
    assert log('refused: %s', EVIL)[len('00:00:00 ') :] == f'name refused: {ESCAPED}\n'


def test_a_traceback_in_the_log_stays_lines(log, capsys):
    log('')
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.exception('broken')
    lines = capsys.readouterr().err.split('\n')
    assert lines[0].endswith(' broken') and len(lines) > 3
    assert all(line.isprintable() for line in lines)


def test_a_summary_is_one_line_whatever_it_quotes(capsys):
    script.report(argparse.Namespace(json=None), 'stopped: {stopped}', {'stopped': EVIL})
    assert capsys.readouterr().out == f'stopped: {ESCAPED}\n'


@given(st.text())
def test_what_is_shown_is_one_printable_line(text):
    assert printable(text).isprintable() and printable(printable(text)) == printable(text)
    assert all(line.isprintable() for line in table(['head'], [[text], [1]]))


def test_a_table_that_is_too_wide_goes_on_below_under_its_own_heads():
    heads = ('queue', 'ready', 'oldest', 'published/s')
    rows = [['bert', 1200, '5 min', '0.0'], ['siamese.dead', 3, '-', '17.5']]
    assert table(heads, rows, 26) == [
        'queue         ready',
        '    oldest  published/s',
        'bert          1,200',
        '    5 min   0.0',
        'siamese.dead      3',
        '    -       17.5',
    ]
    wide = max(map(len, table(heads, rows)))
    assert table(heads, rows, wide) == table(heads, rows)
    assert len(table(heads, rows, wide - 1)) == 6


@given(st.lists(st.text('ab', max_size=30), min_size=1, max_size=8), st.integers(1, 80))
def test_each_cell_of_a_table_is_whole_whatever_the_width(cells, width):
    lines = table(cells, [cells], width)
    assert sorted(' '.join(lines).split()) == sorted([*cells, *cells]) or '' in cells
    longest = max(map(len, cells))
    assert max(map(len, lines)) <= max(width, longest + 4)


def test_lines_are_shown_one_by_one(capsys):
    show('one', 2, EVIL)
    assert capsys.readouterr().out == f'one\n2\n{ESCAPED}\n'


@pytest.mark.parametrize('cell', ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1'])
def test_a_cell_that_would_be_a_formula_is_harmless(tmp_path, cell):
    path = tmp_path / 'cells.csv'
    reports.write_csv(str(path), [[cell, -1, 0.5, '-', 'a=b', None]])
    (row,) = csv.reader(io.StringIO(path.read_bytes().decode(), newline=''))
    assert row == [f"'{cell}", '-1', '0.5', '-', 'a=b', '']


@pytest.mark.parametrize(
    'template, shown',
    [
        ('{one:block} mined', '1 block mined'),
        ('{many:block} mined', '1200 blocks mined'),
        ('{none:dead letter}, {many:,dead letter}', '0 dead letters, 1,200 dead letters'),
        ('{one:policy/policies}, {many:,policy/policies}', '1 policy, 1,200 policies'),
        ('{one:d} {many:,} {took:.1f} s {word:>4s} {words[1]}', '1 1,200 0.5 s    x b'),
    ],
)
def test_a_template_counts_nouns(template, shown):
    values = {'none': 0, 'one': 1, 'many': 1200, 'took': 0.52, 'word': 'x', 'words': ['a', 'b']}
    assert Counting().vformat(template, (), values) == shown
