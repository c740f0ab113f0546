"""What a model folder says of itself: `models/<name>/manifest.yaml`, checked before the first request.

A manifest names the ONNX file and its hash, what goes in (`input`), what the class ids mean (`labels`) and how the
output is read (`decoder`, see `heads.py`). A model of a known head needs a manifest only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from skyfog_core.config.base import Strict, load_yaml, nearest
from skyfog_core.errors import ConfigError
from skyfog_perception.heads import DecoderSpec, DeepLabSpec, Finite, Positive

MANIFEST = "manifest.yaml"
UNLABELLED = "???"  # a class id that the data set left without a class
MAX_SIDE = 4096


def _plain_name(name: str) -> str:
    if not name or Path(name).name != name:
        raise ValueError("must be the name of a file in the manifest's folder")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]
Task = Literal["detect", "segment"]


class InputSpec(Strict):
    """The one tensor that goes in: the whole image, resized to height and width. Its batch axis may be free."""

    name: Annotated[str, Field(min_length=1, description="name of the model's input")]
    layout: Literal["nhwc", "nchw"]
    dtype: Literal["uint8", "float32"]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE, description="pixels")]
    width: Annotated[int, Field(ge=1, le=MAX_SIDE, description="pixels")]
    colors: Annotated[Literal["rgb", "bgr"], Field(description="order of the channels")]
    resize: Annotated[
        Literal["stretch", "letterbox"],
        Field(description="letterbox keeps the aspect, centred between borders, as YOLO exports want it"),
    ] = "stretch"
    border: Annotated[int, Field(ge=0, le=255, description="grey of the letterbox's borders, before mean and std")] = (
        114
    )
    mean: Annotated[
        list[Finite], Field(min_length=3, max_length=3, description="removed, per channel in the order of `colors`")
    ] = [0.0, 0.0, 0.0]
    std: Annotated[list[Positive], Field(min_length=3, max_length=3, description="divided by, after the mean")] = [
        1.0,
        1.0,
        1.0,
    ]

    @model_validator(mode="after")
    def _normalisation_needs_floats(self) -> InputSpec:
        if self.dtype == "uint8" and not self.is_plain:
            raise ValueError("mean and std need dtype float32; with uint8 the model normalises by itself")
        return self

    @property
    def is_plain(self) -> bool:
        """No normalisation: pixel values go in as they are, 0..255."""
        return self.mean == [0.0] * 3 and self.std == [1.0] * 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of one image: [1, H, W, 3] or [1, 3, H, W]."""
        if self.layout == "nhwc":
            return (1, self.height, self.width, 3)
        return (1, 3, self.height, self.width)


class Manifest(Strict):
    """`manifest.yaml`."""

    file: Annotated[FileName, Field(description="ONNX file beside the manifest")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="of the ONNX file, 64 lower-case hex digits")]
    task: Task
    labels: Annotated[FileName, Field(description="a class name per line, by class id; ??? is no class")]
    input: InputSpec
    decoder: DecoderSpec


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder, read and verified."""

    name: str  # of the folder
    manifest: Manifest
    labels: tuple[str, ...]  # index: class id
    onnx: bytes  # its hash is the manifest's


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises ConfigError that names file, key and what is allowed."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; a model is a folder with a {MANIFEST}")
    path = folder / MANIFEST
    manifest = load_yaml(Manifest, path)
    does = task_of(manifest.decoder)
    if manifest.task != does:
        raise ConfigError(f"{path}: task: decoder {manifest.decoder.name} is for '{does}', not '{manifest.task}'")
    return manifest


def load_model(folder: Path) -> Model:
    """Read and verify a model folder. Raises ConfigError that names file, key and what is allowed."""
    manifest = read_manifest(folder)
    path = folder / MANIFEST
    onnx = _read(path, "file", folder / manifest.file)
    # Hash and session use the same bytes, so that what was verified is what runs.
    digest = hashlib.sha256(onnx).hexdigest()
    if digest != manifest.sha256:
        raise ConfigError(f"{path}: sha256: {manifest.file} has {digest}, not {manifest.sha256}: not the same file")
    return Model(folder.resolve().name, manifest, read_labels(path, folder / manifest.labels), onnx)


def task_of(decoder: DecoderSpec) -> Task:
    """What a head is for."""
    return "segment" if isinstance(decoder, DeepLabSpec) else "detect"


def find_model(name_or_path: str, folders: Sequence[Path]) -> Path:
    """A model's folder, by its name in the first of `folders` that has it, or by its path.

    Raises ConfigError that lists the models there are.
    """
    if "/" in name_or_path:
        return Path(name_or_path).expanduser()
    models = list_models(folders)
    if name_or_path not in models:
        where, known = " or ".join(str(folder) for folder in folders), ", ".join(sorted(models)) or "none"
        hint = nearest(name_or_path, sorted(models))
        raise ConfigError(f"no model {name_or_path!r} in {where}{hint} (installed: {known})")
    return models[name_or_path]


def list_models(folders: Sequence[Path]) -> dict[str, Path]:
    """Every model's folder by its name. Of two of one name, that in the first of `folders` counts."""
    found = [path.parent for folder in reversed(folders) for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    return {folder.name: folder for folder in found}


def _read(manifest: Path, key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{manifest}: {key}: {path}: {error.strerror or error}") from None


def read_labels(manifest: Path, path: Path) -> tuple[str, ...]:
    """A label file's class names, by class id. Raises ConfigError that names `manifest`, the file and the line."""
    try:
        labels = tuple(line.strip() for line in _read(manifest, "labels", path).decode().splitlines())
    except UnicodeDecodeError:
        raise ConfigError(f"{manifest}: labels: {path}: is not UTF-8 text") from None
    named = [label for label in labels if label != UNLABELLED]
    if not named:
        raise ConfigError(f"{manifest}: labels: {path}: holds no class name")
    if "" in named:
        raise ConfigError(
            f"{manifest}: labels: {path}:{labels.index('') + 1}: is empty; write {UNLABELLED} for no class"
        )
    doubled = sorted({label for label in named if named.count(label) > 1})
    if doubled:
        raise ConfigError(f"{manifest}: labels: {path}: twice the same class name: {', '.join(doubled)}")
    return labels
