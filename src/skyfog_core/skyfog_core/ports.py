"""TCP ports and ROS domains that nobody uses now, for runs that must not meet others on the same machine."""

from __future__ import annotations

import atexit
import random
import socket

# Below 11 the names of shared segments are the same in all domains; above 101 the ports (RTPS 2.5, section 9.6.2.3)
# fall among those that Linux hands out by itself.
DOMAINS = range(11, 100)
_claims: dict[int, socket.socket] = {}


def free_tcp_port() -> int:
    """A TCP port of loopback that is free now; the kernel seldom hands out the same one soon again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def claim_domain() -> int:
    """A ROS_DOMAIN_ID in which no process of this machine is, kept from other claimants until released or we end.

    Raises OSError where each is in use.
    """
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0skyfog-ros-domain-{domain}")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("", _discovery_port(domain)))
        except OSError:
            claim.close()
            continue
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


def _discovery_port(domain: int) -> int:
    """The first unicast port that DDS uses in a domain."""
    return 7400 + 250 * domain + 10
