"""Notices as a machine of AWS hears them, from a look-alike of its metadata service."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from skyfog_core.ports import free_tcp_port
from skyfog_pool.notices import AWS_TOKEN_S, AwsNotices, NoSource
from skyfog_pool.report import RunnerNotice
from support.aws import Shim


@pytest.fixture
def machine() -> str:
    return f"i-{uuid.uuid4().hex[:17]}"


@pytest.fixture
def notices(aws: Shim, machine: str) -> Iterator[AwsNotices]:
    notices = AwsNotices(f"{aws.url}/_imds/{machine}")
    yield notices
    notices.close()


def test_nothing_is_heard_at_first(notices: AwsNotices) -> None:
    assert notices.poll() is None


def test_a_recommendation_then_the_interruption(notices: AwsNotices, aws: Shim, machine: str) -> None:
    aws.ask("rebalance", id=machine)
    assert notices.poll() == RunnerNotice(kind="rebalance")
    aws.ask("notice", id=machine, in_s=120)
    heard = notices.poll()
    assert heard is not None
    assert heard.kind == "interruption"
    assert heard.in_s == pytest.approx(120, abs=5)


def test_the_time_left_is_never_below_zero(notices: AwsNotices, aws: Shim, machine: str) -> None:
    aws.ask("notice", id=machine, in_s=-30)
    assert notices.poll() == RunnerNotice(kind="interruption", in_s=0.0)


def test_a_token_serves_many_polls_and_is_renewed_before_it_ends(aws: Shim, machine: str) -> None:
    now = [0.0]
    notices = AwsNotices(f"{aws.url}/_imds/{machine}", steady_s=lambda: now[0])
    notices.poll()
    first = notices._token
    now[0] = AWS_TOKEN_S / 2
    notices.poll()
    assert notices._token == first
    now[0] = AWS_TOKEN_S * 0.95
    notices.poll()
    assert notices._token != first
    notices.close()


def test_a_token_that_counts_no_more_is_asked_for_anew(notices: AwsNotices, aws: Shim, machine: str) -> None:
    notices.poll()
    aws.ask("forget_tokens")
    aws.ask("notice", id=machine)
    heard = notices.poll()
    assert heard is not None
    assert heard.kind == "interruption"


def test_a_service_that_is_not_there_is_said(machine: str) -> None:
    notices = AwsNotices(f"http://127.0.0.1:{free_tcp_port()}")
    with pytest.raises(NoSource, match="ConnectError"):
        notices.poll()
    notices.close()
