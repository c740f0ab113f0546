"""Certificates on real links: the right ones work, and nobody else gets or spoils anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zenoh
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import (
    SERVICE,
    LocalReplica,
    TracedDriver,
)

from skyfog_core.config.router import TlsConfig, ZenohConfig
from skyfog_core.ports import free_tcp_port
from skyfog_router import certs
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import open_session

OTHER = "/other"
ROUTER = Member("router", "test", (SERVICE, OTHER))
SOON_S = 2.0  # what is let in arrives within milliseconds: after so long it was kept out


class Authority:
    """A CA, and TLS settings for whomever it certifies."""

    def __init__(self, folder: Path, fleet: str = "test", made: timedelta = timedelta()) -> None:
        self._folder, self._count = folder, 0
        certs.make_ca(fleet, folder, datetime.now(UTC) - made)

    def tls(
        self, role: str, service: str = "", ca: Authority | None = None, made: timedelta = timedelta(), days: int = 2
    ) -> TlsConfig:
        """`ca` is whose peers are trusted, if not its own; `made` is how long ago."""
        self._count += 1
        issued = certs.issue(role, str(self._count), self._folder, datetime.now(UTC) - made, service, days)
        trusted = (ca or self)._folder / "ca.pem"
        return TlsConfig(ca=str(trusted), certificate=str(issued.certificate), key=str(issued.key))


class Fleet:
    """A robot and a replica with certificates, which a router joins."""

    def __init__(self, net: Net, authority: Authority, protocol: str) -> None:
        self.endpoint = f"{protocol}/127.0.0.1:{free_tcp_port()}"
        self.authority = authority
        self._net = net
        net.keep(open_session(ZenohConfig(mode="router", listen=[self.endpoint], tls=authority.tls("router")), ROUTER))
        self.robot: TracedDriver = net.robot(link=self.link(authority.tls("robot")))
        self.replica: LocalReplica = net.local("0", self.link(authority.tls("replica", SERVICE)))
        self.robot.watched.wait_for(self.replica.who)

    def link(self, tls: TlsConfig) -> ZenohConfig:
        return ZenohConfig(connect=[self.endpoint], tls=tls)

    def works(self) -> bool:
        return self.robot.ask(b"hello").wait() == b"hello"

    def stranger(self, tls: TlsConfig | None, region: str) -> zenoh.Session:
        """A session that keeps no rule of ours."""
        return self._net.keep(raw_session(self.endpoint, tls, region))


def raw_session(endpoint: str, tls: TlsConfig | None, region: str) -> zenoh.Session:
    config = zenoh.Config()
    settings = {
        "mode": "client",
        "connect/endpoints": [endpoint],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "scouting/multicast/enabled": False,
        "region_name": region,
    }
    if tls is not None:
        settings["transport/link/tls/root_ca_certificate"] = tls.ca
        settings["transport/link/tls/enable_mtls"] = bool(tls.certificate)
        if tls.certificate:
            settings["transport/link/tls/connect_certificate"] = tls.certificate
            settings["transport/link/tls/connect_private_key"] = tls.key
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)
