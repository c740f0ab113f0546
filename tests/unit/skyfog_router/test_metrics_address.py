"""`metrics_listen`: what is an address and what is none."""

from __future__ import annotations

import pytest

from skyfog_core.errors import ConfigError
from skyfog_router.metrics_server import Route, _answer, host_and_port


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


def asked(address: str, method: str = "POST", query: str = "") -> tuple[int, object]:
    route = Route("POST", lambda values: (202, {"within_s": float(values.get("within_s", "0"))}), from_loopback=True)
    return _answer(route, {"REQUEST_METHOD": method, "REMOTE_ADDR": address, "QUERY_STRING": query})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_what_changes_something_is_done_for_the_machine_itself(address: str) -> None:
    assert asked(address, query="within_s=1&within_s=2.5") == (202, {"within_s": 2.5})


@pytest.mark.parametrize("address", ["10.0.0.5", "2001:db8::1", "fe80::1%eth0", "::ffff:10.0.0.5"])
def test_and_for_nobody_else(address: str) -> None:
    assert asked(address)[0] == 403


def test_a_wrong_method_or_value_is_said() -> None:
    assert asked("127.0.0.1", method="GET") == (405, {"error": "only POST"})
    status, said = asked("127.0.0.1", query="within_s=soon")
    assert (status, "soon" in str(said)) == (400, True)
