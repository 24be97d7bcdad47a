"""A throwaway RabbitMQ, one node or a cluster, on free ports of 127.0.0.1.

Standard library only: tools/setup.sh asks it before there is a virtual
environment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from siamese.testbed.guard import Guard, NoFolder, Processes

SERVER_FOLDERS = [
    '/usr/lib/rabbitmq/bin',
    '/opt/homebrew/opt/rabbitmq/sbin',
    '/usr/local/opt/rabbitmq/sbin',
]
NOT_INSTALLED = """{} was not found. Install RabbitMQ:
    Debian, Ubuntu    sudo apt-get install rabbitmq-server
    Fedora            sudo dnf install rabbitmq-server
    macOS (Homebrew)  brew install rabbitmq
    Docker            docker run --rm -p 127.0.0.1:5672:5672 rabbitmq:3
                      (without broker.py: localhost:5672 is the default of all scripts)
or set RABBITMQ_HOME to the folder whose sbin/ holds rabbitmq-server."""
# For a start, a graceful stop, one call of rabbitmqctl; a busy machine is slow.
TIMEOUT_S = 120
URL = 'amqp://guest:guest@127.0.0.1:{port}/%2F'
POLL_INTERVAL_S = 0.05
AMQP_HEADER = b'AMQP\0\0\x09\1'
EPMD_NAMES = b'\0\1n'  # epmd's request for the names of all nodes

CONF = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
collect_statistics_interval = 1000
loopback_users = none
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 1MB
cluster_formation.peer_discovery_backend = classic_config
# The first node of a cluster spends all of these tries on peers that wait for it.
cluster_formation.discovery_retry_limit = 20
cluster_formation.discovery_retry_interval = 100
"""
OAUTH2 = """\
auth_backends.1 = internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = siamese
auth_oauth2.algorithms.1 = RS256
auth_oauth2.default_key = k1
"""
PEER = 'cluster_formation.classic_config.nodes.{entry} = n{number}@localhost\n'
ADVANCED = '[{rabbit, [{server_properties, [{throwaway, "%s"}]}]}].'
# -start_epmd false: otherwise a short-lived helper of the server could start an
# epmd when ours has ended.
ERLANG_FLAGS = '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}'
# Erlang code for rabbitmqctl eval.
DISCONNECT = """[
    begin erlang:set_cookie(N, wrong), erlang:disconnect_node(N) end
    || N <- nodes()
]."""
RECONNECT = '[erlang:set_cookie(N, erlang:get_cookie()) || N <- [%s]].'
PARTITION_HANDLING = """
application:set_env(rabbit, cluster_partition_handling, %s).
"""


class NotInstalled(Exception):
    """No RabbitMQ is installed here; the message says how to install it."""


class DidNotStart(Exception):
    """RabbitMQ did not start; the message quotes its log and names the remedy."""


class PortTaken(DidNotStart):
    """Another program took one of our ports before RabbitMQ bound it."""


class CtlFailed(subprocess.CalledProcessError):
    """rabbitmqctl failed; the message ends with its output."""

    def __str__(self) -> str:
        return f'{super().__str__()}\n{self.output}'


class Ports(NamedTuple):
    """The TCP ports of one node."""

    amqp: int
    distribution: int
    http: int


@contextlib.contextmanager
def throwaway(
    nodes: int = 1,
    management: bool = False,
    started: bool = True,
    oauth2: Sequence[str] = (),
) -> Iterator[RabbitMQ]:
    """Yield a RabbitMQ of one node or a cluster; leave no trace of it afterwards.

    It accepts AMQP (takes 5 s; three nodes take 15 s). With started=False it
    waits for its start(), at URLs that are known already. `oauth2` are public
    keys (PEM, as text): tokens (JWT, RS256) for the audience siamese that are
    signed with their private keys work as passwords. Their kid is k1 for the
    first key, k2 for the second. Raises NotInstalled or DidNotStart.
    """
    for tries_left in (2, 1, 0):
        with contextlib.closing(RabbitMQ(nodes, management, oauth2)) as broker:
            try:
                if started:
                    broker.start()
            except PortTaken:
                if not tries_left:
                    raise
                continue
            yield broker
            return


