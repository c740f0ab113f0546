"""What a car's services ask and get: requests from images, and answers in pixels of the image as captured."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from skyfog_core.errors import ConfigError
from skyfog_core.images import raw_to_rgb
from skyfog_interfaces.msg import Detection
from skyfog_interfaces.srv import Detect, Segment
from skyfog_uplink.encode import Bgr, encode, sent_size
from skyfog_uplink.policy.model import Option

DEPTH = 10


class Task(Protocol):
    """One kind of service."""

    srv: Any

    def wrong(self, response: Any) -> str:
        """Why a response that says OK cannot be published; empty: it can."""
        ...

    def detections(self, response: Any, image: Image) -> list[Detection]:
        """Of a response that is OK, whatever size the image was sent in."""
        ...


class DetectTask:
    """Boxes."""

    srv = Detect

    def __init__(self, node: Node) -> None:
        pass

    def wrong(self, response: Any) -> str:
        return ""

    def detections(self, response: Any, image: Image) -> list[Detection]:
        return list(response.detections)


class SegmentTask:
    """Regions as boxes, and the mask in the size of the image as captured, on ~/mask."""

    srv = Segment

    def __init__(self, node: Node) -> None:
        self._masks = node.create_publisher(Image, "~/mask", DEPTH)

    def wrong(self, response: Any) -> str:
        return wrong_mask(response.mask)

    def detections(self, response: Any, image: Image) -> list[Detection]:
        self._masks.publish(whole_mask(response.mask, image))
        return [
            Detection(class_id=region.class_id, class_name=region.class_name, score=region.score, bbox=region.bbox)
            for region in response.segments
        ]


TASKS: dict[str, Callable[[Node], Task]] = {
    "skyfog_interfaces/srv/Detect": DetectTask,
    "skyfog_interfaces/srv/Segment": SegmentTask,
}


def task_of(type_name: str, node: Node) -> Task:
    """Raises ConfigError for a type whose requests no image makes."""
    make = TASKS.get(type_name)
    if make is None:
        raise ConfigError(f"its type is {type_name}; a camera can ask {' or '.join(TASKS)}")
    return make(node)


def pixels_of(image: Image) -> Bgr:
    """[H, W, 3] uint8 BGR. Raises InvalidRequest that names the field at fault."""
    fields = (image.height, image.width, image.encoding, image.step, bool(image.is_bigendian), image.data)
    return np.asarray(cv2.cvtColor(raw_to_rgb(*fields), cv2.COLOR_RGB2BGR), np.uint8)


def cloud_request(srv: Any, image: Image, option: Option) -> Any:
    """The request for the cloud, with the image as the option wants it. Raises InvalidRequest, ConfigError."""
    pixels = pixels_of(image)
    data = array("B", encode(pixels, option))
    if option.codec != "raw":
        return srv.Request(compressed_image=CompressedImage(header=image.header, format=option.codec, data=data))
    height, width = sent_size(image.height, image.width, option)
    sent = Image(header=image.header, height=height, width=width, encoding="bgr8", step=3 * width, data=data)
    return srv.Request(image=sent)


def scaled(detections: list[Detection], image: Image, option: Option) -> list[Detection]:
    """Boxes in pixels of what was sent -> in pixels of `image`, as captured; changed in place."""
    height, width = sent_size(image.height, image.width, option)
    across, down = image.width / width, image.height / height
    for detection in detections:
        box = detection.bbox
        box.center.position.x *= across
        box.center.position.y *= down
        box.size_x *= across
        box.size_y *= down
    return detections


def wrong_mask(mask: Image) -> str:
    """Why it has no pixels, or not as many as it says; empty: it has."""
    if 0 < mask.width <= mask.step and 0 < mask.height * mask.step == len(mask.data):
        return ""
    return f"a mask of {mask.width} x {mask.height} pixels has {len(mask.data)} bytes in rows of {mask.step}"


def whole_mask(mask: Image, image: Image) -> Image:
    """A mask of class ids in the size of `image`: no value between two classes is made up."""
    if (mask.height, mask.width) == (image.height, image.width):
        mask.header = image.header
        return mask
    pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.step)[:, : mask.width]
    whole = cv2.resize(pixels, (image.width, image.height), interpolation=cv2.INTER_NEAREST)
    data = array("B", np.ascontiguousarray(whole).tobytes())
    return Image(
        header=image.header, height=image.height, width=image.width, encoding="mono8", step=image.width, data=data
    )
