"""What a reader looks for."""

import re

import pytest

from common import Failure
from siamese.web import patterns

LONGEST_NAME = 255  # characters; RabbitMQ takes no longer one


def test_a_part_of_a_name_is_found_in_any_case():
    is_found = patterns.finds('Orders.', is_expression=False)
    assert is_found('all.orders.north') and not is_found('orders-north')


@pytest.mark.parametrize(
    'expression, found',
    [
        (r'^orders\.', ['orders.north', 'Orders.South']),
        (r'north|west$', ['orders.north', 'northern', 'all.west']),
        (r'[^a-z.]', ['Q1']),
        (r'^\w{2}$', ['Q1']),
    ],
)
def test_an_expression_finds_names_in_any_case(expression, found):
    names = ['orders.north', 'Orders.South', 'northern', 'all.west', 'Q1']
    is_found = patterns.finds(expression, is_expression=True)
    assert list(filter(is_found, names)) == found


@pytest.mark.parametrize(
    'expression, problem',
    [
        ('(a', 'missing )'),
        ('a)', 'unexpected )'),
        ('[a', 'missing ]'),
        ('*a', 'no argument for repetition'),
        ('(?=a)', 'invalid perl operator'),
        ('a\\', 'trailing'),
        ('\\1', 'invalid escape'),
        ('a{1001}', 'invalid repetition size'),
        ('a' * 201, 'longer than'),
    ],
)
def test_what_is_no_expression_says_why(expression, problem):
    with pytest.raises(Failure, match=re.escape(problem)):
        patterns.finds(expression, is_expression=True)


@pytest.mark.parametrize('expression', ['(a+)+$', '(a|aa)+$', '^((a*)*)*b', '(a*)*' * 10 + 'c'])
def test_no_expression_takes_long(expression):
    """Python's own would take longer than the world has been there, and so would this test."""
    name = 'a' * (LONGEST_NAME - 1) + '!'
    assert not patterns.finds(expression, is_expression=True)(name)


def test_a_name_that_is_no_text_is_looked_at_too():
    assert patterns.finds('^q.$', is_expression=True)('q\udc80')
