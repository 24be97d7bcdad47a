"""Hosts with a network, a name and clocks of their own, from where only a relay leads out.

Each has three namespaces of Linux (network, name, time), held by host_holder.py. Where a machine
allows none, as most containers do, scripts are only told the name and the clock of a host.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

from support.clock import Clock
from support.processes import ROOT, TEST_TIMEOUT_S

from siamese.testbed.product import free_ports
from siamese.testbed.proxy import Proxy, unaltered

KINDS = ('--net', '--uts', '--time')
HOLDER = Path(__file__).parent / 'host_holder.py'
HOUR_S = 3600
HOURS = itertools.count(30, 7)  # by which a host was started earlier than this machine
PID_BYTES = 20


def unprivileged():
    return ('--map-root-user',) if os.geteuid() else ()


class Namespaces:
    """Those of one host; `listener` listens at a port of its loopback. Raises OSError."""

    def __init__(self, name, port):
        with contextlib.ExitStack() as stack:
            pid = self._begin(name, port, stack)
            also = ('--user', '--preserve-credentials') if unprivileged() else ()
            enter = ('nsenter', f'--target={pid}', *also, *KINDS, '--')
            if subprocess.run([*enter, 'true'], check=False).returncode:
                raise OSError(f'cannot enter the namespaces of {pid}')
            self.inside = (*enter, sys.executable)
            self.close = stack.pop_all().close

    def _begin(self, name, port, stack):
        """Let a process make them and hold them until the stack is closed; return its id."""
        uptime_s = HOUR_S * next(HOURS)
        new = ('unshare', *unprivileged(), *KINDS, f'--boottime={uptime_s}', '--fork')
        ours, theirs = socket.socketpair()
        with ours, theirs:
            holder = (sys.executable, HOLDER, name, port, theirs.fileno())
            process = subprocess.Popen(
                [*map(str, (*new, *holder))], stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]
            )
            stack.callback(process.wait, TEST_TIMEOUT_S)
            stack.callback(process.stdin.close)
            theirs.close()
            ours.settimeout(TEST_TIMEOUT_S)
            pid, descriptors, *_ = socket.recv_fds(ours, PID_BYTES, 1)
        if not pid:
            raise OSError('this machine allows no namespaces')
        self.listener = stack.enter_context(socket.socket(fileno=descriptors[0]))
        return pid.decode()


class Relay(Proxy):
    """A proxy that listens on the loopback of another host."""

    def __init__(self, url, listener, alter):
        self.listener = listener
        super().__init__(url, None, alter)
        self.url = self.url.replace(f':{self.port}', f':{listener.getsockname()[1]}')

    async def _listen(self):
        self.server = await asyncio.start_server(self._serve, sock=self.listener)


class Host:
    """A host: on() starts a script there, set() sets its clock, to s ahead of the truth.

    Scripts reach the broker at `broker_url` through a relay: what it sends passes `alter`.
    """

    def __init__(self, folder, name, ahead, broker_url, alter=unaltered):
        self.folder = folder / name
        self.folder.mkdir()
        self.name = name
        self.clock = Clock(self.folder)
        self.set(ahead)
        self.env = dict(self.clock.env)
        self.inside = ()
        self.open = contextlib.ExitStack()
        (port,) = free_ports(1)
        try:
            namespaces = Namespaces(name, port)
        except OSError:
            self.env['HOST_NAME'] = name
            relay = Proxy(broker_url, None, alter)
        else:
            self.open.callback(namespaces.close)
            self.inside = namespaces.inside
            relay = Relay(broker_url, namespaces.listener, alter)
        self.open.callback(relay.close)
        self.env['AMQP_URL'] = relay.url

    def set(self, ahead):
        self.clock.set(ahead)

    def ledger(self, name):
        return self.folder / f'{name}.jsonl'

    def on(self, start, script, *flags):
        """Start a script here, with a ledger that has the name of the script."""
        ledger = self.ledger(script.partition('.')[0])
        who = ('--name', f'{script}@{self.name}', '--ledger', ledger)
        path = ROOT / script if self.inside else script
        return start(*self.inside, path, *flags, *who, **self.env)

    def close(self):
        self.open.close()
