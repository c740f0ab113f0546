"""Schemas of `skyfog_perception`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyfog_core.config.base import Strict

Model = Annotated[str, Field(min_length=1, description="a model's name, or the path of a folder with a manifest.yaml")]


class ImageServiceConfig(Strict):
    """What the services that look at images share."""

    model: Model
    models_dir: Annotated[
        str,
        Field(
            description="where models that a user added are; empty: $SKYFOG_MODELS, else ~/.local/share/skyfog/models"
        ),
    ] = ""
    providers: Annotated[
        list[str], Field(min_length=1, description="onnxruntime execution providers, tried in this order")
    ] = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    threads: Annotated[int, Field(ge=1, le=64, description="threads inside one inference; replicas share cores")] = 1
    max_batch: Annotated[
        int, Field(ge=1, le=64, description="waiting images run at once, where the model's batch axis is free")
    ] = 8
    max_pixels: Annotated[
        int, Field(ge=1, le=2**30, description="larger images are refused, compressed ones before they are decoded")
    ] = 4096 * 4096


class DetectConfig(ImageServiceConfig):
    """The object detection service."""

    model: Model = "efficientdet_lite0"
    publish_vision_msgs: Annotated[
        bool, Field(description="also publish vision_msgs/Detection2DArray on ~/detections; needs vision_msgs")
    ] = False


class SegmentConfig(ImageServiceConfig):
    """The semantic segmentation service."""

    model: Model = "deeplab_v3"
    publish_mask: Annotated[bool, Field(description="also publish the mask as a mono8 image on ~/mask")] = False
