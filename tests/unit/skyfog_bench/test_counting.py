"""How calls and executions are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skyfog_bench.faults import FAULTS, POLICIES, failures, rows_of
from skyfog_bench.fleet import Replica
from skyfog_bench.messages import HEAD_BYTES, answer, head, number_of
from skyfog_bench.pace import Call
from skyfog_bench.soak import load_row

MS = 1_000_000
LOST = [0, 0, None, None, 3, 0]


def test_a_request_says_whether_its_data_come_back_and_which_call_it_is() -> None:
    asked = head(7, echo=True) + b"filling"
    assert len(head(7, echo=True)) == HEAD_BYTES
    assert answer(asked) == asked
    assert number_of(asked) == 7
    assert answer(head(8, echo=False) + b"filling") == b""


def test_calls_without_an_answer_are_lost_and_wrong_answers_have_failed() -> None:
    calls: list[list[Any]] = [[0, MS, 3 * MS, 0, 1, 1], [0, 0, 4 * MS, -1, 2, 1], LOST]
    row = load_row(calls, hz=10.0, seconds=0.3)
    assert (row["sent"], row["answered"], row["lost"], row["failed"]) == (3, 2, 1, 1)
    assert (row["p50_ms"], row["max_ms"]) == (3.0, 4.0)
    assert failures([Call(*call) for call in calls]) == 2


def test_nothing_answered_is_a_row_without_times() -> None:
    row = load_row([LOST], hz=10.0, seconds=0.1)
    assert (row["lost"], row["p50_ms"], row["max_ms"]) == (1, None, None)


def test_executions_are_counted_by_call_and_a_replica_that_ran_nothing_has_none(tmp_path: Path) -> None:
    file = tmp_path / "executed"
    replica = Replica(process=None, executed=file)  # type: ignore[arg-type]
    assert not replica.executions()
    file.write_bytes(b"".join(number.to_bytes(8, "big") for number in (5, 6, 5)))
    assert replica.executions() == {5: 2, 6: 1}


def test_a_row_of_the_matrix_counts_failures_and_copies_beyond_the_first() -> None:
    calls = {policy: [Call(0, 0, 5 * MS, 0, 1, 3), Call(0, 0, None, None, 2, 0)] for policy in POLICIES}
    rows = rows_of(FAULTS[1], calls, dict.fromkeys(POLICIES, ""))
    assert [row["policy"] for row in rows] == list(POLICIES)
    assert (rows[0]["requests"], rows[0]["failed"], rows[0]["p50_ms"], rows[0]["extra_copies"]) == (2, 1, 5.0, 2.0)


def test_a_fault_that_could_not_be_made_has_a_row_without_figures_that_says_why() -> None:
    rows = rows_of(FAULTS[-1], {policy: [] for policy in POLICIES}, dict.fromkeys(POLICIES, "not run: no root"))
    assert {(row["requests"], row["failed"], row["p99_ms"], row["note"]) for row in rows} == {
        (None, None, None, "not run: no root")
    }
