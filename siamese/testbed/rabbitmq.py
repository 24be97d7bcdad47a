"""A throwaway RabbitMQ, one node or a cluster, on free ports of 127.0.0.1.

Standard library only: tools/setup.sh asks it before there is a virtual environment.
"""

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

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
                      (then without broker.py: scripts look at localhost:5672 by themselves)
or set RABBITMQ_HOME to the folder whose sbin/ holds rabbitmq-server."""
LIMIT = 120  # seconds for a start, a graceful stop, one call of rabbitmqctl; a busy machine is slow

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
# The only one that cleans up, in a session of its own: when its stdin closes, because we closed it or died,
# it kills what the last line named and removes the folder. It made that too, so nothing is ever unguarded.
GUARD = """
trap '' HUP INT TERM
exec 2>/dev/null
folder=$(mktemp -d "$1/siamese-broker-XXXXXX") || exit
echo "$folder"
while read -r line; do targets=$line; done
[ -z "$targets" ] || kill -s KILL -- $targets
for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$folder" && break; sleep 0.2; done
"""
# A process to be guarded begins when told that the guard knows of it; if we die before that, it ends.
GUARDED = 'read -r go && exec "$@" </dev/null'


class NotInstalled(Exception):
    """There is no RabbitMQ here; the message says how to install it."""


class DidNotStart(Exception):
    """RabbitMQ did not come up; the message holds its last words and the remedy."""


class PortTaken(DidNotStart):
    """Another program took one of our ports before RabbitMQ bound it."""


class CtlFailed(subprocess.CalledProcessError):
    """rabbitmqctl failed: a CalledProcessError whose message ends with the output."""

    def __str__(self):
        return f'{super().__str__()}\n{self.output}'


@contextlib.contextmanager
def throwaway(nodes=1, management=False, started=True, oauth2=()):
    """Yield a Broker of `nodes` nodes (several: a cluster), and leave no trace of it afterwards.

    It accepts AMQP (takes 5 s; three nodes 15 s) or, with started=False, waits for its start(), at URLs
    that are known already. `oauth2` are public keys (PEM, as text): tokens (JWT, RS256) for the audience
    siamese that are signed with their private keys are taken as passwords; their kid is k1 for the first key,
    k2 ... Raises NotInstalled or DidNotStart.
    """
    for last_try in (False, False, True):
        with contextlib.closing(Broker(nodes, management, oauth2)) as broker:
            try:
                if started:
                    broker.start()
            except PortTaken:
                if last_try:
                    raise
                continue
            yield broker
            return


class Broker:
    """One throwaway RabbitMQ, from throwaway(). `node` is 0, 1 or 2, or None for all nodes at once.

    urls: the AMQP URL of each node; url: the same, comma separated; management_url: the HTTP API of node 0
    as http://USER:PASSWORD@HOST:PORT, None without management. Data survive stop() or kill() and start().
    """

    def __init__(self, nodes, management, oauth2):
        self.server, self.epmd = find_server()
        self.processes = {}  # 'epmd' or number of a node: Popen
        parent = tempfile.gettempdir()
        self.guard = subprocess.Popen(
            ['sh', '-c', GUARD, 'guard', parent],
            cwd='/',
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.folder = os.fsdecode(self.guard.stdout.readline().rstrip(b'\n'))
        if not self.folder:
            self.close()
            raise DidNotStart(
                f'No folder could be made in {parent}. Let TMPDIR name another place.'
            )
        self.token = os.path.basename(self.folder)  # tells our RabbitMQ from one that took our port
        self.epmd_port, *ports = free_ports(1 + 3 * nodes)
        self.ports = list(zip(ports[0::3], ports[1::3], ports[2::3]))  # AMQP, distribution, HTTP
        self.urls = [f'amqp://guest:guest@127.0.0.1:{amqp}/%2F' for amqp, _, _ in self.ports]
        self.url = ','.join(self.urls)
        self.management_url = (
            f'http://guest:guest@127.0.0.1:{self.ports[0][2]}' if management else None
        )
        peers = [
            f'cluster_formation.classic_config.nodes.{n + 1} = n{n}@localhost\n'
            for n in range(nodes)
        ]
        keys = OAUTH2 if oauth2 else ''
        for number, key in enumerate(oauth2, 1):
            self._write(f'k{number}.pem', key)
            keys += f'auth_oauth2.signing_keys.k{number} = {self.folder}/k{number}.pem\n'
        for number, (amqp, _, http) in enumerate(self.ports):
            self._write(
                f'n{number}.conf', CONF.format(amqp=amqp, http=http) + ''.join(peers) + keys
            )
        properties = f'[{{throwaway, "{self.token}"}}]'
        self._write('advanced.config', f'[{{rabbit, [{{server_properties, {properties}}}]}}].')
        plugins = ['rabbitmq_management'] * management + ['rabbitmq_auth_backend_oauth2'] * bool(
            oauth2
        )
        self._write('enabled_plugins', f'[{",".join(plugins)}].')
        self._write('.erlang.cookie', secrets.token_hex(20))

    def start(self, node=None):
        """Start a node unless it runs; return when it accepts AMQP (None: when all do, as one cluster).

        When a whole cluster is down a node may wait for one that went down later: start all at once.
        """
        deadline = time.monotonic() + LIMIT
        if not self._runs('epmd'):
            self._spawn('epmd', self.epmd, '-address', '127.0.0.1', '-port', str(self.epmd_port))
            self._wait(deadline, 'epmd', ask, self.epmd_port, b'\0\1n')
        for number in self._numbers(node):
            if not self._runs(number):
                self._spawn(number, f'{self.server}/rabbitmq-server', env=self._environment(number))
        for number in self._numbers(node):
            self._wait(deadline, number, self._accepts, number)
        if node is None and len(self.ports) > 1:
            self._wait(deadline, 0, self._is_one_cluster)

    def stop(self, node=0):
        """Stop a node gracefully, and wait for its end (1 s, with management 6 s)."""
        self._end(node, signal.SIGTERM)

    def kill(self, node=0):
        """Kill a node with SIGKILL, and wait until it is dead."""
        self._end(node, signal.SIGKILL)

    def pause(self, node=0):
        """Freeze a node with SIGSTOP: its port still accepts connections, but nothing answers."""
        self._signal(node, signal.SIGSTOP)

    def resume(self, node=0):
        """Let a paused node go on."""
        self._signal(node, signal.SIGCONT)

    def isolate(self, node):
        """Cut the network between a node of a cluster and the others; it pauses (pause_minority) until rejoin()."""
        for each in self._numbers(None):
            self.ctl(
                'eval',
                'application:set_env(rabbit, cluster_partition_handling, pause_minority).',
                node=each,
            )
        self.ctl(
            'eval',
            '[begin erlang:set_cookie(N, wrong), erlang:disconnect_node(N) end || N <- nodes()].',
            node=node,
        )

    def rejoin(self, node):
        """Mend the network again, and wait until all nodes are one cluster."""
        others = ', '.join(
            f"'n{number}@localhost'" for number in self._numbers(None) if number != node
        )
        self.ctl(
            'eval', f'[erlang:set_cookie(N, erlang:get_cookie()) || N <- [{others}]].', node=node
        )
        self._wait(time.monotonic() + LIMIT, node, self._is_one_cluster)
        for each in self._numbers(None):
            self.ctl(
                'eval',
                'application:set_env(rabbit, cluster_partition_handling, ignore).',
                node=each,
            )

    def ctl(self, *args, node=0):
        """Run rabbitmqctl on a node (0.6 s); return its stdout as text or raise CtlFailed."""
        command = [f'{self.server}/rabbitmqctl', *map(str, args)]
        try:
            done = subprocess.run(
                command,
                env=self._environment(node),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding='utf-8',
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise CtlFailed(-signal.SIGKILL, command, str(error)) from None
        if done.returncode:
            raise CtlFailed(done.returncode, command, done.stdout + done.stderr)
        return done.stdout

    def tell_guard(self, *pids):
        """Name what is to be killed when we are gone: the groups of our processes, and `pids`."""
        groups = [f'-{process.pid}' for name, process in self.processes.items() if self._runs(name)]
        self.guard.stdin.write(' '.join([*groups, *map(str, pids)]).encode() + b'\n')
        self.guard.stdin.flush()

    def close(self):
        """End and remove everything; throwaway() does this."""
        with (
            self.guard
        ):  # leaving the block closes the pipe, which is the sign, and waits for the guard
            pass
        for process in self.processes.values():
            process.wait()

    def _write(self, name, text):
        with open(f'{self.folder}/{name}', 'w', encoding='utf-8') as file:
            os.chmod(file.name, 0o600)  # Erlang insists, for the cookie
            file.write(text)

    def _numbers(self, node):
        return range(len(self.ports)) if node is None else [node]

    def _runs(self, name):
        return name in self.processes and self.processes[name].poll() is None

    def _spawn(self, name, *command, env=None):
        with open(f'{self.folder}/{name}.log', 'wb') as log:
            process = subprocess.Popen(
                ['sh', '-c', GUARDED, 'guarded', *command],
                env=env,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        self.tell_guard()
        with process.stdin as pipe:
            pipe.write(b'go\n')

    def _wait(self, deadline, name, condition, *args):
        while True:
            for needed in ('epmd', name):
                if not self._runs(needed):
                    raise self._failure(
                        needed, f'ended with status {self.processes[needed].returncode}'
                    )
            if condition(*args):
                return
            if time.monotonic() > deadline:
                raise self._failure(name, f'was not ready within {LIMIT} s')
            time.sleep(0.05)

    def _failure(self, name, what):
        with open(f'{self.folder}/{name}.log', encoding='utf-8', errors='replace') as log:
            lines = [line.strip()[:200] for line in log]
        # An empty entry of the log ends with the > of its prefix.
        errors = [line for line in lines if 'error' in line.lower() and not line.endswith('>')]
        if name == 'epmd' or any('eaddrinuse' in line or 'in use' in line for line in lines):
            kind, remedy = PortTaken, 'Another program took one of its ports: start it again.'
        else:
            kind, remedy = DidNotStart, 'Does `erl` start? Have memory and the disk of TMPDIR room?'
        words = errors[:5] or lines[-5:] or ['(nothing)']
        return kind('\n    '.join([f'RabbitMQ ({name}) {what}. It said:', *words]) + f'\n{remedy}')

    def _accepts(self, node):
        return self.token.encode() in ask(self.ports[node][0], b'AMQP\0\0\x09\1')

    def _is_one_cluster(self):
        with contextlib.suppress(CtlFailed):
            running = json.loads(self.ctl('cluster_status', '--formatter=json'))['running_nodes']
            return len(running) == len(self.ports)

    def _signal(self, node, number):
        for name in filter(self._runs, self._numbers(node)):
            os.killpg(self.processes[name].pid, number)

    def _end(self, node, number):
        self._signal(node, number)
        self._signal(node, signal.SIGCONT)  # a paused one would not hear SIGTERM
        for name in filter(self._runs, self._numbers(node)):
            self.processes[name].wait(LIMIT)
        self.tell_guard()

    def _environment(self, node):
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(('RABBITMQ_', 'ERL_', 'NOTIFY_'))
        }
        return {
            **inherited,
            'HOME': self.folder,  # of the cookie
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(self.epmd_port),
            # -start_epmd: a short-lived helper of the server could start one when ours is already gone.
            'ERL_AFLAGS': '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
            'RUNNING_UNDER_SYSTEMD': 'true',  # rabbitmq-server becomes Erlang instead of waiting for it
            'RABBITMQ_NODENAME': f'n{node}@localhost',
            'RABBITMQ_DIST_PORT': str(self.ports[node][1]),
            'RABBITMQ_CONF_ENV_FILE': f'{self.folder}/none',
            'RABBITMQ_CONFIG_FILE': f'{self.folder}/n{node}.conf',
            'RABBITMQ_CONFIG_FILES': f'{self.folder}/none',
            'RABBITMQ_ADVANCED_CONFIG_FILE': f'{self.folder}/advanced.config',
            'RABBITMQ_ENABLED_PLUGINS_FILE': f'{self.folder}/enabled_plugins',
            'RABBITMQ_MNESIA_BASE': self.folder,
            'RABBITMQ_LOG_BASE': self.folder,
            'RABBITMQ_LOGS': '-',
        }


def find_server():
    """Return the folder of rabbitmq-server and the path of epmd; raise NotInstalled."""
    home = os.environ.get('RABBITMQ_HOME')
    folders = [os.path.abspath(f'{home}/sbin')] if home else [*SERVER_FOLDERS, *os.get_exec_path()]
    server = shutil.which('rabbitmq-server', path=os.pathsep.join(folders))
    epmd = shutil.which('epmd', path=os.pathsep.join([*folders, *os.get_exec_path()]))
    if not server or not epmd:
        raise NotInstalled(
            NOT_INSTALLED.format('epmd (part of Erlang)' if server else 'rabbitmq-server')
        )
    return os.path.dirname(server), epmd


def free_ports(count):
    """Return `count` free TCP ports of 127.0.0.1 that the system does not give to outgoing connections.

    A client that keeps trying a dead port of that kind could connect to itself, or occupy it.
    """
    try:
        with open('/proc/sys/net/ipv4/ip_local_port_range', encoding='ascii') as file:
            low, high = map(int, file.read().split())
    except OSError:
        low, high = 32768, 65535
    ports = set(range(26000, 65536))  # above those of an installed RabbitMQ
    ports = list(ports.difference(range(low, high + 1)) or ports)
    free = []
    for port in random.SystemRandom().sample(ports, len(ports)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(('127.0.0.1', port))
            free.append(port)
        if len(free) == count:
            break
    return free


def ask(port, question):
    """Return what the server on a port of 127.0.0.1 answers to `question` within 1 s; b'' if nothing."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(('127.0.0.1', port), timeout=1) as connection,
    ):
        connection.sendall(question)
        return connection.recv(4096)
    return b''
