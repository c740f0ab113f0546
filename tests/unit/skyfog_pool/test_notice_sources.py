"""Notices from a file, and who is told of notices."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from skyfog_core.errors import ConfigError
from skyfog_pool import notices
from skyfog_pool.notices import FileNotices, NoNotices, NoSource, Written, open_source
from skyfog_pool.report import RunnerNotice

NOW_S = 1_700_000_000.0


def test_a_file_is_a_notice_once_it_is_there(tmp_path: Path) -> None:
    source = FileNotices(tmp_path / "notice", wall_s=lambda: NOW_S)
    assert source.poll() is None
    (tmp_path / "notice").write_bytes(msgspec.json.encode(Written("interruption", NOW_S + 7)))
    assert source.poll() == RunnerNotice(kind="interruption", in_s=7.0)
    (tmp_path / "notice").write_bytes(msgspec.json.encode(Written("rebalance")))
    assert source.poll() == RunnerNotice(kind="rebalance")
    (tmp_path / "notice").write_text("{")
    with pytest.raises(NoSource, match="notice"):
        source.poll()


class _Once:
    """Ends the watch after so many waits."""

    def __init__(self, waits: int) -> None:
        self.left = waits

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, _seconds: float) -> None:
        self.left -= 1


class _Script:
    def __init__(self, *told: RunnerNotice | Exception | None) -> None:
        self.told = list(told)
        self.closed = False

    def poll(self) -> RunnerNotice | None:
        next_one = self.told.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one

    def close(self) -> None:
        self.closed = True


def test_a_watch_tells_each_kind_once_the_certain_one_last_and_outlives_failures() -> None:
    risk, sure = RunnerNotice("rebalance"), RunnerNotice("interruption", 9.0)
    script = _Script(None, NoSource("away"), risk, risk, sure, sure, risk)
    told: list[RunnerNotice] = []
    notices.watch(script, 1.0, told.append, _Once(7))  # type: ignore[arg-type]
    assert told == [risk, sure]
    assert script.closed


def test_sources_are_found_by_name(tmp_path: Path) -> None:
    assert isinstance(open_source("none"), NoNotices)
    assert isinstance(open_source("file", file=str(tmp_path / "x")), FileNotices)
    with pytest.raises(ConfigError, match="no file"):
        open_source("file")
    with pytest.raises(ConfigError, match="did you mean 'azure'"):
        open_source("azur")
