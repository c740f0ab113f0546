"""Weights in pages on disk: what is packed is what is read, whatever stays in memory; broken files are refused."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from skyfog_core.errors import ConfigError
from skyfog_inference.models import hf
from skyfog_inference.models.load import load
from skyfog_inference.tiers.memory import RamTier
from skyfog_inference.weights.pages import INDEX, PAGES, pack, read_index
from skyfog_inference.weights.safetensors import SafetensorsSource
from skyfog_inference.weights.source import attention_weights
from skyfog_inference.weights.streamed import StreamedWeights
from support.inference import generate_greedy, least_memory, plain, single_runner

PROMPTS = [[5, 9, 200, 3], [7] * 20, [250]]
ALL = 10**9
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def packed(model_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(model_folder("mixtral-deep"), tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("variant", ["mixtral-deep", "llama-mqa-tied", "qwen2"])
def test_what_is_packed_is_what_is_read(model_folder: Folders, tmp_path: Path, variant: str) -> None:
    model = load(str(model_folder(variant)))
    store = StreamedWeights(pack(model_folder(variant), tmp_path / "packed"), ALL)
    assert replace(store.config, name="") == replace(model.config, name="")  # that of the folder
    for layer in range(model.config.layers):
        pairs = [(store.top, model.weights.top), (store.attention(layer), model.weights.attention(layer))]
        for expert in range(max(1, model.config.experts)):
            pairs.append((store.feed_forward(layer, expert), model.weights.feed_forward(layer, expert)))  # type: ignore[arg-type] # noqa: PERF401
        for ours, theirs in pairs:
            for field in fields(theirs):
                mine, wanted = getattr(ours, field.name), getattr(theirs, field.name)
                assert (mine is None) == (wanted is None)
                assert wanted is None or torch.equal(mine, plain(wanted))
        store.release(layer)
    store.close()


def test_bf16_pages_hold_plain_matrices(model_folder: Folders, tmp_path: Path) -> None:
    # In memory they would be laid out for oneDNN, whose tensors have no bytes to write.
    folder = model_folder("mixtral-deep")
    store = StreamedWeights(pack(folder, tmp_path / "packed", dtype="bfloat16"), ALL)
    with closing(store), SafetensorsSource(folder) as source:
        wanted = attention_weights(hf.read_config(folder), source, 1)
        assert torch.equal(store.attention(1).qkv, wanted.qkv.bfloat16())
        store.release(1)


@pytest.mark.parametrize("experts", ["all", "routed"])
@pytest.mark.parametrize("more", [0, 1, 3, 8, ALL])
def test_any_runner_draws_the_same_out_of_a_buffer_of_two_layers(
    model_folder: Folders,
    packed: Path,
    more: int,
    experts: str,
) -> None:
    model = load(str(model_folder("mixtral-deep")))
    wanted = generate_greedy(single_runner(model.config, model.weights), PROMPTS, 6)
    page = read_index(packed)[1].layers[0].experts[0].size
    store = StreamedWeights(packed, least_memory(packed) + more * page, experts=experts)  # type: ignore[arg-type]
    assert store.residency.bytes <= least_memory(packed) + more * page
    assert (store.residency.streamed == 0) == (more == ALL)
    assert sum(store.residency.kept) >= min(more, 1)
    runner = single_runner(model.config, store)
    assert generate_greedy(runner, PROMPTS, 6) == wanted
    runner.close()


def test_with_one_token_only_the_chosen_experts_are_read(packed: Path) -> None:
    read = {}
    for experts in ("all", "routed"):
        store = StreamedWeights(packed, least_memory(packed), experts=experts)  # type: ignore[arg-type]
        before = store.read_bytes
        generate_greedy(single_runner(store.config, store), [[3]], 4)
        read[experts] = store.read_bytes - before
        store.close()
    assert isinstance(store._target, RamTier)
    assert store._target._map.closed
    assert read["routed"] == pytest.approx(read["all"] * 2 / 4, rel=0.3)  # 2 of 4 experts


def test_too_small_a_cap_says_what_is_needed(packed: Path) -> None:
    with pytest.raises(ConfigError, match=r"[\d.]+ MB of memory are too few: [\d.]+ MB hold attention and two layers"):
        StreamedWeights(packed, least_memory(packed) - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: os.truncate(folder / PAGES, 4096), "holds 4096 bytes"),
        (lambda folder: (folder / PAGES).unlink(), "No such file"),
        (lambda folder: (folder / INDEX).unlink(), "cannot be read"),
        (lambda folder: (folder / INDEX).write_text("{}"), "dtype"),
        (lambda folder: _fewer_layers(folder / INDEX), "is of another model"),
        (lambda folder: _larger_tensor(folder / INDEX), "has more than there is"),
    ],
)
def test_a_broken_folder_is_refused(packed: Path, tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    folder = _copied(packed, tmp_path)
    change(folder)
    with pytest.raises(ConfigError, match=said):
        StreamedWeights(folder, ALL)


def _copied(packed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _fewer_layers(path: Path) -> None:
    index = json.loads(path.read_text())
    index["layers"].pop()
    path.write_text(json.dumps(index))


def _larger_tensor(path: Path) -> None:
    index = json.loads(path.read_text())
    index["layers"][1]["experts"][0]["tensors"][0]["shape"][0] *= 1_000
    path.write_text(json.dumps(index))


def test_a_changed_page_is_an_error_when_it_is_first_read(packed: Path, tmp_path: Path) -> None:
    folder = _copied(packed, tmp_path)
    page = read_index(folder)[1].layers[1].experts[3]
    with (folder / PAGES).open("r+b") as file:
        file.seek(page.offset + 100)
        file.write(b"\x55\xaa\x55")
    store = StreamedWeights(folder, least_memory(folder))
    store.feed_forward(1, 2)
    with pytest.raises(OSError, match=f"the page at byte {page.offset} is not what was packed") as caught:
        store.feed_forward(1, 3)
    assert caught.value.filename == str(folder / PAGES)
    store.close()


def test_after_a_failed_read_the_step_can_be_repeated(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, bad = os.preadv, read_index(packed)[1].layers[2].experts[1].offset
    broken = threading.Event()

    def flaky(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == bad and broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", flaky)
    store = StreamedWeights(packed, least_memory(packed))
    runner = single_runner(store.config, store)
    wanted = generate_greedy(runner, PROMPTS, 4)
    broken.set()
    with pytest.raises(OSError, match=f"reading at byte {bad}"):
        generate_greedy(runner, PROMPTS, 4)
    broken.clear()
    assert generate_greedy(runner, PROMPTS, 4) == wanted
    runner.close()


def test_packing_a_broken_model_leaves_nothing_that_looks_whole(model_folder: Folders, tmp_path: Path) -> None:
    folder = _copied(model_folder("mixtral-deep"), tmp_path)
    pack(folder, tmp_path / "packed")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="no whole safetensors"):
        pack(folder, tmp_path / "packed")
    with pytest.raises(ConfigError):
        read_index(tmp_path / "packed")
