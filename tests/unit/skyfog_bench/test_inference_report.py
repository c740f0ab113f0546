"""The Markdown file of the inference benchmarks, and the random models that they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyfog_bench.inference import markdown, models
from skyfog_bench.report import Goal, Report

TINY = models.Shape("tiny", layers=2, hidden=32, intermediate=16, heads=4, kv_heads=2, experts=2, vocab=64)


def _report(name: str) -> Report:
    report = Report(name, 3)
    report.rows += [{"engine": "ours", "tok_s": 12.34567}, {"engine": "a|b", "tok_s": None}, {"what": "other"}]
    report.goals += [Goal("ratio", 1.5, 2.0, at_least=True), Goal("peer", 1.5, None, why="not here")]
    return report


def test_one_file_of_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfog_bench.report.commit", lambda: "0123456789ab")  # asks git
    (tmp_path / "inference_offload.json").write_text(json.dumps(_report("inference_offload").as_json()))
    (tmp_path / "inference_offload.batch.png").write_bytes(b"")
    text = markdown.write(tmp_path).read_text()
    assert "| ours | 12.3 |" in text
    assert "| a\\|b |  |" in text
    assert "| peer | <= 1.5 |  |  | not known: not here |" in text
    assert "![inference_offload.batch.png](inference_offload.batch.png)" in text
    assert "| what |" in text


def test_no_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no report"):
        markdown.write(tmp_path)


def test_a_model_is_made_once_and_anew_where_it_is_not_whole(tmp_path: Path) -> None:
    said: list[str] = []
    folder = models.made(TINY, tmp_path, said.append)
    shards = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert len(shards) == 3
    assert models.made(TINY, tmp_path, said.append) == folder
    assert len(said) == 1
    broken = folder / min(shards)
    broken.write_bytes(shards[broken.name][:-1])
    models.made(TINY, tmp_path, said.append)
    assert len(said) == 2
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == shards
