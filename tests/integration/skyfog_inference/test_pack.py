"""`skyfog infer pack` onto a disk that is too small, or becomes so: a clear error, and nothing that looks packed."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference.weights.pages import INDEX, PAGES, is_packed, least_size, pack, read_index

Folders = Callable[[str], Path]
TOO_SMALL = 1 << 20  # bytes: some layers of the model, which has more


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Of this process: a write beyond it fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={TOO_SMALL}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True, timeout=10).returncode:
        pytest.skip("may not mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=10)


def told(output: str, what: str) -> int:
    """Bytes that are needed, as the error says."""
    found = re.search(rf"/{PAGES}: {what}: (\d+) bytes are needed, and \d+ are free", output)
    assert found, output
    return int(found[1])


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    model_folder: Folders, small_disk: Path, here: Callable[..., Any]
) -> None:
    model, said = model_folder("mixtral-deep"), list[int]()
    run = here("pack", model, small_disk / "packed")
    assert run.exit_code == 1
    assert told(run.output, "No space left on device") > TOO_SMALL
    assert list((small_disk / "packed").iterdir()) == []
    with pytest.raises(OSError, match="bytes are needed"):
        pack(model, small_disk / "packed", say=lambda done, _all: said.append(done))
    assert said == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_that_looks_packed(
    model_folder: Folders, tmp_path: Path, here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = model_folder("mixtral-deep"), tmp_path / "packed"
    pack(model, out)  # an older one, which must not be taken for the new one either
    with monkeypatch.context() as patch, largest_file(TOO_SMALL):
        patch.setattr(os, "posix_fallocate", lambda *_: None)
        run = here("pack", model, out)
    assert run.exit_code == 1
    assert told(run.output, "File too large") > TOO_SMALL
    assert not is_packed(out)
    assert not (out / PAGES).exists()
    with pytest.raises(ConfigError, match=INDEX):
        read_index(out)
    assert here("pack", model, out).exit_code == 0  # there is room again
    assert read_index(out)[1].layers


def test_a_full_disk_after_the_pages_takes_them_back_too(
    model_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "tokenizer.json"))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match=r"bytes are needed.*tokenizer\.json"):
        pack(model_folder("llama-gqa"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variant", ["mixtral-deep", "llama-mqa-tied", "qwen2"])
def test_what_is_said_to_be_needed_is_what_is_written(model_folder: Folders, tmp_path: Path, variant: str) -> None:
    folder = pack(model_folder(variant), tmp_path / "packed")
    config, index = read_index(folder)
    pages = 1 + sum(1 + len(layer.experts) for layer in index.layers)
    assert 0 <= index.size - least_size(config, 4) < 2 * 4_096 * pages
