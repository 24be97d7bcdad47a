"""The faults of soak.py.

A fault is a generator function: it injects the fault, yields when messages should
get through again, and then repairs what is still broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from siamese.testbed.workload import NAMES, NODES, Workload

Fault = Callable[[Workload], Iterator[None]]
WATERMARK = 'set_vm_memory_high_watermark'  # of memory, for rabbitmqctl


def cut_connections(world: Workload) -> Iterator[None]:
    """End all connections to a node with FIN."""
    world.random.choice(world.proxies).cut()
    yield


def reset_connections(world: Workload) -> Iterator[None]:
    """End all connections to a node with RST."""
    world.random.choice(world.proxies).cut(reset=True)
    yield


def black_hole(world: Workload) -> Iterator[None]:
    """Hold the data of one direction, or of both, for 1 to 30 s."""
    proxy = world.random.choice(world.proxies)
    directions = world.random.choice([('up',), ('down',), ('up', 'down')])
    proxy.hold(*directions)
    world.wait(world.random.uniform(1, 30))
    proxy.release()
    yield


def refuse_connections(world: Workload) -> Iterator[None]:
    """End all connections to a node, and refuse new ones for 0.5 to 8 s."""
    proxy = world.random.choice(world.proxies)
    proxy.refuse()
    proxy.cut()
    world.wait(world.random.uniform(0.5, 8))
    proxy.accept()
    yield


def kill_a_script(world: Workload) -> Iterator[None]:
    """Kill a script with SIGKILL, and start it again."""
    name = world.random.choice(NAMES)
    world.kill(name)
    world.start(name)
    yield


def kill_a_node(world: Workload) -> Iterator[None]:
    """Kill a node with SIGKILL."""
    node = world.random.randrange(NODES)
    world.broker.kill(node)
    yield
    world.broker.start(node)


def stop_a_node(world: Workload) -> Iterator[None]:
    """Stop a node gracefully."""
    node = world.random.randrange(NODES)
    world.broker.stop(node)
    yield
    world.broker.start(node)


def freeze_a_node(world: Workload) -> Iterator[None]:
    """Freeze a node with SIGSTOP for 1 to 20 s."""
    node = world.random.randrange(NODES)
    world.broker.pause(node)
    world.wait(world.random.uniform(1, 20))
    world.broker.resume(node)
    yield


def kill_two_nodes(world: Workload) -> Iterator[None]:
    """Kill two nodes, so that no majority is left, for 0 to 5 s."""
    for node in world.random.sample(range(NODES), 2):
        world.broker.kill(node)
    world.wait(world.random.uniform(0, 5))
    world.broker.start()
    yield


def isolate_a_node(world: Workload) -> Iterator[None]:
    """Cut a node off from the others."""
    node = world.random.randrange(NODES)
    world.broker.isolate(node)
    yield
    world.wait(world.random.uniform(0, 10))
    world.broker.rejoin(node)


def raise_an_alarm(world: Workload) -> Iterator[None]:
    """Raise a memory alarm, which blocks publishers, for 0 to 5 s."""
    world.broker.ctl(WATERMARK, 0)
    world.wait(world.random.uniform(0, 5))
    world.broker.ctl(WATERMARK, 0.4)
    yield


def close_all_connections(world: Workload) -> Iterator[None]:
    """Close all connections as an administrator does."""
    world.broker.ctl('close_all_connections', 'soak')
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


def possible(world: Workload) -> list[Fault]:
    """Return the faults that can be injected into this workload."""
    faults = list(OF_SCRIPTS)
    if world.proxies:
        faults += OF_CONNECTIONS
    if world.cluster:
        faults += OF_NODES
    return faults


def name_of(fault: Fault) -> str:
    """Return the name of a fault, for people."""
    return fault.__name__.replace('_', ' ')
