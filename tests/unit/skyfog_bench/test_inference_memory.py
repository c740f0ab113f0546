"""Goals and rows of the benchmark of models in memory, and the file that llama.cpp gets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from skyfog_bench.inference import memory
from skyfog_bench.inference.gguf_file import gguf_of
from skyfog_bench.inference.memory import OURS, PEER, Result
from skyfog_bench.inference.models import Shape, made
from skyfog_bench.inference.peers import PEERS
from skyfog_bench.processes import BenchError, Processes
from skyfog_inference.models.load import ModelFiles
from support.inference import plain

SHAPE = Shape("tiny", layers=2, hidden=32, intermediate=32, heads=4, kv_heads=2, vocab=64)
SIZE = memory.Size((SHAPE,), (8,), prompt=4, steps=2, rounds=3)


def test_the_goal_is_how_many_times_the_peers_rate_ours_is() -> None:
    results = {(OURS, 8): Result([300.0, 320.0, 310.0]), (PEER, 8): Result([100.0, 160.0, 155.0])}
    met, unknown = memory.goals(SHAPE, SIZE, results)
    assert met.value == pytest.approx(2.0)
    assert met.spread == pytest.approx((2.0, 2.5))
    assert met.met
    assert unknown.met is None


def test_rows_say_whether_tokens_were_equal_of_ours_alone() -> None:
    result = Result([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    mine, peer = (memory.row(SHAPE, name, 8, result, same=False) for name in (OURS, PEER))
    assert (mine["decode_tok_s"], mine["prefill_tok_s"], mine["same_tokens_fp32"]) == (2.0, 5.0, False)
    assert peer["same_tokens_fp32"] is None


def test_llama_cpps_file_holds_the_same_model(tmp_path: Path) -> None:
    folder = made(SHAPE, tmp_path)
    file = gguf_of(SHAPE, folder)
    assert gguf_of(SHAPE, folder) == file
    stored, converted = (ModelFiles(str(path)).weights("float32", "cpu") for path in (folder, file))
    assert torch.equal(plain(converted.top.head), plain(stored.top.head))
    for mine, theirs in zip(converted.attentions, stored.attentions, strict=True):
        assert torch.equal(plain(mine.qkv), plain(theirs.qkv))
    assert torch.equal(plain(converted.feed_forward(1).gate_up), plain(stored.feed_forward(1).gate_up))


def test_a_peer_that_is_not_installed_says_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))
    nobody = cast(Processes, None)  # nothing is started
    for peer in PEERS:
        with pytest.raises(BenchError, match=f"peers install {peer.environment}"):
            peer.start(nobody, SHAPE, tmp_path, most=8, context=16)


def test_ours_and_transformers_may_not_fail() -> None:
    failed: dict[str, str] = {}
    memory._give_up("vLLM", BenchError("vLLM: ended with status 1\n    its log"), failed, lambda _text: None)
    assert failed == {"vLLM": "vLLM: ended with status 1"}
    with pytest.raises(BenchError):
        memory._give_up(OURS, BenchError("ours: ended"), failed, lambda _text: None)
