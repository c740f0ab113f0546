"""A cloud's word, heard on the machine itself, that it will soon take the machine.

A source is polled by one thread; each poll blocks for `LIMIT_S` at most. What a cloud says and how long before:

    aws     interruption 2 minutes before (poll every 5 s), rebalance recommendation at any time or never
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import httpx

from skyfog_core.errors import SkyfogError
from skyfog_pool.report import RunnerNotice

LIMIT_S = 2.0
AWS_URL = "http://169.254.169.254"
AWS_TOKEN_S = 21_600  # the longest that IMDSv2 gives
_NEW_TOKEN_AFTER = 0.9  # of a token's life


class NoSource(SkyfogError):
    """The source did not answer, or not in a way that can be read; the next poll may."""


class NoticeSource(Protocol):
    """Where notices are heard."""

    def poll(self) -> RunnerNotice | None:
        """What is known now; the same notice at every poll. Raises NoSource."""
        ...

    def close(self) -> None: ...


class AwsNotices:
    """EC2's instance metadata service, version 2: first a session token, then what is asked for; 404: there is none.

    `wall_s` is this machine's clock (Unix time), which AWS sets: the notice names a time of day.
    """

    def __init__(
        self,
        base_url: str = "",
        wall_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        # No proxy: the address is this machine's own.
        self._http = httpx.Client(base_url=base_url or AWS_URL, timeout=LIMIT_S / 2, trust_env=False)
        self._wall_s = wall_s
        self._steady_s = steady_s
        self._token = ""
        self._renew_s = 0.0  # steady time from which a new token is asked for

    def poll(self) -> RunnerNotice | None:
        # Before the interruption, which is certain, comes the recommendation, which is not: the certain one is told.
        action = self._get("/latest/meta-data/spot/instance-action")
        if action is not None:
            return RunnerNotice(kind="interruption", in_s=self._time_left(action))
        if self._get("/latest/meta-data/events/recommendations/rebalance") is not None:
            return RunnerNotice(kind="rebalance")
        return None

    def close(self) -> None:
        self._http.close()

    def _time_left(self, action: httpx.Response) -> float | None:
        """Seconds until the time in `{"action": "terminate", "time": "2026-01-02T03:04:05Z"}`; None: it names none."""
        try:
            at = datetime.fromisoformat(action.json()["time"])
            return max(0.0, at.timestamp() - self._wall_s())
        except (ValueError, KeyError, TypeError):
            return None  # that the machine goes is sure all the same

    def _get(self, path: str) -> httpx.Response | None:
        """None where the service has no such thing."""
        try:
            if not self._token or self._steady_s() >= self._renew_s:
                self._new_token()
            answer = self._http.get(path, headers={"X-aws-ec2-metadata-token": self._token})
            if answer.status_code == httpx.codes.UNAUTHORIZED:  # the machine slept, or the service began anew
                self._new_token()
                answer = self._http.get(path, headers={"X-aws-ec2-metadata-token": self._token})
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            return answer.raise_for_status()
        except httpx.HTTPError as error:
            raise NoSource(f"instance metadata at {self._http.base_url}: {type(error).__name__} {error}") from error

    def _new_token(self) -> None:
        answer = self._http.put(
            "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_S)}
        ).raise_for_status()
        self._token = answer.text
        self._renew_s = self._steady_s() + AWS_TOKEN_S * _NEW_TOKEN_AFTER
