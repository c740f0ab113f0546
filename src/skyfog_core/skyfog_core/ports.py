"""TCP ports and ROS domains that nobody uses now, for runs that must not meet others on the same machine."""

from __future__ import annotations

import atexit
import random
import socket
from collections import deque

# Above those that Linux hands out by itself: none is given to somebody else before the one who found it free listens.
PORTS = range(61_000, 65_536)
KEPT_PORTS = 100
# Below 11 the names of shared segments are the same in all domains; above 101 the ports (RTPS 2.5, section 9.6.2.3)
# fall among those that Linux hands out by itself.
DOMAINS = range(11, 100)
_claims: dict[int, socket.socket] = {}
_ports: deque[socket.socket] = deque()


def free_tcp_port() -> int:
    """A TCP port of loopback that is free now, kept from other callers until we end, or take KEPT_PORTS more.

    Raises OSError where each is in use.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        claim = _claimed(f"tcp-port-{port}", socket.SOCK_STREAM, ("127.0.0.1", port))
        if claim is not None:
            _ports.append(claim)
            if len(_ports) > KEPT_PORTS:
                _ports.popleft().close()
            return port
    raise OSError(f"each TCP port from {PORTS[0]} to {PORTS[-1]} is in use")


def claim_domain() -> int:
    """A ROS_DOMAIN_ID in which no process of this machine is, kept from other claimants until released or we end.

    Raises OSError where each is in use.
    """
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        claim = _claimed(f"ros-domain-{domain}", socket.SOCK_DGRAM, ("", _discovery_port(domain)))
        if claim is not None:
            _claims[domain] = claim
            return domain
    raise OSError(f"each ROS_DOMAIN_ID from {DOMAINS[0]} to {DOMAINS[-1]} is in use; set one yourself")


def release_domain(domain: int) -> None:
    """Let others claim it. Nothing where it was not claimed."""
    claim = _claims.pop(domain, None)
    if claim is not None:
        claim.close()


@atexit.register
def _release_all() -> None:
    for domain in list(_claims):
        release_domain(domain)
    while _ports:
        _ports.pop().close()


def _claimed(name: str, kind: int, address: tuple[str, int]) -> socket.socket | None:
    """Ours while it is open; None where another has it, or the address is in use."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0skyfog-{name}")
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(address)
    except OSError:
        claim.close()
        return None
    return claim


def _discovery_port(domain: int) -> int:
    """The first unicast port that DDS uses in a domain."""
    return 7400 + 250 * domain + 10
