"""The verbs that look: what they print, and what they say where there is nothing to see."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner
from unit.skyfog_bringup.test_timeline import FAILED, HEDGED, event, sent

from skyfog_bringup import observe
from skyfog_bringup.cli import app
from skyfog_router.report import ServiceReport
from support.snapshots import report


class FakeStates:
    """Robots that were heard; `rounds` later lists, then Ctrl-C."""

    def __init__(self, *rounds: Sequence[ServiceReport]) -> None:
        self._rounds = list(rounds)

    def first(self, limit_s: float) -> Sequence[ServiceReport]:
        return self._rounds.pop(0)

    def listen(self, seconds: float) -> None:
        if not self._rounds:
            raise KeyboardInterrupt

    def reports(self) -> Sequence[ServiceReport]:
        return self._rounds.pop(0)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ServiceReport]]:
    rounds: list[Sequence[ServiceReport]] = []

    @contextmanager
    def ros(_whom: str) -> Iterator[FakeStates]:
        yield FakeStates(*rounds)

    monkeypatch.setattr(observe, "_ros", ros)
    return rounds


def skyfog(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"NO_COLOR": "1", "TERM": "dumb"})
    return result.exit_code, result.output


@pytest.mark.parametrize("verb", ["status", "replicas"])
def test_nobody_there_is_said_with_what_to_look_at(verb: str, heard: list[Sequence[ServiceReport]]) -> None:
    heard.append([])
    status, output = skyfog(verb, "--wait", "0.1")
    assert status == 3
    assert f"skyfog {verb}: no robot told its state within 0.1 s" in output
    assert "ROS_DOMAIN_ID" in output


def test_json_is_all_that_is_printed(heard: list[Sequence[ServiceReport]]) -> None:
    heard.append([report()])
    status, output = skyfog("status", "--json")
    assert status == 0
    assert [row["service"] for row in json.loads(output)] == ["/detect"]


def test_watching_as_json_is_a_line_each_time(heard: list[Sequence[ServiceReport]]) -> None:
    heard += [[report()], [report(called=200)]]
    status, output = skyfog("replicas", "--json", "--watch")
    assert status == 0
    assert [len(json.loads(line)) for line in output.splitlines()] == [2, 2]


def test_watching_without_a_terminal_prints_each_table(heard: list[Sequence[ServiceReport]]) -> None:
    heard += [[report()], [report(called=200)]]
    status, output = skyfog("status", "--watch")
    assert status == 0
    assert output.count("peak_ewma") == 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    newer = [
        [sent(f"c{i}", 3_000 + i, "a/0"), event("delivered", 3_010 + i, id=f"c{i}", replica="a/0", ms=10.0)]
        for i in range(6)
    ]
    events = [*HEDGED, *FAILED, *(e for pair in newer for e in pair), sent("dd", 4_000, "a/0")]
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def ids(output: str) -> list[str]:
    """The requests that were told, in order."""
    return [line.split()[0] for line in output.splitlines() if "  /detect  " in line]


def test_a_trace_shows_the_newest_and_a_summary_of_all(file: Path) -> None:
    status, output = skyfog("trace", str(file))
    assert status == 0
    assert ids(output) == ["c1", "c2", "c3", "c4", "c5"]
    assert "/detect: 8 requests: 7 delivered, 1 DeadlineExceeded" in output
    assert "1 still open where the trace ends" in output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--failed",), ["bb"]),
        (("--slowest", "2"), ["bb", "aa"]),
        (("--id", "AA"), ["aa"]),
        (("--id", "c", "--slowest", "1"), ["c0"]),
        (("--id", "d"), ["dd"]),
    ],
)
def test_options_choose_which_requests_are_told(file: Path, options: tuple[str, ...], expected: list[str]) -> None:
    status, output = skyfog("trace", str(file), *options)
    assert (status, ids(output)) == (0, expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no such file; robot_proxy writes one where its parameter `trace` says"),
        ("no json\n", "trace.jsonl:1: no JSON object"),
        (
            '{"t_ns": 1, "event": "failed", "id": "aa"}\n',
            "not the trace of a robot_proxy: an event without 'error'",
        ),
        ('{"t_ns": 1}\n', "not the trace of a robot_proxy: an event without 'event'"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "trace.jsonl"
    if text is not None:
        path.write_text(text)
    status, output = skyfog("trace", str(path))
    assert status == 2
    assert problem in output.replace("\n", " ")


def test_an_id_that_is_not_there_is_said(file: Path) -> None:
    status, output = skyfog("trace", str(file), "--id", "ff")
    assert status == 2
    assert "--id ff: no request" in output


def test_following_tells_each_request_as_it_ends_and_a_summary_at_ctrl_c(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = [[event("delivered", 4_090, id="dd", replica="a/0", ms=90.0)]]

    def sleep(_seconds: float) -> None:
        if not rest:
            raise KeyboardInterrupt
        with file.open("a") as trace:
            trace.writelines(json.dumps(e) + "\n" for e in rest.pop())

    monkeypatch.setattr(observe.time, "sleep", sleep)
    status, output = skyfog("trace", str(file), "--follow", "--id", "d")
    assert (status, ids(output)) == (0, ["dd"])
    assert "/detect: 9 requests" in output
