"""A runner's settings, from its environment."""

from __future__ import annotations

import pytest

from skyfog_core.errors import ConfigError
from skyfog_pool import report
from skyfog_pool.runner import Settings

LEAST = {report.COMMAND: "run", report.RUNNER_LISTEN: "10.0.0.7:8080"}


def test_what_is_not_given_has_defaults() -> None:
    settings = Settings.read(LEAST)
    assert (settings.host, settings.port, settings.command) == ("10.0.0.7", 8080, "run")
    assert (settings.setup, settings.notice_source, settings.grace_s) == ("", "none", 10.0)
    assert (settings.serves_on, settings.drain_s) == (False, 30.0)


@pytest.mark.parametrize(("source", "poll_s"), [("aws", 5.0), ("gcp", 1.0), ("azure", 1.0), ("file", 0.02)])
def test_each_source_of_notices_is_polled_as_its_cloud_advises(source: str, poll_s: float) -> None:
    assert Settings.read(LEAST | {report.NOTICE_SOURCE: source}).notice_poll_s == poll_s
    assert Settings.read(LEAST | {report.NOTICE_SOURCE: source, report.NOTICE_POLL_S: "0.5"}).notice_poll_s == 0.5


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert Settings.read(LEAST | {report.RUNNER_LISTEN: "[::1]:80"}).host == "::1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (report.COMMAND, "  "),
        (report.RUNNER_LISTEN, "8080"),
        (report.RUNNER_LISTEN, "host:port"),
        (report.GRACE_S, "ten"),
        (report.ON_NOTICE, "drian"),
        (report.DRAIN_S, "ten"),
        (report.SERVICE_PORT, "http"),
        (report.NOTICE_POLL_S, "often"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.read(LEAST | {name: value})
