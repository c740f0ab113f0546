"""Notices of GCP and Azure, from answers as their documentation shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from skyfog_pool import notices
from skyfog_pool.notices import AzureNotices, GcpNotices, NoSource
from skyfog_pool.report import RunnerNotice

NOW_S = 1_474_309_757.0  # Mon, 19 Sep 2016 18:29:17 GMT


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[httpx.Request], httpx.Response]], None]:
    """Every client of the module is answered by a function."""

    def answer(by: Callable[[httpx.Request], httpx.Response]) -> None:
        real = httpx.Client
        monkeypatch.setattr(notices.httpx, "Client", lambda **more: real(transport=httpx.MockTransport(by), **more))

    return answer


def test_gcp_says_true_from_the_notice_on(answering: Any) -> None:
    told = ["FALSE", "TRUE"]

    def by(request: httpx.Request) -> httpx.Response:
        assert request.headers["Metadata-Flavor"] == "Google"
        assert request.url.path == "/computeMetadata/v1/instance/preempted"
        return httpx.Response(200, text=told.pop(0))

    answering(by)
    source = GcpNotices()
    assert source.poll() is None
    assert source.poll() == RunnerNotice(kind="interruption")


def test_azure_counts_only_preempt_and_says_when(answering: Any) -> None:
    event = {"EventId": "x", "EventType": "Preempt", "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT"}
    bodies: list[dict[str, Any]] = [
        {"DocumentIncarnation": 1, "Events": []},
        {"DocumentIncarnation": 2, "Events": [event | {"EventType": "Reboot"}]},
        {"DocumentIncarnation": 3, "Events": [event]},
        {"DocumentIncarnation": 4, "Events": [event | {"NotBefore": ""}]},
    ]

    def by(request: httpx.Request) -> httpx.Response:
        assert request.headers["Metadata"] == "true"
        assert request.url.params["api-version"] == "2020-07-01"
        return httpx.Response(200, json=bodies.pop(0))

    answering(by)
    source = AzureNotices(wall_s=lambda: NOW_S)
    assert [source.poll() for _ in range(2)] == [None, None]
    assert source.poll() == RunnerNotice(kind="interruption", in_s=30.0)
    assert source.poll() == RunnerNotice(kind="interruption")


@pytest.mark.parametrize("source", [GcpNotices, AzureNotices])
def test_a_service_that_fails_is_told_apart_from_no_notice(answering: Any, source: Any) -> None:
    answering(lambda _: httpx.Response(500))
    with pytest.raises(NoSource, match="500"):
        source().poll()
