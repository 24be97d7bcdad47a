"""The frame parser reads what pika reads, and refuses what pika refuses: `make fuzz` for hours."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support import fuzzing

EXAMPLES = 500
STREAMS = 40  # of each: hypothesis takes longer to choose than these to be read


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_20000_streams_are_read_as_pika_reads_them(seed):
    for number in range(STREAMS):
        fuzzing.compare(seed * STREAMS + number)
