"""Ports that nobody uses now."""

from __future__ import annotations

import random
import socket

DOMAINS = range(1, 101)  # ROS_DOMAIN_IDs whose ports lie below those that Linux hands out by itself


def free_tcp_port() -> int:
    """A TCP port of loopback that is free now; the kernel seldom hands out the same one soon again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def discovery_port(domain: int) -> int:
    """The first unicast port that DDS uses in a domain (RTPS 2.5, section 9.6.2.3)."""
    return 7400 + 250 * domain + 10


def free_domain() -> int:
    """A ROS_DOMAIN_ID in which no process of this machine is. Raises OSError where each is in use."""
    domains = list(DOMAINS)
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", discovery_port(domain)))
            except OSError:
                continue
        return domain
    raise OSError(f"each ROS_DOMAIN_ID from {DOMAINS[0]} to {DOMAINS[-1]} is in use; set one yourself")
