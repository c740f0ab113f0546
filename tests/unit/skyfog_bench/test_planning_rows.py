"""The arithmetic of `skyfog bench planning`."""

from __future__ import annotations

from skyfog_bench.planning import tail_rows


def test_every_choice_of_n_runs_counts_as_n_replicas() -> None:
    rows = tail_rows([[4.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    assert [row["first_of"] for row in rows] == [1, 2, 3]
    assert [row["max_s"] for row in rows] == [4.0, 3.0, 2.0]
    # Of {4, 1, 3} any two: 1, 3, 1; of {2, 2, 2}: 2, 2, 2.
    assert rows[1]["p50_s"] == 2.0
    assert rows[2]["p50_s"] == 1.5


def test_more_replicas_are_never_slower() -> None:
    rows = tail_rows([[5.0, 1.0, 0.5, 9.0], [3.0, 8.0, 2.0, 2.5]])
    for name in ("p50_s", "p90_s", "p99_s", "max_s"):
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True)
