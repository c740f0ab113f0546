"""Schemas of `skyfog_perception`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyfog_core.config.base import Strict


class DetectConfig(Strict):
    """The object detection service."""

    model: Annotated[
        str, Field(min_length=1, description="an installed model's name, or the path of a folder with a manifest.yaml")
    ] = "efficientdet_lite0"
    providers: Annotated[
        list[str], Field(min_length=1, description="onnxruntime execution providers, tried in this order")
    ] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    threads: Annotated[int, Field(ge=1, le=64, description="threads inside one inference; replicas share cores")] = 1
    max_pixels: Annotated[
        int, Field(ge=1, le=2**30, description="larger images are refused, compressed ones before they are decoded")
    ] = 4096 * 4096
