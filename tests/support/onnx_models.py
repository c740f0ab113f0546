"""Networks small enough to know by heart, written with the onnx package, as model folders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
COLOURS = ("red", "green", "blue")
BOX = (16.0, 8.0, 8.0, 16.0)  # centre x, centre y, width, height in input pixels
OPSET = 17
IR_VERSION = 9  # newer ones are refused by older versions of onnxruntime


def save(path: Path, nodes: Sequence[Any], ends: Sequence[Any], constants: Mapping[str, np.ndarray]) -> Path:
    """`ends` are the input and then the outputs."""
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "toy", [ends[0]], list(ends[1:]), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def colour_yolo(path: Path, batch: int | str = "batch", output_batch: int | str | None = None) -> Path:
    """A YOLOv8 head with one box, BOX, whose classes are how red, green and blue the image is on average.

    `output_batch`: what the file says of its output's batch axis, if not the same as of its input's.
    """
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [output_batch or batch, 7, 1])
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Squeeze", ["mean", "last"], ["scores"]),
        helper.make_node("ReduceSum", ["scores", "channels"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    constants = {
        "last": np.array([3], np.int64),
        "channels": np.array([1], np.int64),
        "zero": np.zeros((1, 1, 1), np.float32),
        "box": np.array(BOX, np.float32).reshape(1, 4, 1),
    }
    return save(path, nodes, [image, output], constants)


def colour_folder(
    folder: Path,
    batch: int | str = "batch",
    resize: str = "stretch",
    output_batch: int | str | None = None,
    **changes: Any,
) -> Path:
    """`colour_yolo` with manifest and labels; `changes` replace keys of the manifest."""
    folder.mkdir(parents=True)
    content = colour_yolo(folder / "colours.onnx", batch, output_batch).read_bytes()
    (folder / "colours.txt").write_text("\n".join(COLOURS) + "\n")
    manifest = {
        "file": "colours.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "task": "detect",
        "labels": "colours.txt",
        "input": {
            "name": "images",
            "layout": "nchw",
            "dtype": "float32",
            "height": SIDE,
            "width": SIDE,
            "colors": "rgb",
            "resize": resize,
            "border": 0,
            "std": [255.0, 255.0, 255.0],
        },
        "decoder": {"name": "yolov8", "output": "output0"},
        **changes,
    }
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return folder
