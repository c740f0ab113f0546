from __future__ import annotations

import socket

import pytest

from skyfog_core.ports import DOMAINS, KEPT_PORTS, PORTS, claim_domain, free_tcp_port, release_domain


def nobody_has(domain: int) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        try:
            other.bind(f"\0skyfog-ros-domain-{domain}")
        except OSError:
            return False
    return True


def test_two_claims_never_meet_and_a_released_domain_can_be_claimed_again() -> None:
    claimed = [claim_domain() for _ in range(20)]
    try:
        assert len(set(claimed)) == 20
        assert set(claimed) <= set(DOMAINS)
    finally:
        for domain in claimed:
            release_domain(domain)
    assert any(nobody_has(domain) for domain in claimed), "others may have taken some of them since"


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_tcp_port()))
        server.listen()
        assert server.getsockname()[1] > 0


def test_a_port_that_is_not_listened_on_yet_is_given_to_nobody_else() -> None:
    ours = {free_tcp_port() for _ in range(KEPT_PORTS)}
    assert len(ours) == KEPT_PORTS
    assert ours <= set(PORTS)
    taken = min(ours)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
        other.bind(f"\0skyfog-tcp-port-{taken}")
