"""The heads whose output can be read: one schema a decoder, told apart by `name`.

A new head adds a schema here, joins `DecoderSpec`, and gets a class in `decode/`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from skyfog_core.config.base import Strict

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Output = Annotated[str, Field(min_length=1)]
Strides = Annotated[
    list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1, description="input pixels a cell of each level")
]


class BoxHead(Strict):
    """What all heads that give boxes share."""

    max_candidates: Annotated[int, Field(ge=1, le=10_000, description="best boxes that are looked at")] = 1_000


class OverlappingHead(BoxHead):
    """A head that sees one object several times."""

    iou_threshold: Annotated[
        float, Field(gt=0, le=1, description="of two boxes of a class that overlap more, the better stays")
    ] = 0.5


class EfficientDetSpec(OverlappingHead):
    """EfficientDet's head: a box per anchor, and scores that went through the sigmoid already."""

    name: Literal["efficientdet"]
    scores: Annotated[Output, Field(description="output of shape [1, anchors, classes]")]
    boxes: Annotated[Output, Field(description="output of shape [1, anchors, 4] = ty, tx, th, tw")]
    strides: Strides
    octaves: Annotated[int, Field(ge=1, le=8, description="anchor sizes per stride, each 2^(1/octaves) larger")]
    ratios: Annotated[list[Positive], Field(min_length=1, description="width / height of the anchors")]
    anchor_scale: Annotated[Positive, Field(description="size of the smallest anchor in strides")]


class YoloSpec(OverlappingHead):
    """YOLO's exports without NMS: boxes in input pixels, scores that went through the sigmoid already."""

    name: Literal["yolov5", "yolov8"]
    output: Annotated[
        Output,
        Field(
            description="yolov5: [1, boxes, 5 + classes] = cx, cy, w, h, objectness, classes;"
            " yolov8 (also v9, v11): [1, 4 + classes, boxes] = cx, cy, w, h, classes"
        ),
    ]


class NanoDetSpec(OverlappingHead):
    """NanoDet's head: for each cell the classes, and for each side of the box a distribution over distances."""

    name: Literal["nanodet"]
    scores: Annotated[list[Output], Field(min_length=1, description="per stride: [1, cells, classes], after sigmoid")]
    distances: Annotated[list[Output], Field(min_length=1, description="per stride: [1, cells, 4 * bins], logits")]
    strides: Strides
    bins: Annotated[int, Field(ge=2, le=64, description="distances 0 .. bins - 1 strides from the cell's point")]
    cell_offset: Annotated[
        float, Field(ge=0, le=1, description="a cell's point in strides from its corner; 0 for NanoDet-Plus")
    ] = 0.5

    @model_validator(mode="after")
    def _as_many_outputs_as_strides(self) -> NanoDetSpec:
        for key, names in (("scores", self.scores), ("distances", self.distances)):
            if len(names) != len(self.strides):
                raise ValueError(f"{key} names {len(names)} outputs for {len(self.strides)} strides; one each is due")
        return self


class RtDetrSpec(BoxHead):
    """RT-DETR's head: each query is one object, so that nothing is suppressed."""

    name: Literal["rtdetr"]
    logits: Annotated[Output, Field(description="output of shape [1, queries, classes], before the sigmoid")]
    boxes: Annotated[Output, Field(description="output of shape [1, queries, 4] = cx, cy, w, h, parts of the input")]


class DeepLabSpec(Strict):
    """A semantic head: a logit per class and point of a grid over the input; class 0 is the background."""

    name: Literal["deeplab"]
    logits: Annotated[Output, Field(description="output of shape [1, h, w, classes], or [1, classes, h, w]")]
    layout: Annotated[Literal["nhwc", "nchw"], Field(description="of the logits")] = "nhwc"


DetectSpec = EfficientDetSpec | YoloSpec | NanoDetSpec | RtDetrSpec
SegmentSpec = DeepLabSpec
DecoderSpec = Annotated[DetectSpec | SegmentSpec, Field(discriminator="name")]