class Nodes(Processes):
    """The processes of one broker by name: 'epmd', 'n0', 'n1', 'n2'; each logs into NAME.log."""

    def launch(self, name: str, command: Sequence[str], env: dict[str, str] | None = None) -> None:
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

        The process `name`, and epmd, have to run until then.
        """
        while True:
            self._check_running('epmd')
            self._check_running(name)
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
        return startup_failure(name, problem, lines)


class RabbitMQ:
    """One throwaway broker, from throwaway().

    urls: the AMQP URL of each node; url: the same, comma separated.
    management_url: the HTTP API of node 0, as http://USER:PASSWORD@HOST:PORT;
    None without management. A `node` is 0, 1 or 2, or None for all nodes at
    once. Data survive stop() or kill() and start().
    """

    def __init__(
        self,
        nodes: int,
        management: bool,
        oauth2: Sequence[str],
    ) -> None:
        self.server, self.epmd = find_server()
        try:
            guard = Guard('broker')
        except NoFolder as error:
            raise DidNotStart(str(error)) from None
        self.folder = guard.folder
        self.processes = Nodes(guard)
        # It tells our RabbitMQ from another one that took our port.
        self.token = os.path.basename(self.folder)
        self.epmd_port, *free = free_ports(1 + 3 * nodes)
        self.ports: list[Ports] = []
        self.urls: list[str] = []
        for first in range(0, 3 * nodes, 3):
            ports = Ports(*free[first : first + 3])
            self.ports.append(ports)
            self.urls.append(URL.format(port=ports.amqp))
        self.url = ','.join(self.urls)
        self.management_url = None
        if management:
            address = f'127.0.0.1:{self.ports[0].http}'
            self.management_url = f'http://guest:guest@{address}'
        write_configuration(guard, self.ports, self.token, management, oauth2)

    def start(self, node: int | None = None) -> None:
        """Start a node unless it runs; return when it accepts AMQP.

        None: start all nodes; return when all of them are one cluster. When a
        whole cluster is down, a node may wait for one that went down later:
        start all at once.
        """
        deadline = time.monotonic() + TIMEOUT_S
        self._start_epmd(deadline)
        for number in self._numbers(node):
            self._start_node(number)
        for number in self._numbers(node):
            accepts = functools.partial(self._accepts, number)
            self.processes.wait_until(f'n{number}', accepts, deadline)
        if node is None and len(self.ports) > 1:
            self.processes.wait_until('n0', self._is_one_cluster, deadline)

    def stop(self, node: int | None = 0) -> None:
        """Stop a node gracefully (1 s, with management 6 s)."""
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

    def isolate(self, node: int) -> None:
        """Cut a node of a cluster off from the others.

        It pauses (pause_minority) until rejoin().
        """
        self._set_partition_handling('pause_minority')
        self.ctl('eval', DISCONNECT, node=node)

    def rejoin(self, node: int) -> None:
        """Reconnect the node; return when all nodes are one cluster."""
        numbers = set(self._numbers(None)) - {node}
        others = [f"'n{number}@localhost'" for number in numbers]
        code = RECONNECT % ', '.join(others)
        self.ctl('eval', code, node=node)
        deadline = time.monotonic() + TIMEOUT_S
        self.processes.wait_until(f'n{node}', self._is_one_cluster, deadline)
        self._set_partition_handling('ignore')

    def ctl(self, *args: object, node: int = 0) -> str:
        """Run rabbitmqctl on a node (0.6 s); return its stdout.

        Raises CtlFailed.
        """
        command = [f'{self.server}/rabbitmqctl', *map(str, args)]
        try:
            done = subprocess.run(
                command,
                env=self._environment(node),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding='utf-8',
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            status = -signal.SIGKILL
            raise CtlFailed(status, command, str(error)) from None
        if done.returncode:
            output = done.stdout + done.stderr
            raise CtlFailed(done.returncode, command, output)
        return done.stdout

    def tell_guard(self, *pids: int) -> None:
        """Have `pids` killed too if our process ends before this broker."""
        self.processes.tell_guard(*pids)

    def close(self) -> None:
        """End and remove everything; throwaway() does this."""
        self.processes.close()

    def _numbers(self, node: int | None) -> Iterable[int]:
        if node is None:
            return range(len(self.ports))
        return [node]

    def _start_epmd(self, deadline: float) -> None:
        port = self.epmd_port
        if not self.processes.is_running('epmd'):
            command = [self.epmd, '-address', '127.0.0.1']
            self.processes.launch('epmd', [*command, '-port', str(port)])
        self.processes.wait_until('epmd', lambda: ask(port, EPMD_NAMES) != b'', deadline)

    def _start_node(self, number: int) -> None:
        name = f'n{number}'
        if not self.processes.is_running(name):
            command = [f'{self.server}/rabbitmq-server']
            environment = self._environment(number)
            self.processes.launch(name, command, environment)

    def _environment(self, number: int) -> dict[str, str]:
        return node_environment(self.folder, number, self.ports[number], self.epmd_port)

    def _accepts(self, number: int) -> bool:
        greeting = ask(self.ports[number].amqp, AMQP_HEADER)
        return self.token.encode() in greeting

    def _is_one_cluster(self) -> bool:
        try:
            output = self.ctl('cluster_status', '--formatter=json')
        except CtlFailed:
            return False
        running = json.loads(output)['running_nodes']
        return len(running) == len(self.ports)

    def _set_partition_handling(self, strategy: str) -> None:
        code = PARTITION_HANDLING % strategy
        for number in self._numbers(None):
            self.ctl('eval', code, node=number)

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


def write_configuration(
    guard: Guard,
    ports: Sequence[Ports],
    token: str,
    management: bool,
    oauth2: Sequence[str],
) -> None:
    """Write the files that all nodes read, and the one of each node."""
    shared = ''
    for number in range(len(ports)):
        shared += PEER.format(entry=number + 1, number=number)
    shared += write_keys(guard, oauth2)
    for number, node_ports in enumerate(ports):
        own = CONF.format(amqp=node_ports.amqp, http=node_ports.http)
        guard.write(f'n{number}.conf', own + shared)
    plugins = []
    if management:
        plugins.append('rabbitmq_management')
    if oauth2:
        plugins.append('rabbitmq_auth_backend_oauth2')
    guard.write('enabled_plugins', f'[{",".join(plugins)}].')
    guard.write('advanced.config', ADVANCED % token)
    guard.write('.erlang.cookie', secrets.token_hex(20))


def write_keys(guard: Guard, oauth2: Sequence[str]) -> str:
    """Write public keys into files; return the settings that name them."""
    if not oauth2:
        return ''
    settings = OAUTH2
    for number, key in enumerate(oauth2, 1):
        guard.write(f'k{number}.pem', key)
        path = f'{guard.folder}/k{number}.pem'
        settings += f'auth_oauth2.signing_keys.k{number} = {path}\n'
    return settings


def node_environment(
    folder: str,
    number: int,
    ports: Ports,
    epmd_port: int,
) -> dict[str, str]:
    """Return the environment of a node, and of rabbitmqctl for it.

    It keeps none of the settings of an installed RabbitMQ.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('RABBITMQ_', 'ERL_', 'NOTIFY_'))
    }
    own = {
        'HOME': folder,  # of the cookie
        'ERL_EPMD_ADDRESS': '127.0.0.1',
        'ERL_EPMD_PORT': str(epmd_port),
        'ERL_AFLAGS': ERLANG_FLAGS,
        # rabbitmq-server becomes Erlang instead of waiting for it
        'RUNNING_UNDER_SYSTEMD': 'true',
        'RABBITMQ_NODENAME': f'n{number}@localhost',
        'RABBITMQ_DIST_PORT': str(ports.distribution),
        'RABBITMQ_CONF_ENV_FILE': f'{folder}/none',
        'RABBITMQ_CONFIG_FILE': f'{folder}/n{number}.conf',
        'RABBITMQ_CONFIG_FILES': f'{folder}/none',
        'RABBITMQ_ADVANCED_CONFIG_FILE': f'{folder}/advanced.config',
        'RABBITMQ_ENABLED_PLUGINS_FILE': f'{folder}/enabled_plugins',
        'RABBITMQ_MNESIA_BASE': folder,
        'RABBITMQ_LOG_BASE': folder,
        'RABBITMQ_LOGS': '-',
    }
    return {**environment, **own}


