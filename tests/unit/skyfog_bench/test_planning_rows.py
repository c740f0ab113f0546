"""The arithmetic of `skyfog bench planning`."""

from __future__ import annotations

import pytest

from skyfog_bench.peers import PEERS, environment_of, install, python_of
from skyfog_bench.planning import tail_rows
from skyfog_bench.processes import BenchError


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


def test_a_peer_is_installed_when_its_environment_says_so(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))
    assert python_of("mplib") is None
    folder = environment_of("mplib")
    folder.mkdir(parents=True)
    (folder / "installed").touch()
    assert python_of("mplib") == folder / "bin" / "python"


def test_an_unknown_peer_is_answered_with_those_there_are() -> None:
    with pytest.raises(BenchError, match=r"no peer 'mplip'; did you mean 'mplib'\? \(there are: mplib\)"):
        install("mplip")
    assert all("==" in requirement for peer in PEERS.values() for requirement in peer)
