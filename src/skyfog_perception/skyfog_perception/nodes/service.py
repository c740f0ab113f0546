"""What the services that look at images share: parameters, the request's one image, errors, the node around them."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import structlog
from rclpy.node import Node

from skyfog_core import cancel
from skyfog_core.cancel import Cancellation
from skyfog_core.config.perception import ImageServiceConfig
from skyfog_core.errors import InvalidRequest, NotExecuted, Status
from skyfog_core.images import Rgb, raw_to_rgb
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_perception.manifest import find_model
from skyfog_perception.network import Network, Times
from skyfog_perception.places import model_folders
from skyfog_perception.prepare import compressed_to_rgb

log = structlog.get_logger()

WARM_UP_SIDE = 64  # pixels; the model sees its own size whatever this is

C = TypeVar("C", bound=ImageServiceConfig)


class ImageService(ABC, Generic[C]):
    """A service callback, to be embedded in a replica or offered by a node. Stateless; any thread may call it.

    It answers whatever happens. `cancellable` is what a replica calls: a request that lost while it waits for the
    model does not run.
    """

    srv_type: Any
    name: str
    schema: type[C]

    def __init__(self, node: Node) -> None:
        """Read the node's parameters and load the model. Raises ConfigError that names file, key and bound."""
        config = declare(node, self.schema)
        cv2.setNumThreads(config.threads)  # of the whole process: it is the replica's
        with blame("model"):
            folder = find_model(config.model, model_folders(config.models_dir))
            network = self._load(folder, config)
        self._max_pixels = config.max_pixels
        self._network = network
        self._publish_on(node, config)
        for skipped in network.skipped:
            log.info("provider_skipped", why=skipped)
        log.info(
            "model_ready",
            model=network.name,
            sha256=network.sha256[:12],
            provider=network.provider,
            threads=config.threads,
            max_batch=network.max_batch,
        )

    def __call__(self, request: Any, response: Any) -> Any:
        try:
            self._answer(request, response)
        except InvalidRequest as error:
            return self._without_result(Status.INVALID_REQUEST, str(error))
        except NotExecuted as error:
            return self._without_result(Status.NOT_EXECUTED, str(error))
        except Exception as error:  # the robot must hear of it, and the next request must be served
            log.exception("request_failed", service=self.name)
            return self._without_result(Status.FAILED, f"{type(error).__name__}: {error}")
        return response

    def cancellable(self, request: Any, response: Any, cancellation: Cancellation) -> Any:
        """Answer as ever; NOT_EXECUTED where `cancellation` is set before the model is free."""
        with cancel.by(cancellation):
            return self(request, response)

    def warm_up(self) -> None:
        """One inference, so that the first request does not wait for the runtime's set-up. Raises where it fails."""
        self._network.infer(np.zeros((WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8))

    def _without_result(self, status: Status, message: str) -> Any:
        """A response of its own: nothing of a half-filled one may be taken for a result."""
        response = self.srv_type.Response()
        response.status.code, response.status.message = int(status), message
        return response

    @abstractmethod
    def _load(self, folder: Path, config: C) -> Network:
        """Load the model and keep what runs it."""

    @abstractmethod
    def _publish_on(self, node: Node, config: C) -> None:
        """Make the publishers that the parameters ask for. Raises ConfigError where they cannot be made."""

    @abstractmethod
    def _check(self, request: Any) -> None:
        """Raise InvalidRequest for what is wrong beside the image."""

    @abstractmethod
    def _fill(self, request: Any, rgb: Rgb, header: Any, response: Any) -> Times:
        """Do the work and write the results into the response."""

    def _answer(self, request: Any, response: Any) -> None:
        began = time.perf_counter()
        self._check(request)  # before the work of decoding
        header, rgb = self._image(request)
        decode_ms = (time.perf_counter() - began) * 1e3
        times = self._fill(request, rgb, header, response)
        response.status.code = int(Status.OK)
        response.header = header
        response.model_name = self._network.name
        response.model_sha256 = self._network.sha256
        response.decode_ms = decode_ms + times.prepare_ms
        response.inference_ms = times.inference_ms
        response.postprocess_ms = times.postprocess_ms

    def _image(self, request: Any) -> tuple[Any, Rgb]:
        """The request's one image, and its header."""
        raw, packed = request.image, request.compressed_image
        has_raw = bool(len(raw.data) or raw.height or raw.width)
        has_packed = bool(len(packed.data))
        if has_raw == has_packed:
            raise InvalidRequest(
                f"{'both' if has_raw else 'neither'} of image and compressed_image given; exactly one must be"
            )
        if has_packed:
            return packed.header, compressed_to_rgb(packed.data, self._max_pixels)
        fields = (raw.height, raw.width, raw.encoding, raw.step, bool(raw.is_bigendian), raw.data)
        return raw.header, raw_to_rgb(*fields, self._max_pixels)


def set_box(bbox: Any, left: float, top: float, right: float, bottom: float) -> None:
    """Edges become centre and size, as in vision_msgs."""
    bbox.center.position.x = (left + right) / 2
    bbox.center.position.y = (top + bottom) / 2
    bbox.size_x = float(right - left)
    bbox.size_y = float(bottom - top)


def run_alone(service: type[ImageService[Any]]) -> None:
    """Entry point of a node that offers one service, without replicas or proxies; ends the process."""

    def nodes() -> list[Node]:
        node = Node(service.name, **NODE_OPTIONS)
        node.create_service(service.srv_type, service.name, service(node))
        return [node]

    sys.exit(run(service.name, nodes))
