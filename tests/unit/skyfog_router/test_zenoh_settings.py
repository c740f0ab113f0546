"""Zenoh's settings: complete, and refused where zenoh would only be silent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from skyfog_core.config.base import parse
from skyfog_core.config.router import TlsConfig, ZenohConfig
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.errors import ConfigError
from skyfog_router.acl import Member, access_control
from skyfog_router.certs import issue, make_ca
from skyfog_router.transport.settings import link_settings, zenoh_settings

NOW = datetime(2030, 1, 2, tzinfo=UTC)
ROBOT = Member("robot", "f", ("/detect",))


@pytest.fixture
def tls(tmp_path: Path) -> TlsConfig:
    make_ca("f", tmp_path, NOW)
    made = issue("robot", "r", tmp_path, NOW, days=40)
    return TlsConfig(ca=str(tmp_path / "ca.pem"), certificate=str(made.certificate), key=str(made.key))


def test_plain_links_have_no_access_control() -> None:
    settings = zenoh_settings(ZenohConfig(listen=["tcp/127.0.0.1:1"], lease_ms=700, shared_memory=False), ROBOT, NOW)
    assert settings["listen/endpoints"] == ["tcp/127.0.0.1:1"]
    assert settings["transport/link/tx/lease"] == 700
    assert settings["transport/shared_memory/enabled"] is False
    assert settings["scouting/multicast/enabled"] is False
    assert not [key for key in settings if "tls" in key or key == "access_control"]


@pytest.mark.parametrize("protocol", ["tls", "quic"])
def test_certificates_bring_mutual_tls_access_control_and_no_other_protocol(tls: TlsConfig, protocol: str) -> None:
    settings = zenoh_settings(ZenohConfig(connect=[f"{protocol}/cloud:1"], tls=tls), ROBOT, NOW)
    link = "transport/link/tls"
    assert settings[f"{link}/enable_mtls"] is True
    assert settings[f"{link}/close_link_on_expiration"] is True
    assert settings[f"{link}/listen_private_key"] == settings[f"{link}/connect_private_key"] == tls.key
    assert settings["transport/link/protocols"] == ["tls", "quic"]
    assert settings["access_control"] == access_control("f", ["/detect"])


def test_a_router_joins_the_regions_of_all_roles() -> None:
    config = ZenohConfig()
    regions = [
        zenoh_settings(config, Member(role, "f", ("/detect",)), NOW)["region_name"]
        for role in ("robot", "replica", "pool", "car", "gateway")
    ]
    assert len(set(regions)) == 5
    south = zenoh_settings(ZenohConfig(mode="router"), Member("router", "f", ("/detect",)), NOW)["gateway"]["south"]
    assert [part["filters"] for part in south] == [[{"region_names": [name]}] for name in regions]
    assert "gateway" not in zenoh_settings(config, ROBOT, NOW)


def test_an_expiry_that_is_near_is_logged(tls: TlsConfig) -> None:
    with structlog.testing.capture_logs() as logs:
        zenoh_settings(ZenohConfig(tls=tls), ROBOT, NOW)
        assert logs == []
        zenoh_settings(ZenohConfig(tls=tls), ROBOT, NOW.replace(month=2))
    assert [entry["event"] for entry in logs] == ["certificate_expires"]
    assert logs[0]["file"] == tls.certificate


@pytest.mark.parametrize("where", ["listen", "connect"])
def test_endpoints_and_certificates_go_together(tls: TlsConfig, where: str) -> None:
    with pytest.raises(ConfigError, match=r"quic/a:1: needs tls\.ca.*skyfog certs"):
        zenoh_settings(ZenohConfig(**{where: ["tcp/a:1", "quic/a:1"]}), ROBOT, NOW)
    with pytest.raises(ConfigError, match="tcp/a:1: with certificates every endpoint"):
        zenoh_settings(ZenohConfig(**{where: ["tls/a:1", "tcp/a:1"]}, tls=tls), ROBOT, NOW)


def test_a_certificate_of_another_role_or_of_no_use_is_refused(tls: TlsConfig) -> None:
    config = ZenohConfig(tls=tls)
    with pytest.raises(ConfigError, match="is for 'robot/f'; this process must be 'replica/f/detect'"):
        zenoh_settings(config, Member("replica", "f", ("/detect",)), NOW)
    with pytest.raises(ConfigError, match="which services"):
        zenoh_settings(config, Member("robot", "f", ()), NOW)
    with pytest.raises(ConfigError, match="expired"):
        zenoh_settings(config, ROBOT, NOW.replace(month=3))


@pytest.mark.parametrize("role", ["car", "gateway"])
def test_a_car_and_a_gateway_need_no_service(tmp_path: Path, role: str) -> None:
    make_ca("f", tmp_path, NOW)
    made = issue(role, "m", tmp_path, NOW, days=40)
    tls = TlsConfig(ca=str(tmp_path / "ca.pem"), certificate=str(made.certificate), key=str(made.key))
    settings = zenoh_settings(LinkConfig(connect=["quic/cloud:1"], tls=tls), Member(role, "f", ()), NOW)
    assert settings["access_control"] == access_control("f", [])


def test_a_link_of_a_car_is_short_lived_and_not_in_shared_memory_even_where_a_file_sets_only_the_endpoint() -> None:
    config = parse(LinkConfig, {"connect": ["tcp/cloud:1"]}, "file")
    settings = zenoh_settings(config, Member("car", "f", ()), NOW)
    assert settings["transport/link/tx/lease"] == 2_000
    assert settings["transport/shared_memory/enabled"] is False


def test_the_send_buffer_is_the_kernels_own_unless_it_is_set() -> None:
    keys = {"transport/link/tcp/so_sndbuf", "transport/link/tls/so_sndbuf"}
    assert not keys & link_settings(LinkConfig(), 1, 1).keys()
    made = link_settings(LinkConfig(send_buffer_bytes=65_536), 1, 1)
    assert {made[key] for key in keys} == {65_536}
