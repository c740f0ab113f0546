"""A model that is not whole is told by file and fault, before anything is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.served import load


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5_000])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")


def other_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())
    found["model"]["vocab"]["zz"] = 9_000
    path.write_text(json.dumps(found))


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def other_architecture(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["BertModel"], "model_type": "bert"}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut_weights, r"model\.safetensors"),
        (no_weights, r"model\.safetensors"),
        (other_tokenizer, "the tokenizer belongs to another model"),
        (broken_tokenizer, r"tokenizer\.json: is no tokenizer"),
        (other_architecture, "BertModel|bert"),
    ],
)
def test_what_is_broken_is_named(tiny: Path, tmp_path: Path, harm: Callable[[Path], None], message: str) -> None:
    folder = shutil.copytree(tiny, tmp_path / "broken")
    harm(folder)
    with pytest.raises(ConfigError, match=message):
        load(EngineConfig(model=str(folder), device_kv_mb=2, threads=1)).close()


def test_a_cache_without_room_for_a_block_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="host_kv_mb"):
        load(EngineConfig(model=str(tiny), device_kv_mb=2, threads=1, scheduler="neo")).close()
