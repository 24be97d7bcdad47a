"""Who is meant by a host: this machine, or another one."""

from __future__ import annotations

import ipaddress
import re

HOST_HEADER = re.compile(r'(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?')
IPV6_NETWORK_BITS = 64  # who has one address of IPv6 has as many


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def named_in(header: str) -> str:
    """Return the host in a Host header, without its port; raise ValueError.

    Nothing but a host may be in it: what comes after it would become part of a path.
    """
    found = HOST_HEADER.fullmatch(header)
    if not found:
        raise ValueError('no host')
    return found[1].strip('[]').lower()


def sender(address: str) -> str:
    """Return what stands for all addresses that belong to one sender."""
    try:
        ip = ipaddress.ip_address(address.partition('%')[0])
    except ValueError:
        return address
    if ip.version == 4:
        return address
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_NETWORK_BITS), strict=False))
