"""What is made of the answers of the contestants of `inference_offload`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skyfog_bench.inference.offload import LLAMA, OURS, QUICK, Result, Results, contestants, goals, row

SYNC, ACCELERATE, AT = "ours, no overlap", "accelerate", QUICK.at


def _answer(*steps_s: float, tokens: str = "abc", **more: Any) -> dict[str, Any]:
    return {"prefill_s": 1.0, "steps_s": list(steps_s), "tokens": tokens, "read_mb": 500.0, **more}


def _results(tokens: str = "abc") -> Results:
    """Steps of 1 s in all rounds but for the peers'; the bound is 0.9 s."""
    answers = {
        OURS: [_answer(1.0, 1.0, bound_s=0.9, r_w=0.3)] * 2,
        SYNC: [_answer(1.2, 1.2, tokens=tokens)] * 2,
        ACCELERATE: [_answer(2.0, 4.0)] * 2,
    }
    found: Results = {}
    for batch in QUICK.batches:
        for name, of in answers.items():
            found[name, batch] = Result(name, batch, list(of), peak_mb=800.0)
    return found


def _by_name(results: Results) -> dict[str, Any]:
    return {
        goal["name"].partition(" at batch")[0]: goal for goal in (goal.as_json() for goal in goals(results, QUICK, {}))
    }


def test_goals_are_about_the_same_batch() -> None:
    found = _by_name(_results())
    assert found["over accelerate"]["value"] == pytest.approx(3.0)
    assert found["over ours without overlap"]["value"] == pytest.approx(1.2)
    assert found["of the roofline's bound"]["value"] == pytest.approx(0.9)
    assert found["peak of all, of the cap"]["value"] == pytest.approx(800e6 / QUICK.cap, abs=1e-3)
    assert all(goal["met"] for goal in found.values() if goal["met"] is not None)


def test_llama_cpp_is_asked_for_where_it_is_not_there() -> None:
    results = _results()
    assert "peers install llamacpp" in _by_name(results)["over llama.cpp"]["why"]
    results[LLAMA, AT] = Result(LLAMA, AT, [_answer(4.0)] * 2)
    assert _by_name(results)["over llama.cpp"]["value"] == pytest.approx(4.0)


def test_a_peer_that_does_not_fit_says_so() -> None:
    results = _results()
    del results[ACCELERATE, AT]
    found = {goal.name: goal for goal in goals(results, QUICK, {ACCELERATE: "ended with status -9"})}
    assert found[f"over accelerate at batch {AT}"].why == "ended with status -9"


def test_other_tokens_without_overlap_are_seen() -> None:
    found = _by_name(_results(tokens="other"))["batches with the same tokens with and without overlap"]
    assert found["value"] == 0
    assert not found["met"]


def test_other_orders_run_once_and_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))  # a workspace without peers
    size = replace(QUICK, orders=("S2", "S3"))
    ran = list(contestants(size, Path("m"), Path("p"), {}, Path("s")))
    orders = {each.name: each for each in ran if each.once}
    assert [each.job["order"] for each in orders.values()] == ["S2", "S3"]
    assert all(each.batches == (AT,) for each in orders.values())
    results = _results()
    for name, tokens in zip(orders, ("abc", "other"), strict=True):
        results[name, AT] = Result(name, AT, [_answer(1.0, tokens=tokens)])
    found = {goal.name: goal.as_json() for goal in goals(results, size, {})}
    equal = found[f"task orders with S1's tokens at batch {AT}"]
    assert (equal["value"], equal["met"]) == (1, False)
    assert not any("task orders" in goal.name for goal in goals(results, QUICK, {}))


def test_a_row_has_the_median_over_all_rounds() -> None:
    found = row(_results()[ACCELERATE, AT], QUICK)
    assert found["step_s"] == pytest.approx(3.0)
    assert found["tok_s"] == pytest.approx(AT * (1 / 2 + 1 / 4) / 2)
    assert found["bound_tok_s"] is None
