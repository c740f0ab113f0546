"""A manifest for a bare ONNX file, out of what the file says of its own inputs and outputs.

What the file cannot say (normalisation, colours, anchors) is taken as the head's authors publish it, and can be given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import yaml

from skyfog_core.config.base import nearest, parse
from skyfog_core.errors import ConfigError, plain_reason
from skyfog_perception.manifest import MANIFEST, Manifest, read_labels

HEADER = "# What the model is, what goes in and how its output is read. Written by `skyfog models add`: look it over.\n"
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_GREY = {"mean": [127.5] * 3, "std": [127.5] * 3}
_UNIT = {"std": [255.0] * 3}
# What goes in, as the authors of each head publish it.
INPUTS: dict[str, dict[str, Any]] = {
    "efficientdet": {"colors": "rgb", **_GREY},
    "yolov5": {"colors": "rgb", "resize": "letterbox", **_UNIT},
    "yolov8": {"colors": "rgb", "resize": "letterbox", **_UNIT},
    "nanodet": {"colors": "bgr", "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]},
    "rtdetr": {"colors": "rgb", **_UNIT},
    "deeplab": {"colors": "rgb", **_GREY},
}
ANCHORS = {"strides": [8, 16, 32, 64, 128], "octaves": 3, "ratios": [1.0, 2.0, 0.5], "anchor_scale": 3.0}

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """What an ONNX file says of itself."""

    input_name: str
    input_type: str  # tensor(float)
    input_shape: Shape
    outputs: Mapping[str, Shape]


def read_ends(onnx: Path) -> Ends:
    """Raises ConfigError where the file is no ONNX model with one input."""
    try:
        session = onnxruntime.InferenceSession(onnx.read_bytes(), providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ConfigError(f"{onnx}: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many kinds
        raise ConfigError(f"{onnx}: is no ONNX model that runs here: {plain_reason(error)}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ConfigError(f"{onnx}: has {len(inputs)} inputs ({names}); a model takes one, the image")
    outputs = {value.name: _shape(value.shape) for value in session.get_outputs()}
    return Ends(inputs[0].name, inputs[0].type, _shape(inputs[0].shape), outputs)


def write_skeleton(onnx: Path, labels: Path, decoder: str, given: Mapping[str, Any], folder: Path) -> None:
    """Write a manifest into `folder`, where copies of `onnx` and `labels` are. `given`: keys of its `input`.

    Raises ConfigError where the file's inputs and outputs are not those of such a head.
    """
    if decoder not in INPUTS:
        known = list(INPUTS)
        raise ConfigError(f"--decoder: unknown: {decoder!r}{nearest(decoder, known)} (known: {', '.join(known)})")
    classes = len(read_labels(folder / MANIFEST, labels))
    ends = read_ends(onnx)
    content = {
        "file": onnx.name,
        "sha256": hashlib.sha256(onnx.read_bytes()).hexdigest(),
        "task": "segment" if decoder == "deeplab" else "detect",
        "labels": labels.name,
        "input": _input(ends, decoder, given),
        "decoder": {"name": decoder, **_outputs(ends, decoder, classes)},
    }
    parse(Manifest, content, f"{onnx}: manifest")
    (folder / MANIFEST).write_text(HEADER + yaml.safe_dump(content, sort_keys=False))


def _shape(sides: Sequence[Any]) -> Shape:
    return tuple(side if isinstance(side, int) else None for side in sides)


def _input(ends: Ends, decoder: str, given: Mapping[str, Any]) -> dict[str, Any]:
    dtype = DTYPES.get(ends.input_type)
    if dtype is None:
        raise ConfigError(f"input {ends.input_name}: is {ends.input_type}; taken are {', '.join(DTYPES)}")
    shape = ends.input_shape
    if len(shape) != 4 or 3 not in {shape[1], shape[3]}:
        raise ConfigError(f"input {ends.input_name}: has shape {list(shape)}, neither [1, 3, H, W] nor [1, H, W, 3]")
    layout = "nchw" if shape[1] == 3 else "nhwc"
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    usual = INPUTS[decoder]
    if dtype == "uint8":  # the model normalises by itself
        usual = {key: value for key, value in usual.items() if key not in {"mean", "std"}}
    made = {"name": ends.input_name, "layout": layout, "dtype": dtype, "height": height, "width": width}
    made |= usual | dict(given)
    for side in ("height", "width"):
        if made[side] is None:
            raise ConfigError(f"input {ends.input_name}: its {side} is free: give --{side}")
    return made


def _outputs(ends: Ends, decoder: str, classes: int) -> dict[str, Any]:
    """The decoder's part of the manifest. What does not fit is refused later, by the decoder's own check."""
    outputs = ends.outputs
    match decoder:
        case "yolov5" | "yolov8":
            return {"output": _only(outputs, 3)}
        case "deeplab":
            name = _only(outputs, 4)
            return {"logits": name, "layout": "nchw" if outputs[name][1] == classes else "nhwc"}
        case "nanodet":
            return _nanodet(ends, classes)
    boxes = [name for name, shape in outputs.items() if len(shape) == 3 and shape[-1] == 4]
    scores = [name for name, shape in outputs.items() if len(shape) == 3 and shape[-1] == classes]
    if len(boxes) != 1 or len(scores) != 1:
        raise ConfigError(f"outputs {_listed(outputs)}: not one of 4 columns and one of {classes}, as {decoder} has")
    if decoder == "rtdetr":
        return {"logits": scores[0], "boxes": boxes[0]}
    return {"scores": scores[0], "boxes": boxes[0], **ANCHORS}


def _nanodet(ends: Ends, classes: int) -> dict[str, Any]:
    """Levels from the finest on; a level's stride from its number of cells."""
    sized = [(name, shape) for name, shape in ends.outputs.items() if len(shape) == 3 and shape[1]]
    sized.sort(key=lambda pair: -(pair[1][1] or 0))
    scores = [name for name, shape in sized if shape[-1] == classes]
    distances = [(name, shape) for name, shape in sized if shape[-1] != classes]
    bins = {(shape[-1] or 0) // 4 for _, shape in distances}
    if not scores or len(scores) != len(distances) or len(bins) != 1:
        raise ConfigError(f"outputs {_listed(ends.outputs)}: not, per stride, {classes} scores and 4 distributions")
    sides = [side for side in ends.input_shape[1:] if side not in {3, None}]
    area = math.prod(side or 0 for side in sides)
    strides = [round(math.sqrt(area / (shape[1] or 1))) for _, shape in distances]
    return {"scores": scores, "distances": [name for name, _ in distances], "strides": strides, "bins": bins.pop()}


def _only(outputs: Mapping[str, Shape], axes: int) -> str:
    found = [name for name, shape in outputs.items() if len(shape) == axes]
    if len(found) != 1:
        raise ConfigError(f"outputs {_listed(outputs)}: not one of {axes} axes")
    return found[0]


def _listed(outputs: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in outputs.items())
