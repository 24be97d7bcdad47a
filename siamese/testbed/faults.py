"""The faults of soak.py.

A fault is a generator function: it injects the fault, yields when messages should
get through again, and then repairs what is still broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from siamese.testbed.workload import NAMES, NODES, Workload

Fault = Callable[[Workload], Iterator[None]]
WATERMARK = 'set_vm_memory_high_watermark'  # of memory, for rabbitmqctl


def cut_connections(workload: Workload) -> Iterator[None]:
    """End all connections to a node with FIN."""
    workload.random.choice(workload.proxies).cut()
    yield


def reset_connections(workload: Workload) -> Iterator[None]:
    """End all connections to a node with RST."""
    workload.random.choice(workload.proxies).cut(reset=True)
    yield


def black_hole(workload: Workload) -> Iterator[None]:
    """Hold the data of one direction, or of both, for 1 to 30 s."""
    proxy = workload.random.choice(workload.proxies)
    directions = workload.random.choice([('up',), ('down',), ('up', 'down')])
    proxy.hold(*directions)
    workload.wait(workload.random.uniform(1, 30))
    proxy.release()
    yield


def refuse_connections(workload: Workload) -> Iterator[None]:
    """End all connections to a node, and refuse new ones for 0.5 to 8 s."""
    proxy = workload.random.choice(workload.proxies)
    proxy.refuse()
    proxy.cut()
    workload.wait(workload.random.uniform(0.5, 8))
    proxy.accept()
    yield


def kill_a_script(workload: Workload) -> Iterator[None]:
    """Kill a script with SIGKILL, and start it again."""
    name = workload.random.choice(NAMES)
    workload.kill(name)
    workload.start(name)
    yield


def kill_a_node(workload: Workload) -> Iterator[None]:
    """Kill a node with SIGKILL."""
    node = workload.random.randrange(NODES)
    workload.broker.kill(node)
    yield
    workload.broker.start(node)


def stop_a_node(workload: Workload) -> Iterator[None]:
    """Stop a node gracefully."""
    node = workload.random.randrange(NODES)
    workload.broker.stop(node)
    yield
    workload.broker.start(node)


def freeze_a_node(workload: Workload) -> Iterator[None]:
    """Freeze a node with SIGSTOP for 1 to 20 s."""
    node = workload.random.randrange(NODES)
    workload.broker.pause(node)
    workload.wait(workload.random.uniform(1, 20))
    workload.broker.resume(node)
    yield


def kill_two_nodes(workload: Workload) -> Iterator[None]:
    """Kill two nodes, so that no majority is left, for 0 to 5 s."""
    for node in workload.random.sample(range(NODES), 2):
        workload.broker.kill(node)
    workload.wait(workload.random.uniform(0, 5))
    workload.broker.start()
    yield


def isolate_a_node(workload: Workload) -> Iterator[None]:
    """Cut a node off from the others."""
    node = workload.random.randrange(NODES)
    workload.broker.isolate(node)
    yield
    workload.wait(workload.random.uniform(0, 10))
    workload.broker.rejoin(node)


def raise_an_alarm(workload: Workload) -> Iterator[None]:
    """Raise a memory alarm, which blocks publishers, for 0 to 5 s."""
    workload.broker.ctl(WATERMARK, 0)
    workload.wait(workload.random.uniform(0, 5))
    workload.broker.ctl(WATERMARK, 0.4)
    yield


def close_all_connections(workload: Workload) -> Iterator[None]:
    """Close all connections as an administrator does."""
    workload.broker.ctl('close_all_connections', 'soak')
    yield


OF_SCRIPTS: list[Fault] = [kill_a_script]
OF_CONNECTIONS: list[Fault] = [
    cut_connections,
    reset_connections,
    black_hole,
    refuse_connections,
]
OF_NODES: list[Fault] = [
    kill_a_node,
    stop_a_node,
    freeze_a_node,
    kill_two_nodes,
    isolate_a_node,
    raise_an_alarm,
    close_all_connections,
]


def possible(workload: Workload) -> list[Fault]:
    """Return the faults that can be injected into this workload."""
    faults = list(OF_SCRIPTS)
    if workload.proxies:
        faults += OF_CONNECTIONS
    if workload.cluster:
        faults += OF_NODES
    return faults


def name_of(fault: Fault) -> str:
    """Return the name of a fault, for people."""
    return fault.__name__.replace('_', ' ')
