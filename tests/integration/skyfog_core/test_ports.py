from __future__ import annotations

import socket

from skyfog_core.ports import DOMAINS, claim_domain, free_tcp_port, release_domain


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
