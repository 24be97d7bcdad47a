"""What throwaway brokers of all products share: ports, processes, signals, failures.

Standard library only: tools/setup.sh asks for a product before there is a virtual
environment.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from siamese.testbed.guard import Guard, NoFolder, Processes

# For a start, a graceful stop, one call of rabbitmqctl; a busy machine is slow.
TIMEOUT_S = 120
POLL_INTERVAL_S = 0.05
URL = 'amqp://guest:guest@127.0.0.1:{port}/%2F'


class NotInstalled(Exception):
    """The product is not installed here; the message says how to install it."""


class DidNotStart(Exception):
    """The broker did not start; the message quotes its log and names the remedy."""


class PortTaken(DidNotStart):
    """Another program took one of our ports before the broker bound it."""


class Nodes(Processes):
    """The processes of one broker by name, for example 'n0', 'n1'; each logs into NAME.log.

    product: for messages. helpers: the names of processes that all others need. remedy: what to
    look at where one of them does not start.
    """

    def __init__(
        self,
        guard: Guard,
        product: str,
        remedy: str,
        helpers: Sequence[str],
    ) -> None:
        super().__init__(guard)
        self.product = product
        self.remedy = remedy
        self.helpers = helpers

    def launch(
        self,
        name: str,
        command: Sequence[str],
        env: dict[str, str] | None = None,
    ) -> None:
        """Start a process."""
        folder = self.guard.folder
        with open(f'{folder}/{name}.log', 'wb') as log:
            self.start(name, command, output=log, env=env, cwd=folder)

    def wait_for_end(self, name: str) -> None:
        """Wait until a process has ended, for at most TIMEOUT_S."""
        if self.is_running(name):
            self.started[name].wait(TIMEOUT_S)

    def wait_until(
        self,
        name: str,
        condition: Callable[[], bool],
        deadline: float,
    ) -> None:
        """Wait until `condition()` is true; raise DidNotStart for its failure.

        The process `name`, and the helpers, have to run until then.
        """
        while True:
            for needed in (*self.helpers, name):
                self._check_running(needed)
            if condition():
                return
            if time.monotonic() > deadline:
                problem = f'was not ready within {TIMEOUT_S} s'
                raise self._failure(name, problem)
            time.sleep(POLL_INTERVAL_S)

    def _check_running(self, name: str) -> None:
        if not self.is_running(name):
            status = self.started[name].returncode
            raise self._failure(name, f'ended with status {status}')

    def _failure(self, name: str, problem: str) -> DidNotStart:
        path = f'{self.guard.folder}/{name}.log'
        with open(path, encoding='utf-8', errors='replace') as log:
            lines = [line.strip()[:200] for line in log]
        taken = list(filter(says_port_taken, lines))
        errors = dict.fromkeys([*taken[:1], *filter(says_error, lines)])
        shown = [*errors][:5] or lines[-5:] or ['(nothing)']
        head = f'{self.product} ({name}) {problem}. Its log says:'
        message = '\n    '.join([head, *shown])
        if name in self.helpers or taken:
            remedy = 'Another program took one of its ports: start it again.'
            return PortTaken(f'{message}\n{remedy}')
        return DidNotStart(f'{message}\n{self.remedy}')


def says_port_taken(line: str) -> bool:
    """Return whether a line of the log says that a port is in use."""
    return 'eaddrinuse' in line or 'in use' in line


def says_error(line: str) -> bool:
    """Return whether a line of the log tells of an error.

    An empty entry of the log ends with the > of its prefix.
    """
    return 'error' in line.lower() and not line.endswith('>')


class Product:
    """A throwaway broker of one product, with the verbs that all of them know.

    folder: all that it writes. urls: the AMQP URL of each node; url: the same, comma
    separated. management_url: the HTTP API of node 0, as http://USER:PASSWORD@HOST:PORT;
    None without one. A `node` is its number, or None for all nodes at once. Data survive
    stop() or kill() and start(). NAME is for people, REMEDY for a start that fails.
    """

    NAME = ''
    REMEDY = ''
    HELPERS: tuple[str, ...] = ()  # processes besides the nodes

    def __init__(self) -> None:
        try:
            self.guard = Guard('broker')
        except NoFolder as error:
            raise DidNotStart(str(error)) from None
        self.folder = self.guard.folder
        self.processes = Nodes(self.guard, self.NAME, self.REMEDY, self.HELPERS)
        self.urls: list[str] = []
        self.management_url: str | None = None

    @property
    def url(self) -> str:
        return ','.join(self.urls)

    def start(self, node: int | None = None) -> None:
        """Start a node unless it runs; return when it accepts AMQP.

        None: start all nodes.
        """
        raise NotImplementedError

    def stop(self, node: int | None = 0) -> None:
        """Stop a node gracefully."""
        self._end(node, signal.SIGTERM)

    def kill(self, node: int | None = 0) -> None:
        """Kill a node with SIGKILL, and wait until it has ended."""
        self._end(node, signal.SIGKILL)

    def pause(self, node: int | None = 0) -> None:
        """Freeze a node with SIGSTOP: its port is open, but it never answers."""
        self._signal(node, signal.SIGSTOP)

    def resume(self, node: int | None = 0) -> None:
        """Let a paused node continue."""
        self._signal(node, signal.SIGCONT)

    def tell_guard(self, *pids: int) -> None:
        """Have `pids` killed too if our process ends before this broker."""
        self.processes.tell_guard(*pids)

    def close(self) -> None:
        """End and remove everything; throwaway() does this."""
        self.processes.close()

    def _numbers(self, node: int | None) -> Iterable[int]:
        if node is None:
            return range(len(self.urls))
        return [node]

    def _signal(self, node: int | None, number: int) -> None:
        for each in self._numbers(node):
            self.processes.signal(f'n{each}', number)

    def _end(self, node: int | None, number: int) -> None:
        self._signal(node, number)
        # A paused node does not take SIGTERM.
        self._signal(node, signal.SIGCONT)
        for each in self._numbers(node):
            self.processes.wait_for_end(f'n{each}')
        self.tell_guard()


AnyProduct = TypeVar('AnyProduct', bound=Product)


@contextlib.contextmanager
def on_free_ports(
    make: Callable[[], AnyProduct],
    started: bool,
) -> Iterator[AnyProduct]:
    """Yield a broker that `make()` returns; leave no trace of it afterwards.

    It accepts AMQP. With started=False it waits for its start(), at URLs that are
    known already. Where another program takes its port, it is made anew.
    """
    for tries_left in (2, 1, 0):
        with contextlib.closing(make()) as broker:
            try:
                if started:
                    broker.start()
            except PortTaken:
                if not tries_left:
                    raise
                continue
            yield broker
            return


def find_program(name: str, folders: Sequence[str]) -> str | None:
    """Return the path of a program in one of the folders, or None."""
    return shutil.which(name, path=os.pathsep.join(folders))


def free_ports(count: int) -> list[int]:
    """Return `count` free TCP ports of 127.0.0.1.

    The system does not give them to outgoing connections. Otherwise a client
    that keeps trying a closed port could connect to itself, or occupy it.
    """
    low, high = outgoing_ports()
    wanted = set(range(26000, 65536))  # above those of an installed RabbitMQ
    safe = wanted.difference(range(low, high + 1))
    candidates = list(safe or wanted)
    free: list[int] = []
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        if is_free(port):
            free.append(port)
        if len(free) == count:
            break
    return free


def outgoing_ports() -> tuple[int, int]:
    """Return the first and last port that outgoing connections get."""
    path = '/proc/sys/net/ipv4/ip_local_port_range'
    try:
        with open(path, encoding='ascii') as file:
            low, high = file.read().split()
    except OSError:
        return 32768, 65535
    return int(low), int(high)


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of 127.0.0.1."""
    try:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', port))
    except OSError:
        return False
    return True


def ask(port: int, question: bytes) -> bytes:
    """Return what the server on a port of 127.0.0.1 answers within 1 s.

    It is b'' if there is no answer.
    """
    address = ('127.0.0.1', port)
    try:
        with socket.create_connection(address, timeout=1) as connection:
            connection.sendall(question)
            return connection.recv(4096)
    except OSError:
        return b''
