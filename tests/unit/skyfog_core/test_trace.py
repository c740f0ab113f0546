from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyfog_core.errors import ConfigError
from skyfog_core.trace import FileTrace, MemoryTrace, NoTrace

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
