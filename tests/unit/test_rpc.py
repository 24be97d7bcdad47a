"""rpc_client.py and rpc_server.py: what is an answer, and which question is suspected."""

from types import SimpleNamespace

import pika
import pytest

import rpc_client
import rpc_server
from siamese.messaging.deliveries import Invalid


def properties(correlation_id):
    return pika.BasicProperties(correlation_id=correlation_id)


@pytest.mark.parametrize(
    ('body', 'verdict'),
    [(b'true', True), (b'false', False), (b'{"error": "too long"}', 'too long')],
)
def test_an_answer_is_true_false_or_an_error(body, verdict):
    answer = rpc_client.parse_answer(properties('7-2'), body, highest=7)
    assert answer == (7, 2, verdict)


@pytest.mark.parametrize(
    'body', [b'', b'1', b'null', b'{}', b'{"error": 1}', b'\xff', b'[' * 3000, b' ' * 5000]
)
def test_any_other_body_is_no_answer(body):
    with pytest.raises(Invalid, match='neither true nor false'):
        rpc_client.parse_answer(properties('7-1'), body, highest=7)


@pytest.mark.parametrize(
    'name', [None, b'7-1', '', '7', '8-1', '9-1', '7-0', '7-01', '-7-1', '7-1\n']
)
def test_an_answer_must_name_a_question_that_was_asked(name):
    with pytest.raises(Invalid, match='correlation_id'):
        rpc_client.parse_answer(properties(name), b'true', highest=7)


def redelivered(body):
    return SimpleNamespace(
        redelivered=True,
        properties=pika.BasicProperties(reply_to='answers', correlation_id='7-1'),
        body=body,
    )


def test_a_question_over_which_the_broker_closes_three_connections_is_invalid():
    suspect = rpc_server.Suspect()
    for epoch in (2, 3):
        suspect.check(redelivered(b'7'), epoch)
        suspect.check(redelivered(b'9'), epoch)  # not the first over this connection
    with pytest.raises(Invalid, match='takes no answer'):
        suspect.check(redelivered(b'7'), 4)


def test_another_question_in_between_ends_the_suspicion():
    suspect = rpc_server.Suspect()
    for epoch, body in enumerate([b'7', b'7', b'9', b'7', b'7'], 2):
        suspect.check(redelivered(body), epoch)
