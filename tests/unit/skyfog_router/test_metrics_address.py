"""`metrics_listen`: what is an address and what is none."""

from __future__ import annotations

import pytest

from skyfog_core.errors import ConfigError
from skyfog_router.metrics_server import host_and_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_host_and_port_are_told_apart(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["9464", ":9464", "host:", "host:http", "host:65536", "host:-1", "host:²", "host"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not HOST:PORT .* e\.g\. 127\.0\.0\.1:9464"):
        host_and_port(text)


def test_an_ipv6_address_without_brackets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"brackets"):
        host_and_port("::1:9464")
