"""A model folder is verified before anything runs, and what is wrong is named."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from skyfog_core.errors import ConfigError
from skyfog_perception.manifest import find_model, list_models, load_model

ONNX = b"not really a network"
GOOD: dict[str, Any] = {
    "file": "net.onnx",
    "sha256": hashlib.sha256(ONNX).hexdigest(),
    "task": "detect",
    "labels": "names.txt",
    "input": {"name": "image", "layout": "nhwc", "dtype": "uint8", "height": 64, "width": 32, "colors": "rgb"},
    "decoder": {
        "name": "efficientdet",
        "scores": "s",
        "boxes": "b",
        "strides": [8],
        "octaves": 1,
        "ratios": [1.0],
        "anchor_scale": 3.0,
    },
}


def model_folder(tmp_path: Path, label_lines: bytes = b"cat\n???\ndog\n", name: str = "toy", **changes: Any) -> Path:
    """A folder whose manifest is GOOD but for `changes`; a dot in a name is written as two underscores."""
    content = copy.deepcopy(GOOD)
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        here = content
        for parent in parents:
            here = here[parent]
        here[leaf] = value
    folder = tmp_path / name
    folder.mkdir()
    (folder / "manifest.yaml").write_text(yaml.safe_dump(content))
    (folder / "net.onnx").write_bytes(ONNX)
    (folder / "names.txt").write_bytes(label_lines)
    return folder


def test_a_good_folder_gives_name_labels_and_the_verified_bytes(tmp_path: Path) -> None:
    model = load_model(model_folder(tmp_path))
    assert (model.name, model.labels, model.onnx) == ("toy", ("cat", "???", "dog"), ONNX)
    assert model.manifest.input.shape == (1, 64, 32, 3)


def test_channels_first_changes_the_shape(tmp_path: Path) -> None:
    assert load_model(model_folder(tmp_path, input__layout="nchw")).manifest.input.shape == (1, 3, 64, 32)


def test_another_file_than_the_hash_says_is_refused_with_both_hashes(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "net.onnx").write_bytes(ONNX + b"!")
    with pytest.raises(ConfigError) as caught:
        load_model(folder)
    for part in ("manifest.yaml", "sha256", "net.onnx", GOOD["sha256"], hashlib.sha256(ONNX + b"!").hexdigest()):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sha265": "0"}, ["sha265", "unknown key", "did you mean 'sha256'"]),
        ({"input__high": 3}, ["input.high", "unknown key"]),
        ({"decoder__name": "yolo"}, ["decoder.name", "'efficientdet'", "'yolo'"]),
        ({"task": "segment"}, ["task", "'detect'"]),
        ({"sha256": "ABC"}, ["sha256", "pattern"]),
        ({"file": "../net.onnx"}, ["file", "the manifest's folder"]),
        ({"file": "gone.onnx"}, ["file", "gone.onnx", "No such file"]),
        ({"labels": ""}, ["labels", "the manifest's folder"]),
        ({"input__layout": "hwc"}, ["input.layout", "'nhwc' or 'nchw'"]),
        ({"input__height": 0}, ["input.height", "greater than or equal to 1"]),
        ({"input__height": "64"}, ["input.height", "integer"]),
        ({"input__mean": [1.0, 2.0, 3.0]}, ["input", "float32"]),
        ({"input__dtype": "float32", "input__std": [1.0, 0.0, 1.0]}, ["input.std", "greater than 0"]),
        ({"input__dtype": "float32", "input__mean": [1.0]}, ["input.mean", "at least 3"]),
        ({"decoder__strides": []}, ["decoder.strides", "at least 1"]),
        ({"decoder__ratios": [float("nan")]}, ["decoder.ratios"]),
        ({"decoder__iou_threshold": 1.5}, ["decoder.iou_threshold", "less than or equal to 1"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_key_is_named_with_the_file_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(model_folder(tmp_path, **changes))
    for part in ("toy/manifest.yaml", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (b"", "holds no class name"),
        (b"???\n???\n", "holds no class name"),
        (b"cat\n\ndog\n", "names.txt:2: is empty"),
        (b"cat\ndog\ncat\n", "twice the same class name: cat"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_labels_that_would_name_wrongly_are_refused(tmp_path: Path, labels: bytes, part: str) -> None:
    with pytest.raises(ConfigError, match="labels") as caught:
        load_model(model_folder(tmp_path, labels))
    assert part in str(caught.value)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: is no folder"):
        load_model(tmp_path / "nowhere")


def test_a_model_is_found_by_name_or_by_path(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    assert find_model("toy", [tmp_path]) == folder
    assert find_model(str(folder), [tmp_path / "elsewhere"]) == folder


def test_of_two_models_of_one_name_the_first_folders_counts(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for place in (mine, theirs):
        place.mkdir()
        model_folder(place)
    model_folder(theirs, name="other")
    assert find_model("toy", [mine, theirs]) == mine / "toy"
    assert find_model("toy", [theirs, mine]) == theirs / "toy"
    assert list_models([mine, theirs]) == {"toy": mine / "toy", "other": theirs / "other"}


def test_an_unknown_name_gets_a_hint_and_the_installed_names(tmp_path: Path) -> None:
    model_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean 'toy'.*\(installed: toy\)"):
        find_model("toyy", [tmp_path])
    with pytest.raises(ConfigError, match=r"\(installed: none\)"):
        find_model("toy", [tmp_path / "empty"])
