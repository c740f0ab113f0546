"""Certificates, and sessions that keep no rule of ours, for tests of who may do what."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zenoh
from integration.skyfog_router.ends import KEYS, LIMIT_S

from skyfog_core.config.router import TlsConfig
from skyfog_router import certs

CONNECT_MS, REFUSED_MS = 20_000, 3_000  # who is to be let in, and who is not: those try for all of the time
DAY = timedelta(days=1)


class Authority:
    """A CA, and certificates of one day for whom it likes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        certs.make_ca("test", folder, datetime.now(UTC) - 10 * DAY)

    def tls(self, role: str, service: str = "", expires: timedelta = DAY) -> TlsConfig:
        """`expires` is from now."""
        self._count += 1
        made = datetime.now(UTC) + expires - DAY
        issued = certs.issue(role, f"m{self._count}", self.folder, made, service, days=1)
        return TlsConfig(ca=str(self.folder / "ca.pem"), certificate=str(issued.certificate), key=str(issued.key))


def raw_session(
    endpoint: str, tls: TlsConfig, region: str, shows: bool = True, connect_ms: int = CONNECT_MS
) -> zenoh.Session:
    """A session that keeps no rule of ours, linked when this returns. Raises ZError where it is not let in."""
    settings: dict[str, object] = {
        "mode": "client",
        "connect/endpoints": [endpoint],
        "connect/timeout_ms": connect_ms,
        "connect/exit_on_failure": True,
        "scouting/multicast/enabled": False,
        "region_name": region,
        "transport/link/tls/root_ca_certificate": tls.ca,
    }
    if shows:
        settings |= {
            "transport/link/tls/enable_mtls": True,
            "transport/link/tls/connect_certificate": tls.certificate,
            "transport/link/tls/connect_private_key": tls.key,
        }
    return opened(settings)


def opened(settings: dict[str, object]) -> zenoh.Session:
    config = zenoh.Config()
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


def lawless_router(endpoint: str, tls: TlsConfig) -> zenoh.Session:
    """A router that passes everything on to everyone."""
    return opened(
        {
            "mode": "router",
            "listen/endpoints": [endpoint],
            "scouting/multicast/enabled": False,
            "gateway": {"south": [{"filters": [{"region_names": [name]}]} for name in ("robots", "replicas")]},
            "transport/link/tls/root_ca_certificate": tls.ca,
            "transport/link/tls/listen_certificate": tls.certificate,
            "transport/link/tls/listen_private_key": tls.key,
            "transport/link/tls/enable_mtls": True,
        }
    )


def replies(session: zenoh.Session, key: str) -> list[bytes]:
    """What a query gets before it ends."""
    found = session.get(key, target=zenoh.QueryTarget.ALL, payload=b"?", attachment=b"?", timeout=LIMIT_S)
    return [reply.ok.payload.to_bytes() for reply in found if reply.ok is not None]


def tokens(session: zenoh.Session) -> set[str]:
    """Who is live, as far as the session may know."""
    found = session.liveliness().get("skyfog/**", timeout=LIMIT_S)
    live = session.liveliness().get(KEYS.all_live, timeout=LIMIT_S)
    return {str(reply.ok.key_expr) for replies in (found, live) for reply in replies if reply.ok is not None}
