"""Numbers and message bodies as the dashboard shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese.monitoring.queues import Sample
from siamese.web import formats


@given(st.binary(max_size=400))
def test_a_body_is_shown_completely_and_without_invisible_characters(body):
    shown, remark = formats.forms(body)
    for text in shown.values():
        assert all(c.isprintable() or c in '\n\t' for c in text)
    in_hex = ''.join(line[10:58] for line in shown['Hex'].splitlines())
    assert bytes.fromhex(in_hex) == body
    assert ('UTF-8' in remark) or not body


def test_characters_that_change_the_reading_direction_are_escaped():
    assert formats.visible('a\u202eb\x1b[0m\x00é値') == 'a\\u202eb\\x1b[0m\\x00é値'


@pytest.mark.parametrize(
    'body, best, remark',
    [
        (b'', 'Text', 'empty'),
        (b'{"a": 1}', 'JSON', 'UTF-8'),
        (b'{}', 'Text', 'UTF-8'),
        (b'[1, 2', 'Text', 'UTF-8'),
        (b'[' * 60_000, 'Text', 'UTF-8'),
        (b'hello', 'Text', 'UTF-8'),
        (b'ab\xff', 'Hex', 'not UTF-8 at byte 2'),
    ],
)
def test_the_best_form_of_a_body_comes_first(body, best, remark):
    shown, found = formats.forms(body)
    assert next(iter(shown)) == best
    assert found == remark


@pytest.mark.parametrize(
    'number, text',
    [(0, '0'), (0.25, '0.25'), (7.34, '7.3'), (99.96, '100.0'), (1234.4, '1,234')],
)
def test_rates_have_as_many_digits_as_people_read(number, text):
    assert formats.rate(number) == text


def test_rates_are_means_over_15_seconds():
    samples = [Sample(at, 1, 0, at, 0, 2 * at) for at in range(0, 40, 5)]
    smoothed = formats.smooth(samples, 20)
    assert [row[:3] for row in smoothed] == [row[:3] for row in samples]
    assert smoothed[0] == (0, 1, 0, 0, 0, 0)
    assert smoothed[1] == (5, 1, 0, 2.5, 0, 5)
    assert smoothed[-1] == (35, 1, 0, 30, 0, 60)


def test_rates_over_a_gap_are_left_out():
    samples = [Sample(at, 1, 0, 7, 0, 0) for at in (0, 5, 10, 60, 65, 70)]
    assert [row.at for row in formats.smooth(samples, 20)] == [0, 5, 10, 65, 70]


def test_a_line_has_a_gap_where_nothing_was_collected():
    points = [(0, 1), (4, 2), (10, 3), (50, 4)]
    assert formats.with_gaps(points, 20) == [(4, 2), (10, 3), (30, None), (50, 4)]


def test_a_sparkline_fills_its_height_and_ends_now():
    now = 90_000 + 900
    points = [(now - 450, 0), (now - 15, 4), (now, 2)]
    assert formats.spark([], now) == ''
    assert formats.spark(points, now) == 'M60 24L118 2L120 13'


def test_sparklines_have_a_common_clock_and_gaps():
    now = 90_000 + 900
    points = [(now - 300, 1), (now - 200, None), (now, 1)]
    assert formats.spark(points, now) == 'M80 2M120 2'
