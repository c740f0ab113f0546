"""A cloud's word, heard on the machine itself, that it will soon take the machine.

A source is polled by one thread; each poll blocks for `LIMIT_S` at most. What a cloud says and how long before:

    aws     interruption 2 minutes before (poll every 5 s), rebalance recommendation at any time or never
    gcp     interruption 30 s before (poll every second)
    azure   interruption 30 s before (poll every second)
    file    as whoever writes it pleases; seen within FILE_POLL_S
    none    never
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

import httpx
import msgspec
import structlog

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError, SkyfogError
from skyfog_pool.policy.market import NoticeKind
from skyfog_pool.report import RunnerNotice

LIMIT_S = 2.0
AWS_URL = "http://169.254.169.254"
AWS_TOKEN_S = 21_600  # the longest that IMDSv2 gives
_NEW_TOKEN_AFTER = 0.9  # of a token's life
GCP_URL = "http://metadata.google.internal"
AZURE_URL = "http://169.254.169.254"
AZURE_API = "2020-07-01"
FILE_POLL_S = 0.02
POLL_S = {"aws": 5.0, "gcp": 1.0, "azure": 1.0, "file": FILE_POLL_S, "none": 60.0}  # between polls

log = structlog.get_logger()


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


class GcpNotices:
    """Compute Engine's metadata server: `preempted` is TRUE from 30 s before the end on."""

    def __init__(self, base_url: str = "") -> None:
        self._http = httpx.Client(
            base_url=base_url or GCP_URL,
            timeout=LIMIT_S,
            trust_env=False,
            headers={"Metadata-Flavor": "Google"},
        )

    def poll(self) -> RunnerNotice | None:
        answer = _get(self._http, "/computeMetadata/v1/instance/preempted")
        return RunnerNotice(kind="interruption") if answer.text.strip() == "TRUE" else None

    def close(self) -> None:
        self._http.close()


class AzureNotices:
    """Azure's scheduled events: one of type `Preempt` says when, at the earliest, the machine goes."""

    def __init__(self, base_url: str = "", wall_s: Callable[[], float] = time.time) -> None:
        self._http = httpx.Client(
            base_url=base_url or AZURE_URL, timeout=LIMIT_S, trust_env=False, headers={"Metadata": "true"}
        )
        self._wall_s = wall_s

    def poll(self) -> RunnerNotice | None:
        answer = _get(self._http, f"/metadata/scheduledevents?api-version={AZURE_API}")
        try:
            events = [event for event in answer.json()["Events"] if event["EventType"] == "Preempt"]
        except (ValueError, KeyError, TypeError) as error:
            raise NoSource(f"scheduled events cannot be read: {error!r}") from error
        return RunnerNotice(kind="interruption", in_s=self._time_left(events[0])) if events else None

    def close(self) -> None:
        self._http.close()

    def _time_left(self, event: dict[str, str]) -> float | None:
        """Seconds until `NotBefore`, as `Mon, 19 Sep 2016 18:29:47 GMT`; None: it is now, or cannot be read."""
        try:
            return max(0.0, parsedate_to_datetime(event["NotBefore"]).timestamp() - self._wall_s())
        except (KeyError, ValueError, TypeError):
            return None


class Written(msgspec.Struct, frozen=True):
    """What stands in a notice file, as JSON. Its writer puts it there whole, by renaming."""

    kind: NoticeKind
    unix_s: float | None = None  # when the machine goes


class FileNotices:
    """A file that is there once there is a notice."""

    def __init__(self, path: Path, wall_s: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall_s = wall_s

    def poll(self) -> RunnerNotice | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NoSource(f"{self._path}: {error.strerror}") from error
        try:
            written = msgspec.json.decode(data, type=Written)
        except msgspec.MsgspecError as error:
            raise NoSource(f"{self._path}: {error}") from error
        left = None if written.unix_s is None else max(0.0, written.unix_s - self._wall_s())
        return RunnerNotice(kind=written.kind, in_s=left)

    def close(self) -> None:
        pass


class NoNotices:
    """Of a machine that nobody takes, or whose cloud does not tell."""

    def poll(self) -> RunnerNotice | None:
        return None

    def close(self) -> None:
        pass


def open_source(name: str, url: str = "", file: str = "") -> NoticeSource:
    """A source by name. `url`: of a look-alike, empty for the cloud's own. Raises ConfigError."""
    match name:
        case "aws":
            return AwsNotices(url)
        case "gcp":
            return GcpNotices(url)
        case "azure":
            return AzureNotices(url)
        case "file" if file:
            return FileNotices(Path(file))
        case "file":
            raise ConfigError("notice source file: no file is named")
        case "none" | "":
            return NoNotices()
    raise ConfigError(f"notice source {name!r}: there are {', '.join(POLL_S)}{nearest(name, list(POLL_S))}")


def watch(
    source: NoticeSource, poll_s: float, on_notice: Callable[[RunnerNotice], None], ended: threading.Event
) -> None:
    """Poll until `ended`, and tell each kind of notice once, the certain one last. Closes the source."""
    told: set[NoticeKind] = set()
    silent = False
    try:
        while not ended.is_set():
            try:
                notice, silent = source.poll(), False
            except NoSource as error:
                notice = None
                if not silent:
                    log.warning("no_notices", error=str(error))
                silent = True
            if notice is not None and notice.kind not in told:
                told |= {"interruption", "rebalance"} if notice.kind == "interruption" else {"rebalance"}
                on_notice(notice)
            ended.wait(poll_s)
    finally:
        source.close()


def _get(client: httpx.Client, path: str) -> httpx.Response:
    """Raises NoSource."""
    try:
        return client.get(path).raise_for_status()
    except httpx.HTTPError as error:
        raise NoSource(f"metadata at {client.base_url}: {type(error).__name__} {error}") from error
