"""How calls and executions are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skyfog_bench.faults import failures
from skyfog_bench.fleet import Replica
from skyfog_bench.messages import HEAD_BYTES, answer, head, number_of
from skyfog_bench.soak import load_row

MS = 1_000_000
LOST = [0, 0, None, None, 3]


def test_a_request_says_whether_its_data_come_back_and_which_call_it_is() -> None:
    asked = head(7, echo=True) + b"filling"
    assert len(head(7, echo=True)) == HEAD_BYTES
    assert answer(asked) == asked
    assert number_of(asked) == 7
    assert answer(head(8, echo=False) + b"filling") == b""


def test_calls_without_an_answer_are_lost_and_wrong_answers_have_failed() -> None:
    calls: list[list[Any]] = [[0, MS, 3 * MS, 0, 1], [0, 0, 4 * MS, -1, 2], LOST]
    row = load_row(calls, hz=10.0, seconds=0.3)
    assert (row["sent"], row["answered"], row["lost"], row["failed"]) == (3, 2, 1, 1)
    assert (row["p50_ms"], row["max_ms"]) == (3.0, 4.0)
    assert failures(calls) == 2


def test_nothing_answered_is_a_row_without_times() -> None:
    row = load_row([LOST], hz=10.0, seconds=0.1)
    assert (row["lost"], row["p50_ms"], row["max_ms"]) == (1, None, None)


def test_executions_are_counted_by_call_and_a_replica_that_ran_nothing_has_none(tmp_path: Path) -> None:
    file = tmp_path / "executed"
    replica = Replica(process=None, executed=file)  # type: ignore[arg-type]
    assert not replica.executions()
    file.write_bytes(b"".join(number.to_bytes(8, "big") for number in (5, 6, 5)))
    assert replica.executions() == {5: 2, 6: 1}
