#!/usr/bin/env python3
"""Train the segmentation model of sim_worlds/tabletop.sdf on its own renderings, and write it as a model folder.

    ./ws extra torch; ./ws extra world; ./ws run python tools/train_tabletop.py --out MODEL_FOLDER

A small fully convolutional network: two strided convolutions, two dilated ones, one step back up. Scenes for training
have seeds from TRAIN_SEEDS, those that are held out from HELD_OUT_SEEDS; nothing else in Skyfog uses either.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from skyfog_world.renders import classes_of, labelled
from skyfog_world.sdf import load

WORLD = Path(__file__).resolve().parent.parent / "sim_worlds" / "tabletop.sdf"
HEIGHT, WIDTH = 240, 320  # of the wrist camera
TRAIN_SEEDS = range(1_000_000, 2_000_000)
HELD_OUT_SEEDS = range(2_000_000, 3_000_000)
BATCH = 16
OPSET = 17
Images = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB
Labels = npt.NDArray[np.uint8]  # [N, H, W] class ids


class Net(nn.Module):  # type: ignore[misc]  # an extra: without types here
    """[N, 3, H, W] in -1..1 -> logits [N, classes, H/2, W/2]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.wide1 = nn.Conv2d(32, 32, 3, padding=2, dilation=2)
        self.wide2 = nn.Conv2d(32, 32, 3, padding=4, dilation=4)
        self.join = nn.Conv2d(48, 24, 3, padding=1)
        self.head = nn.Conv2d(24, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.down1(x))
        coarse = torch.relu(self.down2(fine))
        coarse = torch.relu(self.wide1(coarse))
        coarse = torch.relu(self.wide2(coarse))
        up = nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        joined: torch.Tensor = self.head(torch.relu(self.join(torch.cat([fine, up], dim=1))))
        return joined


def to_onnx(net: Net) -> onnx.ModelProto:
    """The network as ONNX with a free batch axis: `image` [N, 3, H, W] -> `logits` [N, H/2, W/2, classes]."""
    weights = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in net.state_dict().items()]
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    nodes = []

    def conv(layer: str, source: str, **attributes: Any) -> str:
        out = f"{layer}.out"
        nodes.append(helper.make_node("Conv", [source, f"{layer}.weight", f"{layer}.bias"], [out], **attributes))
        return out

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"]))
        return f"{source}.relu"

    fine = relu(conv("down1", "image", strides=[2, 2], pads=[1] * 4))
    coarse = relu(conv("down2", fine, strides=[2, 2], pads=[1] * 4))
    coarse = relu(conv("wide1", coarse, dilations=[2, 2], pads=[2] * 4))
    coarse = relu(conv("wide2", coarse, dilations=[4, 4], pads=[4] * 4))
    nodes.append(
        helper.make_node(
            "Resize",
            [coarse, "", "twice"],
            ["up"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    )
    nodes.append(helper.make_node("Concat", [fine, "up"], ["both"], axis=1))
    head = conv("head", relu(conv("join", "both", pads=[1] * 4)))
    nodes.append(helper.make_node("Transpose", [head], ["logits"], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        nodes,
        "tabletop",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", HEIGHT // 2, WIDTH // 2, net.head.out_channels]
            )
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def augmented(images: Images, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """[N, H, W, 3] -> [N, 3, H, W] in -1..1, with the light, the white balance and the noise of another day."""
    x = images.astype(np.float32) / 255
    x = x * rng.uniform(0.6, 1.25, (len(x), 1, 1, 1)) * rng.uniform(0.9, 1.1, (len(x), 1, 1, 3))
    x = x + rng.normal(0, 0.02, x.shape)
    return np.ascontiguousarray((np.clip(x, 0, 1) * 2 - 1).transpose(0, 3, 1, 2), np.float32)


def train(images: Images, labels: Labels, classes: int, epochs: int, seed: int) -> Net:
    """Adam with a falling rate on cross entropy; classes weigh by the root of their rarity."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels.ravel(), minlength=classes) + 1
    weight = torch.from_numpy(np.sqrt(counts.sum() / counts)).float()
    loss_of = nn.CrossEntropyLoss(weight=weight / weight.mean())
    net = Net(classes)
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(epochs):
        order, total = rng.permutation(len(images)), 0.0
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            half = torch.from_numpy(labels[chosen][:, ::2, ::2].astype(np.int64))
            loss = loss_of(net(torch.from_numpy(augmented(images[chosen], rng))), half)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (len(images) // BATCH):.4f}", flush=True)
    return net


def intersection_over_union(net: Net, images: Images, labels: Labels) -> npt.NDArray[np.float64]:
    """[classes] over all images, at half resolution."""
    classes = net.head.out_channels
    shared, joined = np.zeros(classes), np.zeros(classes)
    with torch.no_grad():
        for image, label in zip(images, labels, strict=True):
            x = torch.from_numpy((image.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
            found, right = net(x)[0].argmax(0).numpy(), label[::2, ::2]
            for index in range(classes):
                shared[index] += np.sum((found == index) & (right == index))
                joined[index] += np.sum((found == index) | (right == index))
    return shared / np.maximum(joined, 1)


def write(net: Net, classes: list[str], folder: Path, figures: str) -> None:
    """The model folder: ONNX file, manifest, labels, and a README with origin and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    data = to_onnx(net).SerializeToString()
    (folder / "tabletop.onnx").write_bytes(data)
    (folder / "labels.txt").write_text("\n".join(classes) + "\n")
    digest = hashlib.sha256(data).hexdigest()
    (folder / "manifest.yaml").write_text(MANIFEST.format(sha256=digest, height=HEIGHT, width=WIDTH))
    (folder / "README.md").write_text(README.format(sha256=digest, figures=figures))


MANIFEST = """\
# What the model is, what goes in and how its output is read; schema: skyfog_perception/manifest.py.
file: tabletop.onnx
sha256: {sha256}
task: segment
labels: labels.txt
input:
  name: image
  layout: nchw
  dtype: float32
  height: {height}
  width: {width}
  colors: rgb
  mean: [127.5, 127.5, 127.5]
  std: [127.5, 127.5, 127.5]
decoder:
  name: deeplab
  logits: logits
"""

README = """\
# Tabletop segmentation

The objects of `sim_worlds/tabletop.sdf`, pixel by pixel; 34,000 weights.

- **Origin**: trained by `tools/train_tabletop.py` of this repository on renderings of that world. It knows nothing of
  real tables.
- **Licence**: Apache-2.0, as the repository.
- **tabletop.onnx**: sha256 `{sha256}`, free batch axis.

{figures}
"""


def main() -> int:
    """Render, train, judge on scenes that were held out, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--images", type=int, default=1_200)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    world = load(WORLD)
    classes = classes_of(world)
    images, labels = labelled(world, TRAIN_SEEDS[: given.images])
    print(f"{len(images)} images rendered in {time.monotonic() - began:.0f} s", flush=True)
    net = train(images, labels, len(classes), given.epochs, given.seed)
    scores = intersection_over_union(net, *labelled(world, HELD_OUT_SEEDS[: given.held_out]))
    rows = [f"| {name} | {score:.3f} |" for name, score in zip(classes, scores, strict=True)]
    head = f"Intersection over union on {given.held_out} images of scenes that training did not see:"
    figures = "\n".join([head, "", "| class | IoU |", "| --- | --- |", *rows])
    print(figures)
    write(net, classes, given.out, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
