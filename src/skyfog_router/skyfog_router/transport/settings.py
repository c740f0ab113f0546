"""A process's zenoh configuration from its schema: what zenoh would only answer with silence is refused here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog

from skyfog_core.config.router import ZenohConfig
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.errors import ConfigError
from skyfog_router import certs
from skyfog_router.acl import Member, access_control

log = structlog.get_logger()

SECURE = ("tls", "quic")
# Zenoh passes nothing on between peers of one region, which it takes to be linked to each other. Robots, replicas and
# pools, which hear both, are regions of their own, so that a router joins them; so are cars and gateways.
REGIONS = {"robot": "robots", "replica": "replicas", "pool": "pools", "car": "cars", "gateway": "gateways"}

# A connection is tried anew before TCP and QUIC, which wait longer each time, would.
OPEN_MS = 2_000
RETRY = {"period_init_ms": 50, "period_max_ms": 200, "period_increase_factor": 2}


def zenoh_settings(config: ZenohConfig, member: Member | None, now: datetime) -> dict[str, Any]:
    """Zenoh's settings by key, for `member` of a fleet; without one for links that no router joins. Raises ConfigError.

    With certificates every link is TLS or QUIC, both ends show theirs, and access control is on.
    """
    settings: dict[str, Any] = {
        "mode": config.mode,
        "connect/endpoints": config.connect,
        "listen/endpoints": config.listen,
        "scouting/multicast/enabled": False,
        "transport/link/tx/lease": config.lease_ms,
        "transport/shared_memory/enabled": config.shared_memory,
        "connect/exit_on_failure": False,
        "connect/timeout_ms": -1,  # keep trying in the background; 0 would try once, and whoever starts first is lost
        "connect/retry": {"period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 2},
    }
    if member is not None and member.role in REGIONS:
        settings["region_name"] = REGIONS[member.role]
    if config.mode == "router":
        settings["gateway"] = {"south": [{"filters": [{"region_names": [name]}]} for name in REGIONS.values()]}
    for endpoint in (*config.listen, *config.connect):
        secure = endpoint.partition("/")[0] in SECURE
        if secure and not config.tls.ca:
            raise ConfigError(f"{endpoint}: needs tls.ca, tls.certificate and tls.key; `skyfog certs` makes them")
        if config.tls.ca and not secure:
            raise ConfigError(f"{endpoint}: with certificates every endpoint is tls/… or quic/…")
    if config.tls.ca:
        assert member is not None, "who uses certificates says as whom"
        settings |= _secure(config, member, now)
    return settings


def link_settings(config: LinkConfig, wait_us: int, large_us: int) -> dict[str, Any]:
    """Zenoh's settings for one end of the uplink, beside those of any process.

    A put waits for `wait_us` while the socket is full, one of more than 64 KB, in pieces, for `large_us`.
    """
    queue_of = "transport/link/tx/queue"
    settings: dict[str, Any] = {
        f"{queue_of}/batching/enabled": False,
        f"{queue_of}/congestion_control/drop": {
            "wait_before_drop": wait_us,
            "max_wait_before_drop_fragments": large_us,
        },
        "open/return_conditions/connect_scouted": False,
        "transport/unicast/open_timeout": OPEN_MS,
        "transport/unicast/accept_timeout": OPEN_MS,
        "connect/retry": RETRY,
    }
    if config.send_buffer_bytes:
        settings["transport/link/tcp/so_sndbuf"] = config.send_buffer_bytes
        settings["transport/link/tls/so_sndbuf"] = config.send_buffer_bytes
    return settings


def _secure(config: ZenohConfig, member: Member, now: datetime) -> dict[str, Any]:
    if not member.services and member.role not in {"car", "gateway"}:
        raise ConfigError("service: with certificates, say which services may pass")
    facts = certs.check_files(config.tls, member.name, now)
    if facts.state(now) != "ok":
        log.warning("certificate_expires", file=config.tls.certificate, on=f"{facts.not_after:%Y-%m-%d %H:%M} UTC")
    link = "transport/link/tls"
    return {
        "transport/link/protocols": list(SECURE),
        f"{link}/root_ca_certificate": config.tls.ca,
        f"{link}/listen_certificate": config.tls.certificate,
        f"{link}/listen_private_key": config.tls.key,
        f"{link}/connect_certificate": config.tls.certificate,
        f"{link}/connect_private_key": config.tls.key,
        f"{link}/enable_mtls": True,
        f"{link}/verify_name_on_connect": True,
        f"{link}/close_link_on_expiration": True,
        "access_control": access_control(member.fleet, member.services),
    }
