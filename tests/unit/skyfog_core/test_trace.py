from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyfog_core.errors import ConfigError
from skyfog_core.trace import FileTrace, Follower, MemoryTrace, NoTrace

FULL = Path("/dev/full")


def test_a_file_trace_holds_one_json_object_a_line_and_appends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.jsonl"
    for t_ns in (1, 2):
        trace = FileTrace(path)
        trace.event("sent", t_ns, replica="a/0")
        trace.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"t_ns": t_ns, "event": "sent", "replica": "a/0"} for t_ns in (1, 2)
    ]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("events", [1, 5_000], ids=["found on close", "found while writing"])
def test_a_full_disk_ends_the_trace_and_nothing_else(events: int) -> None:
    trace = FileTrace(FULL)
    for t_ns in range(events):
        trace.event("sent", t_ns, replica="a/0")
    trace.close()
    assert isinstance(trace.failed, OSError)
    trace.event("sent", 0)
    trace.close()


def test_a_trace_that_cannot_be_opened_is_a_wrong_setting_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "trace.jsonl"
    with pytest.raises(ConfigError, match=str(path)):
        FileTrace(path)


def test_a_memory_trace_keeps_the_newest_events() -> None:
    trace = MemoryTrace(limit=2)
    for t_ns in range(3):
        trace.event("e", t_ns, n=t_ns)
    trace.close()
    assert [event["n"] for event in trace.events] == [1, 2]


def test_no_trace_takes_what_is_no_json_and_keeps_nothing() -> None:
    trace = NoTrace()
    trace.event("e", 0, anything=object())
    trace.close()
    assert not vars(trace)


def test_a_half_written_line_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    follower = Follower(path)
    assert list(follower.lines()) == []
    path.write_text(json.dumps({"event": "joined"}) + "\n" + '{"event": "le')
    assert list(follower.lines()) == [{"event": "joined"}]
    with path.open("a") as file:
        file.write('ft"}\n')
    assert list(follower.lines()) == [{"event": "left"}]
    assert list(follower.lines()) == []


def test_a_broken_line_is_an_error_not_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"event": "sent"}\nno json\n')
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: no JSON object: b'no json"):
        list(Follower(path).lines())


@pytest.mark.parametrize("line", ["[1]", "3", '"x"', "\x00"])
def test_json_that_is_no_object_is_an_error_too(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match="no JSON object"):
        list(Follower(path).lines())


def test_a_file_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    follower = Follower(path)
    path.write_text('{"event": "joined"}\n{"event": "left"}\n')
    assert len(list(follower.lines())) == 2
    path.write_text('{"event": "sent"}\n')
    assert list(follower.lines()) == [{"event": "sent"}]
