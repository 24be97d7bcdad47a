"""A throwaway Apache Qpid Broker-J on a free port of 127.0.0.1.

It speaks AMQP 0-9-1, and knows none of RabbitMQ's extensions. Standard library only,
see product.py. `make qpid` fetches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from siamese import ROOT
from siamese.testbed.product import (
    TIMEOUT_S,
    URL,
    NotInstalled,
    Product,
    find_program,
    free_ports,
    on_free_ports,
)

HOME = ROOT / '.qpid'  # made by make qpid
NOT_INSTALLED = """{} was not found. Install Apache Qpid Broker-J:
    make qpid    (Java from your system, the rest from Maven Central, into .qpid)
or set QPID_HOME to the folder whose lib/ holds its jars."""
MAIN = 'org.apache.qpid.server.Main'
OPTIONS = (
    '-Xmx512m',
    # A port that is taken ends it.
    '-Dbroker.failStartupWithErroredChild=true',
)
READY = 'BRK-1004'
# By default it closes the connection over x-arguments.
LENIENT = '-Dqueue.behaviourOnUnknownDeclareArgument=IGNORE'

USERS = {
    'name': 'plain',
    'type': 'Plain',
    'secureOnlyMechanisms': [],  # PLAIN without TLS
    'users': [{'name': 'guest', 'type': 'managed', 'password': 'guest'}],
}
LOG = {
    'name': 'stdout',
    'type': 'Console',
    'consoleStreamTarget': 'STDOUT',
    'brokerloginclusionrules': [
        {'name': 'Root', 'type': 'NameAndLevel', 'level': 'WARN', 'loggerName': 'ROOT'}
    ],
}
PORT = {
    'name': 'AMQP',
    'type': 'AMQP',
    'bindingAddress': '127.0.0.1',
    'protocols': ['AMQP_0_9_1'],
    'transports': ['TCP'],
    'authenticationProvider': 'plain',
    'virtualhostaliases': [
        {'name': 'nameAlias', 'type': 'nameAlias'},
        {'name': 'defaultAlias', 'type': 'defaultAlias'},
    ],
}


@contextlib.contextmanager
def throwaway(
    lenient: bool = False,
    virtual_hosts: int = 0,
    started: bool = True,
) -> Iterator[Qpid]:
    """Yield a Qpid; leave no trace of it afterwards.

    It accepts AMQP (takes 4 s). With started=False it waits for its start(), at
    URLs that are known already. `lenient`: it ignores x-arguments. Besides the
    virtual host / there are `virtual_hosts` whose messages are in memory only:
    v1, v2 ... Raises NotInstalled or DidNotStart.
    """
    with on_free_ports(lambda: Qpid(lenient, virtual_hosts), started) as broker:
        yield broker


class Qpid(Product):
    """One throwaway broker, from throwaway(). It has one node, and no management API."""

    NAME = 'Qpid'
    REMEDY = 'Does `java -version` say 17 or later? Have memory and the disk of TMPDIR room?'

    def __init__(self, lenient: bool, virtual_hosts: int) -> None:
        self.java, self.jars = find_server()
        super().__init__()
        (self.port,) = free_ports(1)
        self.urls.append(URL.format(port=self.port))
        self.options = list(OPTIONS)
        if lenient:
            self.options.append(LENIENT)
        settings = configuration(self.port, virtual_hosts)
        self.guard.write('initial.json', json.dumps(settings, indent=2))

    def start(self, node: int | None = None) -> None:
        """Start it unless it runs; return when it accepts AMQP."""
        if not self.processes.is_running('n0'):
            self.processes.launch('n0', self._command())
        deadline = time.monotonic() + TIMEOUT_S
        self.processes.wait_until('n0', self._is_ready, deadline)

    def _is_ready(self) -> bool:
        # Its port is open before its virtual hosts are.
        with open(f'{self.folder}/n0.log', encoding='utf-8', errors='replace') as log:
            return READY in log.read()

    def _command(self) -> list[str]:
        own = f'-Dqpid.work_dir={self.folder}/work'
        # The initial configuration counts while there is no work folder.
        initial = ('--initial-config-path', f'{self.folder}/initial.json')
        return [self.java, *self.options, own, '-cp', self.jars, MAIN, *initial]


def configuration(port: int, virtual_hosts: int) -> dict[str, Any]:
    """Return the settings of the broker, as JSON has them."""
    hosts = [virtual_host('default', 'DERBY')]
    hosts[0]['defaultVirtualHostNode'] = 'true'
    hosts += [virtual_host(f'v{number}', 'Memory') for number in range(1, virtual_hosts + 1)]
    return {
        'name': 'siamese',
        'modelVersion': '9.0',
        'authenticationproviders': [USERS],
        'brokerloggers': [LOG],
        'ports': [{**PORT, 'port': port}],
        'virtualhostnodes': hosts,
    }


def virtual_host(name: str, store: str) -> dict[str, Any]:
    """Return a virtual host, and where it keeps its messages: DERBY or Memory."""
    return {
        'name': name,
        'type': 'JSON',
        'virtualHostInitialConfiguration': json.dumps({'type': store}),
    }


def find_server() -> tuple[str, str]:
    """Return the path of Java, and where its jars are, as java -cp wants it.

    Raises NotInstalled.
    """
    home = os.environ.get('QPID_HOME') or HOME
    jars = os.path.abspath(f'{home}/lib')
    if not os.path.isdir(jars):
        raise NotInstalled(NOT_INSTALLED.format(jars))
    java = find_program('java', os.get_exec_path())
    if not java:
        raise NotInstalled(NOT_INSTALLED.format('java'))
    return java, f'{jars}/*'