def startup_failure(
    name: str,
    problem: str,
    lines: Sequence[str],
) -> DidNotStart:
    """Return the exception for a process that failed, with its log `lines`."""
    errors = list(filter(says_error, lines))
    shown = errors[:5] or lines[-5:] or ['(nothing)']
    head = f'RabbitMQ ({name}) {problem}. Its log says:'
    message = '\n    '.join([head, *shown])
    if name == 'epmd' or any(map(says_port_taken, lines)):
        remedy = 'Another program took one of its ports: start it again.'
        return PortTaken(f'{message}\n{remedy}')
    remedy = 'Does `erl` start? Have memory and the disk of TMPDIR room?'
    return DidNotStart(f'{message}\n{remedy}')


def says_port_taken(line: str) -> bool:
    """Return whether a line of the log says that a port is in use."""
    return 'eaddrinuse' in line or 'in use' in line


def says_error(line: str) -> bool:
    """Return whether a line of the log tells of an error.

    An empty entry of the log ends with the > of its prefix.
    """
    return 'error' in line.lower() and not line.endswith('>')


def find_server() -> tuple[str, str]:
    """Return the folder of rabbitmq-server and the path of epmd.

    Raises NotInstalled.
    """
    home = os.environ.get('RABBITMQ_HOME')
    path = os.get_exec_path()
    folders = [*SERVER_FOLDERS, *path]
    if home:
        folders = [os.path.abspath(f'{home}/sbin')]
    server = find_program('rabbitmq-server', folders)
    if not server:
        raise NotInstalled(NOT_INSTALLED.format('rabbitmq-server'))
    epmd = find_program('epmd', [*folders, *path])
    if not epmd:
        raise NotInstalled(NOT_INSTALLED.format('epmd (part of Erlang)'))
    return os.path.dirname(server), epmd


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
