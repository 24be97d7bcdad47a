"""terminal.py: colours, lines that fit, progress; and the lines of a perf run."""

import io

import pytest

from siamese import script, terminal, text
from siamese.scenarios.rows import Rows


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = 'utf-8'

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    monkeypatch.setattr(terminal, '_when', 'auto')
    monkeypatch.delenv('NO_COLOR', raising=False)
    monkeypatch.setenv('TERM', 'xterm')


@pytest.fixture
def columns(monkeypatch):
    """A function that sets how wide the terminal is; 0: there is none."""

    def set_columns(width):
        monkeypatch.setattr(terminal, 'columns', lambda stream=None: width)

    return set_columns


def test_only_a_terminal_gets_colours():
    assert terminal.coloured('a', terminal.RED, Screen()) == '\033[31ma\033[0m'
    assert terminal.coloured('a', terminal.RED, io.StringIO()) == 'a'
    assert terminal.coloured('a', '', Screen()) == 'a'


@pytest.mark.parametrize('name, value', [('NO_COLOR', '1'), ('TERM', 'dumb')])
def test_colours_can_be_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert terminal.coloured('a', terminal.RED, Screen()) == 'a'


def test_the_flag_goes_before_all(monkeypatch):
    terminal.choose('never')
    assert not terminal.has_colour(Screen())
    monkeypatch.setenv('NO_COLOR', '1')
    terminal.choose('always')
    assert terminal.has_colour(io.StringIO())


@pytest.mark.parametrize('status, colour', [(0, '32'), (1, '31'), (3, '33'), (130, '33')])
def test_a_verdict_has_the_colour_of_its_exit_status(status, colour):
    assert terminal.colour_of(status) == colour and terminal.colour_of(None) == ''


def test_words_that_warn_have_colours():
    assert terminal.with_coloured_words('a  FAIL: b', Screen()) == 'a  \033[31mFAIL\033[0m: b'
    assert terminal.with_coloured_words('a  pass', Screen()) == 'a  pass'


def test_strangers_text_cannot_colour_a_terminal(monkeypatch, capsys):
    terminal.choose('always')
    terminal.show('a \033[31mred\nline', 'FAIL', colour=terminal.GREEN)
    out = capsys.readouterr().out
    assert out == '\033[32ma \\x1b[31mred\\nline\033[0m\n\033[32mFAIL\033[0m\n'
    terminal.show('FAIL')
    assert capsys.readouterr().out == '\033[31mFAIL\033[0m\n'


def test_long_lines_go_on_below_their_last_column(columns):
    line = '     1  lost       confirmed, but never delivered'
    for width in (0, 80):
        columns(width)
        assert terminal.wrapped(line, 19) == line
    columns(40)
    assert terminal.wrapped(line, 19).split('\n') == [
        '     1  lost       confirmed, but never',
        ' ' * 19 + 'delivered',
    ]


def test_a_url_is_never_cut(columns):
    columns(30)
    url = 'http://example.org/' + 'x' * 40
    assert url in terminal.wrapped(f'see {url} for more', 4)


def test_a_bar_is_as_full_as_its_share():
    assert terminal.bar(0.5, 4, Screen()) == '██░░'
    assert terminal.bar(7, 2, Screen()) == '██' and terminal.bar(-1, 2, Screen()) == '░░'
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    assert terminal.bar(0.5, 4, ascii_only) == '##..'


def test_progress_leaves_nothing_on_its_line():
    screen = Screen()
    terminal.show_progress('half', screen)
    terminal.clear_progress()
    assert screen.getvalue().split('\r')[-2].strip() == ''
    assert '\033' not in screen.getvalue()
    length = len(screen.getvalue())
    terminal.clear_progress()
    assert len(screen.getvalue()) == length


@pytest.mark.parametrize(
    'done, elapsed, count, duration, expected',
    [
        (10, 5, 40, None, '10 of 40 in 5 s, 15 s left'),
        (0, 5, 40, None, '0 of 40 in 5 s'),
        (7, 5, None, 20, '7 in 5 s, 15 s left'),
        (10, 5, 40, 8, '10 of 40 in 5 s, 3 s left'),
    ],
)
def test_progress_tells_the_time_left(done, elapsed, count, duration, expected):
    assert script.progress_line(done, elapsed, count, duration).endswith(f'  {expected}')


@pytest.mark.parametrize(
    'count, per_s, expected',
    [
        (1, 161_141, ''),
        (3, 8660, ''),
        (0, 0, ''),
        (30, 0.5, '0 msg/s'),
        (100, 8660, '8,660 msg/s'),
        (99, 99, '99 msg/s'),
    ],
)
def test_few_events_in_a_short_time_have_no_rate(count, per_s, expected):
    assert text.rate(count, per_s, ' msg/s') == expected


# ---- the lines of a perf run

TIMES = {'min': 350, 'median': 540, 'p75': 880, 'p95': 80_000, 'p99': 109_000, 'max': 118_000}


def shown(capsys, width, columns, count=1):
    columns(width)
    rows = Rows(('published', 'confirmed'))
    for second in range(1, count + 1):
        rows.show(second, (12_000, 36_682.4), TIMES, '')
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize('width', [0, 60, 80, 120])
def test_numbers_stand_below_their_names(capsys, columns, width):
    head, row = shown(capsys, width, columns)
    for name, number in (('published', '12,000/s'), ('confirmed', '36,682/s'), ('max', '118')):
        end = head.index(name) + len(name)
        assert row[:end].endswith(number), row
    assert len(row) <= (width or 80)
    assert ('█' * 10 in row) == (width >= 80)


def test_the_head_comes_again_after_20_lines(capsys, columns):
    lines = shown(capsys, 80, columns, count=41)
    assert [at for at, line in enumerate(lines) if 'published' in line] == [0, 21, 42]


def test_a_problem_takes_the_place_of_the_bar(capsys, columns):
    columns(80)
    Rows(('delivered',)).show(1, (0,), {}, 'broker unavailable, 3 s')
    assert capsys.readouterr().out.endswith('0/s  broker unavailable, 3 s\n')
