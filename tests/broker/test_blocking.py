"""BlockingConnection: what it waits for, and what it takes, has an end."""

import struct
import time

import pika
import pytest
from support import small_broker
from support.processes import replace_once

from common import Failure
from siamese.messaging import blocking
from siamese.testbed.proxy import in_front_of

BODY = b'x' * 200_000
# The header of a message: class 60, weight, size of the body.
HEADER = struct.pack('>HHQ', 60, 0, len(BODY))
ENDLESS_HEADER = struct.pack('>HHQ', 60, 0, 2**40)
# The beginning of the first frame of the body, on channel 1: its type, channel and size.
FRAME = struct.pack('>BH', 3, 1)
ENDLESS_FRAME = struct.pack('>BHL', 3, 1, 2**31)


def lengthen(data):
    """Make the first frame of a body endless."""
    at = data.find(FRAME)
    if at < 0 or HEADER not in data:
        return data
    return data[:at] + ENDLESS_FRAME + data[at + len(ENDLESS_FRAME) :]


@pytest.mark.parametrize(
    'alter, words',
    [
        (replace_once(HEADER, ENDLESS_HEADER)[0], 'a message of 1,099,511,627,776 bytes'),
        (lengthen, 'a frame of 2,147,483,656 bytes; agreed were 131,072'),
    ],
    ids=['message', 'frame'],
)
def test_what_has_no_end_ends_the_connection(channel, url, alter, words):
    channel.queue_declare('large')
    channel.basic_publish('', 'large', BODY)
    with in_front_of(url, alter=alter) as proxy:
        with (
            pytest.raises(Failure, match=words),
            blocking.connected(pika.URLParameters(proxy.url)) as connection,
        ):
            connection.channel().basic_get('large')


def test_a_request_that_is_never_answered_ends():
    with small_broker.running(never_answers=('Exchange.Delete',)) as broker:
        began = time.monotonic()
        with (
            pytest.raises(Failure, match=r'no answer for 0\.5 s'),
            blocking.connected(pika.URLParameters(broker.url), timeout_s=0.5) as connection,
        ):
            connection.channel().exchange_delete('siamese.none')
    assert time.monotonic() - began < 10


def test_what_stops_a_wait_is_raised_there():
    class Stop(Exception):
        pass

    asked = []

    def stopped():
        asked.append(time.monotonic())
        return Stop() if len(asked) == 3 else None

    with small_broker.running(never_answers=('Exchange.Delete',)) as broker:
        with (
            pytest.raises(Stop),
            blocking.connected(pika.URLParameters(broker.url), stopped=stopped) as connection,
        ):
            connection.channel().exchange_delete('siamese.none')
