"""perf_consumer.py: it compares every byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perf_consumer
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import performance

UTF8 = 'application/json; charset=utf-8'
UTF16 = 'application/json; charset=utf-16'
BODY, _ = performance.body_of('utf-8', 300)


@given(st.integers(performance.LEAST_SIZE, 600), st.data())
def test_any_altered_byte_is_named(size, data):
    body, _ = performance.body_of('utf-8', size)
    at = data.draw(st.integers(0, size - 1))
    wrong = data.draw(st.integers(0, 255).filter(body[at].__ne__))
    altered = body[:at] + bytes([wrong]) + body[at + 1 :]
    perf_consumer.compare(UTF8, body)
    with pytest.raises(Invalid, match=f'byte {at} is {wrong:02x}, not {body[at]:02x}'):
        perf_consumer.compare(UTF8, altered)


@given(st.integers(0, 299), st.sampled_from([UTF8, UTF16]))
def test_any_body_cut_short_is_noticed(size, content_type):
    with pytest.raises(Invalid, match='corrupt'):
        perf_consumer.compare(content_type, BODY[:size])


def test_a_body_that_is_too_long_is_corrupt():
    with pytest.raises(Invalid, match='corrupt'):
        perf_consumer.compare(UTF8, BODY + b' ')


def test_the_first_difference_may_be_the_end():
    assert perf_consumer.first_difference(b'abc', b'ab') == 'byte 2 is the end, not 63'
    assert perf_consumer.first_difference(b'ab', b'abc') == 'byte 2 is 63, not the end'
