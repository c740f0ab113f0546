"""The semantic segmentation service, as a node of its own or embedded in a replica."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from skyfog_core.config.perception import SegmentConfig
from skyfog_core.images import Rgb
from skyfog_interfaces.msg import Segment as SegmentMessage
from skyfog_interfaces.srv import Segment
from skyfog_perception.decode.deeplab import Mask
from skyfog_perception.network import Network, Times
from skyfog_perception.nodes.service import ImageService, run_alone, set_box
from skyfog_perception.segmenter import Segmented, Segmenter

DEPTH = 10


class SegmentService(ImageService[SegmentConfig]):
    """A service callback for skyfog_interfaces/srv/Segment."""

    srv_type = Segment
    name = "segment"
    schema = SegmentConfig

    def _load(self, folder: Path, config: SegmentConfig) -> Network:
        self._segmenter = Segmenter(folder, config.providers, config.threads, config.max_batch)
        return self._segmenter.network

    def _publish_on(self, node: Node, config: SegmentConfig) -> None:
        self._publisher: Publisher | None = None
        if config.publish_mask:
            self._publisher = node.create_publisher(Image, "~/mask", DEPTH)

    def _check(self, request: Any) -> None:
        self._segmenter.check_request(request.score_threshold, request.class_names, request.max_segments)

    def _fill(self, request: Any, rgb: Rgb, header: Any, response: Any) -> Times:
        wanted = (request.score_threshold, request.class_names, request.max_segments)
        result = self._segmenter.segment(rgb, *wanted)
        response.mask = image_of(result.mask, header)
        response.segments = [message(segmented) for segmented in result.segments]
        if self._publisher is not None:
            self._publisher.publish(response.mask)
        return result.times


def image_of(mask: Mask, header: Any) -> Image:
    """A mask as it is sent and shown."""
    height, width = mask.shape
    data = array("B")
    data.frombytes(np.ascontiguousarray(mask).data)
    return Image(header=header, height=height, width=width, encoding="mono8", step=width, data=data)


def message(segmented: Segmented) -> SegmentMessage:
    """A region as it is sent."""
    made = SegmentMessage(
        class_id=str(segmented.class_id),
        class_name=segmented.class_name,
        score=segmented.score,
        area=segmented.area,
    )
    set_box(made.bbox, segmented.left, segmented.top, segmented.right, segmented.bottom)
    return made


def main() -> None:
    """Entry point of `ros2 run skyfog_perception segment`."""
    run_alone(SegmentService)


if __name__ == "__main__":
    main()
