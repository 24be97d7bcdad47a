"""A connection that waits for each answer, but not for ever (pika's BlockingConnection); what fails is a Failure."""

import copy
import logging
from contextlib import contextmanager

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionBlockedTimeout

import common
from common import Failure
from siamese.messaging import errors as faults

PATIENCE = (
    10  # s that the broker may block publishers, unless the URL says blocked_connection_timeout
)
ERRORS = (AMQPError, AMQPConnectorException, OSError)  # what pika raises when a connection fails


@contextmanager
def connected(endpoint):
    """Be connected; raise Failure, with status 1 if the broker does not let us in, with 3 if it is away, or goes."""
    endpoint, connection = copy.copy(endpoint), None
    endpoint.blocked_connection_timeout = endpoint.blocked_connection_timeout or PATIENCE
    try:
        try:
            connection = pika.BlockingConnection(endpoint)
            yield connection
        except KeyboardInterrupt:
            connection = None  # amid a verb pika cannot close it in good order
            raise
        finally:
            if connection and connection.is_open:
                connection.close()
    except ConnectionBlockedTimeout:
        raise Failure(
            f'{common.display_address(endpoint)} blocks publishers; is there a memory or disk alarm? see rabbitmqctl '
            'status',
            3,
        ) from None
    except ERRORS as error:
        what = 'cannot go on' if connection else 'no broker'
        raise (
            not isinstance(error, ChannelClosedByBroker) and faults.fatal_failure(error, endpoint)
        ) or Failure(
            f'{what} at {common.display_address(endpoint)} ({faults.cause(error)}); is it running, is AMQP_URL right?',
            3,
        ) from None


def first_reachable(endpoints):
    """Return the first of the endpoints that lets us in; raise the Failure of the last."""
    endpoint, *others = endpoints
    try:
        with connected(endpoint):
            return endpoint
    except Failure as failure:
        if not others:
            raise
        logging.warning('%s; trying the next URL', failure)
    return first_reachable(others)
