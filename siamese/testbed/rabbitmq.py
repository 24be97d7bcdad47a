"""A throwaway RabbitMQ, one node or a cluster, on free ports of 127.0.0.1.

Standard library only: tools/setup.sh asks it before there is a virtual
environment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from siamese.testbed.guard import Guard
from siamese.testbed.product import (
    TIMEOUT_S,
    URL,
    NotInstalled,
    Product,
    ask,
    find_program,
    free_ports,
    on_free_ports,
)

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
# A node that has lost another one asks the rest whether they still see it. If one does, it
# takes that for a partial partition, and pauses until the entire cluster is back. So none
# looks until all have lost it.
DISCONNECT = """
[sys:suspend({rabbit_node_monitor, N}) || N <- nodes()],
[
    begin erlang:set_cookie(N, wrong), erlang:disconnect_node(N) end
    || N <- nodes()
].
"""
LOOK_AGAIN = """
Lost = 'n%d@localhost',
Others = [node() | nodes()] -- [Lost],
See = fun(N) -> lists:member(Lost, rpc:call(N, erlang, nodes, [])) end,
Wait = fun W() ->
    case lists:any(See, Others) of
        true -> timer:sleep(10), W();
        false -> [sys:resume({rabbit_node_monitor, N}) || N <- Others]
    end
end,
Wait().
"""
RECONNECT = """[
    begin erlang:set_cookie(N, erlang:get_cookie()), net_kernel:connect_node(N) end
    || N <- [%s]
]."""
# Mnesia keeps the metadata, or Khepri does: from RabbitMQ 4.2 on where nothing was before.
HAS_MNESIA = 'lists:keymember(mnesia, 1, application:which_applications()).'
PARTITION_HANDLING = """
application:set_env(rabbit, cluster_partition_handling, %s).
"""


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
    with on_free_ports(lambda: RabbitMQ(nodes, management, oauth2), started) as broker:
        yield broker


class RabbitMQ(Product):
    """One throwaway broker, from throwaway()."""

    NAME = 'RabbitMQ'
    REMEDY = 'Does `erl` start? Have memory and the disk of TMPDIR room?'
    HELPERS = ('epmd',)

    def __init__(
        self,
        nodes: int,
        management: bool,
        oauth2: Sequence[str],
    ) -> None:
        self.server, self.epmd = find_server()
        super().__init__()
        # It tells our RabbitMQ from another one that took our port.
        self.token = os.path.basename(self.folder)
        self.epmd_port, *free = free_ports(1 + 3 * nodes)
        self.ports: list[Ports] = []
        self.isolated: set[int] = set()  # nodes
        for first in range(0, 3 * nodes, 3):
            ports = Ports(*free[first : first + 3])
            self.ports.append(ports)
            self.urls.append(URL.format(port=ports.amqp))
        if management:
            address = f'127.0.0.1:{self.ports[0].http}'
            self.management_url = f'http://guest:guest@{address}'
        write_configuration(self.guard, self.ports, self.token, management, oauth2)

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
            for number in tuple(self.isolated):
                self._reconnect(number)
            self.processes.wait_until('n0', self._is_one_cluster, deadline)

    def isolate(self, node: int) -> None:
        """Cut a node of a cluster off from the others, until rejoin().

        With Mnesia it pauses (pause_minority); with Khepri its clients stay connected.
        """
        self._set_partition_handling('pause_minority')
        self.isolated.add(node)
        self.ctl('eval', DISCONNECT, node=node)
        other = (node + 1) % len(self.ports)
        self.ctl('eval', LOOK_AGAIN % node, node=other)

    def rejoin(self, node: int) -> None:
        """Reconnect the node; return when all nodes are one cluster."""
        self._reconnect(node)
        deadline = time.monotonic() + TIMEOUT_S
        self.processes.wait_until(f'n{node}', self._is_one_cluster, deadline)
        self._set_partition_handling('ignore')

    def pauses_minority(self) -> bool:
        """Return whether a node that is isolated pauses, and drops its clients."""
        return self.ctl('eval', HAS_MNESIA).strip() == 'true'

    def _reconnect(self, node: int) -> None:
        numbers = set(self._numbers(None)) - {node}
        others = [f"'n{number}@localhost'" for number in numbers]
        self.ctl('eval', RECONNECT % ', '.join(others), node=node)
        self.isolated.discard(node)

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


def write_configuration(
    guard: Guard,
    ports: Sequence[Ports],
    token: str,
    management: bool,
    oauth2: Sequence[str],
) -> None:
    """Write the files that all nodes read, and the one of each node."""
    shared = peers_of(len(ports)) + write_keys(guard, oauth2)
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


def peers_of(nodes: int) -> str:
    """Return the settings that name the nodes of a cluster to each other.

    A single node has no peers: RabbitMQ before 3.8.18 waits up to a minute where it
    is told of any, itself among them.
    """
    if nodes == 1:
        return ''
    return ''.join(PEER.format(entry=number + 1, number=number) for number in range(nodes))


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
