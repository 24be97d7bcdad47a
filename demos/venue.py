"""The broker of the demo, and what goes wrong there.

A throwaway broker is killed and started again. One that is the user's own is left
alone: only the connections of the demo are cut, which run through a proxy.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLong
from typing import Any
from urllib.parse import urlsplit

import common
from siamese.messaging import blocking
from siamese.testbed import proxy, qpid, rabbitmq
from siamese.testbed.product import DidNotStart, NotInstalled, Product

PREFIX = f'siamese.demo.{os.getpid()}'  # of what the demo makes on the broker
QUEUE = f'{PREFIX}.blocks'
PRODUCTS = {'rabbitmq': rabbitmq, 'qpid': qpid}  # as those of broker.py
CLEANUP_S = 2  # for a broker that does not answer any more


class Own:
    """A throwaway broker, at `url`; that is also its `direct_url`."""

    fault = 'kill -9: the broker is dead'
    repair = 'the broker is started again'
    in_words = 'the broker was killed'
    repair_after_s = 0

    def __init__(self, broker: Product) -> None:
        self.broker = broker
        self.what = f'starting a {broker.NAME} of its own; it goes when the demo ends'
        self.url = broker.url
        self.direct_url = broker.url

    def open(self) -> None:
        """Start it; raise Failure."""
        try:
            self.broker.start()
        except DidNotStart as error:
            raise common.Failure(str(error), 3) from None

    def prepare(self) -> None:
        """Nothing stands in front of it."""

    def remember(self) -> None:
        """Have what was declared written to disk, or a killed broker may forget it."""
        if isinstance(self.broker, rabbitmq.RabbitMQ):
            with contextlib.suppress(rabbitmq.CtlFailed):
                self.broker.ctl('eval', 'mnesia:sync_log().')

    def break_down(self) -> None:
        self.broker.kill()

    def recover(self) -> None:
        self.open()


class Theirs:
    """The broker at AMQP_URL, which is the `direct_url`.

    `url` leads through a proxy that can cut its connections.
    """

    what = 'the broker at AMQP_URL; it is yours, so it is not killed'
    fault = 'every connection of the demo is cut, and no new one gets through'
    repair = 'the network is back'
    in_words = 'all connections were cut'
    repair_after_s = 4

    def __init__(self, urls: str) -> None:
        self.urls = urls
        self.endpoints = common.endpoints(urls, 'make demo')
        self.endpoint = self.endpoints[0]
        self.proxies = contextlib.ExitStack()
        self.took_us = False

    def open(self) -> None:
        """Find the first URL that takes us; raise Failure. Takes time, so a thread may do it."""
        self.endpoint = blocking.first_reachable(self.endpoints)
        self.took_us = True
        number = self.endpoints.index(self.endpoint)
        self.direct_url = self.urls.split(',')[number].strip()

    def prepare(self) -> None:
        """Put the proxy in front; only the thread that will close() may do that."""
        behind = with_server_name(self.direct_url)
        self.proxy = self.proxies.enter_context(proxy.in_front_of(behind))
        self.url = self.proxy.url

    def remember(self) -> None:
        """It is not killed."""

    def break_down(self) -> None:
        self.proxy.refuse()
        self.proxy.cut(reset=True)

    def recover(self) -> None:
        self.proxy.accept()

    def close(self) -> None:
        """Remove what the demo made there; raise Failure if that is impossible."""
        self.proxies.close()
        if not self.took_us:
            return
        remedy = './cleanup.py lists what is left'
        try:
            in_background(self._delete).result(CLEANUP_S)
        except TooLong:
            raise common.Failure(f'the broker does not answer; {remedy}', 3) from None

    def _delete(self) -> None:
        with blocking.connected(self.endpoint) as connection:
            channel = connection.channel()
            channel.queue_delete(QUEUE)
            channel.queue_delete(f'{PREFIX}.dead')
            channel.exchange_delete(f'{PREFIX}.dlx')


@contextlib.contextmanager
def chosen() -> Iterator[Own | Theirs]:
    """Yield the broker at AMQP_URL, or else a throwaway one; open() makes it ready."""
    urls = os.environ.get('AMQP_URL')
    if urls:
        with contextlib.closing(Theirs(urls)) as theirs:
            yield theirs
        return
    product = PRODUCTS[os.environ.get('BROKER_PRODUCT') or 'rabbitmq']
    try:
        with product.throwaway(started=False) as broker:
            yield Own(broker)
    except (NotInstalled, DidNotStart) as error:
        raise common.Failure(str(error), 3) from None


def with_server_name(url: str) -> str:
    """Return a URL that names its host, since the proxy has another address."""
    parts = urlsplit(url)
    if parts.scheme != 'amqps' or 'server_name_indication' in parts.query:
        return url
    name = f'server_name_indication={parts.hostname}'
    return parts._replace(query='&'.join(filter(None, [parts.query, name]))).geturl()


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """Do work in a thread that does not outlive us; return its future."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - result() raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
